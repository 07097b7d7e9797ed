"""One look for all figures: colours that the colour-blind can tell apart, files that come out the same twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from workflow_scripts.params.report import Figures

# Okabe and Ito's palette without its yellow, which is hard to see as a line on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
CEILING = {"color": "#999999", "linestyle": (0, (1, 1)), "linewidth": 1.0, "zorder": 1}

SETTINGS: Mapping[str, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "svg.hashsalt": "trackgraph",  # the ids inside an SVG are random otherwise
    "svg.fonttype": "none",  # text stays text: small files, searchable
    "pdf.fonttype": 42,
}


def line_style(rank: int) -> dict[str, Any]:
    """Colour and dash of the tracker at this rank: 28 combinations, the best ones drawn thicker and on top."""
    return {
        "color": COLOURS[rank % len(COLOURS)],
        "linestyle": LINES[rank // len(COLOURS) % len(LINES)],
        "linewidth": 2.0 if rank < 3 else 1.3,
        "zorder": 3 + 1 / (1 + rank),
    }


def marker_style(rank: int) -> dict[str, Any]:
    """Colour and marker of the tracker at this rank: 28 combinations."""
    return {"color": COLOURS[rank % len(COLOURS)], "marker": MARKERS[(rank + rank // len(COLOURS)) % len(MARKERS)]}


@contextmanager
def figure(look: Figures, ratio: float = 0.72, share: float = 1.0, **arguments: Any) -> Iterator[tuple[Figure, Any]]:
    """A figure with its axes, `ratio` of the usual width high and `share` of it wide, closed at the end."""
    with plt.rc_context(dict(SETTINGS)):
        made, axes = plt.subplots(figsize=(look.width * share, look.width * ratio), layout="constrained", **arguments)
        try:
            yield made, axes
        finally:
            plt.close(made)


def save(made: Figure, folder: Path, name: str, look: Figures) -> list[Path]:
    """Write the figure in every format asked for, without dates, so that the same data give the same bytes."""
    made.draw_without_rendering()  # lay it out once, not for every format
    made.set_layout_engine("none")
    paths = []
    for kind in look.formats:
        path = folder / f"{name}.{kind}"
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None, "ModDate": None}, "png": {"Software": None}}[kind]
        made.savefig(path, dpi=look.dots, metadata=metadata)
        paths.append(path)
    return paths


def legend_right(axes: Any, entries: int) -> None:
    """A legend beside the axes, where it covers no curve; smaller from 20 entries on."""
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8.0 if entries <= 20 else 6.8, handlelength=2.6)


def plain_log_axis(axis: Any) -> None:
    """Numbers such as 20, 50, 100 on a logarithmic axis, never crowded."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
