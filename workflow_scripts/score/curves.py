"""The core: boxes of K trackers on one sequence in, success and precision curves out.

The features of this file:
- one pass: repair, absence, overlap, both centre errors and all three curves, for all trackers of a sequence at once;
- boxes travel as planes [4, K, N] (x, y, w, h), so that every step is a contiguous vector operation;
- float operations happen in the MATLAB toolkits' own order, because rounding decides ties at the thresholds;
- counting is exact: the nearest threshold is guessed by arithmetic, then the value is compared with the threshold itself;
- the rules of the MATLAB toolkits also run compiled (scanner.c), with the same bits; what is here says what is right.

What differs between benchmarks is in `Rules`; protocols.py fills them in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.score.results import Flags, Floats

Size = tuple[int, int]  # width, height in pixels
Grids = tuple[Floats, Floats, Floats]  # thresholds of overlap, pixel error and normalised error
EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Rules:
    """How a benchmark counts. The defaults are those of the LaSOT family of MATLAB toolkits."""

    absent_frames: Literal["miss", "ignore flags"] = "miss"  # "miss" and "removed" are one: the denominator decides
    truth_valid: Literal["xywh > 0", "wh > 0", "wh > 0, finite", "any"] = "xywh > 0"
    invalid_truth_pixel: Literal["hit", "miss"] = "hit"  # the toolkits write an error of -1, which is <= any threshold
    invalid_truth_norm: Literal["hit", "miss"] = "hit"
    repair: Literal["bad", "bad, NaN in all", "zero size", "none", "miss"] = "bad"  # which rows copy the row before, or miss
    refuse_invalid: bool = False  # NaN or negative sizes stop the toolkit
    first_frame: Literal["ground truth", "dropped"] = "ground truth"
    denominator: Literal["all", "scored"] = "all"
    inclusive_overlap: bool = True  # right = x + w - 1
    inclusive_centre: bool = True  # centre = x + (w - 1) / 2
    # the normalised error's unit, and whether centres are divided by it before they are subtracted: it decides ties
    norm_size: Literal["truth", "truth, subtracted first", "at least a pixel"] = "truth"
    success_at: Literal[">", ">="] = ">"  # what an overlap must be of a threshold
    rounded: bool = False  # all boxes rounded to integers, ties to even
    clip_to_image: bool = False
    grid: Literal["colon", "linspace", "torch"] = "colon"  # how the thresholds were computed: their last bits decide ties
    success_steps: int = 21
    error_steps: int = 51  # over 0..50 px and 0..0.5


@dataclass(frozen=True)
class SequenceScore:
    """One sequence's curves for K trackers."""

    success: Floats  # [K, T] share of frames whose IoU exceeds each threshold
    pixel: Floats  # [K, 51] share of frames whose centre error is at most 0..50 px
    norm: Floats  # [K, 51] the same for the centre error in units of the target's size, 0..0.5
    overlap: Floats  # [K] mean IoU over the scored frames
    frames: int  # the denominator
    repaired: NDArray[np.int64]  # [K] rows that were read and replaced
    non_finite: NDArray[np.int64]  # [K] rows that were read and hold NaN or infinity


def success_thresholds(rules: Rules, colon: str = "matlab") -> Floats:
    """Thresholds 0..1 of the success curve, to the last bit.

    MATLAB's ``0:0.05:1`` fills from both ends, Octave's from the left (`colon`); torch's arange computes four at a time. As
    decisions on IoU = k/20 they differ at 0.65 and, in torch, at 0.75.
    """
    steps = rules.success_steps
    if rules.grid == "linspace":
        return np.linspace(0.0, 1.0, steps)
    k, step = np.arange(float(steps)), 1.0 / (steps - 1)
    if rules.grid == "torch":
        return (k // 4 * 4) * step + (k % 4) * step
    left = k * step
    return np.where(2 * k < steps, left, 1.0 - (steps - 1 - k) * step) if colon == "matlab" else left


def error_thresholds(rules: Rules) -> tuple[Floats, Floats]:
    """Thresholds of the centre error: 0..50 pixels and 0..0.5 of the target's size."""
    pixels = np.arange(rules.error_steps) * (50.0 / (rules.error_steps - 1))
    return pixels, np.linspace(0.0, 0.5, rules.error_steps) if rules.grid == "linspace" else pixels / 100.0


def valid_truth(truth: Floats, kind: str) -> Flags:
    """[N], frames whose ground truth [4, N] the benchmark scores; the others have an overlap of -1."""
    if kind == "any":
        return np.ones(truth.shape[1], dtype=bool)
    if kind == "xywh > 0":
        return (truth > 0).all(axis=0)
    valid = (truth[2:] > 0).all(axis=0)
    return valid & np.isfinite(truth).all(axis=0) if kind == "wh > 0, finite" else valid


@dataclass(frozen=True)
class Ground:
    """One sequence's ground truth under one benchmark's rules; made by `ground_of`."""

    rules: Rules
    truth: Floats  # [4, N] x, y, w, h
    removed: Flags  # [N] frames that are never a hit: absent or, where the protocol drops it, first
    invalid: Flags  # [N] the others without valid ground truth
    thresholds: Grids
    image_size: Size | None

    @property
    def frames(self) -> int:
        """The denominator."""
        left_out = int((self.removed | self.invalid).sum()) if self.rules.denominator == "scored" else 0
        return self.truth.shape[1] - left_out

    @property
    def share(self) -> float:
        """What the toolkits divide counts by."""
        return self.frames + EPS


def ground_of(truth: Floats, absent: Flags, rules: Rules, colon: str = "matlab", image_size: Size | None = None) -> Ground:
    """Ground truth [4, N] and absence [N] under `rules`; `colon` says whose 0:0.05:1. `image_size` is needed for clipping."""
    truth = np.rint(truth) if rules.rounded else truth
    removed = absent.copy() if rules.absent_frames == "miss" else np.zeros(len(absent), dtype=bool)
    if rules.first_frame == "dropped":
        removed[:1] = True
    invalid = ~valid_truth(truth, rules.truth_valid) & ~removed
    thresholds = (success_thresholds(rules, colon), *error_thresholds(rules))
    return Ground(rules, truth, removed, invalid, thresholds, image_size if rules.clip_to_image else None)


def repair_rows(planes: Floats, truth: Floats, kind: str = "bad") -> tuple[Floats, Flags]:
    """Replace bad rows by the row before, in order: (planes [4, K, N], repaired rows [K, N]).

    Bad is a NaN or a size <= 0 ("bad"; the OTB family of toolkits asks for four NaNs) or a size of exactly 0 ("zero size").
    The first row is never repaired, nor a frame whose ground truth has a NaN: both are copied raw into the rows after them, as
    the toolkits do. With "miss" no row is copied: one without four finite numbers and a size becomes NaN, which meets nothing.
    """
    x, y, w, h = planes
    if kind == "miss":
        bad = ~((w > 0) & (h > 0) & np.isfinite(planes).all(axis=0))
        return np.where(bad, np.nan, planes) if bad.any() else planes, bad
    if kind == "bad, NaN in all":
        good = ~((w <= 0) | (h <= 0) | np.isnan(planes).all(axis=0))
    elif kind == "bad":
        good = w > 0
        good &= h > 0
        good &= x == x
        good &= y == y
    else:
        good = (w != 0) & (h != 0)
    good[:, 0] = True
    if not good.all():
        good |= np.isnan(truth).any(axis=0)
        trackers = np.flatnonzero(~good.all(axis=1))
        source = np.where(good[trackers], np.arange(good.shape[1]), 0)
        np.maximum.accumulate(source, axis=1, out=source)
        k, n = np.nonzero(~good[trackers])
        raw, planes = planes, planes.copy()
        planes[:, trackers[k], n] = raw[:, trackers[k], source[k, n]]
    return planes, ~good


def overlaps(planes: Floats, truth: Floats, inclusive: bool = True) -> Floats:
    """IoU [K, N] of boxes [4, K, N] with ground truth [4, N]; NaN is ignored by min and max, as in MATLAB."""
    pixel = 1.0 if inclusive else 0.0
    x, y, w, h = planes
    tx, ty, tw, th = truth
    inner: Floats | None = None
    for low, size, true_low, true_size in ((x, w, tx, tw), (y, h, ty, th)):
        side = low + size
        true_high = true_low + true_size
        if inclusive:
            side -= pixel
            true_high = true_high - pixel
        np.fmin(side, true_high, out=side)
        side -= np.fmax(low, true_low)
        if inclusive:
            side += pixel
        np.fmax(side, 0.0, out=side)
        inner = side if inner is None else np.multiply(inner, side, out=inner)
    union = w * h
    union += tw * th
    union -= inner
    return np.divide(inner, union, out=union)


def centre_errors(planes: Floats, truth: Floats, rules: Rules) -> tuple[Floats, Floats]:
    """Centre errors [K, N] in pixels and in units of the ground truth's size.

    The normalised one divides each centre before subtracting, which decides ties at 0.2.
    """
    pixel = 1.0 if rules.inclusive_centre else 0.0
    squares, scaled = None, None
    for low, size, true_low, true_size in zip(planes[:2], planes[2:], truth[:2], truth[2:], strict=True):
        centre = size - pixel
        centre *= 0.5  # the same bits as dividing by 2
        centre += low
        true_centre = true_low + (true_size - pixel) * 0.5
        unit = np.maximum(true_size, 1.0) if rules.norm_size == "at least a pixel" else true_size
        difference = centre - true_centre
        difference *= difference
        squares = difference if squares is None else np.add(squares, difference, out=squares)
        if rules.norm_size == "truth":
            centre /= unit
            centre -= true_centre / unit
            centre *= centre
        elif rules.norm_size == "at least a pixel":
            centre -= true_centre
            centre /= unit
            centre *= centre
        else:  # TrackingNet's devkit writes d / w * d / w, which rounds otherwise than (d / w) ** 2
            centre -= true_centre
            centre = centre / unit * centre / unit
        scaled = centre if scaled is None else np.add(scaled, centre, out=scaled)
    return np.sqrt(squares, out=squares), np.sqrt(scaled, out=scaled)


def rank(values: Floats, thresholds: Floats) -> NDArray[np.intp]:
    """How many of the evenly spaced `thresholds` (from 0) are below each value; values must not be NaN."""
    last = len(thresholds) - 1
    guess = values * (last / thresholds[-1])
    np.clip(guess, 0.0, last, out=guess)
    np.rint(guess, out=guess)
    nearest = guess.astype(np.intp)  # all thresholds left of it are below the value, all right of it above
    return np.add(nearest, thresholds.take(nearest) < values, out=nearest)


def _histogram(ranks: NDArray[np.intp], steps: int) -> NDArray[np.int64]:
    """Counts [K, steps + 1] of ranks [K, N]."""
    trackers = len(ranks)
    ranks += (np.arange(trackers) * (steps + 1))[:, None]
    return np.bincount(ranks.ravel(), minlength=trackers * (steps + 1)).reshape(trackers, steps + 1)


def _clipped(planes: Floats, size: tuple[int, int]) -> Floats:
    """Boxes cut at the image's border: the corner first, then the size to what is left."""
    out = planes.copy()
    for axis, limit in enumerate(size):
        np.clip(out[axis], 0.0, limit, out=out[axis])
        np.clip(out[axis + 2], 0.0, limit - out[axis], out=out[axis + 2])
    return out


@dataclass(frozen=True)
class FrameErrors:
    """Per frame what the curves count; a comparison that MATLAB makes with NaN is false, so NaN is -1 or infinity here."""

    overlap: Floats  # [K, N] IoU; -1 where the frame cannot be a success
    pixel: Floats  # [K, N] centre error in pixels; infinite where it cannot be a hit, -1 where it always is
    norm: Floats  # [K, N] the same in units of the target's size


def frame_errors(planes: Floats, ground: Ground) -> FrameErrors:
    """Overlap and centre errors of repaired boxes [4, K, N]."""
    rules, truth = ground.rules, ground.truth
    compared = (planes, truth)
    if rules.clip_to_image:
        assert ground.image_size is not None, "this protocol clips boxes to the image: image_size is needed"
        compared = (_clipped(planes, ground.image_size), _clipped(truth[:, None], ground.image_size)[:, 0])
    with np.errstate(all="ignore"):
        iou = overlaps(*compared, inclusive=rules.inclusive_overlap)
        pixel, norm = centre_errors(planes, truth, rules)
        if rules.first_frame == "ground truth":  # whatever was written there, the toolkits score the given box
            first = truth[:, :1]
            iou[:, :1] = overlaps(first[:, None], first, rules.inclusive_overlap)
            pixel[:, :1], norm[:, :1] = centre_errors(first[:, None], first, rules)
        np.fmax(iou, -1.0, out=iou)
        np.fmin(pixel, np.inf, out=pixel)
        np.fmin(norm, np.inf, out=norm)
    if ground.invalid.any():
        iou[:, ground.invalid] = -1.0
        pixel[:, ground.invalid] = -1.0 if rules.invalid_truth_pixel == "hit" else np.inf
        norm[:, ground.invalid] = -1.0 if rules.invalid_truth_norm == "hit" else np.inf
    if ground.removed.any():
        iou[:, ground.removed] = -1.0
        pixel[:, ground.removed] = norm[:, ground.removed] = np.inf
    return FrameErrors(iou, pixel, norm)


def score_sequence(planes: Floats, ground: Ground, missed: Flags | None = None) -> SequenceScore:
    """Curves of one sequence.

    `planes` [4, K, N] are the boxes as written, `missed` [K, N] rows that count as a miss whatever they hold. Formulas: the
    TNLLT, LaSOT and TNL2K toolkits' calc_seq_err_robust and calc_rect_int; see docs/scoring.md.
    """
    rules, thresholds = ground.rules, ground.thresholds
    missed = np.zeros(planes.shape[1:], dtype=bool) if missed is None else missed
    non_finite = np.zeros(len(missed), dtype=np.int64)
    with np.errstate(all="ignore"):
        if not np.isfinite(planes.sum()):
            non_finite = (~np.isfinite(planes).all(axis=0) & ~missed).sum(axis=1)
    planes = np.rint(planes) if rules.rounded else planes
    repaired = np.zeros_like(non_finite)
    if rules.repair != "none":
        planes, rows = repair_rows(planes, ground.truth, rules.repair)
        repaired = (rows & ~missed).sum(axis=1)
    errors = frame_errors(planes, ground)
    iou, pixel, norm = errors.overlap, errors.pixel, errors.norm
    if missed.any():
        iou[missed] = -1.0
        pixel[missed] = norm[missed] = np.inf
    reached = iou if rules.success_at == ">" else np.nextafter(iou, np.inf)  # the least double above: t < it means t <= iou
    above = _histogram(rank(reached, thresholds[0]), len(thresholds[0]))
    within_pixel = _histogram(rank(pixel, thresholds[1]), rules.error_steps)
    within_norm = _histogram(rank(norm, thresholds[2]), rules.error_steps)
    np.cumsum(np.maximum(iou, 0.0, out=iou), axis=1, out=iou)  # in order, and not in pairs as sum() adds
    return SequenceScore(
        success=np.cumsum(above[:, :0:-1], axis=1)[:, ::-1] / ground.share,
        pixel=np.cumsum(within_pixel[:, :-1], axis=1) / ground.share,
        norm=np.cumsum(within_norm[:, :-1], axis=1) / ground.share,
        overlap=iou[:, -1] / max(ground.frames, 1) + 0.0,  # never -0.0
        frames=ground.frames,
        repaired=repaired,
        non_finite=non_finite,
    )
