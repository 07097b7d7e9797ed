"""Training losses: DUTrack's GIoU, L1 and focal loss of a decoded box; SeqTrack's cross-entropy of words.

Formulas: GIoU (Rezatofighi et al. 2019); penalty-reduced focal loss and Gaussian targets (CornerNet, Law and Deng 2018;
CenterNet, Zhou et al. 2019). Boxes are [B, 4] cx, cy, w, h as fractions of the crop; maps are [B, C, F, F].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

DecodeAt = Literal["centre", "argmax"]
MIN_OVERLAP = 0.7  # a corner this far off still overlaps the truth so much: sets the Gaussian's radius


@dataclass(frozen=True)
class Weights:
    """How much each part counts (the authors' values)."""

    giou: float = 2.0
    l1: float = 5.0
    focal: float = 1.0


@dataclass(frozen=True)
class Loss:
    """`total` is differentiable; the parts are plain numbers for the log, `iou` the mean IoU of the decoded boxes."""

    total: Tensor
    giou: float
    l1: float
    focal: float
    iou: float


def tracking_loss(
    score: Tensor, size: Tensor, offset: Tensor, target: Tensor, weights: Weights = Weights(), decode_at: DecodeAt = "centre"
) -> Loss:
    """Loss of one search frame, averaged over the batch.

    score [B, 1, F, F] after sigmoid, size [B, 2, F, F] and offset [B, 2, F, F] as the head gives them, target [B, 4].
    `decode_at` picks the cell whose box is compared: "argmax" of the score is the authors' choice; from scratch the
    argmax is noise for hundreds of steps, so the small network learns its boxes at the true "centre".
    """
    f = score.shape[-1]
    cell = centre_cell(target, f) if decode_at == "centre" else score.flatten(1).argmax(1)  # [B]
    boxes = boxes_at(cell, size, offset)
    iou, giou = overlaps(boxes, target)
    l1 = (boxes - target).abs().mean()
    focal = focal_loss(score[:, 0], gaussian_heatmap(target, f))
    total = weights.giou * (1 - giou).mean() + weights.l1 * l1 + weights.focal * focal
    return Loss(total, float((1 - giou).mean().detach()), float(l1.detach()), float(focal.detach()), float(iou.mean().detach()))


def centre_cell(target: Tensor, f: int) -> Tensor:
    """Flat index [B] of the cell on an F x F map whose corner is nearest to each box's centre: the heatmap's peak."""
    centre = (target[:, :2] * f).round().clamp(0, f - 1).long()
    return centre[:, 1] * f + centre[:, 0]


def boxes_at(cell: Tensor, size: Tensor, offset: Tensor) -> Tensor:
    """Decode the boxes [B, 4] that the maps hold at the flat indices `cell` [B]: ((column, row) + offset) / F and size."""
    f = size.shape[-1]
    at = cell.view(-1, 1, 1).expand(-1, 2, 1)
    grid = torch.stack([cell % f, cell // f], dim=1).to(size.dtype)
    centre = (grid + offset.flatten(2).gather(2, at).squeeze(2)) / f
    return torch.cat([centre, size.flatten(2).gather(2, at).squeeze(2)], dim=1)


def overlaps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and GIoU [B] of boxes [B, 4] cx, cy, w, h."""
    a1, a2 = a[:, :2] - a[:, 2:] / 2, a[:, :2] + a[:, 2:] / 2
    b1, b2 = b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2
    intersection = (torch.minimum(a2, b2) - torch.maximum(a1, b1)).clamp(min=0).prod(1)
    union = a[:, 2:].prod(1) + b[:, 2:].prod(1) - intersection
    enclosing = (torch.maximum(a2, b2) - torch.minimum(a1, b1)).prod(1)
    iou = intersection / union.clamp(min=1e-9)
    return iou, iou - (enclosing - union) / enclosing.clamp(min=1e-9)


def gaussian_heatmap(target: Tensor, f: int) -> Tensor:
    """Target of the score map [B, F, F]: 1 at the centre's cell, a Gaussian of sigma (2 r + 1) / 6 within r cells of it."""
    cell = centre_cell(target, f)
    radius = gaussian_radius(target[:, 2] * f, target[:, 3] * f).view(-1, 1, 1)  # [B, 1, 1]
    row = torch.arange(f, device=target.device).view(1, f, 1)
    column = torch.arange(f, device=target.device).view(1, 1, f)
    dy, dx = row - (cell // f).view(-1, 1, 1), column - (cell % f).view(-1, 1, 1)
    heat = torch.exp(-(dx**2 + dy**2) / (2 * ((2 * radius + 1) / 6) ** 2))
    return heat * ((dx.abs() <= radius) & (dy.abs() <= radius))


def gaussian_radius(width: Tensor, height: Tensor) -> Tensor:
    """CornerNet's radius in cells, rounded down, of boxes of `width` x `height` cells [B].

    The three cases are roots of a r^2 - b r + c = 0. The published code divides by 2 instead of 2 a; every tracker of
    this family was trained so, and so are ours.
    """
    total, area, o = width + height, width * height, MIN_OVERLAP
    cases = (
        (1.0, total, area * (1 - o) / (1 + o)),
        (4.0, 2 * total, (1 - o) * area),
        (4 * o, -2 * o * total, (o - 1) * area),
    )
    radii = [(b + (b**2 - 4 * a * c).clamp(min=0).sqrt()) / 2 for a, b, c in cases]
    return torch.stack(radii).amin(0).clamp(min=0).floor()


def focal_loss(score: Tensor, heat: Tensor, alpha: float = 2.0, beta: float = 4.0) -> Tensor:
    """Penalty-reduced focal loss of probabilities [B, F, F] against a Gaussian target, a sum per peak."""
    peak = heat == 1
    at_peaks = (score.log() * (1 - score) ** alpha)[peak].sum()
    elsewhere = ((1 - score).log() * score**alpha * (1 - heat) ** beta)[~peak].sum()
    return -(at_peaks + elsewhere) / peak.sum().clamp(min=1)


def alignment_loss(features: Tensor, words: Tensor, named: Tensor, families: list[list[int]]) -> Tensor:
    """Cross-entropy of naming targets: which word of each family of words a target's feature is nearest to.

    features [B, D] of the targets' cells before any of them has met a word, words [V, D] as the trunk gets them, named
    [B, V] bool: the words of the sentences, families of word numbers that exclude one another (colours, shapes ..). A
    sentence that names none or several words of a family does not count there. Vision and words come to share a space;
    without it, a network from scratch finds that words matter only after it has all but stopped learning.
    """
    logits = features @ words.T * features.shape[1] ** -0.5  # [B, V]
    parts = []
    for family in families:
        told = named[:, family]
        clear = told.sum(1) == 1
        if clear.any():
            parts.append(torch.nn.functional.cross_entropy(logits[clear][:, family], told[clear].float().argmax(1)))
    return torch.stack(parts).mean() if parts else logits.sum() * 0


def features_at(features: Tensor, target: Tensor) -> Tensor:
    """Features [B, D] of the cells that hold the centres of the boxes [B, 4], out of tokens [B, F * F, D], row-major."""
    f = math.isqrt(features.shape[1])
    column, row = (target[:, :2] * f).long().clamp(0, f - 1).unbind(1)
    return features[torch.arange(len(features), device=features.device), row * f + column]


def words_of(target: Tensor, bins: int) -> Tensor:
    """SeqTrack's words int64 [B, 4] of boxes [B, 4]: fractions of the crop in bins, rounded down as published."""
    return (target * (bins - 1)).long().clamp(0, bins - 1)


def word_loss(logits: Tensor, target: Tensor, end: float = 0.01, soften: float = 0.0) -> Tensor:
    """Weighted cross-entropy of the words cx, cy, w, h, END: a coordinate counts 1, END counts `end`.

    logits [B, 5, bins + 2] of the network that was told the words before each, target [B, 4] boxes. With `soften` a
    coordinate is not one word but a Gaussian of so many words around its true place, so that near misses teach too.
    """
    bins = logits.shape[-1] - 2
    wanted = torch.zeros_like(logits)
    if soften:
        away = torch.arange(bins, device=target.device) - target[..., None] * (bins - 1)  # [B, 4, bins]
        wanted[:, :4, :bins] = torch.softmax(-(away**2) / (2 * soften**2), dim=-1)
    else:
        wanted[:, :4].scatter_(2, words_of(target, bins)[..., None], 1.0)
    wanted[:, 4, bins] = end
    return -(wanted * logits.log_softmax(-1)).sum() / wanted.sum()
