"""The bootstrap: intervals hold the truth as often as they say; paired ones know that trackers share their sequences."""

from statistics import NormalDist

import numpy as np
import pytest

from workflow_scripts.score import protocols, summary
from workflow_scripts.score.summary import COUNTS, Scores

PROTOCOL = protocols.get("corrected")  # its SR is the mean of the sequences' mean IoU, which the tests draw


def scores_of(values: np.ndarray, protocol=PROTOCOL, frames: np.ndarray | None = None) -> Scores:
    """Scores of K trackers on S sequences whose mean IoU is `values` [K, S]."""
    trackers, count = values.shape
    steps = protocol.rules.success_steps
    return Scores(
        protocol=protocol,
        thresholds=np.linspace(0, 1, steps),
        trackers=tuple(f"tracker {k}" for k in range(trackers)),
        sequences=tuple(f"sequence {s}" for s in range(count)),
        attributes=((),) * count,
        success=np.repeat(values[:, :, None], steps, axis=2),
        pixel=np.repeat(values[:, :, None], protocol.rules.error_steps, axis=2),
        norm=np.repeat(values[:, :, None], protocol.rules.error_steps, axis=2),
        overlap=values[:, :, None],
        frames=np.full(count, 100.0) if frames is None else frames,
        lost=np.zeros(values.shape, dtype=bool),
        counts=np.zeros((*values.shape, len(COUNTS)), dtype=np.int64),
    )


def last_metric(intervals, tracker):
    return next(i for i in intervals if i.tracker == f"tracker {tracker}" and i.metric == "SR")


@pytest.mark.parametrize("sequences", [10, 50])
def test_a_95_percent_interval_holds_the_true_mean_about_95_times_in_100(sequences):
    rng, held, true = np.random.default_rng(2), 0, 0.6
    for study in range(400):
        found = last_metric(summary.bootstrap(scores_of(rng.beta(3, 2, (1, sequences))), 300, study), 0)
        held += found.low <= true <= found.high
    assert 0.915 <= held / 400 <= 0.985  # three standard deviations around 0.95


@pytest.mark.parametrize(("sequences", "quantile"), [(10, 2.262157), (20, 2.093024), (50, 2.009575), (1000, 1.962341)])
def test_intervals_are_widened_by_students_quantile(sequences, quantile):
    expected = NormalDist().cdf(-quantile * (sequences / (sequences - 1)) ** 0.5)
    assert summary.tail(sequences) == pytest.approx(expected, rel=0.02)
    assert 0 <= summary.tail(1) < summary.tail(5) < summary.tail(10**9) <= 0.025000001


def test_its_width_is_that_of_the_normal_approximation():
    values = np.random.default_rng(2).beta(3, 2, (1, 200))
    found = last_metric(summary.bootstrap(scores_of(values), 4000, 0), 0)
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(200), rel=0.06)
    assert found.value == pytest.approx(values.mean())


def test_a_tracker_that_is_a_little_worse_everywhere_is_told_apart_although_the_intervals_overlap():
    rng = np.random.default_rng(3)
    hard = rng.beta(2, 2, 50)
    found = summary.bootstrap(scores_of(np.stack([hard, hard - 0.02 + rng.normal(0, 0.01, 50)])), 1000, 0)
    best, second = last_metric(found, 0), last_metric(found, 1)
    assert second.high > best.value > second.low  # alone they look alike
    assert second.best == "tracker 0" and second.difference_high < 0  # in pairs they don't
    assert second.difference == pytest.approx(second.value - best.value)


def test_two_equal_trackers_are_told_apart_about_5_times_in_100():
    rng, apart = np.random.default_rng(4), 0
    for study in range(400):
        found = summary.bootstrap(scores_of(rng.beta(3, 2, (2, 50))), 200, study)
        apart += any(last_metric(found, k).difference_high < 0 for k in (0, 1))
    assert 0.02 <= apart / 400 <= 0.09


def test_the_best_tracker_differs_from_itself_by_exactly_nothing():
    found = summary.bootstrap(scores_of(np.random.default_rng(5).random((3, 20))), 200, 0)
    best = max((i for i in found if i.metric == "SR"), key=lambda i: i.value)
    assert (best.difference, best.difference_low, best.difference_high) == (0, 0, 0)
    assert all(i.best == best.tracker for i in found)


def test_pooled_frames_weigh_long_sequences_more_in_every_resample():
    protocol = protocols.get("got10k")
    frames = np.array([900.0] + [10.0] * 9)
    values = np.array([[0.9] + [0.1] * 9])
    found = [i for i in summary.bootstrap(scores_of(values, protocol, frames), 500, 0) if i.metric == "AO"]
    assert found[0].value == pytest.approx((0.9 * 900 + 0.1 * 90) / 990)
    assert found[0].low == pytest.approx(0.1)  # a resample without the long sequence


def test_the_same_seed_gives_the_same_intervals():
    scores = scores_of(np.random.default_rng(6).random((2, 30)))
    assert summary.bootstrap(scores, 100, 7) == summary.bootstrap(scores, 100, 7)
    assert summary.bootstrap(scores, 100, 7) != summary.bootstrap(scores, 100, 8)
