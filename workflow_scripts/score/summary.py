"""From sequences to a table: means, attributes, the ceiling and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Sequence as Series
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.console import BadInput
from workflow_scripts.score.curves import error_thresholds
from workflow_scripts.score.protocols import Metric, Protocol, kept_rows, mean_curves, reduce_curve
from workflow_scripts.score.results import Flags, Floats

# What completeness.csv counts of each tracker and sequence, in its order.
COUNTS = ("frames", "missing", "extra", "repaired", "non_finite", "absent", "invalid_truth", "border_truth")


@dataclass(frozen=True)
class Scores:
    """K trackers on S sequences under one protocol."""

    protocol: Protocol
    thresholds: Floats  # of the success curve
    trackers: tuple[str, ...]
    sequences: tuple[str, ...]
    attributes: tuple[tuple[str, ...], ...]  # of each sequence
    success: Floats  # [K, S, T]
    pixel: Floats  # [K, S, E]
    norm: Floats  # [K, S, E]
    overlap: Floats  # [K, S, 1] mean IoU
    frames: Floats  # [S] frames in the denominator
    lost: Flags  # [K, S] files that could not be read and count as missed
    counts: NDArray[np.int64]  # [K, S, len(COUNTS)]

    def curve(self, name: str) -> Floats:
        """Per-sequence curves [K, S, T] by name."""
        return {"success": self.success, "pixel": self.pixel, "norm": self.norm, "overlap": self.overlap}[name]

    def kept(self, metric: Metric) -> Flags:
        """[K, S], the sequences that enter the mean of `metric`."""
        return kept_rows(self.curve(metric.curve), self.frames, self.protocol, self.lost)

    def per_sequence(self, metric: Metric) -> Floats:
        """[K, S] values of one metric."""
        return reduce_curve(self.curve(metric.curve), metric)

    def select(self, trackers: Series[int] | None = None, chosen: Series[int] | None = None) -> Scores:
        """The same scores for some trackers and sequences, by position and in that order."""
        k = list(range(len(self.trackers))) if trackers is None else list(trackers)
        s = list(range(len(self.sequences))) if chosen is None else list(chosen)
        block = np.ix_(k, s)
        return replace(
            self,
            trackers=tuple(self.trackers[i] for i in k),
            sequences=tuple(self.sequences[i] for i in s),
            attributes=tuple(self.attributes[i] for i in s),
            success=self.success[block],
            pixel=self.pixel[block],
            norm=self.norm[block],
            overlap=self.overlap[block],
            frames=self.frames[s],
            lost=self.lost[block],
            counts=self.counts[block],
        )


def combine(parts: Series[Scores]) -> Scores:
    """Scores of disjoint shards of sequences as one. BadInput if they are not of the same trackers and protocol."""
    first, seen = parts[0], set[str]()
    for part in parts:
        if part.trackers != first.trackers or part.protocol != first.protocol or (part.thresholds != first.thresholds).any():
            raise BadInput("shards of different trackers, protocols or thresholds cannot be combined: score them alike.")
        if seen & set(part.sequences):
            raise BadInput(f"sequence {min(seen & set(part.sequences))} is in two shards: score it in one of them.")
        seen |= set(part.sequences)
    joined = {
        name: np.concatenate([getattr(p, name) for p in parts], axis=1)
        for name in ("success", "pixel", "norm", "overlap", "lost", "counts")
    }
    return replace(
        first,
        sequences=tuple(s for p in parts for s in p.sequences),
        attributes=tuple(a for p in parts for a in p.attributes),
        frames=np.concatenate([p.frames for p in parts]),
        **joined,
    )


def overall(scores: Scores) -> tuple[Floats, NDArray[np.int64]]:
    """Values [K, 3] of the protocol's metrics, and how many sequences entered each mean [K, 3]."""
    values, counts = [], []
    for metric in scores.protocol.metrics:
        kept = scores.kept(metric)
        curve = mean_curves(scores.curve(metric.curve), kept, scores.frames, scores.protocol)
        values.append(reduce_curve(curve, metric))
        counts.append(kept.sum(axis=1))
    return np.stack(values, axis=1), np.stack(counts, axis=1)


def mean_of(scores: Scores, curve: str) -> Floats:
    """Mean curves [K, T] under the protocol's own selection."""
    kept = kept_rows(scores.curve(curve), scores.frames, scores.protocol, scores.lost)
    return mean_curves(scores.curve(curve), kept, scores.frames, scores.protocol)


def by_attribute(scores: Scores, least: int = 2) -> dict[str, tuple[int, Floats, NDArray[np.int64]]]:
    """Attribute -> (its sequences, values [K, 3], sequences kept [K, 3]); only attributes of at least `least` sequences."""
    present = {a for attributes in scores.attributes for a in attributes}
    order = [a for a in scores.protocol.attributes if a in present]
    found = {}
    for attribute in (*order, *sorted(present - set(order))):
        chosen = [i for i, attributes in enumerate(scores.attributes) if attribute in attributes]
        if len(chosen) >= least:
            found[attribute] = (len(chosen), *overall(scores.select(chosen=chosen)))
    return found


def order_by(values: Floats) -> NDArray[np.intp]:
    """Positions from best to worst, ties in the order given, NaN last (the toolkits rank a tracker without a score first)."""
    return np.argsort(np.where(np.isnan(values), np.inf, -values), kind="stable")


@dataclass(frozen=True)
class Interval:
    """Bootstrap 95 % interval of one tracker's metric, and of its difference to the best tracker (the same resamples)."""

    tracker: str
    metric: str
    value: float
    low: float
    high: float
    best: str
    difference: float
    difference_low: float
    difference_high: float


def bootstrap(scores: Scores, samples: int, seed: int) -> list[Interval]:
    """Bootstrap over sequences: percentiles, widened for few sequences (`tail`), all trackers on the same resamples.

    The best tracker is the best by the metric that the protocol ranks by.
    """
    size = len(scores.sequences)
    draws = np.random.default_rng(seed).multinomial(size, np.full(size, 1.0 / size), size=samples).astype(np.float64)
    values, _ = overall(scores)
    best = int(order_by(values[:, scores.protocol.ranked_by])[0])
    found = []
    for column, metric in enumerate(scores.protocol.metrics):
        weight = scores.kept(metric) * (scores.frames if scores.protocol.pooled else 1.0)  # [K, S]
        with np.errstate(invalid="ignore", divide="ignore"):
            means = (draws @ (scores.per_sequence(metric) * weight).T) / (draws @ weight.T)  # [samples, K]
        for k, tracker in enumerate(scores.trackers):
            low, high = _interval(means[:, k], size)
            lower, upper = _interval(means[:, k] - means[:, best], size)
            value = values[k, column]
            found.append(
                Interval(
                    tracker, metric.column, value, low, high, scores.trackers[best], value - values[best, column], lower, upper
                )
            )
    return found


def tail(size: int) -> float:
    """Share of resamples beyond each end of a 95 % interval of a mean over `size` sequences.

    Plain percentiles (0.025) are too narrow for few sequences, by the square root of (n - 1) / n and by taking Student's t for
    a normal: 50 sequences give 0.0212, 20 give 0.0159 (Hesterberg 2015, expanded percentile interval). Student's quantile by
    its series in 1 / (n - 1).
    """
    normal, free = NormalDist(), max(size - 1, 1)
    z = normal.inv_cdf(0.975)
    t = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
    return normal.cdf(-t * math.sqrt(1 + 1 / free))


def _interval(samples: Floats, size: int) -> tuple[float, float]:
    """Both ends of the 95 % interval of resampled means over `size` sequences; NaN where none is finite."""
    finite = samples[np.isfinite(samples)]
    if not finite.size:
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [tail(size), 1 - tail(size)])
    return float(low), float(high)


def reproduce_break(scores: Scores, empty: Flags) -> Scores:
    """The toolkits' `break`: an empty file of one tracker takes the sequence from it and from all trackers listed after it.

    `empty` [K, S]. Trackers that never got as far disappear; a trailing sequence nobody was scored on stops the toolkit.
    """
    reached = np.where(empty.any(axis=0), empty.argmax(axis=0), len(scores.trackers))  # [S] trackers scored
    if reached.size and reached[-1] == 0:
        raise BadInput(
            f"{scores.sequences[-1]}: the first tracker's file is empty on the last sequence, which stops the toolkit; "
            "leave out --reproduce-kit-bugs or mend the file."
        )
    gone = np.arange(len(scores.trackers))[:, None] >= reached[None, :]
    cleared = {name: np.where(gone[:, :, None], 0.0, scores.curve(name)) for name in ("success", "pixel", "norm", "overlap")}
    kept = range(int(reached.max())) if reached.size else range(0)
    return replace(scores, lost=np.zeros_like(scores.lost), **cleared).select(trackers=kept)


def thresholds_of(scores: Scores) -> tuple[Floats, Floats, Floats]:
    """Thresholds of the success, pixel and normalised curves."""
    return (scores.thresholds, *error_thresholds(scores.protocol.rules))
