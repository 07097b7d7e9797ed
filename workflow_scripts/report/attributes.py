"""The ranking score by attribute: a radar of the best trackers, and bars of all of them, best and second best marked."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from workflow_scripts.params.report import Figures
from workflow_scripts.report import scored, style
from workflow_scripts.report.scored import Scored

NONE = "no attribute has two sequences"
BLOCK = 8  # attributes beside each other; more go below
BEST, SECOND, OTHER = "#0072B2", "#56B4E9", "#D5D9DD"


@dataclass(frozen=True)
class Attributes:
    """What per_attribute.csv holds, in its order."""

    counts: dict[str, int]  # attribute -> sequences that have it
    scores: dict[str, dict[str, float]]  # tracker -> attribute -> percent


def read(path: Path, main: str) -> Attributes:
    """The score `main` by attribute; empty where no attribute has two sequences."""
    counts: dict[str, int] = {}
    scores: dict[str, dict[str, float]] = {}
    with path.open(newline="", encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            counts[row["attribute"]] = int(row["n"])
            scores.setdefault(row["tracker"], {})[row["attribute"]] = 100 * float(row[main])
    return Attributes(counts, scores)


def plot_radar(by: Attributes, found: Scored, folder: Path, look: Figures) -> None:
    """The best trackers around a circle of attributes. The centre lies below their lowest score, so that they come apart."""
    names = list(by.counts)
    best = found.trackers[: look.radar] if names else []
    values = {t: np.array([by.scores[t][a] for a in names]) for t in best}
    angles = np.linspace(0, 2 * np.pi, max(len(names), 1), endpoint=False)
    with style.figure(look, 0.66, subplot_kw={"projection": "polar"}) as (made, axes):
        made.set_layout_engine("none")  # constrained layout doesn't see the labels around a circle
        axes.set_position((0.135, 0.1, 0.46, 0.46 / 0.66))
        for rank, tracker in enumerate(best):
            around = np.append(values[tracker], values[tracker][0])
            axes.plot(np.append(angles, angles[0]), around, label=tracker, **style.line_style(rank))
        lowest = min((np.nanmin(v) for v in values.values()), default=0.0)
        axes.set_ylim(max(0.0, 10 * np.floor(lowest / 10) - 10), None)
        axes.set_theta_zero_location("N")
        axes.set_xticks(angles, [f"{a} ({by.counts[a]})" for a in names] or [NONE], fontsize=8)
        for label, angle in zip(axes.get_xticklabels(), angles, strict=True):
            side = -np.sin(angle)  # angles run against the clock from the top
            label.set_horizontalalignment("center" if abs(side) < 0.1 else "left" if side > 0 else "right")
        axes.tick_params(axis="x", pad=1)
        axes.set_rlabel_position(180 / max(len(names), 1))
        axes.tick_params(axis="y", labelsize=7, labelcolor="#666666")
        made.text(0.01, 0.97, f"{found.main} (%) by attribute (sequences)", va="top", fontsize=10)
        if best:
            made.legend(loc="center left", bbox_to_anchor=(0.71, 0.5))
        style.save(made, folder, "attribute_radar", look)


def plot_bars(by: Attributes, found: Scored, folder: Path, look: Figures) -> None:
    """Every tracker in every attribute: a row a tracker, a column an attribute, with its number; and the CSV."""
    names = list(by.counts)
    blocks = [names[i : i + BLOCK] for i in range(0, len(names), BLOCK)] or [[]]
    columns = max(len(blocks[0]), 1)
    height = len(blocks) * (0.155 * len(found.trackers) + 0.45) + 0.4
    with style.figure(look, height / look.width, nrows=len(blocks), ncols=columns, sharey=True, squeeze=False) as (made, grid):
        made.suptitle(f"{found.main} (%) by attribute (sequences): best dark, second light", x=0.01, ha="left", fontsize=10)
        top = max((v for of in by.scores.values() for v in of.values() if not np.isnan(v)), default=1.0)
        for axes, name in zip(grid.flat, [*names, *[None] * (grid.size - len(names))], strict=True):
            if name is None:
                axes.set_visible(bool(not names))
                axes.text(0.5, 0.5, "" if names else NONE, transform=axes.transAxes, ha="center")
            else:
                _bars(axes, [by.scores[t][name] for t in found.trackers], top)
                axes.set_title(f"{name} ({by.counts[name]})", fontsize=8)
            axes.set_yticks(range(len(found.trackers)), found.trackers, fontsize=7)
            axes.tick_params(axis="both", length=0)
            axes.set_xticks([])
            axes.grid(False)
            axes.spines[:].set_visible(False)
        grid[0, 0].set_ylim(len(found.trackers) - 0.4, -0.6)
        style.save(made, folder, "attribute_bars", look)
    rows = [(a, t, by.scores[t][a], by.counts[a]) for a in names for t in found.trackers]
    scored.write_rows(folder / "attributes.csv", ["attribute", "tracker", found.main, "sequences"], rows)


def _bars(axes: Axes, values: list[float], top: float) -> None:
    """One attribute's column of bars. What prints alike is marked alike."""
    printed = [f"{v:.1f}" for v in values]
    places = sorted({float(p) for p in printed if p != "nan"}, reverse=True)[:2]
    shade = dict(zip(places, (BEST, SECOND), strict=False))
    colours = [shade.get(float(p), OTHER) for p in printed]
    axes.barh(range(len(values)), np.nan_to_num(values), color=colours, height=0.82)
    axes.set_xlim(0, 1.45 * top)
    for row, (value, text) in enumerate(zip(values, printed, strict=True)):
        weight = "bold" if colours[row] == BEST else "normal"
        axes.text(np.nan_to_num(value) + 0.03 * top, row, text, va="center", fontsize=6, weight=weight)
