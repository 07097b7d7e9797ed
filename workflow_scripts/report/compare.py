"""How sure a ranking is: bootstrap intervals of every tracker, and two trackers sequence by sequence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from workflow_scripts.console import BadInput
from workflow_scripts.params.report import Figures
from workflow_scripts.report import scored, style
from workflow_scripts.report.scored import Floats, Scored

NAMED = 5  # sequences that the scatter names: where the two differ most
ABOVE, BELOW = "#0072B2", "#D55E00"


def plot_intervals(found: Scored, folder: Path, look: Figures) -> None:
    """95 % bootstrap intervals of the ranking score, and of the paired difference to the best tracker; and the CSV."""
    rows = [(t, 100 * found.overall[t][found.main], *_percent(found.intervals[t])) for t in found.trackers]
    places = np.arange(len(rows))
    values, low, high, gap, gap_low, gap_high = np.array([row[1:] for row in rows], dtype=np.float64).T
    height = 0.17 * len(rows) + 0.85
    with style.figure(look, max(height / look.width, 0.3), ncols=2, sharey=True) as (made, (left, right)):
        left.hlines(places, low, high, color="#888888", linewidth=1.4)
        left.plot(values, places, "o", color="#333333", markersize=4)
        left.set(xlabel=f"{found.main} (%), 95 % over sequences")
        for place in places:
            sure = gap_high[place] < 0
            colour = BELOW if sure else "#888888"
            right.hlines(place, gap_low[place], gap_high[place], color=colour, linewidth=1.4)
            right.plot(gap[place], place, "o", color=colour, markerfacecolor=colour if sure else "white", markersize=4)
        right.axvline(0, color="#333333", linewidth=0.8)
        right.set(xlabel="difference to the best (points), paired")
        left.set_yticks(places, found.trackers, fontsize=7 if len(rows) > 12 else 8)
        left.set_ylim(len(rows) - 0.4, -0.6)
        left.set_title("score and its interval", loc="left")
        right.set_title("hollow: within chance of the best", loc="left")
        style.save(made, folder, "intervals", look)
    header = ["tracker", found.main, "low", "high", "difference", "difference_low", "difference_high"]
    scored.write_rows(folder / "intervals.csv", header, rows)


def _percent(interval: dict[str, float]) -> list[float]:
    return [100 * interval[key] for key in ("low", "high", "difference", "difference_low", "difference_high")]


def plot_pair(found: Scored, folder: Path, look: Figures) -> None:
    """One point a sequence: its score by one tracker against that by another. BadInput names the trackers there are."""
    pair = look.pair or found.trackers[:2]
    for tracker in pair:
        if tracker not in found.per_sequence:
            known = ", ".join(found.trackers)
            raise BadInput(f"report.figures.pair names {tracker}, which has no scores here; there are {known}.")
    one, other = pair[0], pair[-1]
    names = list(found.per_sequence[one])
    x = 100 * np.array([found.per_sequence[other][n] for n in names])
    y = 100 * np.array([found.per_sequence[one][n] for n in names])
    above, below = y > x, y < x
    with style.figure(look, 0.86, share=0.85) as (made, axes):
        axes.plot([0, 100], [0, 100], color="#888888", linewidth=0.8, zorder=1)
        for chosen, colour, marker, text in (
            (above, ABOVE, "o", f"{one} is better: {above.sum()}"),
            (below, BELOW, "s", f"{other} is better: {below.sum()}"),
            (~above & ~below, "#888888", "D", f"equal: {(~above & ~below).sum()}"),
        ):
            if chosen.any():
                axes.plot(x[chosen], y[chosen], marker, color=colour, alpha=0.75, markersize=5, markeredgewidth=0, label=text)
        _name_extremes(axes, names, x, y)
        axes.set(xlabel=f"{other}: {found.main} (%)", ylabel=f"{one}: {found.main} (%)", xlim=(0, 100), ylim=(0, 100))
        axes.set_aspect("equal")
        axes.set_title(f"{len(names)} sequences, mean difference {np.nanmean(y - x):+.1f} points", loc="left")
        made.legend(loc="outside lower center", ncols=2, fontsize=8)
        style.save(made, folder, "pair", look)
    scored.write_rows(folder / "pair.csv", ["sequence", other, one], zip(names, map(float, x), map(float, y), strict=True))


def _name_extremes(axes: Axes, names: list[str], x: Floats, y: Floats) -> None:
    """Names beside the points farthest from the diagonal, on the side away from it, none on top of another."""
    placed: list[tuple[float, float]] = []
    for i in np.argsort(-np.abs(y - x), kind="stable"):
        if len(placed) == NAMED or not abs(y[i] - x[i]) > 0:
            break
        if any(abs(x[i] - a) < 25 and abs(y[i] - b) < 4 for a, b in placed):
            continue
        placed.append((x[i], y[i]))
        left = (y[i] > x[i] and x[i] > 25) or x[i] > 80
        axes.annotate(
            names[i],
            (x[i], y[i]),
            textcoords="offset points",
            xytext=(-6, 0) if left else (6, 0),
            fontsize=7,
            ha="right" if left else "left",
            va="center",
        )
