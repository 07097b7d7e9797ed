"""Boxes: ``xywh`` float pixels (left, top, width, height) unless the name says otherwise. Arrays are [..., 4]."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Boxes = NDArray[np.float64]


def xywh_to_xyxy(boxes: ArrayLike) -> Boxes:
    """[..., 4] left, top, width, height -> left, top, right, bottom."""
    b = np.asarray(boxes, dtype=np.float64)
    return np.concatenate([b[..., :2], b[..., :2] + b[..., 2:]], axis=-1)


def xyxy_to_xywh(boxes: ArrayLike) -> Boxes:
    """[..., 4] left, top, right, bottom -> left, top, width, height."""
    b = np.asarray(boxes, dtype=np.float64)
    return np.concatenate([b[..., :2], b[..., 2:] - b[..., :2]], axis=-1)


def _overlap(a: ArrayLike, b: ArrayLike) -> tuple[Boxes, Boxes, Boxes, Boxes]:
    """Intersection and union areas [...] and both corner forms [..., 4]. Boxes of no area overlap nothing."""
    p, q = xywh_to_xyxy(a), xywh_to_xyxy(b)
    sides = np.clip(np.minimum(p[..., 2:], q[..., 2:]) - np.maximum(p[..., :2], q[..., :2]), 0.0, None)
    intersection = sides[..., 0] * sides[..., 1]
    area_p = np.prod(np.clip(p[..., 2:] - p[..., :2], 0.0, None), axis=-1)
    area_q = np.prod(np.clip(q[..., 2:] - q[..., :2], 0.0, None), axis=-1)
    return intersection, area_p + area_q - intersection, p, q


def intersection_over_union(a: ArrayLike, b: ArrayLike) -> Boxes:
    """IoU of xywh boxes, elementwise over [..., 4] (broadcast); 0 where the union is empty."""
    intersection, union, _, _ = _overlap(a, b)
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def generalised_iou(a: ArrayLike, b: ArrayLike) -> Boxes:
    """GIoU = IoU - (|C| - |U|) / |C| with C the enclosing box (Rezatofighi et al. 2019), elementwise over [..., 4].

    -1 where C is empty.
    """
    intersection, union, p, q = _overlap(a, b)
    enclosing = np.prod(np.maximum(p[..., 2:], q[..., 2:]) - np.minimum(p[..., :2], q[..., :2]), axis=-1)
    iou = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    gap = np.divide(enclosing - union, enclosing, out=np.ones_like(union), where=enclosing > 0)
    return np.where(enclosing > 0, iou - gap, -1.0)


def centre_error(a: ArrayLike, b: ArrayLike) -> Boxes:
    """Euclidean distance of the centres in pixels, elementwise over [..., 4] xywh."""
    p, q = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    difference = (p[..., :2] + p[..., 2:] / 2) - (q[..., :2] + q[..., 2:] / 2)
    return np.hypot(difference[..., 0], difference[..., 1])


def clip_to_image(boxes: ArrayLike, width: float, height: float, margin: float = 10.0) -> Boxes:
    """Keep [..., 4] xywh boxes inside the image with sides of at least `margin` pixels (the STARK family's rule)."""
    corners = xywh_to_xyxy(boxes)
    x1 = np.clip(corners[..., 0], 0, width - margin)
    y1 = np.clip(corners[..., 1], 0, height - margin)
    x2 = np.clip(corners[..., 2], margin, width)
    y2 = np.clip(corners[..., 3], margin, height)
    return np.stack([x1, y1, np.maximum(margin, x2 - x1), np.maximum(margin, y2 - y1)], axis=-1)
