"""Square crops around a box, as the STARK family's code (SeqTrack, DUTrack, R1-Track) cuts them.

The rounding is theirs, which checkpoints were trained and scored with: changing any of it moves boxes. Where a crop touches
the right or bottom border exactly, the last image column or row is replaced by padding (their ``+ 1``). Padding is black in
raw pixels. Crops are uint8 RGB.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from workflow_scripts.console import BadInput

Image = NDArray[np.uint8]
Box = NDArray[np.float64]


def square(box: Sequence[float] | Box, factor: float) -> tuple[int, int, int]:
    """Left, top and side, in image pixels, of the square of `factor` times the box's size (root of its area) around it."""
    x, y, w, h = (float(v) for v in box)
    if not all(map(math.isfinite, (x, y, w, h))) or w <= 0 or h <= 0:
        raise BadInput(f"The box {[x, y, w, h]} has no area to crop around.")
    side = math.ceil(math.sqrt(w * h) * factor)
    # half to even, as the networks were trained
    return round(x + 0.5 * w - 0.5 * side), round(y + 0.5 * h - 0.5 * side), side


def crop(image: Image, box: Sequence[float] | Box, factor: float, size: int) -> tuple[Image, float]:
    """The `square` around a box, resized to `size` pixels.

    Returns the crop [size,size,3] uint8 and the resize factor (crop pixels per image pixel).
    """
    left, top, side = square(box, factor)
    height, width = image.shape[:2]
    # What the image has of the square; its own last column and row only count where the square ends before them.
    x1, y1 = max(0, left), max(0, top)
    x2, y2 = max(x1, min(left + side, width - 1)), max(y1, min(top + side, height - 1))
    patch = image[y1:y2, x1:x2]
    if patch.shape[:2] != (side, side):
        padded = np.zeros((side, side, 3), np.uint8)
        if patch.size:
            padded[y1 - top : y2 - top, x1 - left : x2 - left] = patch
        patch = padded
    return cv2.resize(patch, (size, size)), size / side
