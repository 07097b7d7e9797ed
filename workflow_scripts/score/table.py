"""The study's table: one row a tracker, sorted by SR, in percent, with its speed and what it asked.

    python -m workflow_scripts.score.table --scores results/mini/score/tnllt --raw results/mini/track/raw/tnllt \\
        --output results/mini/score/table.csv
    python -m workflow_scripts.score.table --publish results/mini/score/table.csv --output results/tnllt_table.csv
    python -m workflow_scripts.score.table --show results/tnllt_table.csv

The CSV holds the numbers; its manifest beside it holds what belongs next to them: the ceiling a perfect tracker would reach,
the honest count, and whether the trained tracker reads its sentence. `--show` prints both.
"""

from __future__ import annotations

import argparse
import csv
import math
import shutil
from collections.abc import Sequence as Series
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workflow_scripts import console, files, manifest
from workflow_scripts.console import BadInput

COLUMNS = ("tracker", "source", "SR", "PR", "NPR", "frames per second", "sequences", "frames", "VLM calls", "fall-backs")
SCORES = ("SR", "PR", "NPR")
RUN_HERE, PUBLISHED = "run here", "published"
SHORT = {"frames per second": "fps"}  # headings that would make the printed table too wide
NARROWEST = 104  # columns of text that the printed table needs
VERSIONS = ("right", "empty", "wrong")


@dataclass(frozen=True)
class Row:
    """One tracker's line; scores in percent, None where something was not measured."""

    tracker: str
    source: str
    scores: dict[str, float]
    per_second: float | None
    sequences: int
    frames: int
    calls: int | None
    fall_backs: int | None

    def cells(self) -> list[str]:
        """The row as text, in the order of COLUMNS."""
        speed = "" if self.per_second is None else f"{self.per_second:.2f}"
        asked = ["" if v is None else str(v) for v in (self.calls, self.fall_backs)]
        scores = [f"{self.scores[s]:.6f}" for s in SCORES]
        return [self.tracker, self.source, *scores, speed, str(self.sequences), str(self.frames), *asked]


def read_overall(path: Path) -> dict[str, dict[str, float]]:
    """Tracker -> its scores in percent, of an overall.csv; `ceiling` among them. BadInput if PR, NPR or SR are missing."""
    found: dict[str, dict[str, float]] = {}
    for row in read_csv(path):
        try:
            found[row["tracker"]] = {s: 100.0 * float(row[s]) for s in SCORES}
        except (KeyError, ValueError):
            raise BadInput(f"{path}: has no PR, NPR and SR; score with a protocol that reports them.") from None
    return found


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file with a header. BadInput if it is missing."""
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            return list(csv.DictReader(handle))
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist: score the trackers first (workflow_scripts.score.run).") from None


def frames_of(scores: Path) -> dict[str, tuple[int, int]]:
    """Tracker -> (sequences, frames) that were scored, from completeness.csv."""
    found: dict[str, tuple[int, int]] = {}
    for row in read_csv(scores / "completeness.csv"):
        sequences, frames = found.get(row["tracker"], (0, 0))
        found[row["tracker"]] = (sequences + 1, frames + int(row["frames"]))
    return found


def build(scores: Path, raw: Path, published: Series[str] = ()) -> list[Row]:
    """Rows of one scored benchmark, best SR first; speed and questions from each tracker's summary.json under `raw`."""
    values = read_overall(scores / "overall.csv")
    values.pop("ceiling", None)
    counted = frames_of(scores)
    rows = []
    for tracker, of in values.items():
        path = raw / tracker / "summary.json"
        summary = files.read_json(path) if path.exists() else {}
        source = PUBLISHED if tracker in published else summary.get("source", RUN_HERE)
        seconds = summary.get("seconds") or 0.0
        speed = summary["frames"] / seconds if seconds > 0 and source == RUN_HERE else None
        asked = (summary.get("vlm_calls"), summary.get("fall_backs")) if source == RUN_HERE else (None, None)
        rows.append(Row(tracker, source, of, speed, *counted[tracker], *asked))
    return sorted(rows, key=lambda r: -math.inf if math.isnan(r.scores["SR"]) else r.scores["SR"], reverse=True)


def facts_beside(scores: Path, language: Path | None) -> dict[str, Any]:
    """What is shown beside the table: ceiling, honest count, and the proof that sentences are read."""
    facts: dict[str, Any] = {"ceiling": read_overall(scores / "overall.csv").get("ceiling", {})}
    if (scores / "corrected.csv").exists():
        facts["corrected"] = {t: of for t, of in read_overall(scores / "corrected.csv").items() if t != "ceiling"}
    if language is not None:
        facts["language"] = files.read_json(language)
    return facts


def write(path: Path, rows: Series[Row]) -> None:
    """Write the table as CSV."""
    with files.atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(row.cells() for row in rows)


def show(path: Path, width: int | None = None) -> None:
    """Print a table and what its manifest says beside it."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    rows = read_csv(path)
    beside = path.with_suffix(".json")
    facts = manifest.read(beside)["facts"] if beside.exists() else {}
    table = Table(title=str(path), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in COLUMNS:
        side = "left" if column in ("tracker", "source") else "right"
        table.add_column(SHORT.get(column, column), justify=side, no_wrap=True)
    for row in rows:
        table.add_row(*(readable(column, row.get(column, "")) for column in COLUMNS))
    ceiling = facts.get("ceiling")
    if ceiling:
        table.add_section()
        table.add_row("(ceiling)", "", *(f"{ceiling[s]:.2f}" for s in SCORES))
    output = Console(width=width or max(Console().width, NARROWEST), highlight=False)
    output.print(table)
    for line in sentences(facts):
        output.print(line, soft_wrap=True)


def readable(column: str, text: str) -> str:
    """A cell for people: scores with two digits, speeds with one."""
    if not text or column not in (*SCORES, "frames per second"):
        return text
    return f"{float(text):.{2 if column in SCORES else 1}f}"


def sentences(facts: dict[str, Any]) -> list[str]:
    """What is printed below the table."""
    lines = []
    language = facts.get("language")
    if language:
        pick = ", ".join(f"{v} {language['pick'][v]:.3f}" for v in VERSIONS)
        auc = ", ".join(f"{v} {100 * language['auc'][v]:.1f}" for v in VERSIONS)
        verdict = "passes" if language["pass"] else "FAILS"
        lines.append(f"Does the trained tracker read its sentence? Pick test by sentence: {pick}. AUC by sentence: {auc}.")
        lines.append(f"Margin of the pick test {language['margin']:.3f}: {verdict} its gate of {language['gate']:.2f}.")
    if facts.get("above_static"):
        lines.append("SR above static: " + ", ".join(f"{t} {v:+.1f}" for t, v in facts["above_static"].items()) + " points.")
    if facts.get("corrected"):
        counted = ", ".join(f"{t} {v['SR']:.2f}" for t, v in facts["corrected"].items())
        lines.append(f"Honest count (mean IoU of present frames after the first): {counted}.")
    return lines


def above_static(rows: Series[Row]) -> dict[str, float]:
    """Points of SR that each tracker has above `static`, the first box for ever; empty without that row."""
    base = next((r.scores["SR"] for r in rows if r.tracker == "static"), None)
    if base is None:
        return {}
    return {r.tracker: r.scores["SR"] - base for r in rows if r.tracker != "static"}


def order_like(facts: dict[str, Any], rows: Series[Row]) -> dict[str, Any]:
    """The honest count in the table's own order of trackers."""
    if "corrected" in facts:
        facts["corrected"] = {r.tracker: facts["corrected"][r.tracker] for r in rows if r.tracker in facts["corrected"]}
    return facts


def main(arguments: Series[str] | None = None) -> None:
    """Build, publish or show a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--scores", type=Path, help="folder of a scoring run: build its table")
    what.add_argument("--publish", type=Path, help="a finished table to copy to --output, with what belongs beside it")
    what.add_argument("--show", type=Path, help="a table to print")
    parser.add_argument("--raw", type=Path, help="folder of the trackers' collected results, for speed and questions")
    parser.add_argument("--published", default="", help="comma-separated trackers whose results are their authors'")
    parser.add_argument("--language", type=Path, help="track's language.json")
    parser.add_argument("--output", type=Path, help="table to write (.csv)")
    parser.add_argument("--manifest", type=Path, help="manifest to write last (default: beside the table, .json)")
    args = parser.parse_args(arguments)
    if args.show:
        show(args.show)
        return
    if args.output is None or (args.scores and args.raw is None):
        parser.error("building needs --raw and --output, publishing --output")
    beside = args.manifest or args.output.with_suffix(".json")
    if args.publish:
        facts = manifest.read(args.publish.with_suffix(".json"))["facts"]
        with files.atomic_path(args.output) as temporary:
            shutil.copyfile(args.publish, temporary)
        manifest.write(beside, [args.output], {}, [args.publish], facts)
    else:
        rows = build(args.scores, args.raw, [n for n in args.published.split(",") if n])
        facts = order_like(facts_beside(args.scores, args.language), rows)
        facts["above_static"] = above_static(rows)
        write(args.output, rows)
        inputs = [args.scores / "overall.csv", *([args.language] if args.language else [])]
        manifest.write(beside, [args.output], {}, inputs, facts)
    show(args.output)


if __name__ == "__main__":
    console.run(main)
