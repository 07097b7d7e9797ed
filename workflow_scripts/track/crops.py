"""Square crops around a box, and the way back from a crop's fractions to image pixels.

The rounding is that of the STARK family's code (SeqTrack, DUTrack), which checkpoints were trained and scored with:
changing any of it moves boxes. A crop is centred at the rounded box centre, but mapped back around the un-rounded one.
Where a crop touches the right or bottom border exactly, the last image column or row is replaced by padding (their
``+ 1``). Padding is black in raw pixels. Crops are uint8 RGB; `normalise` makes the networks' input of them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from workflow_scripts.console import BadInput

if TYPE_CHECKING:
    import torch

Image = NDArray[np.uint8]
Box = NDArray[np.float64]

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

WORTH_THREADS = 16  # crops a call from which threads cost less than they save


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


def crop_batch(images: Sequence[Image], boxes: Sequence[Box], factor: float, size: int) -> tuple[Image, NDArray[np.float64]]:
    """`crop` of each image, in threads where they are many: [B,size,size,3] uint8 and resize factors [B]."""
    pairs = list(zip(images, boxes, strict=True))
    crops, factors = np.empty((len(pairs), size, size, 3), np.uint8), np.empty(len(pairs))

    def fill(i: int) -> None:
        crops[i], factors[i] = crop(*pairs[i], factor, size)

    every = map if len(pairs) < WORTH_THREADS else _threads().map
    list(every(fill, range(len(pairs))))
    return crops, factors


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="crop")


def normalise(crops: Image, device: torch.device | str = "cpu") -> torch.Tensor:
    """Crops uint8 [N,H,W,3] -> float32 [N,3,H,W] on the device, with ImageNet's mean and deviation."""
    import torch  # the classic trackers do without

    x = torch.from_numpy(np.ascontiguousarray(crops)).to(device)
    x = x.permute(0, 3, 1, 2).float().div_(255)
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (x - mean).div_(std)


def map_back(
    fractions: NDArray[np.floating], before: NDArray[np.floating], size: int, factors: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Boxes in image pixels from the network's.

    fractions [...,4] cx, cy, w, h of the crop; `before` [...,4] xywh that was cropped around; `size` of the crop in
    pixels; `factors` [...] as `crop` returned. Returns [...,4] xywh, not clipped.
    """
    fractions, before = np.asarray(fractions, np.float64), np.asarray(before, np.float64)
    side = size / np.asarray(factors, np.float64)[..., None]  # the crop's side in image pixels
    scaled = fractions * side
    centre = scaled[..., :2] + before[..., :2] + 0.5 * before[..., 2:] - 0.5 * side
    return np.concatenate([centre - 0.5 * scaled[..., 2:], scaled[..., 2:]], -1)


def map_into(
    boxes: NDArray[np.floating], before: NDArray[np.floating], size: int, factors: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Inverse of `map_back`: boxes [...,4] xywh in pixels to cx, cy, w, h in fractions of the crop around `before`."""
    boxes, before = np.asarray(boxes, np.float64), np.asarray(before, np.float64)
    side = size / np.asarray(factors, np.float64)[..., None]
    centre = boxes[..., :2] + 0.5 * boxes[..., 2:] - before[..., :2] - 0.5 * before[..., 2:] + 0.5 * side
    return np.concatenate([centre, boxes[..., 2:]], -1) / side
