"""What a scoring run left in its folder, read once for all figures; and the CSV files that lie beside figures."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts import files
from workflow_scripts.console import BadInput

Floats = NDArray[np.float64]
REMEDY = "score the trackers again"


@dataclass(frozen=True)
class Scored:
    """One benchmark's scores, trackers from best to worst."""

    main: str  # column of the score that ranks trackers
    metrics: list[dict[str, Any]]  # of protocol.json: column, per_sequence, curve, reduce, at
    trackers: list[str]  # best first
    overall: dict[str, dict[str, float]]  # tracker -> column -> share; `ceiling` among the trackers
    arrays: dict[str, NDArray[Any]]  # of curves.npz
    per_sequence: dict[str, dict[str, float]]  # tracker -> sequence -> the ranking score
    intervals: dict[str, dict[str, float]]  # tracker -> low, high, difference, difference_low, difference_high of that score

    def metric_of(self, *curves: str) -> dict[str, Any] | None:
        """The protocol's first number that is read off one of these curves."""
        return next((m for m in self.metrics if m["curve"] in curves), None)

    def apart(self, count: int) -> list[str]:
        """The `count` sequences on which trackers differ most (standard deviation of their scores), most first."""
        names = list(next(iter(self.per_sequence.values())))
        spread = {n: float(np.nanstd([of[n] for of in self.per_sequence.values()])) for n in names}
        return sorted(names, key=lambda n: (-spread[n], n))[:count]


def read(folder: Path) -> Scored:
    """All of one scoring run. BadInput names the file that is missing or broken."""
    protocol = files.read_json(folder / "protocol.json")
    main = protocol["ranked_by"]
    overall = {
        row["tracker"]: {m["column"]: float(row[m["column"]]) for m in protocol["metrics"]}
        for row in read_rows(folder / "overall.csv")
    }
    try:
        with np.load(folder / "curves.npz") as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError):
        raise BadInput(f"{folder / 'curves.npz'} cannot be read: {REMEDY}.") from None
    long = next(m["per_sequence"] for m in protocol["metrics"] if m["column"] == main)
    per_sequence: dict[str, dict[str, float]] = {}
    for row in read_rows(folder / "per_sequence.csv"):
        per_sequence.setdefault(row["tracker"], {})[row["sequence"]] = float(row[long])
    intervals = {
        row["tracker"]: {key: float(row[key]) for key in row if key not in ("tracker", "metric", "best")}
        for row in read_rows(folder / "intervals.csv")
        if row["metric"] == main
    }
    trackers = ranked({t: of[main] for t, of in overall.items() if t != "ceiling"})
    return Scored(main, protocol["metrics"], trackers, overall, arrays, per_sequence, intervals)


def ranked(scores: dict[str, float]) -> list[str]:
    """Trackers from best to worst; those without a score last."""
    return sorted(scores, key=lambda t: (np.isnan(scores[t]), -scores[t]))


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
