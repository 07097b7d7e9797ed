"""The toolkits' own numbers: every recorded value, within 1e-12, from NumPy and from the compiled scanner."""

import csv
import io
import json

import numpy as np
import pytest
from conftest import GOLDEN, text_of

from workflow_scripts.console import BadInput
from workflow_scripts.score import annotations, curves, protocols, results, run, scoring, summary
from workflow_scripts.score.scoring import Options

pytestmark = pytest.mark.usefixtures("engine")

TOLERANCE = 1e-12
TNLLT = protocols.get("tnllt")
METRICS = ("PR", "NPR", "SR")


def rows(name):
    return list(csv.DictReader(io.StringIO(text_of(name))))


def synthetic(golden_inputs, thresholds):
    folder = golden_inputs / "synth_pub"
    trackers = (folder / "trackers.txt").read_text().split()
    names = run.read_names(folder / "sequences.txt")
    known = annotations.from_toolkit(folder / "annos", TNLLT, "1-is-absent", names)
    return scoring.score_files([TNLLT], known, run.tracker_folders(folder, trackers), Options(thresholds))[0].scores


def test_every_cell_of_every_curve_of_the_synthetic_suite_equals_the_octave_run(golden_inputs):
    recorded = np.load(GOLDEN / "synth_pub_curves.npz")
    scores = synthetic(golden_inputs, "octave")
    for name, ours in (("success", scores.success), ("precision_px", scores.pixel), ("precision_norm", scores.norm)):
        np.testing.assert_allclose(ours, recorded[name], rtol=0, atol=TOLERANCE)
        mean = summary.mean_of(scores, {"success": "success", "precision_px": "pixel", "precision_norm": "norm"}[name])
        np.testing.assert_allclose(mean, recorded[f"mean_{name}"], rtol=0, atol=TOLERANCE)


def test_matlab_thresholds_are_the_default_and_equal_the_derived_run(golden_inputs):
    assert Options().thresholds == "matlab"
    scores = synthetic(golden_inputs, "matlab")
    recorded = np.load(GOLDEN / "synth_pub_curves.npz")
    np.testing.assert_allclose(scores.success, recorded["success_matlab_colon_DERIVED"], rtol=0, atol=TOLERANCE)
    assert (scores.thresholds == recorded["thr_success_matlab_colon"]).all()
    values, _ = summary.overall(scores)
    expected = [float(r["SR_matlab_colon"]) for r in rows("synth_pub_overall_matlab_colon_DERIVED.csv")]
    np.testing.assert_allclose(values[:, 2], expected, rtol=0, atol=TOLERANCE)


def test_overall_per_sequence_and_attribute_numbers_of_the_synthetic_suite_are_equal(golden_inputs):
    scores = synthetic(golden_inputs, "octave")
    values, counts = summary.overall(scores)
    for k, row in enumerate(rows("synth_pub_overall.csv")):
        assert row["tracker"] == scores.trackers[k]
        assert values[k] == pytest.approx([float(row[m]) for m in METRICS], abs=TOLERANCE)
        assert list(counts[k]) == [int(row[f"n_seq_{m}"]) for m in METRICS]
    where = {(t, s): (k, i) for k, t in enumerate(scores.trackers) for i, s in enumerate(scores.sequences)}
    columns = ("precision_at_20px", "norm_precision_at_0.2", "success_auc")
    for row in rows("synth_pub_per_sequence.csv.xz"):
        cell = where[row["tracker"], row["sequence"]]
        for metric, column in zip(TNLLT.metrics, columns, strict=True):
            assert scores.per_sequence(metric)[cell] == pytest.approx(float(row[column]), abs=TOLERANCE)
    attributes = summary.by_attribute(scores)
    for row in rows("synth_pub_per_attribute.csv.xz"):
        size, of, kept = attributes[row["attribute"]]
        cell = scores.trackers.index(row["tracker"]), METRICS.index(row["metric"])
        assert (size, kept[cell]) == (int(row["n_sequences"]), int(row["n_sequences_kept"]))
        assert of[cell] == pytest.approx(float(row["value"]), abs=TOLERANCE, nan_ok=True)


def edge_cases():
    cases = {}
    for line in text_of("edge_pub.golden.txt.xz").splitlines():
        case, kind, values = line.split("|", 2)
        cases.setdefault(case, {})[kind] = values
    return cases


@pytest.mark.parametrize(("case", "recorded"), edge_cases().items(), ids=list(edge_cases()))
def test_a_single_case_gives_the_toolkits_numbers(golden_inputs, case, recorded):
    folder = golden_inputs / "edge_pub" / case
    truth = np.ascontiguousarray(results.read_boxes(folder / "anno.txt").boxes.T)

    def score():
        flags = folder / "absent.txt"
        absent = annotations.absent_frames(results.read_flags(flags), 0, truth.shape[1], flags)
        found = results.read_sequence([folder / "res.txt"], truth.shape[1], dialect="octave")
        assert not found.missed.any()
        repaired, _ = curves.repair_rows(found.planes, truth)
        ground = curves.ground_of(truth, absent, TNLLT.rules, "octave")
        return curves.frame_errors(repaired, ground), ground, curves.score_sequence(found.planes, ground)

    if "FAIL" in recorded or "EMPTY" in recorded:  # what stops the toolkit, or leaves its loop
        with pytest.raises(BadInput, match=r"\.txt"):
            score()
        return
    errors, ground, ours = score()
    for kind, values, never in (("IOU", errors.overlap, -1.0), ("CE", errors.pixel, np.inf), ("NCE", errors.norm, np.inf)):
        expected = np.array(recorded[kind].split(), dtype=float)
        expected[np.isnan(expected)] = never
        np.testing.assert_allclose(values[0, ~ground.removed], expected, rtol=0, atol=TOLERANCE)
    for kind, curve in (("OVERLAP", ours.success), ("ERROR_PX", ours.pixel), ("ERROR_NORM", ours.norm)):
        np.testing.assert_allclose(curve[0], np.array(recorded[kind].split(), dtype=float), rtol=0, atol=TOLERANCE)


def legend(scores, figure):
    values, counts = summary.overall(scores)
    column = METRICS.index(figure)
    order = np.argsort(np.where(np.isnan(values[:, column]), -np.inf, -values[:, column]), kind="stable")
    return [(scores.trackers[k], values[k, column], counts[k, column]) for k in order]


@pytest.mark.parametrize("key", json.loads(text_of("agg_pub.json")))
def test_order_empty_and_missing_files_end_as_in_the_toolkit(golden_inputs, key):
    case, figure = key.split(":")
    recorded = json.loads(text_of("agg_pub.json"))[key]
    folder = golden_inputs / case
    trackers = (folder / "trackers.txt").read_text().split()

    def score():
        names = run.read_names(folder / "sequences.txt")
        known = annotations.from_toolkit(folder / "annos", TNLLT, "1-is-absent", names)
        options = Options("octave", reproduce_kit_bugs=True)
        return scoring.score_files([TNLLT], known, run.tracker_folders(folder, trackers), options)[0].scores

    expected = recorded["legend_order"]
    if not expected:  # the toolkit stopped: either we refuse the input, too, or only its indexing of a single row failed
        if "dlmread" in recorded["octave_error"] or "out of bound 5" in recorded["octave_error"]:
            with pytest.raises(BadInput):
                score()
        else:
            assert "bb(21)" in recorded["octave_error"]
            assert min(n for _, _, n in legend(score(), figure)) <= 1
        return
    ours = legend(score(), figure)
    assert [name for name, _, _ in ours] == [e["tracker"] for e in expected]
    assert [n for _, _, n in ours] == [int(e["n_kept"]) for e in expected]
    assert [v for _, v, _ in ours] == pytest.approx([float(e["value"]) for e in expected], abs=TOLERANCE, nan_ok=True)
