"""The commands: both ways in give one answer, files hold what they promise, bad input ends in a sentence."""

from pathlib import Path

import numpy as np
import pytest
import small_study
from small_study import NAMES, from_index, from_kit, rows

from workflow_scripts import manifest
from workflow_scripts.console import BadInput


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return small_study.make(tmp_path)


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
