"""The commands: both ways in give one answer, files hold what they promise, bad input ends in a sentence."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from workflow_scripts import files, manifest, sequences
from workflow_scripts.console import BadInput
from workflow_scripts.score import run, table
from workflow_scripts.score.table import COLUMNS

NAMES = ("alpha", "beta", "gamma", "delta")
TRACKERS = {"static": None, "good": 2.0, "better": 1.0}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """The same four sequences and three trackers in the toolkits' layout and in the study's own."""
    rng = np.random.default_rng(0)
    made = []
    for i, name in enumerate(NAMES):
        n = 30 + i
        boxes = np.cumsum(rng.normal(0, 2, (n, 4)), axis=0) * [1, 1, 0.1, 0.1] + [100, 80, 30, 30]
        present = np.ones(n, dtype=bool)
        present[10:13] = False
        text = "".join(",".join(map(repr, map(float, box))) + "\n" for box in boxes)
        files.write_text(tmp_path / "kit/annos" / f"{name}.txt", text)
        files.write_text(tmp_path / "kit/annos/absent" / f"{name}.txt", "".join(f"{int(p)}\n" for p in present))
        files.write_text(tmp_path / "kit/annos/att" / f"{name}.txt", "1,0,1" + 12 * ",0")
        frames = [tmp_path / "data" / name / f"{k}.png" for k in range(n)]
        made.append(sequences.Sequence(name, "test", frames, boxes, present, "a thing", ("CM", "DEF")))
        for tracker, noise in TRACKERS.items():
            found = boxes[:1].repeat(n, 0) if noise is None else boxes + rng.normal(0, noise, boxes.shape)
            text = "".join(",".join(map(repr, map(float, box))) + "\n" for box in found)
            files.write_text(tmp_path / f"kit/tracking_results/{tracker}_tracking_result/{name}.txt", text)
            files.write_text(tmp_path / f"raw/{tracker}/{name}.txt", text)
            files.write_text(tmp_path / f"raw/{tracker}/{name}.time.txt", "1.0\n" * n)
    for tracker in TRACKERS:
        summary = {"sequences": 4, "frames": 126, "seconds": 2.0, "vlm_calls": 7, "fall_backs": 1}
        files.write_json(tmp_path / f"raw/{tracker}/summary.json", summary)
    sequences.write_index(tmp_path / "tnllt.npz", made, tmp_path, "tnllt")
    return tmp_path


def from_kit(study: Path, output: str, *more: str) -> Path:
    kit = ["--annotations", str(study / "kit/annos"), "--results", str(study / "kit/tracking_results")]
    run.main(["--protocol", "tnllt", *kit, "--parameters", '{"samples": 200}', "--output", str(study / output), *more])
    return study / output


def from_index(study: Path, output: str, *more: str) -> Path:
    ours = ["--index", str(study / "tnllt.npz"), "--split", "test", "--results", str(study / "raw")]
    run.main(["--protocol", "tnllt", *ours, "--parameters", '{"samples": 200}', "--output", str(study / output), *more])
    return study / output


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_the_toolkits_layout_and_the_index_feed_one_core(study):
    one = from_kit(study, "one", "--sequences", str(files_list(study)))
    other = from_index(study, "other")
    for name in ("overall.csv", "per_sequence.csv", "per_attribute.csv", "completeness.csv", "intervals.csv", "corrected.csv"):
        assert (one / name).read_text() == (other / name).read_text(), name
    with np.load(one / "curves.npz") as a, np.load(other / "curves.npz") as b:
        assert all((a[key] == b[key]).all() for key in a.files)
    assert (one / "curves.npz").read_bytes() == (other / "curves.npz").read_bytes()


def files_list(study: Path) -> Path:
    path = study / "list.txt"
    path.write_text("\n".join(NAMES))  # no final newline, as in the published lists
    return path


def test_outputs_have_the_promised_columns_and_digits(study):
    folder = from_index(study, "scores", "--trackers", "better,static", "--manifest", str(study / "scores.json"))
    overall = rows(folder / "overall.csv")
    assert list(overall[0]) == ["tracker", "PR", "NPR", "SR", "n_seq_PR", "n_seq_NPR", "n_seq_SR"]
    assert [r["tracker"] for r in overall] == ["better", "static", "ceiling"]
    assert list(rows(folder / "per_sequence.csv")[0]) == ["tracker", "sequence", "precision", "norm_precision", "success"]
    attributes = rows(folder / "per_attribute.csv")
    assert list(attributes[0]) == ["attribute", "tracker", "PR", "NPR", "SR", "n"] and attributes[0]["n"] == "4"
    complete = rows(folder / "completeness.csv")
    assert len(complete) == 2 * len(NAMES) and complete[0]["absent"] == "3"
    with np.load(folder / "curves.npz") as curves:
        assert curves["success"].shape == (2, 4, 21) and curves["precision_px"].shape == (2, 4, 51)
        assert curves["mean_success"][0].mean() == float(overall[0]["SR"])  # 17 digits give the same double back
    manifest.verify(study / "scores.json")


def test_wrong_polarity_missing_tracker_and_missing_file_end_with_a_sentence(study):
    with pytest.raises(BadInput, match="absent-polarity"):
        from_kit(study, "x", "--absent-polarity", "1-is-absent")
    with pytest.raises(BadInput, match="has no results of nobody"):
        from_kit(study, "x", "--trackers", "nobody")
    (study / "raw/good/beta.txt").unlink()
    with pytest.raises(BadInput, match=r"beta\.txt does not exist"):
        from_index(study, "x")
    assert not (study / "x").exists()
    folder = from_index(study, "x", "--lenient")
    assert "beta.txt" in (folder / "problems.txt").read_text()
    lost = [r for r in rows(folder / "completeness.csv") if r["tracker"] == "good" and r["sequence"] == "beta"]
    assert lost[0]["missing"] == lost[0]["frames"]


def test_the_kits_break_is_reproduced_only_when_asked(study):
    whole = {r["tracker"]: r for r in rows(from_kit(study, "whole") / "overall.csv")}
    (study / "kit/tracking_results/good_tracking_result/beta.txt").write_text("")
    with pytest.raises(BadInput, match=r"beta\.txt is empty"):
        from_kit(study, "x")
    lenient = {r["tracker"]: r for r in rows(from_kit(study, "lenient", "--lenient") / "overall.csv")}
    assert lenient["static"] == whole["static"] and lenient["better"] == whole["better"]
    broken = {r["tracker"]: r for r in rows(from_kit(study, "broken", "--reproduce-kit-bugs") / "overall.csv")}
    assert broken["better"] == whole["better"]  # listed before the broken file
    assert broken["static"]["n_seq_SR"] == "3"  # listed after it: loses the sequence, too


def test_the_table_is_sorted_in_percent_and_shows_what_belongs_beside_it(study, capsys):
    from_index(study, "scores/tnllt")
    versions = {"right": 0.8, "empty": 0.6, "wrong": 0.2}
    language = {"pick": versions, "auc": versions, "margin": 0.2, "gate": 0.1, "pass": True}
    files.write_json(study / "language.json", language)
    built, published = study / "scores/table.csv", study / "results/tnllt_table.csv"
    sources = [f"--scores={study / 'scores/tnllt'}", f"--raw={study / 'raw'}", f"--language={study / 'language.json'}"]
    table.main([*sources, "--published=good", f"--output={built}"])
    table.main(["--publish", str(built), "--output", str(published)])
    assert built.read_bytes() == published.read_bytes()
    found = rows(published)
    assert tuple(found[0]) == COLUMNS
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
        "(ceiling)",
        "right 0.800, empty 0.600, wrong 0.200",
        "passes its gate",
        "SR above static",
        "Honest",
    ):
        assert expected in shown
    facts = json.loads(published.with_suffix(".json").read_text())["facts"]
    assert facts["language"] == language and facts["above_static"]["better"] > 0
