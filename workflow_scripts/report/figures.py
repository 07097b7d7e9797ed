"""Plots of one scored benchmark: success, precision and normalised precision, attributes, speed against accuracy.

    python -m workflow_scripts.report.figures --scores results/mini/score/tnllt --raw results/mini/track/raw/tnllt \\
        --output results/mini/report/tnllt

Beside each figure lies the CSV it was drawn from, in a form that `dvc plots show` draws, too.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable
from collections.abc import Sequence as Series
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts import console, files, manifest, params
from workflow_scripts.console import BadInput
from workflow_scripts.params.report import Figures
from workflow_scripts.report import style

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """One of the three plots: which arrays of curves.npz, how axes and score are named."""

    name: str  # file name
    array: str
    thresholds: str
    column: str  # of overall.csv, shown in the legend
    horizontal: str
    vertical: str
    marked: float | None  # threshold that the score is read at; None where it is the mean of the curve


CURVES = (
    Curve("success", "success", "thresholds_success", "SR", "overlap threshold", "share of frames above it", None),
    Curve(
        "precision", "precision_px", "thresholds_px", "PR", "centre error threshold (pixels)", "share of frames within it", 20.0
    ),
    Curve(
        "norm_precision",
        "precision_norm",
        "thresholds_norm",
        "NPR",
        "centre error threshold (sizes of the target)",
        "share of frames within it",
        0.2,
    ),
)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file. BadInput if it is missing or empty."""
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle))
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist: run the node that writes it.") from None
    if not rows:
        raise BadInput(f"{path} holds no line: run the node that writes it again.")
    return rows


def write_rows(path: Path, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a CSV file; floats with six digits, plenty for a plot."""
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(list(header))
        writer.writerows([f"{v:.6g}" if isinstance(v, float) else v for v in row] for row in rows)


def ranked(scores: dict[str, float]) -> list[str]:
    """Trackers from best to worst; those without a score last."""
    return sorted(scores, key=lambda t: (np.isnan(scores[t]), -scores[t]))


def plot_curve(curve: Curve, arrays: dict[str, NDArray[Any]], scores: dict[str, float], folder: Path, look: Figures) -> None:
    """One plot with a legend sorted by score, the ceiling as a dotted line; and its CSV."""
    trackers = [str(t) for t in arrays["trackers"]]
    thresholds, means = arrays[curve.thresholds], arrays[f"mean_{curve.array}"]
    ceiling = arrays[f"ceiling_{curve.array}"]
    order = ranked({t: scores[t] for t in trackers})
    with style.figure(look, 0.6) as (made, axes):
        for rank, tracker in enumerate(order):
            label = f"{tracker} [{100 * scores[tracker]:.1f}]"
            axes.plot(thresholds, means[trackers.index(tracker)], label=label, **style.line_style(rank))
        axes.plot(thresholds, ceiling, label=f"perfect tracker [{100 * scores['ceiling']:.1f}]", **style.CEILING)
        if curve.marked is not None:
            axes.axvline(curve.marked, color="#BBBBBB", linewidth=0.8, zorder=0)
        axes.set(xlabel=curve.horizontal, ylabel=curve.vertical, xlim=(thresholds[0], thresholds[-1]), ylim=(0, 1.02))
        at = "" if curve.marked is None else f" at {curve.marked:g}"
        axes.set_title(f"{curve.column}{at}, in brackets", loc="left")
        style.legend_right(axes, len(order) + 1)
        style.save(made, folder, curve.name, look)
    columns = [means[trackers.index(tracker)] for tracker in order]  # a column a tracker: what `dvc plots` draws as lines
    rows = (map(float, row) for row in zip(thresholds, *columns, ceiling, strict=True))
    write_rows(folder / f"{curve.name}.csv", ["threshold", *order, "ceiling"], rows)


def attribute_scores(path: Path) -> tuple[list[str], dict[str, int], dict[str, dict[str, float]]]:
    """(attributes in file order, sequences of each, tracker -> attribute -> SR) of a per_attribute.csv."""
    counts: dict[str, int] = {}
    scores: dict[str, dict[str, float]] = {}
    with path.open(newline="", encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            counts[row["attribute"]] = int(row["n"])
            scores.setdefault(row["tracker"], {})[row["attribute"]] = float(row["SR"])
    return list(counts), counts, scores


def plot_attributes(path: Path, order: list[str], folder: Path, look: Figures) -> None:
    """SR by attribute: a radar of the best trackers and a dot plot of all. Says so where no attribute has two sequences."""
    attributes, counts, scores = attribute_scores(path)
    labels = [f"{a} ({counts[a]})" for a in attributes]
    with style.figure(look, 0.8, subplot_kw={"projection": "polar"}) as (made, axes):
        angles = np.linspace(0, 2 * np.pi, max(len(attributes), 1), endpoint=False)
        for rank, tracker in enumerate(order[: look.radar] if attributes else []):
            values = [100 * scores[tracker][a] for a in attributes]
            axes.plot([*angles, angles[0]], [*values, values[0]], label=tracker, **style.line_style(rank))
        axes.set_xticks(angles, labels or ["no attribute has two sequences"])
        axes.set_ylim(0, None)
        axes.set_theta_zero_location("N")
        axes.set_rlabel_position(90 / max(len(attributes), 1))
        axes.set_title("SR by attribute (sequences)", loc="left")
        if attributes:
            axes.legend(loc="center left", bbox_to_anchor=(1.12, 0.5))
        style.save(made, folder, "attribute_radar", look)
    with style.figure(look, max(0.3 + 0.035 * len(attributes), 0.5)) as (made, axes):
        for rank, tracker in enumerate(order if attributes else []):
            values = [100 * scores[tracker][a] for a in attributes]
            axes.plot(values, range(len(attributes)), linestyle="none", markersize=5, label=tracker, **style.marker_style(rank))
        axes.set_yticks(range(len(attributes)), labels)
        axes.invert_yaxis()
        axes.set(xlabel="SR (%)", xlim=(0, None))
        axes.set_title("SR by attribute (sequences), all trackers", loc="left")
        if attributes:
            style.legend_right(axes, len(order))
        style.save(made, folder, "attribute_dots", look)
    rows = [(a, t, 100 * scores[t][a], counts[a]) for a in attributes for t in order]
    write_rows(folder / "attributes.csv", ["attribute", "tracker", "SR", "sequences"], rows)


def speeds(raw: Path, trackers: Series[str], published: Series[str] = ()) -> dict[str, float]:
    """Frames per second of the trackers run here, from each summary.json; published results have no speed of this machine."""
    found = {}
    for tracker in trackers:
        path = raw / tracker / "summary.json"
        summary = files.read_json(path) if path.exists() and tracker not in published else {}
        if summary.get("seconds"):
            found[tracker] = summary["frames"] / summary["seconds"]
    return found


def plot_speed(scores: dict[str, float], per_second: dict[str, float], folder: Path, look: Figures) -> None:
    """Speed against SR of the trackers whose speed is known."""
    order = ranked(scores)
    with style.figure(look, 0.6) as (made, axes):
        for rank, tracker in enumerate(order):
            if tracker in per_second:
                x, y = per_second[tracker], 100 * scores[tracker]
                axes.plot(x, y, linestyle="none", markersize=7, label=f"{tracker} [{x:.3g}]", **style.marker_style(rank))
        if per_second:
            axes.set_xscale("log")
            style.plain_log_axis(axes.xaxis)
            style.legend_right(axes, len(per_second))
        axes.set(xlabel="frames per second, on this machine", ylabel="SR (%)", ylim=(0, None))
        axes.set_title("speed (in brackets) against accuracy", loc="left")
        style.save(made, folder, "speed", look)
    rows = [(t, per_second[t], 100 * scores[t]) for t in order if t in per_second]
    write_rows(folder / "speed.csv", ["tracker", "fps", "SR"], rows)


def main(arguments: Series[str] | None = None) -> None:
    """Draw all figures of a scored benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scores", type=Path, required=True, help="folder of a scoring run")
    parser.add_argument("--raw", type=Path, required=True, help="the trackers' collected results, for their speed")
    parser.add_argument("--published", default="", help="comma-separated trackers whose results are their authors'")
    parser.add_argument("--parameters", help="JSON of report.figures (default: params.yaml)")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    args = parser.parse_args(arguments)
    look = params.section(args.parameters, "report.figures", Figures)
    overall = {row["tracker"]: row for row in read_rows(args.scores / "overall.csv")}
    try:
        with np.load(args.scores / "curves.npz") as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError):
        raise BadInput(f"{args.scores / 'curves.npz'} cannot be read: score the trackers again.") from None
    with files.atomic_folder(args.output) as folder:
        for curve in CURVES:
            scores = {tracker: float(row[curve.column]) for tracker, row in overall.items()}
            plot_curve(curve, arrays, scores, folder, look)
        success = {t: float(row["SR"]) for t, row in overall.items() if t != "ceiling"}
        plot_attributes(args.scores / "per_attribute.csv", ranked(success), folder, look)
        plot_speed(success, speeds(args.raw, list(success), args.published.split(",")), folder, look)
    if args.manifest:
        manifest.write(args.manifest, [args.output], look.model_dump(), [args.scores / "curves.npz"])


if __name__ == "__main__":
    console.run(main)
