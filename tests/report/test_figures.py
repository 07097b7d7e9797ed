"""Figures of a scored benchmark: what was drawn, in which order, the same twice, and captions that say what was done."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from workflow_scripts import boxes, params, sequences
from workflow_scripts.console import BadInput
from workflow_scripts.params.report import Figures
from workflow_scripts.report import attributes, compare, figures, scored, style, timeline
from workflow_scripts.score import run

ROOT = Path(__file__).parents[2]
SVG = Figures(formats=["svg"])
FIGURES = (
    "success",
    "precision",
    "norm_precision",
    "attribute_radar",
    "attribute_bars",
    "intervals",
    "pair",
    "timeline",
    "speed",
)


def draw(study: Path, output: Path, *more: str, **look) -> Path:
    sources = [f"--scores={study / 'scores'}", f"--raw={study / 'raw'}", f"--index={study / 'index.npz'}"]
    figures.main([*sources, f"--output={output}", "--parameters", json.dumps({"formats": ["svg"], **look}), *more])
    return output


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def drawn(small, tmp_path_factory) -> Path:
    return draw(small, tmp_path_factory.mktemp("drawn") / "figures", formats=["svg", "pdf", "png"], dots=50)


@pytest.fixture
def copied(small, tmp_path) -> Path:
    """A study that a test may break."""
    shutil.copytree(small, tmp_path / "study")
    return tmp_path / "study"


def test_every_figure_comes_in_every_format_with_its_data_beside_it(drawn):
    for name in FIGURES:
        for kind in ("svg", "pdf", "png"):
            assert (drawn / f"{name}.{kind}").stat().st_size > 1000, name
    data = {p.stem for p in drawn.glob("*.csv")}
    assert data == {"success", "precision", "norm_precision", "attributes", "intervals", "pair", "timeline", "speed"}


def test_legends_are_sorted_by_their_own_score_and_show_the_ceiling(small, drawn):
    overall = {r["tracker"]: r for r in rows(small / "scores/overall.csv")}
    for name, column in (("success", "SR"), ("precision", "PR"), ("norm_precision", "NPR")):
        labels = re.findall(r">([\w ]+) \[([\d.]+)\]<", (drawn / f"{name}.svg").read_text())
        values = [float(value) for _, value in labels[:-1]]
        assert len(values) == 3 and values == sorted(values, reverse=True)
        assert labels[-1] == ("perfect tracker", f"{100 * float(overall['ceiling'][column]):.1f}")
        assert values == [round(100 * float(overall[tracker][column]), 1) for tracker, _ in labels[:-1]]


def test_a_curves_data_are_the_scorers_means(small, drawn):
    with np.load(small / "scores/curves.npz") as curves:
        for line, threshold, means in zip(
            rows(drawn / "success.csv"), curves["thresholds_success"], curves["mean_success"].T, strict=True
        ):
            assert float(line["threshold"]) == pytest.approx(threshold, abs=1e-6)
            for tracker, mean in zip(curves["trackers"], means, strict=True):
                assert float(line[str(tracker)]) == pytest.approx(mean, rel=1e-5)


def test_the_same_data_give_the_same_bytes(small, drawn, tmp_path):
    other = draw(small, tmp_path / "other", formats=["svg", "pdf", "png"], dots=50)
    for path in sorted(drawn.iterdir()):
        assert path.read_bytes() == (other / path.name).read_bytes(), path.name


def test_published_results_have_no_speed_of_this_machine(small, tmp_path):
    found = scored.read(small / "scores")
    known = figures.speeds(small / "raw", found.trackers, ["high"])
    assert set(known) == {"middle", "low"}
    figures.plot_speed(found, known, tmp_path, SVG)
    assert [r["tracker"] for r in rows(tmp_path / "speed.csv")] == ["middle", "low"]


def test_bars_mark_what_prints_best_and_second_alike():
    with style.figure(Figures()) as (_, axes):
        attributes._bars(axes, [50.04, 49.96, float("nan"), 50.0, 20.0], 50.04)
        colours = [patch.get_facecolor() for patch in axes.patches]
        best, second, other = (style.mpl.colors.to_rgba(c) for c in (attributes.BEST, attributes.SECOND, attributes.OTHER))
        assert colours == [best, best, other, best, second]
        assert [text.get_text() for text in axes.texts] == ["50.0", "50.0", "nan", "50.0", "20.0"]


def test_the_pair_is_the_best_two_or_those_asked_for(small, drawn, tmp_path):
    per_sequence = {(r["tracker"], r["sequence"]): float(r["success"]) for r in rows(small / "scores/per_sequence.csv")}
    best = scored.read(small / "scores").trackers
    assert list(rows(drawn / "pair.csv")[0]) == ["sequence", best[1], best[0]]
    compare.plot_pair(scored.read(small / "scores"), tmp_path, Figures(formats=["svg"], pair=["low", "high"]))
    found = rows(tmp_path / "pair.csv")
    assert list(found[0]) == ["sequence", "high", "low"] and len(found) == 6
    for row in found:
        assert float(row["low"]) == pytest.approx(100 * per_sequence["low", row["sequence"]], rel=1e-5)
    with pytest.raises(BadInput, match=r"pair names nobody, which has no scores here; there are high, middle, low"):
        compare.plot_pair(scored.read(small / "scores"), tmp_path, Figures(formats=["svg"], pair=["nobody", "high"]))
    with pytest.raises(BadInput, match="name two different trackers, or none"):
        draw(small, tmp_path / "no", pair=["high", "high"])
    assert not (tmp_path / "no").exists()


def test_the_timeline_shows_the_overlap_of_every_frame_and_the_targets_absence(small, drawn):
    known = {s.name: s for s in sequences.read_index(small / "index.npz")}
    found = rows(drawn / "timeline.csv")
    shown = list(dict.fromkeys(r["sequence"] for r in found))
    spread = scored.read(small / "scores").per_sequence
    by_spread = sorted(known, key=lambda n: -np.std([of[n] for of in spread.values()]))
    assert shown == by_spread[:3]  # the sequences on which trackers differ most
    for name in shown:
        s, values = known[name], [float(r["overlap"]) for r in found if r["sequence"] == name and r["tracker"] == "low"]
        written = np.loadtxt(small / f"raw/low/{name}.txt", delimiter=",")
        expected = np.where(s.present, boxes.intersection_over_union(written, s.boxes), np.nan)
        np.testing.assert_allclose(values, expected, atol=1e-5)


def test_a_long_sequence_is_shown_by_means_of_neighbouring_frames():
    overlap = np.tile(np.repeat([1.0, 0.5, np.nan, 0.0], 1500), (2, 1))
    shown = timeline._columns(overlap)
    assert shown.shape == (2, timeline.COLUMNS)
    np.testing.assert_array_equal(shown[0], np.repeat([1.0, 0.5, np.nan, 0.0], timeline.COLUMNS // 4))
    overlap[0, 3:5] = np.nan
    assert timeline._columns(overlap)[0, 0] == 1.0  # an absent frame does not count


def test_boxes_in_any_form_are_drawn_and_what_cannot_be_read_is_lost(tmp_path):
    (tmp_path / "a.txt").write_text("1\t2\t3\t4\n1;2;3;4\nnone\n1,2,3\n\n1 2 3 4\n")
    expected = [[1, 2, 3, 4], [1, 2, 3, 4], [np.nan] * 4, [np.nan] * 4, [1, 2, 3, 4], [np.nan] * 4]
    np.testing.assert_array_equal(timeline.read_boxes(tmp_path / "a.txt", 6), expected)
    assert np.isnan(timeline.read_boxes(tmp_path / "b.txt", 2)).all()
    assert (timeline.overlap(np.full((2, 4), np.nan), np.ones((2, 4))) == 0).all()


def test_a_protocol_with_other_numbers_is_drawn_with_its_own(small, tmp_path):
    arguments = ["--protocol=got10k", f"--index={small / 'index.npz'}", "--split=test", f"--results={small / 'raw'}"]
    study = tmp_path / "study"
    shutil.copytree(small / "raw", study / "raw")
    shutil.copyfile(small / "index.npz", study / "index.npz")
    run.main([*arguments, "--image-size=320x240", '--parameters={"samples": 20}', f"--output={study / 'scores'}"])
    folder = draw(study, tmp_path / "out")
    assert "AO in brackets" in (folder / "success.svg").read_text()
    assert "mean of the curve in brackets" in (folder / "precision.svg").read_text()
    assert list(rows(folder / "speed.csv")[0]) == ["tracker", "fps", "AO"]


def test_no_attribute_with_two_sequences_still_gives_figures(small, tmp_path):
    (tmp_path / "per_attribute.csv").write_text("attribute,tracker,PR,NPR,SR,n\n")
    by, found = attributes.read(tmp_path / "per_attribute.csv", "SR"), scored.read(small / "scores")
    attributes.plot_radar(by, found, tmp_path, SVG)
    attributes.plot_bars(by, found, tmp_path, SVG)
    for name in ("attribute_radar", "attribute_bars"):
        assert "no attribute has two sequences" in (tmp_path / f"{name}.svg").read_text()


def test_one_tracker_alone_is_drawn(copied, tmp_path):
    arguments = ["--protocol=tnllt", f"--index={copied / 'index.npz'}", "--split=test", f"--results={copied / 'raw'}"]
    run.main([*arguments, "--trackers=low", '--parameters={"samples": 20}', f"--output={copied / 'scores'}"])
    assert len(list(draw(copied, tmp_path / "out").glob("*.svg"))) == len(FIGURES)


def test_missing_or_broken_scores_end_with_a_sentence(copied, tmp_path):
    (copied / "scores/curves.npz").write_bytes(b"no archive")
    with pytest.raises(BadInput, match=r"curves\.npz cannot be read"):
        draw(copied, tmp_path / "out")
    (copied / "scores/overall.csv").unlink()
    with pytest.raises(BadInput, match=r"overall\.csv does not exist"):
        draw(copied, tmp_path / "out")
    (copied / "scores/protocol.json").unlink()
    with pytest.raises(BadInput, match=r"protocol\.json does not exist"):
        draw(copied, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_report_needs_the_svg():
    with pytest.raises(BadInput, match="svg must be among the formats"):
        params.section(json.dumps({"formats": ["png"]}), "report.figures", Figures)


def test_every_caption_that_a_rule_names_exists_and_is_used():
    text = "".join(p.read_text() for p in (ROOT / "rules").glob("*.smk")) + (ROOT / "Snakefile").read_text()
    named = set(re.findall(r'"(?:\.\./)?report/(\w+\.rst)"', text))
    named |= {f"{caption}.rst" for caption in re.findall(r'shown\("[^"]+", "(\w+)"', text)}
    assert named == {p.name for p in (ROOT / "report").glob("*.rst")}


def test_every_figure_is_an_output_of_its_rule():
    text = (ROOT / "rules/report.smk").read_text()
    for name in FIGURES:
        assert f'"{{benchmark}}/{name}"' in text, name
