"""Figures and tables: what was drawn, in which order, the same twice, and captions that say what was done."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from workflow_scripts import files, params
from workflow_scripts.console import BadInput
from workflow_scripts.params.report import Figures
from workflow_scripts.report import figures, style, tables, training

ROOT = Path(__file__).parents[2]
LOOK = Figures(formats=["svg"])


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    """A scoring run's files for three trackers, and their collected results' summaries."""
    thresholds = {"success": np.linspace(0, 1, 21), "px": np.arange(51.0), "norm": np.arange(51) / 100}
    trackers, scores = ["low", "high", "middle"], [0.2, 0.8, 0.5]
    arrays: dict[str, np.ndarray] = {"trackers": np.array(trackers)}
    for array, key in (("success", "success"), ("precision_px", "px"), ("precision_norm", "norm")):
        x = thresholds[key] / thresholds[key][-1]
        curve = (1 - x) if array == "success" else x
        arrays |= {f"thresholds_{key}": thresholds[key], f"ceiling_{array}": np.ones_like(x)}
        arrays[f"mean_{array}"] = np.array([2 * s * curve / (1 + s) for s in scores])
    folder = tmp_path / "scores"
    folder.mkdir()
    np.savez(folder / "curves.npz", **arrays)
    lines = [f"{t},{s},{s},{s},9,9,9" for t, s in [*zip(trackers, scores, strict=True), ("ceiling", 0.95)]]
    (folder / "overall.csv").write_text("tracker,PR,NPR,SR,n_seq_PR,n_seq_NPR,n_seq_SR\n" + "\n".join(lines) + "\n")
    per = [
        f"{a},{t},{s},{s},{s},{n}" for a, n in (("FM", 3), ("OV", 5), ("SV", 7)) for t, s in zip(trackers, scores, strict=True)
    ]
    (folder / "per_attribute.csv").write_text("attribute,tracker,PR,NPR,SR,n\n" + "\n".join(per) + "\n")
    for tracker in trackers:
        files.write_json(tmp_path / "raw" / tracker / "summary.json", {"frames": 100, "seconds": 4.0})
    return tmp_path


def draw(scored: Path, output: str, *more: str) -> Path:
    base = [f"--scores={scored / 'scores'}", f"--raw={scored / 'raw'}", f"--output={scored / output}"]
    figures.main([*base, "--parameters", '{"formats": ["svg", "png"]}', *more])
    return scored / output


def test_legends_are_sorted_by_score_and_show_the_ceiling(scored):
    text = (draw(scored, "out") / "success.svg").read_text()
    labels = re.findall(r">((?:high|middle|low|perfect tracker) \[[\d.]+\])<", text)
    assert labels == ["high [80.0]", "middle [50.0]", "low [20.0]", "perfect tracker [95.0]"]


def test_every_figure_has_its_data_beside_it(scored):
    folder = draw(scored, "out")
    for name in ("success", "precision", "norm_precision", "attribute_radar", "attribute_dots", "speed"):
        assert (folder / f"{name}.svg").stat().st_size > 1000 and (folder / f"{name}.png").stat().st_size > 1000
    with (folder / "success.csv").open() as handle:
        drawn = list(csv.DictReader(handle))
    assert len(drawn) == 21
    assert drawn[0] == {"threshold": "0", "high": "0.888889", "middle": "0.666667", "low": "0.333333", "ceiling": "1"}
    assert (folder / "speed.csv").read_text().splitlines()[1] == "high,25,80"


def test_the_same_data_give_the_same_bytes(scored):
    one, other = draw(scored, "one"), draw(scored, "other")
    for path in sorted(one.iterdir()):
        assert path.read_bytes() == (other / path.name).read_bytes(), path.name


def test_published_results_have_no_speed_of_this_machine(scored):
    folder = draw(scored, "out", "--published", "high")
    assert "high" not in (folder / "speed.csv").read_text()


def test_25_trackers_are_told_apart():
    lines = {(style.line_style(r)["color"], style.line_style(r)["linestyle"]) for r in range(25)}
    markers = {(style.marker_style(r)["color"], style.marker_style(r)["marker"]) for r in range(25)}
    assert len(lines) == len(markers) == 25


def test_no_attribute_with_two_sequences_still_gives_a_figure(scored):
    (scored / "scores/per_attribute.csv").write_text("attribute,tracker,PR,NPR,SR,n\n")
    assert "no attribute has two sequences" in (draw(scored, "out") / "attribute_radar.svg").read_text()


def test_missing_or_broken_scores_end_with_a_sentence(scored):
    (scored / "scores/curves.npz").write_bytes(b"no archive")
    with pytest.raises(BadInput, match=r"curves\.npz cannot be read"):
        draw(scored, "out")
    (scored / "scores/overall.csv").unlink()
    with pytest.raises(BadInput, match=r"overall\.csv does not exist"):
        draw(scored, "out")
    assert not (scored / "out").exists()


def test_training_curves_draw_every_log_given(tmp_path):
    for name in ("clean", "noised"):
        (tmp_path / f"{name}.csv").write_text("step,loss\n" + "".join(f"{i},{1 / (i + 1)}\n" for i in range(80)))
    (tmp_path / "reward.csv").write_text("step,reward,running\n1,0.5,0.5\n2,0.75,0.6\n")
    arguments = [f"--grpo={tmp_path / 'reward.csv'}", f"--output={tmp_path / 'out'}", "--parameters", '{"formats": ["svg"]}']
    training.main(["--sft", f"clean={tmp_path / 'clean.csv'}", f"noised={tmp_path / 'noised.csv'}", *arguments])
    assert (tmp_path / "out/sft_loss.csv").read_text().startswith("step,clean,noised\n0,1,1\n1,0.5,0.5\n")
    assert (tmp_path / "out/grpo_reward.csv").read_text() == "step,reward\n1,0.5\n2,0.75\n"
    assert (tmp_path / "out/tracker_loss.svg").exists()
    (tmp_path / "reward.csv").write_text("step,other\n1,2\n")
    with pytest.raises(BadInput, match=r"reward\.csv has no columns step and reward"):
        training.main(arguments)


def test_the_running_mean_looks_back_only():
    values = np.arange(6.0)
    np.testing.assert_allclose(training.running_mean(values, 3), [0, 0.5, 1, 2, 3, 4])


def test_paper_tables_mark_the_best_bold_and_the_second_underlined(tmp_path):
    (tmp_path / "table.csv").write_text(
        "tracker,source,SR,PR,NPR,frames per second\n"
        "our_one,run here,60.001,70.0,80.0,12.3\nother,published,60.002,65.0,81.0,\nthird,run here,50.0,60.0,70.0,9\n"
    )
    tables.main([f"--table={tmp_path / 'table.csv'}", f"--output={tmp_path / 'out'}"])
    latex = (tmp_path / "out/table.tex").read_text().splitlines()
    assert latex[4] == r"our\_one & \textbf{60.00} & \textbf{70.00} & \underline{80.00} & 12.3 \\"
    assert latex[5] == r"other (published) & \textbf{60.00} & \underline{65.00} & \textbf{81.00} & -- \\"
    assert "| third | <u>50.00</u> | 60.00 | 70.00 | 9.0 |" in (tmp_path / "out/table.md").read_text()


def test_the_report_needs_the_svg():
    with pytest.raises(BadInput, match="svg must be among the formats"):
        params.section(json.dumps({"formats": ["png"]}), "report.figures", Figures)


def test_every_caption_that_a_rule_names_exists_and_is_used():
    text = "".join(p.read_text() for p in (ROOT / "rules").glob("*.smk")) + (ROOT / "Snakefile").read_text()
    named = set(re.findall(r'"(?:\.\./)?report/(\w+\.rst)"', text))
    named |= {f"{caption}.rst" for caption in re.findall(r'shown\("[^"]+", "(\w+)"', text)}
    assert named == {p.name for p in (ROOT / "report").glob("*.rst")}
