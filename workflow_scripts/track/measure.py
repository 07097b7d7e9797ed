"""Success of boxes against ground truth, as the track stage needs it to judge its own training; the table is `score`'s."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Series

import numpy as np
from numpy.typing import ArrayLike

from workflow_scripts.boxes import intersection_over_union
from workflow_scripts.sequences import Sequence

THRESHOLDS = np.linspace(0, 1, 21)


def auc(boxes: ArrayLike, truth: ArrayLike, present: ArrayLike | None = None) -> float:
    """Mean over 21 thresholds of the share of frames with IoU above it. Boxes, truth [N, 4] xywh; absent frames left out."""
    shown = np.ones(len(np.asarray(truth)), dtype=bool) if present is None else np.asarray(present, dtype=bool)
    overlap = intersection_over_union(boxes, truth)[shown]
    return float((overlap[:, None] > THRESHOLDS).mean()) if shown.any() else float("nan")


def mean_auc(results: Mapping[str, ArrayLike], sequences: Series[Sequence]) -> float:
    """Mean of the sequences' AUC; `results` are boxes [N, 4] by sequence name."""
    return float(np.nanmean([auc(results[s.name], s.boxes, s.present) for s in sequences]))
