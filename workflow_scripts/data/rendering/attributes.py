"""The 15 flags of TNLLT, computed from what was drawn, in the order of attributes.txt.

Thresholds follow the field's definitions (TNL2K, LaSOT, OTB): a flag is raised by a measurement of the rendered frames and
never by the plan they were made from. View changes, deformation and adversarial samples are never drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ORDER = ("CM", "ROT", "DEF", "FOC", "IV", "OV", "POC", "VC", "SV", "BC", "MB", "ARC", "LR", "FM", "AS")


@dataclass(frozen=True)
class Measured:
    """One row a frame, N frames, of what happened to the target."""

    boxes: NDArray[np.float64]  # [N, 4] xywh, clipped to the image; zeros where absent
    present: NDArray[np.bool_]  # [N]
    in_view: NDArray[np.float64]  # [N] share of the target's pixels inside the image
    hidden: NDArray[np.float64]  # [N] share of those that something else covers
    camera: NDArray[np.float64]  # [N, 2] camera offset, pixels
    angle: NDArray[np.float64]  # [N] rad
    gain: NDArray[np.float64]  # [N] brightness
    blur: NDArray[np.float64]  # [N] length of the target's smear, pixels
    nearest_alike: NDArray[np.float64]  # [N] distance to the nearest look-alike in target sizes; inf without one
    shrink: float  # factor by which frames were down- and upsampled


def compute(measured: Measured) -> dict[str, bool]:
    """Flag by name."""
    centres = measured.boxes[:, :2] + measured.boxes[:, 2:] / 2
    moved = np.hypot(*np.diff(centres, axis=0).T)[measured.present[1:] & measured.present[:-1]]
    whole = measured.boxes[measured.present & (measured.in_view > 0.95)]  # the border's cuts are no change of the target
    area = whole[:, 2] * whole[:, 3] / (whole[0, 2] * whole[0, 3])
    aspect = (whole[:, 2] / whole[:, 3]) / (whole[0, 2] / whole[0, 3])
    seen = measured.in_view > 0.5  # a target beyond the image is out of view, not occluded
    hidden = np.where(seen, measured.hidden, 0)
    return {
        "CM": bool(np.ptp(measured.camera, axis=0).max() > 10),
        "ROT": bool(np.ptp(measured.angle) > np.deg2rad(20)),
        "DEF": False,
        "FOC": bool(hidden.max() > 0.85),
        "IV": bool(measured.gain.max() / measured.gain.min() > 1.5),
        "OV": bool(measured.in_view.min() < 0.5),
        "POC": bool(((hidden > 0.15) & (hidden <= 0.85)).any()),
        "VC": False,
        "SV": bool((area > 2).any() or (area < 0.5).any()),
        "BC": bool(measured.nearest_alike.min() < 2),
        "MB": bool(measured.blur.max() >= 3),
        "ARC": bool((aspect > 2).any() or (aspect < 0.5).any()),
        "LR": bool((whole[:, 2] * whole[:, 3] < 400).any() or measured.shrink > 1.5),
        "FM": bool((moved > 20).any()),
        "AS": False,
    }


def line(flags: Mapping[str, bool]) -> str:
    """The text of attributes.txt: 15 comma-separated 0/1."""
    return ",".join(str(int(flags[name])) for name in ORDER) + "\n"
