"""Crops in batches, and the way back from a crop's fractions to image pixels.

A crop is centred at the rounded box centre (workflow_scripts.cropping), but mapped back around the un-rounded one, as
checkpoints were trained and scored with. Crops are uint8 RGB; `normalise` makes the networks' input of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.cropping import Box, Image, crop

if TYPE_CHECKING:
    import torch

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

WORTH_THREADS = 16  # crops a call from which threads cost less than they save


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
