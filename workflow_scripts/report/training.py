"""What training looked like: loss of the supervised models, reward of the reinforced one, loss of the tracker.

    python -m workflow_scripts.report.training --sft clean=results/mini/sft/clean/model/loss.csv \\
        --grpo results/mini/grpo/reward.csv --tracker dutrack_small=results/mini/track/weights/dutrack_small/loss.csv \\
        --output results/mini/report/training
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence as Series
from pathlib import Path

import numpy as np

from workflow_scripts import console, files, manifest, params
from workflow_scripts.console import BadInput
from workflow_scripts.params.report import Figures
from workflow_scripts.report import style
from workflow_scripts.report.scored import Floats, read_rows, write_rows

LEAST_SMOOTH = 8  # points in the running mean of a short noisy curve; a long one takes a 26th of itself


def read_curve(path: Path, column: str) -> tuple[Floats, Floats]:
    """(steps, values) of one column of a training log. BadInput if it is not there."""
    rows = read_rows(path)
    if column not in rows[0] or "step" not in rows[0]:
        raise BadInput(f"{path} has no columns step and {column}: run the training again.")
    kept = [(float(r["step"]), float(r[column])) for r in rows if r[column]]
    steps, values = np.array(kept).T
    return steps, values


def running_mean(values: Floats, window: int) -> Floats:
    """Mean of the last `window` values at each position (fewer at the start)."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, len(values) + 1)
    start = np.maximum(end - window, 0)
    return (total[end] - total[start]) / (end - start)


def plot_logs(
    logs: dict[str, Path], column: str, title: str, folder: Path, name: str, look: Figures, label: str | None = None
) -> None:
    """One curve a log, thin with its running mean on top where it is long; and the CSV of what is drawn."""
    by_step: dict[int, dict[str, float]] = {}
    with style.figure(look, 0.55) as (made, axes):
        for rank, (run, path) in enumerate(logs.items()):
            steps, values = read_curve(path, column)
            line = style.line_style(rank)
            window = max(LEAST_SMOOTH, len(values) // 26)
            if len(values) > 2 * window:
                axes.plot(steps, values, color=line["color"], alpha=0.25, linewidth=0.8)
                axes.plot(steps, running_mean(values, window), label=f"{run} (mean of {window})", **line)
            else:
                axes.plot(steps, values, label=run, marker=".", **line)
            for step, value in zip(steps, values, strict=True):
                by_step.setdefault(int(step), {})[run] = float(value)
        axes.set(xlabel="step", ylabel=label or column)
        axes.set_title(title, loc="left")
        if logs:
            axes.legend()
        style.save(made, folder, name, look)
    rows = ((step, *(by_step[step].get(run, "") for run in logs)) for step in sorted(by_step))  # a column a run
    write_rows(folder / f"{name}.csv", ["step", *logs], rows)


def named(pairs: Series[str]) -> dict[str, Path]:
    """NAME=PATH arguments as a dictionary."""
    found = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not equals:
            raise BadInput(f"{pair}: write NAME=PATH.")
        found[name] = Path(path)
    return found


def main(arguments: Series[str] | None = None) -> None:
    """Draw the training curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sft", nargs="*", default=[], metavar="NAME=PATH", help="loss.csv of supervised runs")
    parser.add_argument("--grpo", type=Path, required=True, help="reward.csv of the reinforcement learning")
    parser.add_argument("--tracker", nargs="*", default=[], metavar="NAME=PATH", help="loss.csv of trained trackers")
    parser.add_argument("--parameters", help="JSON of report.figures (default: params.yaml)")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    args = parser.parse_args(arguments)
    look = params.section(args.parameters, "report.figures", Figures)
    sft, trackers = named(args.sft), named(args.tracker)
    with files.atomic_folder(args.output) as folder:
        plot_logs(sft, "loss", "supervised fine-tuning", folder, "sft_loss", look)
        plot_logs(
            {"reward": args.grpo}, "reward", "reinforcement learning", folder, "grpo_reward", look, "mean reward of a step"
        )
        plot_logs(trackers, "loss", "tracker", folder, "tracker_loss", look)
    if args.manifest:
        manifest.write(args.manifest, [args.output], look.model_dump(), [*sft.values(), args.grpo, *trackers.values()])


if __name__ == "__main__":
    console.run(main)
