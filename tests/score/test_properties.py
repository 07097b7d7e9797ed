"""What must hold for every protocol, whatever the boxes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workflow_scripts.console import BadInput
from workflow_scripts.score import curves, protocols, scoring, summary
from workflow_scripts.score.annotations import Annotation, check_polarity
from workflow_scripts.score.scoring import Options

OPTIONS = Options(image_size=(320, 240), lenient=True)
quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
every_protocol = pytest.mark.parametrize("name", protocols.PROTOCOLS)


def study(seed: int, sequences: int = 5, trackers: int = 4, integers: bool = True):
    """Random annotations with absent frames and border boxes, and boxes of good, bad and broken trackers."""
    rng = np.random.default_rng(seed)
    annotations, boxes = [], {f"tracker {k}": [] for k in range(trackers)}
    for s in range(sequences):
        n = int(rng.integers(2, 40))
        truth = np.column_stack([rng.integers(0, 150, (n, 2)), rng.integers(1, 80, (n, 2))]).astype(float)
        absent = np.zeros(n, dtype=bool)
        absent[rng.choice(np.arange(1, n), n // 5, replace=False)] = True
        annotations.append(Annotation(f"seq {s}", np.ascontiguousarray(truth.T), absent, ("SV",) if s % 2 else ("SV", "FM")))
        for k, found in enumerate(boxes.values()):
            noisy = truth + rng.integers(-3 * k, 3 * k + 1, truth.shape)
            if not integers:
                noisy = noisy + rng.normal(0, 0.1, truth.shape)
            found.append(noisy)
    return annotations, boxes


@every_protocol
@quick
@given(seed=st.integers(0, 10**6))
def test_curves_are_shares_and_monotone(name, seed):
    scores = scoring.score_arrays(protocols.get(name), *study(seed), OPTIONS).scores
    for curve, sign in ((scores.success, -1), (scores.pixel, 1), (scores.norm, 1)):
        assert (curve >= 0).all() and (curve <= 1).all()
        assert (sign * np.diff(curve, axis=2) >= 0).all()


@every_protocol
@quick
@given(seed=st.integers(0, 10**6))
def test_a_perfect_tracker_meets_the_ceiling_and_nobody_passes_it(name, seed):
    annotations, boxes = study(seed)
    boxes["perfect"] = [a.truth.T for a in annotations]
    outcome = scoring.score_arrays(protocols.get(name), annotations, boxes, OPTIONS)
    values, _ = summary.overall(outcome.scores)
    top, _ = summary.overall(outcome.ceiling)
    np.testing.assert_allclose(values[-1], top[0], rtol=0, atol=1e-12)
    for curve in ("success", "pixel", "norm"):
        assert (outcome.scores.curve(curve) <= outcome.ceiling.curve(curve) + 1e-12).all()


@quick
@given(seed=st.integers(0, 10**6), order=st.randoms())
def test_permuting_trackers_or_sequences_changes_nothing(seed, order):
    annotations, boxes = study(seed)
    protocol = protocols.get("tnllt")
    straight, _ = summary.overall(scoring.score_arrays(protocol, annotations, boxes, OPTIONS).scores)
    trackers, positions = list(boxes), list(range(len(annotations)))
    order.shuffle(trackers)
    order.shuffle(positions)
    shuffled = {t: [boxes[t][i] for i in positions] for t in trackers}
    scores = scoring.score_arrays(protocol, [annotations[i] for i in positions], shuffled, OPTIONS).scores
    values, _ = summary.overall(scores)
    for k, tracker in enumerate(trackers):
        np.testing.assert_allclose(values[k], straight[list(boxes).index(tracker)], rtol=0, atol=1e-12)


@quick
@given(seed=st.integers(0, 10**6), power=st.integers(-3, 6))
def test_scaling_image_and_boxes_together_keeps_sr_and_npr(seed, power):
    """By powers of two, so that no rounding decides; without the kits' minus one, which is a pixel at every scale."""
    factor = 2.0**power
    rules = replace(protocols.get("tnllt").rules, inclusive_overlap=False, inclusive_centre=False)
    protocol = replace(protocols.get("tnllt"), rules=rules)
    annotations, boxes = study(seed, integers=False)
    larger = [replace(a, truth=a.truth * factor) for a in annotations]
    scaled = {t: [b * factor for b in of] for t, of in boxes.items()}
    one = scoring.score_arrays(protocol, annotations, boxes, OPTIONS).scores
    other = scoring.score_arrays(protocol, larger, scaled, OPTIONS).scores
    np.testing.assert_array_equal(one.success, other.success)
    np.testing.assert_array_equal(one.norm, other.norm)


@every_protocol
@quick
@given(seed=st.integers(0, 10**6), cut=st.integers(1, 4))
def test_scoring_shards_and_combining_equals_one_run(name, seed, cut):
    annotations, boxes = study(seed)
    protocol = protocols.get(name)
    whole = scoring.score_arrays(protocol, annotations, boxes, OPTIONS).scores
    parts = [
        scoring.score_arrays(protocol, annotations[part], {t: of[part] for t, of in boxes.items()}, OPTIONS).scores
        for part in (slice(None, cut), slice(cut, None))
    ]
    joined = summary.combine(parts)
    assert joined.sequences == whole.sequences
    for a, b in zip(summary.overall(joined), summary.overall(whole), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(BadInput, match="two shards"):
        summary.combine([parts[0], parts[0]])


@quick
@given(
    values=st.lists(
        st.floats(-2, 80) | st.sampled_from([k / 20 for k in range(21)]) | st.just(float("inf")), min_size=1, max_size=60
    ),
    colon=st.sampled_from(["matlab", "octave"]),
    grid=st.sampled_from(["colon", "linspace", "torch"]),
)
def test_counting_by_guess_equals_comparing_with_every_threshold(values, colon, grid):
    values = np.array([values])
    rules = curves.Rules(grid=grid)
    for thresholds in (curves.success_thresholds(rules, colon), *curves.error_thresholds(rules)):
        expected = (thresholds[None, None, :] < values[:, :, None]).sum(axis=2)
        np.testing.assert_array_equal(curves.rank(values, thresholds), expected)


def test_repair_copies_the_row_before_and_never_the_first():
    boxes = np.array([[1, 1, 0, 5], [2, 2, np.nan, 5], [3, 3, 4, 4], [4, 4, -1, 4], [5, 5, 4, 0], [-6, -6, 2, 2]], dtype=float)
    planes, repaired = curves.repair_rows(np.ascontiguousarray(boxes.T[:, None]), np.ones((4, 6)))
    assert np.flatnonzero(repaired).tolist() == [1, 3, 4]
    np.testing.assert_array_equal(planes[:, 0].T, boxes[[0, 0, 2, 2, 2, 5]])


def test_a_lost_file_never_pays_and_never_touches_another_tracker():
    annotations, boxes = study(3)
    protocol = protocols.get("tnllt")
    before, _ = summary.overall(scoring.score_arrays(protocol, annotations, boxes, OPTIONS).scores)
    worst = {**boxes, "tracker 1": [np.empty((0, 4)), *boxes["tracker 1"][1:]]}
    after, counts = summary.overall(scoring.score_arrays(protocol, annotations, worst, OPTIONS).scores)
    assert (after[1] < before[1]).all() and (counts[1] == len(annotations)).all()
    np.testing.assert_array_equal(np.delete(after, 1, 0), np.delete(before, 1, 0))


def test_inverted_absence_flags_are_refused():
    annotations, _ = study(0)
    check_polarity(annotations, "here")
    with pytest.raises(BadInput, match="absent-polarity"):
        check_polarity([replace(a, absent=~a.absent) for a in annotations], "here")


def test_bootstrap_intervals_hold_the_value_and_repeat():
    annotations, boxes = study(1, sequences=30)
    scores = scoring.score_arrays(protocols.get("tnllt"), annotations, boxes, OPTIONS).scores
    intervals = summary.bootstrap(scores, 500, 0)
    assert intervals == summary.bootstrap(scores, 500, 0)
    for found in intervals:
        assert found.low <= found.value <= found.high
        if found.tracker == found.best:
            assert (found.difference, found.difference_low, found.difference_high) == (0, 0, 0)
