"""The table of a benchmark: ranked, in percent, with what belongs beside it; papers' numbers and published results."""

import json
from pathlib import Path

import pytest
import small_study
from small_study import from_index, rows

from workflow_scripts import files, params
from workflow_scripts.console import BadInput
from workflow_scripts.score import protocols, run, table

FIRST_COLUMNS = ["tracker", "source", "SR", "PR", "NPR", "frames per second", "sequences", "frames", "VLM calls", "fall-backs"]
PAPER = {
    "benchmark": "tnllt",
    "tracker": "good",
    "metric": "SR",
    "value": 61.5,
    "paper": "A. Author, Good tracking, CVPR 2024",
    "page": 7,
    "date": "2025-03-01",
}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return small_study.make(tmp_path)


def build(study: Path, *more: str) -> Path:
    if not (study / "scores/tnllt").exists():
        from_index(study, "scores/tnllt")
    sources = [f"--scores={study / 'scores/tnllt'}", f"--raw={study / 'raw'}"]
    table.main([*sources, "--published=good", f"--output={study / 'table.csv'}", *more])
    return study / "table.csv"


def with_papers(*papers: dict) -> str:
    return "--parameters=" + json.dumps({"papers": papers})


def test_the_table_is_sorted_in_percent_and_shows_what_belongs_beside_it(study, capsys):
    versions = {"right": 0.8, "empty": 0.6, "wrong": 0.2}
    language = {"pick": versions, "auc": versions, "margin": 0.2, "gate": 0.1, "pass": True}
    files.write_json(study / "language.json", language)
    built, published = build(study, f"--language={study / 'language.json'}"), study / "results/tnllt_table.csv"
    table.main(["--publish", str(built), "--output", str(published)])
    assert built.read_bytes() == published.read_bytes()
    found = rows(published)
    assert list(found[0])[: len(FIRST_COLUMNS)] == FIRST_COLUMNS
    assert [r["tracker"] for r in found] == ["better", "good", "static"]
    overall = {r["tracker"]: r for r in rows(study / "scores/tnllt/overall.csv")}
    for row in found:
        assert float(row["SR"]) == pytest.approx(100 * float(overall[row["tracker"]]["SR"]), abs=1e-6)
    assert found[0]["source"] == "run here" and found[0]["frames per second"] == "63.00" and found[0]["VLM calls"] == "7"
    assert found[1]["source"] == "published" and found[1]["frames per second"] == ""
    capsys.readouterr()
    table.main(["--show", str(published)])
    shown = capsys.readouterr().out
    for expected in (
        "better",
        "95 %",
        "(ceiling)",
        "right 0.800, empty 0.600, wrong 0.200",
        "passes its gate",
        "SR above static",
        "Honest",
    ):
        assert expected in shown
    facts = json.loads(published.with_suffix(".json").read_text())["facts"]
    assert facts["language"] == language and facts["above_static"]["better"] > 0


def test_intervals_and_the_difference_to_the_best_stand_in_the_table(study):
    found = {r["tracker"]: r for r in rows(build(study))}
    intervals = {r["tracker"]: r for r in rows(study / "scores/tnllt/intervals.csv") if r["metric"] == "SR"}
    for tracker, row in found.items():
        assert float(row["SR low"]) == pytest.approx(100 * float(intervals[tracker]["low"]), abs=1e-6)
        assert float(row["SR low"]) <= float(row["SR"]) <= float(row["SR high"])
        assert float(row["SR to best"]) == pytest.approx(float(row["SR"]) - float(found["better"]["SR"]), abs=1e-5)
    assert found["better"]["SR to best low"] == found["better"]["SR to best high"] == "0.000000"
    assert "static" not in json.loads((study / "table.json").read_text())["facts"]["within_chance"]


def test_trackers_within_chance_of_the_best_are_named(study, capsys):
    for name, source in zip(small_study.NAMES, ("raw/good", "raw/good", "kit/annos", "kit/annos"), strict=True):
        files.write_text(study / f"raw/static/{name}.txt", (study / source / f"{name}.txt").read_text())
    build(study)
    assert "Within chance of the best SR (paired 95 % interval of the difference): " in capsys.readouterr().out


def test_a_papers_number_stands_in_its_own_column_with_its_source(study, capsys):
    found = {r["tracker"]: r for r in rows(build(study, with_papers(PAPER, {**PAPER, "benchmark": "lasot"})))}
    assert found["good"]["paper SR"] == "61.5" and found["better"]["paper SR"] == "" and found["good"]["paper PR"] == ""
    assert float(found["good"]["SR"]) != 61.5  # beside, never instead
    shown = capsys.readouterr().out
    assert "paper SR" in shown and "paper PR" not in shown
    assert "Paper: good's SR 61.5 in A. Author, Good tracking, CVPR 2024, page 7, read on 2025-03-01." in shown
    assert json.loads((study / "table.json").read_text())["facts"]["papers"] == [PAPER]


@pytest.mark.parametrize("key", ["benchmark", "tracker", "metric", "value", "paper", "page", "date"])
def test_a_papers_number_without_its_source_is_refused(study, key):
    with pytest.raises(BadInput, match=rf"parameter papers\.0\.{key} is missing"):
        build(study, with_papers({k: v for k, v in PAPER.items() if k != key}))
    assert not (study / "table.csv").exists()


@pytest.mark.parametrize(
    ("key", "value"), [("value", 615), ("value", "nan"), ("page", 0), ("date", "last spring"), ("paper", "")]
)
def test_a_papers_number_that_cannot_be_is_refused(study, key, value):
    with pytest.raises(BadInput, match=rf"parameter papers\.0\.{key}"):
        build(study, with_papers({**PAPER, key: value}))


def test_a_papers_number_of_no_row_no_column_or_twice_is_refused(study):
    with pytest.raises(BadInput, match="goodd on tnllt is no row of the table; its rows are"):
        build(study, with_papers({**PAPER, "tracker": "goodd"}))
    with pytest.raises(BadInput, match="good on tnllt has no AO; its scores are SR, PR, NPR"):
        build(study, with_papers({**PAPER, "metric": "AO"}))
    with pytest.raises(BadInput, match="tnllt good SR stands there twice"):
        build(study, with_papers(PAPER, {**PAPER, "value": 60}))


def test_papers_and_the_compared_pair_may_only_name_trackers_of_the_study():
    tree = params.read_tree("params.yaml")
    tree["score"]["mini"]["papers"] = [{**PAPER, "tracker": "dutrak"}]
    with pytest.raises(BadInput, match=r"score\.papers names dutrak, .*; did you mean dutrack\?"):
        params.resolve(tree, "mini")
    tree["score"]["mini"]["papers"] = [{**PAPER, "tracker": "dutrack"}]
    assert params.resolve(tree, "mini").score.papers[0].page == 7
    tree["report"]["mini"]["figures"]["pair"] = ["csrt", "kfc"]
    with pytest.raises(
        BadInput, match=r"report\.figures\.pair names kfc, which is no row of TNLLT\'s table; did you mean kcf\?"
    ):
        params.resolve(tree, "mini")


def test_what_published_results_lack_counts_as_missed_and_is_told(study, capsys):
    before = {r["tracker"]: r for r in rows(build(study))}
    (study / "raw/good/beta.txt").unlink()
    lines = (study / "raw/good/gamma.txt").read_text().splitlines()
    (study / "raw/good/gamma.txt").write_text("\n".join(lines[:-7]) + "\n")
    with pytest.raises(BadInput, match=r"beta\.txt does not exist"):
        from_index(study, "scores/tnllt")
    from_index(study, "scores/tnllt", "--published=good")
    capsys.readouterr()
    after = {r["tracker"]: r for r in rows(build(study))}
    assert float(after["good"]["SR"]) < float(before["good"]["SR"])
    assert after["better"]["SR"] == before["better"]["SR"]
    assert "good: 38 frames without a result, 1 whole sequences; counted as missed." in capsys.readouterr().out
    (study / "raw/better/beta.txt").unlink()  # a tracker of one's own is still asked for
    with pytest.raises(BadInput, match=r"better/beta\.txt does not exist"):
        from_index(study, "scores/tnllt", "--published=good")


@pytest.mark.parametrize("name", ["tnllt", "got10k", "otb", "trackingnet"])
def test_every_protocols_own_columns_stand_in_its_files_and_its_table(study, name):
    arguments = ["--protocol", name, f"--index={study / 'tnllt.npz'}", "--split=test", f"--results={study / 'raw'}"]
    output = study / "scores/tnllt"
    run.main([*arguments, "--image-size=640x480", '--parameters={"samples": 50}', f"--output={output}"])
    columns = [m.column for m in protocols.get(name).metrics]
    assert list(rows(output / "overall.csv")[0]) == ["tracker", *columns, *(f"n_seq_{c}" for c in columns)]
    main = files.read_json(output / "protocol.json")["ranked_by"]
    found = rows(build(study))
    assert sorted(c for c in found[0] if c in columns) == sorted(columns)
    assert list(found[0])[2] == main
    assert [float(r[main]) for r in found] == sorted((float(r[main]) for r in found), reverse=True)
