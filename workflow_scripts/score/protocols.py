"""Benchmarks as data: how each one counts (`Rules`), which numbers it prints (`Metric`), and how sequences become one number.

Everything a protocol can differ in is a field here; the arithmetic is in curves.py alone. `compared` says how far a protocol
was checked: against recorded runs of the benchmark's own code, or by reading that code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from workflow_scripts.console import BadInput
from workflow_scripts.score.curves import EPS, Rules
from workflow_scripts.score.results import Flags, Floats

TNLLT_ATTRIBUTES = ("CM", "ROT", "DEF", "FOC", "IV", "OV", "POC", "VC", "SV", "BC", "MB", "ARC", "LR", "FM", "AS")
VASTTRACK_ATTRIBUTES = ("LR", "SV", "FM", "ARC", "IV", "INV", "DEF", "ROT", "BC", "MB")
LASOT_ATTRIBUTES = ("IV", "POC", "DEF", "MB", "CM", "ROT", "BC", "VC", "SV", "FOC", "FM", "OV", "LR", "ARC")


@dataclass(frozen=True)
class Metric:
    """One column: a mean curve and how it is reduced to a number ("overlap" is a number already: the mean IoU)."""

    column: str
    curve: Literal["success", "pixel", "norm", "overlap"]
    reduce: Literal["mean", "at", "trapezoid"] = "mean"
    index: int = 0  # for "at"


@dataclass(frozen=True)
class Protocol:
    """One benchmark's way of scoring."""

    name: str
    title: str
    rules: Rules
    metrics: tuple[Metric, ...]  # in the overall table's order
    ranked_by: int = 2  # which of them orders trackers
    absent_value: int | None = None  # what marks an absent frame in the benchmark's own flag files; None: it has none
    attributes: tuple[str, ...] = ()
    drop_zero_rows: bool = True  # sequences whose whole curve is zero leave the mean
    pooled: bool = False  # mean over all frames instead of over sequences
    short_is_miss: bool = False  # in the benchmark's own code a missing row is a miss, a missing file a box of zeros a frame
    compared: str = ""


_PR = Metric("PR", "pixel", "at", 20)
_NPR = Metric("NPR", "norm", "at", 20)
_SR = Metric("SR", "success", "mean")
_MATLAB = "every number of recorded runs of the toolkit's own code, within 1e-12"
_OTB = "a recorded run of the OTB toolkit's own code, every cell of its curves within 1e-12"

_TNLLT = Protocol(
    name="tnllt",
    title="TNLLT evaluation toolkit (MATLAB)",
    rules=Rules(),
    metrics=(_PR, _NPR, _SR),
    absent_value=0,
    attributes=TNLLT_ATTRIBUTES,
    compared=_MATLAB,
)
_PYTRACKING_RULES = Rules(invalid_truth_pixel="miss", repair="zero size", refuse_invalid=True, grid="torch")
_OTB_RULES = Rules(
    absent_frames="ignore flags",
    truth_valid="any",
    repair="none",
    inclusive_overlap=False,
    norm_size="at least a pixel",
    grid="linspace",
)

PROTOCOLS: dict[str, Protocol] = {
    p.name: p
    for p in (
        _TNLLT,
        replace(_TNLLT, name="lasot", title="LaSOT evaluation toolkit (MATLAB)", absent_value=1, attributes=LASOT_ATTRIBUTES),
        replace(
            _TNLLT,
            name="tnl2k",
            title="TNL2K evaluation toolkit (MATLAB)",
            absent_value=1,
            attributes=(*TNLLT_ATTRIBUTES, "TC", "MS"),
        ),
        replace(
            _TNLLT,
            name="vasttrack",
            title="VastTrack evaluation toolkit (MATLAB)",
            absent_value=1,
            attributes=VASTTRACK_ATTRIBUTES,
            compared=_MATLAB,
        ),
        Protocol(
            name="otb",
            title="OTB as the got10k toolkit counts it",
            rules=_OTB_RULES,
            metrics=(_PR, replace(_NPR, column="NPR (mean of 51)", reduce="mean"), _SR),
            drop_zero_rows=False,
            compared="recorded runs of the got10k toolkit's ExperimentOTB and ExperimentLaSOT (for NPR), within 1e-9",
        ),
        Protocol(
            name="got10k",
            title="GOT-10k (AO, SR at 0.5 and 0.75; frames pooled)",
            rules=replace(
                _OTB_RULES,
                absent_frames="miss",
                first_frame="dropped",
                denominator="scored",
                clip_to_image=True,
                success_steps=101,
            ),
            metrics=(
                Metric("AO", "overlap"),
                Metric("SR0.5", "success", "at", 50),
                Metric("SR0.75", "success", "at", 75),
            ),
            ranked_by=0,
            absent_value=1,
            drop_zero_rows=False,
            pooled=True,
            compared="recorded runs of the got10k toolkit's ExperimentGOT10k, within 1e-9",
        ),
        Protocol(
            name="trackingnet",
            title="TrackingNet devkit (areas under the curves)",
            rules=replace(
                _OTB_RULES,
                inclusive_overlap=True,
                norm_size="truth, subtracted first",
                success_at=">=",
                rounded=True,
                error_steps=21,
            ),
            metrics=(
                Metric("PR", "pixel", "trapezoid"),
                Metric("NPR", "norm", "trapezoid"),
                Metric("SR", "success", "trapezoid"),
            ),
            drop_zero_rows=False,
            short_is_miss=True,
            compared="a recorded run of the devkit's metrics.py, within 1e-9",
        ),
        *(
            replace(
                _TNLLT,
                name=name,
                title=f"{title} (OTB toolkit family)",
                rules=Rules(absent_frames="ignore flags", repair="bad, NaN in all"),
                absent_value=None,
                attributes=(),
                compared=_OTB,
            )
            for name, title in (("uav123", "UAV123"), ("nfs", "NfS"), ("otb99", "OTB99-Lang"))
        ),
        replace(
            _TNLLT,
            name="pytracking",
            title="what pytracking's analysis would print",
            rules=_PYTRACKING_RULES,
            absent_value=1,
            attributes=LASOT_ATTRIBUTES,
            drop_zero_rows=False,
            compared="recorded runs of pytracking's analysis, within 1e-6 (its curves are single precision)",
        ),
        replace(
            _TNLLT,
            name="dutrack",
            title="what DUTrack's (OSTrack's) analysis would print",
            rules=replace(_PYTRACKING_RULES, truth_valid="wh > 0"),
            absent_value=1,
            attributes=LASOT_ATTRIBUTES,
            drop_zero_rows=False,
            compared="recorded runs of DUTrack's analysis, within 1e-6 (its curves are single precision)",
        ),
        Protocol(
            name="corrected",
            title="honest count: present frames with a valid box, first frame left out, mean IoU",
            rules=Rules(
                truth_valid="wh > 0, finite",
                invalid_truth_pixel="miss",
                invalid_truth_norm="miss",
                repair="miss",
                first_frame="dropped",
                denominator="scored",
            ),
            metrics=(_PR, _NPR, Metric("SR", "overlap"), Metric("NPR area", "norm", "mean")),
            absent_value=0,
            attributes=TNLLT_ATTRIBUTES,
            drop_zero_rows=False,
            compared="the definitions in docs/scoring.md",
        ),
    )
}


def get(name: str) -> Protocol:
    """A protocol by name; BadInput lists the known ones."""
    if name not in PROTOCOLS:
        raise BadInput(f"unknown protocol {name}: choose one of {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]


def kept_rows(curves: Floats, frames: Floats, protocol: Protocol, lost: Flags | None = None) -> Flags:
    """[K, S], sequences that enter a tracker's mean: [K, S, T] curves whose sum is not zero, where the protocol drops those.

    A sequence without a scored frame never enters (a protocol that counts scored frames only). `lost` [K, S] marks files that
    could not be read and were counted as missed: they stay in the mean, else losing a file would pay.
    """
    kept = np.broadcast_to(frames > 0, curves.shape[:2])
    if protocol.drop_zero_rows:
        kept = kept & (curves.sum(axis=2) > EPS)
    return kept | lost if lost is not None else kept


def mean_curves(curves: Floats, kept: Flags, frames: Floats, protocol: Protocol) -> Floats:
    """Mean curve [K, T] of each tracker over its kept sequences; NaN where none is left. `frames` [S] weight pooled ones."""
    weights = kept * frames if protocol.pooled else kept.astype(np.float64)
    total = weights.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (curves * weights[:, :, None]).sum(axis=1) / total[:, None]


def reduce_curve(curves: Floats, metric: Metric) -> Floats:
    """Curves [..., T] to numbers [...]."""
    if metric.curve == "overlap":
        return curves[..., 0]
    if metric.reduce == "at":
        return curves[..., metric.index]
    if metric.reduce == "mean":
        return curves.mean(axis=-1)
    inner = curves[..., 1:-1].sum(axis=-1) + (curves[..., 0] + curves[..., -1]) / 2  # over a unit interval
    return inner / (curves.shape[-1] - 1)
