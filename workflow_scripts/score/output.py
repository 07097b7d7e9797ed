"""What a scoring run writes: CSV files with 17 significant digits, curves as .npz, the protocol, and a readable table."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import astuple, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow_scripts import files
from workflow_scripts.score import summary

if TYPE_CHECKING:
    from workflow_scripts.score.scoring import Outcome

# per_sequence.csv says what a value is of one sequence, where the overall table has the benchmark's abbreviation
LONG_NAMES = {"PR": "precision", "NPR": "norm_precision", "SR": "success"}


def number(value: Any) -> str:
    """17 significant digits: enough to read the same double back."""
    return f"{value:.17g}" if isinstance(value, float | np.floating) else str(value)


def write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write one CSV file with Unix line ends."""
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(list(header))
        writer.writerows([number(v) for v in row] for row in rows)


def write(folder: Path, main: Outcome, beside: list[Outcome], samples: int, seed: int) -> None:
    """Write every file of one run into `folder`."""
    write_overall(folder / "overall.csv", main)
    for other in beside:
        write_overall(folder / f"{other.scores.protocol.name}.csv", other)
    write_per_sequence(folder / "per_sequence.csv", main)
    write_per_attribute(folder / "per_attribute.csv", main)
    write_curves(folder / "curves.npz", main)
    write_completeness(folder / "completeness.csv", main)
    header = [f.name for f in fields(summary.Interval)]
    intervals = summary.bootstrap(main.scores, samples, seed)
    write_csv(folder / "intervals.csv", header, (astuple(i) for i in intervals))
    files.write_json(folder / "protocol.json", protocol_facts(main))
    (folder / "problems.txt").write_text("".join(f"{p}\n" for p in main.problems), encoding="utf-8")


def protocol_facts(outcome: Outcome) -> dict[str, Any]:
    """What the other files don't say: how the numbers were counted, which curve each is of, and which one ranks trackers."""
    protocol = outcome.scores.protocol
    thresholds = dict(zip(("success", "pixel", "norm"), summary.thresholds_of(outcome.scores), strict=True))
    metrics = []
    for metric in protocol.metrics:
        at = float(thresholds[metric.curve][metric.index]) if metric.reduce == "at" else None
        names = {"column": metric.column, "per_sequence": LONG_NAMES.get(metric.column, metric.column)}
        metrics.append({**names, "curve": metric.curve, "reduce": metric.reduce, "at": at})
    return {
        "protocol": protocol.name,
        "title": protocol.title,
        "compared": protocol.compared,
        "ranked_by": protocol.metrics[protocol.ranked_by].column,
        "metrics": metrics,
    }


def write_overall(path: Path, outcome: Outcome) -> None:
    """One line a tracker; the last line, `ceiling`, is what a perfect tracker would get."""
    columns = [m.column for m in outcome.scores.protocol.metrics]
    rows = []
    for scores in (outcome.scores, outcome.ceiling):
        values, counts = summary.overall(scores)
        rows += [(t, *values[k], *counts[k]) for k, t in enumerate(scores.trackers)]
    write_csv(path, ["tracker", *columns, *(f"n_seq_{c}" for c in columns)], rows)


def write_per_sequence(path: Path, outcome: Outcome) -> None:
    """One line a tracker and sequence."""
    metrics = outcome.scores.protocol.metrics
    values = np.stack([outcome.scores.per_sequence(m) for m in metrics], axis=-1)
    write_csv(
        path,
        ["tracker", "sequence", *(LONG_NAMES.get(m.column, m.column) for m in metrics)],
        (
            (tracker, sequence, *values[k, s])
            for k, tracker in enumerate(outcome.scores.trackers)
            for s, sequence in enumerate(outcome.scores.sequences)
        ),
    )


def write_per_attribute(path: Path, outcome: Outcome) -> None:
    """One line an attribute and tracker, for attributes of at least two sequences; n is how many have it."""
    rows = []
    for attribute, (size, values, _) in summary.by_attribute(outcome.scores).items():
        rows += [(attribute, t, *values[k], size) for k, t in enumerate(outcome.scores.trackers)]
    write_csv(path, ["attribute", "tracker", *(m.column for m in outcome.scores.protocol.metrics), "n"], rows)


def write_curves(path: Path, outcome: Outcome) -> None:
    """Curves of every tracker and sequence, their means, the ceiling's means and the thresholds."""
    scores = outcome.scores
    thresholds = summary.thresholds_of(scores)
    with path.open("wb") as handle:
        np.savez(
            handle,
            trackers=np.array(scores.trackers),
            sequences=np.array(scores.sequences),
            success=scores.success,
            precision_px=scores.pixel,
            precision_norm=scores.norm,
            mean_success=summary.mean_of(scores, "success"),
            mean_precision_px=summary.mean_of(scores, "pixel"),
            mean_precision_norm=summary.mean_of(scores, "norm"),
            ceiling_success=summary.mean_of(outcome.ceiling, "success")[0],
            ceiling_precision_px=summary.mean_of(outcome.ceiling, "pixel")[0],
            ceiling_precision_norm=summary.mean_of(outcome.ceiling, "norm")[0],
            thresholds_success=thresholds[0],
            thresholds_px=thresholds[1],
            thresholds_norm=thresholds[2],
        )


def write_completeness(path: Path, outcome: Outcome) -> None:
    """What was counted of each tracker and sequence beside its score."""
    scores = outcome.scores
    write_csv(
        path,
        ["tracker", "sequence", *summary.COUNTS],
        (
            (tracker, sequence, *scores.counts[k, s])
            for k, tracker in enumerate(scores.trackers)
            for s, sequence in enumerate(scores.sequences)
        ),
    )


def show(outcome: Outcome) -> None:
    """Print the table, best tracker first, and what the numbers hide."""
    from rich.console import Console
    from rich.table import Table

    scores = outcome.scores
    columns = [m.column for m in scores.protocol.metrics]
    values, counts = summary.overall(scores)
    top, _ = summary.overall(outcome.ceiling)
    table = Table(title=f"{scores.protocol.title}, {len(scores.sequences)} sequences", title_justify="left")
    table.add_column("tracker")
    for column in (*columns, "sequences"):
        table.add_column(column, justify="right")
    for k in summary.order_by(values[:, scores.protocol.ranked_by]):
        table.add_row(scores.trackers[k], *(f"{100 * v:.2f}" for v in values[k]), str(counts[k, -1]))
    table.add_section()
    table.add_row("ceiling", *(f"{100 * v:.2f}" for v in top[0]), "")
    console = Console()
    console.print(table)
    total = scores.counts[0].sum(axis=0) if len(scores.trackers) else np.zeros(len(summary.COUNTS), dtype=np.int64)
    count = dict(zip(summary.COUNTS, total, strict=True))
    free = scores.protocol.rules.invalid_truth_pixel == "hit" and count["border_truth"] + count["invalid_truth"] > 0
    present = max(int(count["frames"] - count["absent"]), 1)
    console.print(
        f"{count['frames']} frames, {count['absent']} without the target; a box at the image's border in "
        f"{count['border_truth']} ({100 * count['border_truth'] / present:.1f} % of the present frames), "
        f"no valid box in {count['invalid_truth']}"
        + (
            "; each of these is a hit for everyone in PR and NPR."
            if free and scores.protocol.metrics[0].column == "PR"
            else "."
        ),
        highlight=False,
        soft_wrap=True,
    )
