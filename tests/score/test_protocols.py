"""Protocols beside the one that test_golden.py holds in detail: each against a recorded run of the benchmark's own code."""

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from conftest import GOLDEN, text_of

from workflow_scripts.console import BadInput
from workflow_scripts.params.score import ProtocolName
from workflow_scripts.score import annotations, protocols, results, run, scoring, summary
from workflow_scripts.score.annotations import Annotation
from workflow_scripts.score.curves import EPS
from workflow_scripts.score.scoring import Options

ROOT = Path(__file__).parents[2]
RECORDED_BY_PYTHON = json.loads((GOLDEN / "synth_pub_python.json").read_text())
# metrics.py of TrackingNet's devkit (its last commit) on `videos()`: precision, normalised precision, success
DEVKIT = {
    "close": [94.25855153719738, 84.11914156445407, 81.6344559183101],
    "halves": [92.06509164061248, 78.2955685325477, 75.81715092392176],
    "broken": [40.436863676447, 11.430212341670673, 17.726601330768],
    "files": [52.6309473705307, 46.89555525493026, 46.04479818021484],
}


def synthetic(golden_inputs, protocol, polarity, leave_out=()):
    """(folder of the synthetic suite, its annotations under a protocol)."""
    folder = golden_inputs / "synth_pub"
    names = [n for n in run.read_names(folder / "sequences.txt") if n not in leave_out]
    return folder, annotations.from_toolkit(folder / "annos", protocol, polarity, names)


def test_vasttracks_toolkit_counts_as_lasots_does(golden_inputs):
    """Its own code was run on the same files and gave the same curves to the last bit."""
    protocol = protocols.get("vasttrack")
    folder, known = synthetic(golden_inputs, protocol, None)
    trackers = run.tracker_folders(folder, (folder / "trackers.txt").read_text().split())
    scores = scoring.score_files([protocol], known, trackers, Options("octave"))[0].scores
    recorded = np.load(GOLDEN / "synth_pub_curves.npz")
    for ours, name in ((scores.success, "success"), (scores.pixel, "precision_px"), (scores.norm, "precision_norm")):
        np.testing.assert_array_equal(ours, recorded[name])
    assert len(protocol.attributes) == 10


def partly_missing(boxes):
    """Boxes with a NaN here and there, and whole rows of them."""
    boxes, row = boxes.copy(), np.arange(len(boxes))
    boxes[row % 7 == 3, 0] = boxes[row % 11 == 5, 2] = boxes[row % 13 == 6] = np.nan
    return boxes


@pytest.mark.parametrize("name", ["uav123", "nfs", "otb99"])
def test_the_otb_family_equals_its_toolkits_recorded_run_cell_by_cell(golden_inputs, name):
    protocol = protocols.get(name)
    folder, known = synthetic(golden_inputs, protocol, None)
    boxes = {}
    for tracker in (folder / "trackers.txt").read_text().split():
        paths = [folder / f"tracking_results/{tracker}_tracking_result/{a.name}.txt" for a in known]
        boxes[tracker] = [results.read_boxes(p).boxes[: a.truth.shape[1]] for p, a in zip(paths, known, strict=True)]
    boxes["partial"] = [partly_missing(b) for b in boxes["drift"]]
    options = Options("octave", reproduce_kit_bugs=True)
    scores = scoring.score_arrays(protocol, known, boxes, options).scores
    counts = np.loadtxt(text_of("synth_pub_otb.txt.xz").splitlines()).reshape(len(boxes), len(known), -1)
    share = counts[:, :, -1:] + EPS
    np.testing.assert_array_equal(scores.success, counts[:, :, :21] / share)
    np.testing.assert_array_equal(scores.pixel, counts[:, :, 21:72] / share)
    any_nan = replace(protocol, rules=replace(protocol.rules, repair="bad"))
    assert (scoring.score_arrays(any_nan, known, boxes, options).scores.success != scores.success).any()


@pytest.mark.parametrize(("name", "tolerance"), [("pytracking", 1e-6), ("dutrack", 1e-6), ("got10k", 1e-9), ("otb", 1e-9)])
def test_python_toolkits_numbers_are_equal(golden_inputs, name, tolerance):
    protocol, recorded = protocols.get(name), RECORDED_BY_PYTHON[name]
    polarity = "1-is-absent" if protocol.absent_value is not None else None
    folder, known = synthetic(golden_inputs, protocol, polarity, leave_out=("SYN_pub_06",))  # NaN in its ground truth
    options = Options(image_size=(640, 480))
    scores = scoring.score_files([protocol], known, run.tracker_folders(folder, list(recorded)), options)[0].scores
    np.testing.assert_allclose(summary.overall(scores)[0], list(recorded.values()), rtol=0, atol=tolerance)


def videos():
    """Six short videos and four trackers: close boxes, halves (ties of rounding), broken rows, and files of wrong length."""
    rng = np.random.default_rng(5)
    truth, found = {}, {"close": {}, "halves": {}, "broken": {}, "files": {}}
    for i in range(6):
        n = int(rng.integers(20, 40))
        start = np.array([60, 40, 30, 20]) + rng.integers(0, 20, 4)
        boxes = start + np.cumsum(rng.integers(-2, 3, (n, 4)), 0)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], 8)
        name = f"video_{i}"
        truth[name] = boxes.astype(float)
        close = found["close"][name] = (boxes + rng.integers(-3, 4, (n, 4))).astype(float)
        found["halves"][name] = boxes + rng.integers(-9, 10, (n, 4)) / 2
        broken = found["broken"][name] = (boxes + rng.integers(-30, 31, (n, 4))).astype(float)
        broken[rng.integers(1, n, 3)] = np.nan
        broken[rng.integers(1, n, 2), 0] = np.nan
        broken[rng.integers(1, n, 2), 2:] = 0
        broken[rng.integers(1, n, 2), 2] = -5
        shapes = {1: close[:9], 2: np.concatenate([close, close[:5]]), 5: close[:0]}
        if i != 4:  # no file of the fifth video, an empty one of the last
            found["files"][name] = shapes.get(i, close)
    return truth, found


def test_trackingnet_counts_as_its_devkit_does(tmp_path):
    truth, found = videos()
    for tracker, of in found.items():
        for name, boxes in of.items():
            (tmp_path / tracker).mkdir(exist_ok=True)
            (tmp_path / tracker / f"{name}.txt").write_text("".join(",".join(f"{v:g}" for v in row) + "\n" for row in boxes))
    known = [Annotation(name, np.ascontiguousarray(b.T), np.zeros(len(b), dtype=bool)) for name, b in truth.items()]
    outcome = scoring.score_files([protocols.get("trackingnet")], known, run.tracker_folders(tmp_path, list(found)))[0]
    values, _ = summary.overall(outcome.scores)
    np.testing.assert_allclose(100 * values, list(DEVKIT.values()), rtol=0, atol=1e-9)
    np.testing.assert_allclose(summary.overall(outcome.ceiling)[0], 1.0)  # an overlap of 1 reaches the threshold 1


@pytest.mark.parametrize("row", [(np.nan, 5, 9, 9), (5, np.inf, 9, 9), (5, 5, 0, 9), (5, 5, 9, -9), (np.nan,) * 4])
def test_the_honest_count_takes_a_box_that_cannot_be_used_for_a_miss(row, engine):
    truth = np.tile([5.0, 5.0, 9.0, 9.0], (5, 1))
    known = [Annotation("a", np.ascontiguousarray(truth.T), np.zeros(5, dtype=bool))]
    found = truth.copy()
    found[2] = row
    scores = scoring.score_arrays(protocols.get("corrected"), known, {"t": [found]}).scores
    np.testing.assert_allclose(summary.overall(scores)[0], [[0.75] * 4])  # three of the four frames after the first
    assert scores.counts[0, 0, summary.COUNTS.index("repaired")] == 1
    kit, _ = summary.overall(scoring.score_arrays(protocols.get("tnllt"), known, {"t": [found]}).scores)
    assert kit[0, 0] > 0.99 or np.isinf(row).any()  # which copies the box before


def test_a_tracker_is_ranked_by_the_benchmarks_first_number():
    assert {n: p.metrics[p.ranked_by].column for n, p in protocols.PROTOCOLS.items()} == {
        **dict.fromkeys(protocols.PROTOCOLS, "SR"),
        "got10k": "AO",
    }


def test_images_of_different_sizes_are_named_in_a_file(tmp_path):
    (tmp_path / "sizes.txt").write_text("first one 1280x720\nsecond 640X480\n\n")
    assert run.parse_size(str(tmp_path / "sizes.txt")) == {"first one": (1280, 720), "second": (640, 480)}
    assert run.parse_size("320x240") == (320, 240)
    (tmp_path / "sizes.txt").write_text("first 1280\n")
    with pytest.raises(BadInput, match=r"sizes\.txt, line 1: 1280: write a size as 1280x720"):
        run.parse_size(str(tmp_path / "sizes.txt"))
    truth = np.tile([[5.0], [5.0], [9.0], [9.0]], 3)
    known = [Annotation("third", truth, np.zeros(3, dtype=bool))]
    with pytest.raises(BadInput, match="third's size with --image-size"):
        scoring.score_arrays(protocols.get("got10k"), known, {"t": [truth.T]}, Options(image_size={"second": (9, 9)}))


def test_the_page_on_scoring_knows_every_protocol_and_its_columns():
    text = (ROOT / "docs/scoring.md").read_text()
    for name, protocol in protocols.PROTOCOLS.items():
        assert f"`{name}`" in text, name
        assert all(m.column.split(" ")[0] in text for m in protocol.metrics), name


def test_the_parameters_know_every_protocol_by_name():
    assert set(get_args(ProtocolName)) == set(protocols.PROTOCOLS)
