"""All figures of one scored benchmark: curves, attributes, how sure the scores are, two trackers side by side, failures, speed.

    python -m workflow_scripts.report.figures --scores results/mini/score/tnllt --raw results/mini/track/raw/tnllt \\
        --index results/mini/data/tnllt.npz --split test --output results/mini/report/tnllt

Beside each figure lies the CSV it was drawn from, in a form that `dvc plots show` draws, too. A tracker has one colour and
one dash or marker in all of them, given by its rank.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence as Series
from dataclasses import dataclass
from pathlib import Path

from workflow_scripts import console, files, manifest, params
from workflow_scripts.params.report import Figures
from workflow_scripts.report import attributes, compare, scored, style, timeline
from workflow_scripts.report.scored import Scored


@dataclass(frozen=True)
class Curve:
    """One of the three plots: which arrays of curves.npz, which numbers are read off it, how its axes are named."""

    name: str  # file name
    title: str
    array: str
    thresholds: str
    curves: tuple[str, ...]  # as protocol.json names them
    horizontal: str
    vertical: str


WITHIN = "share of frames within it"
CURVES = (
    Curve(
        "success",
        "success",
        "success",
        "thresholds_success",
        ("overlap", "success"),
        "overlap threshold",
        "share of frames above it",
    ),
    Curve("precision", "precision", "precision_px", "thresholds_px", ("pixel",), "centre error threshold (pixels)", WITHIN),
    Curve(
        "norm_precision",
        "normalised precision",
        "precision_norm",
        "thresholds_norm",
        ("norm",),
        "centre error threshold (sizes of the target)",
        WITHIN,
    ),
)


def plot_curve(curve: Curve, found: Scored, folder: Path, look: Figures) -> None:
    """One plot with a legend sorted by its own score, the ceiling as a dotted line; and its CSV."""
    thresholds, means = found.arrays[curve.thresholds], found.arrays[f"mean_{curve.array}"]
    ceiling = found.arrays[f"ceiling_{curve.array}"]
    row = {str(tracker): mean for tracker, mean in zip(found.arrays["trackers"], means, strict=True)}
    metric = found.metric_of(*curve.curves)
    if metric is None:  # the protocol reads no number off this curve
        scores, number = {t: float(row[t].mean()) for t in row} | {"ceiling": float(ceiling.mean())}, "mean of the curve"
    else:
        scores = {t: of[metric["column"]] for t, of in found.overall.items()}
        number = metric["column"] if metric["at"] is None else f"{metric['column']} (at {metric['at']:g})"
    order = scored.ranked({t: scores[t] for t in found.trackers})
    with style.figure(look, 0.6) as (made, axes):
        for tracker in order:
            label = f"{tracker} [{100 * scores[tracker]:.1f}]"
            axes.plot(thresholds, row[tracker], label=label, **style.line_style(found.trackers.index(tracker)))
        axes.plot(thresholds, ceiling, label=f"perfect tracker [{100 * scores['ceiling']:.1f}]", **style.CEILING)
        if metric and metric["at"] is not None:
            axes.axvline(metric["at"], color="#BBBBBB", linewidth=0.8, zorder=0)
        axes.set(xlabel=curve.horizontal, ylabel=curve.vertical, xlim=(thresholds[0], thresholds[-1]), ylim=(0, 1.02))
        axes.set_title(f"{curve.title}, {number} in brackets", loc="left")
        style.legend_right(axes, len(order) + 1)
        style.save(made, folder, curve.name, look)
    columns = [row[tracker] for tracker in order]  # a column a tracker: what `dvc plots` draws as lines
    rows = (map(float, line) for line in zip(thresholds, *columns, ceiling, strict=True))
    scored.write_rows(folder / f"{curve.name}.csv", ["threshold", *order, "ceiling"], rows)


def speeds(raw: Path, trackers: Series[str], published: Series[str] = ()) -> dict[str, float]:
    """Frames per second of the trackers run here, from each summary.json; published results have no speed of this machine."""
    found = {}
    for tracker in trackers:
        path = raw / tracker / "summary.json"
        summary = files.read_json(path) if path.exists() and tracker not in published else {}
        if summary.get("seconds"):
            found[tracker] = summary["frames"] / summary["seconds"]
    return found


def plot_speed(found: Scored, per_second: dict[str, float], folder: Path, look: Figures) -> None:
    """Speed against the ranking score, of the trackers whose speed is known."""
    known = [t for t in found.trackers if t in per_second]
    values = {t: 100 * found.overall[t][found.main] for t in known}
    with style.figure(look, 0.6) as (made, axes):
        for tracker in known:
            speed = per_second[tracker]
            label = f"{tracker} [{speed:,.0f}]" if speed >= 100 else f"{tracker} [{speed:.3g}]"
            marker = style.marker_style(found.trackers.index(tracker))
            axes.plot(speed, values[tracker], linestyle="none", markersize=7, label=label, **marker)
        if known:
            axes.set_xscale("log")
            style.plain_log_axis(axes.xaxis)
            style.legend_right(axes, len(known))
        axes.set(xlabel="frames per second, on this machine", ylabel=f"{found.main} (%)", ylim=(0, None))
        axes.set_title("speed (in brackets) against accuracy", loc="left")
        style.save(made, folder, "speed", look)
    scored.write_rows(folder / "speed.csv", ["tracker", "fps", found.main], ((t, per_second[t], values[t]) for t in known))


def main(arguments: Series[str] | None = None) -> None:
    """Draw all figures of a scored benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scores", type=Path, required=True, help="folder of a scoring run")
    parser.add_argument("--raw", type=Path, required=True, help="the trackers' collected results: boxes and speed")
    parser.add_argument("--index", type=Path, required=True, help="index of the benchmark (.npz), for the failure timeline")
    parser.add_argument("--split", default="test", help="split that was tracked (default: test)")
    parser.add_argument("--published", default="", help="comma-separated trackers whose results are their authors'")
    parser.add_argument("--parameters", help="JSON of report.figures (default: params.yaml)")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    args = parser.parse_args(arguments)
    look = params.section(args.parameters, "report.figures", Figures)
    found = scored.read(args.scores)
    with files.atomic_folder(args.output) as folder:
        for curve in CURVES:
            plot_curve(curve, found, folder, look)
        by_attribute = attributes.read(args.scores / "per_attribute.csv", found.main)
        attributes.plot_radar(by_attribute, found, folder, look)
        attributes.plot_bars(by_attribute, found, folder, look)
        compare.plot_intervals(found, folder, look)
        compare.plot_pair(found, folder, look)
        timeline.plot(found, timeline.read(found, args.index, args.split, args.raw, look.timelines), folder, look)
        plot_speed(found, speeds(args.raw, found.trackers, args.published.split(",")), folder, look)
    if args.manifest:
        manifest.write(args.manifest, [args.output], look.model_dump(), [args.scores / "curves.npz"])


if __name__ == "__main__":
    console.run(main)
