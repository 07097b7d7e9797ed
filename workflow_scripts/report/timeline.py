"""When trackers fail: overlap along the frames of a few sequences, a strip a tracker, the target's absence marked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import NDArray

from workflow_scripts import boxes, sequences
from workflow_scripts.params.report import Figures
from workflow_scripts.report import scored, style
from workflow_scripts.report.scored import Floats, Scored

COLUMNS = 600  # of a strip at most; a longer sequence shows the mean of neighbours
ABSENT = "#FFFFFF"
# from orange (lost) over pale to blue (held): told apart with every kind of colour blindness
SHADES = LinearSegmentedColormap.from_list("overlap", ["#D55E00", "#F3C9A5", "#EEF2F5", "#8FC1E3", "#005A92"])


@dataclass(frozen=True)
class Timeline:
    """One sequence: overlap of K trackers, best first, with the ground truth of N frames."""

    name: str
    overlap: Floats  # [K, N], NaN where the target is absent
    present: NDArray[np.bool_]  # [N]


def read(found: Scored, index: Path, split: str, raw: Path, count: int) -> list[Timeline]:
    """The sequences on which trackers differ most. BadInput if there is no index."""
    chosen = found.apart(count)
    known = {s.name: s for s in sequences.read_index(index, split=split, names=chosen)}
    timelines = []
    for name in chosen:
        s = known[name]
        usable = s.present & (s.boxes[:, 2:] > 0).all(axis=1)
        values = np.stack([overlap(read_boxes(raw / t / f"{name}.txt", len(s)), s.boxes) for t in found.trackers])
        values[:, ~usable] = np.nan
        timelines.append(Timeline(name, values, usable))
    return timelines


def read_boxes(path: Path, frames: int) -> Floats:
    """[frames, 4] boxes of a result file; NaN where the file or a row is missing, or a row is not four numbers."""
    found = np.full((frames, 4), np.nan)
    if not path.is_file():  # scoring has said so, or has refused it
        return found
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    for i, line in enumerate(lines[:frames]):
        try:
            found[i] = [float(v) for v in re.split(r"[\s,;]+", line.strip())]
        except ValueError:
            continue
    return found


def overlap(found: Floats, truth: Floats) -> Floats:
    """IoU [N] of boxes [N, 4]; 0 where a box cannot be used."""
    return np.nan_to_num(boxes.intersection_over_union(np.nan_to_num(found), truth))


def plot(found: Scored, timelines: list[Timeline], folder: Path, look: Figures) -> None:
    """A panel a sequence, a row a tracker; at the right the share of frames lost (no overlap); and the CSV."""
    rows = len(found.trackers)
    height = len(timelines) * (0.13 * rows + 0.42) + 0.5
    with style.figure(look, height / look.width, nrows=len(timelines), squeeze=False) as (made, grid):
        for axes, line in zip(grid[:, 0], timelines, strict=True):
            shown = axes.imshow(
                _columns(line.overlap),
                aspect="auto",
                interpolation="nearest",
                cmap=SHADES,
                vmin=0,
                vmax=1,
                extent=(0.5, line.overlap.shape[1] + 0.5, rows - 0.5, -0.5),
            )
            axes.set_facecolor(ABSENT)
            axes.grid(False)
            axes.set_yticks(range(rows), found.trackers, fontsize=6.5 if rows > 12 else 8)
            axes.tick_params(axis="y", length=0)
            axes.hlines(np.arange(1, rows) - 0.5, *axes.get_xlim(), color="white", linewidth=0.7)
            for row, values in enumerate(line.overlap):
                lost = np.mean(values[line.present] <= 0) if line.present.any() else 0.0
                axes.text(1.005, row, f"{100 * lost:.0f} %", transform=axes.get_yaxis_transform(), va="center", fontsize=6)
            absent = int((~line.present).sum())
            axes.set_title(f"{line.name}{f' ({absent} frames without the target, white)' if absent else ''}", loc="left")
            axes.text(1.005, 1.0, "lost", transform=axes.transAxes, fontsize=6.5, va="bottom")
        grid[-1, 0].set_xlabel("frame")
        made.colorbar(shown, ax=grid[:, 0], shrink=0.5, aspect=40, pad=0.06, label="overlap (IoU)")
        style.save(made, folder, "timeline", look)
    table = (
        (line.name, tracker, frame, float(value))
        for line in timelines
        for tracker, values in zip(found.trackers, line.overlap, strict=True)
        for frame, value in enumerate(values, start=1)
    )
    scored.write_rows(folder / "timeline.csv", ["sequence", "tracker", "frame", "overlap"], table)


def _columns(overlap: Floats) -> Floats:
    """[K, at most COLUMNS] means of neighbouring frames, absent ones left out."""
    frames = overlap.shape[1]
    if frames <= COLUMNS:
        return overlap
    edges = np.linspace(0, frames, COLUMNS + 1).astype(int)[:-1]
    count = np.add.reduceat(~np.isnan(overlap), edges, axis=1)
    total = np.add.reduceat(np.nan_to_num(overlap), edges, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return total / count
