"""A benchmark's table: one row a tracker, best first, in percent, with its speed, what it asked and how sure the score is.

    python -m workflow_scripts.score.table --benchmark tnllt --scores results/mini/score/tnllt \\
        --raw results/mini/track/raw/tnllt --output results/mini/score/tables/tnllt.csv
    python -m workflow_scripts.score.table --publish results/mini/score/tables/tnllt.csv --output results/tnllt_table.csv
    python -m workflow_scripts.score.table --show results/tnllt_table.csv

The CSV holds the numbers, papers' own beside ours where params.yaml has them; its manifest beside it holds what belongs next to
them: the ceiling a perfect tracker would reach, the honest count, which trackers are within chance of the best, where the
papers' numbers stand, and whether the trained tracker reads its sentence. `--show` prints both.
"""

from __future__ import annotations

import argparse
import csv
import math
import shutil
from collections.abc import Sequence as Series
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workflow_scripts import console, files, manifest, params
from workflow_scripts.console import BadInput
from workflow_scripts.params.score import PaperNumber, Score

ABOUT = ("frames per second", "sequences", "frames", "VLM calls", "fall-backs")
RUN_HERE, PUBLISHED = "run here", "published"
SHORT = {"frames per second": "fps"}  # headings that would make the printed table too wide
NARROWEST = 118  # columns of text that the printed table needs
VERSIONS = ("right", "empty", "wrong")


@dataclass(frozen=True)
class Row:
    """One tracker's line; scores in percent, None where something was not measured."""

    tracker: str
    source: str
    scores: dict[str, float]  # the ranking score first
    interval: dict[str, float]  # of the ranking score: low, high, and the difference to the best with its own low and high
    per_second: float | None
    sequences: int
    frames: int
    calls: int | None
    fall_backs: int | None
    paper: dict[str, float] = field(default_factory=dict)  # scores as a paper prints them

    def cells(self) -> dict[str, str]:
        """The row as text, by column."""
        main = next(iter(self.scores))
        about = (self.per_second and f"{self.per_second:.2f}", self.sequences, self.frames, self.calls, self.fall_backs)
        return {
            "tracker": self.tracker,
            "source": self.source,
            **{column: f"{value:.6f}" for column, value in self.scores.items()},
            **{column: "" if value is None else str(value) for column, value in zip(ABOUT, about, strict=True)},
            **{f"{main} {key}": f"{value:.6f}" for key, value in self.interval.items()},
            **{f"paper {column}": f"{self.paper[column]:g}" if column in self.paper else "" for column in self.scores},
        }


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file with a header. BadInput if it is missing."""
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            return list(csv.DictReader(handle))
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist: score the trackers first (workflow_scripts.score.run).") from None


def read_overall(path: Path, main: str) -> dict[str, dict[str, float]]:
    """Tracker -> its scores in percent, `main` first, of an overall.csv; `ceiling` among them. BadInput without `main`."""
    rows = read_csv(path)
    columns = [c for c in rows[0] if c != "tracker" and not c.startswith("n_seq_")] if rows else []
    if main not in columns:
        raise BadInput(f"{path} has no column {main}: score the trackers again.")
    order = [main, *(c for c in columns if c != main)]
    return {row["tracker"]: {c: 100.0 * float(row[c]) for c in order} for row in rows}


def intervals_of(path: Path, main: str) -> dict[str, dict[str, float]]:
    """Tracker -> bootstrap interval of its ranking score in percent, and of the difference to the best tracker."""
    keys = {"low": "low", "high": "high", "to best": "difference", "to best low": "difference_low"}
    keys["to best high"] = "difference_high"
    rows = [row for row in read_csv(path) if row["metric"] == main]
    return {row["tracker"]: {name: 100.0 * float(row[key]) for name, key in keys.items()} for row in rows}


def frames_of(scores: Path) -> dict[str, tuple[int, int, int, int]]:
    """Tracker -> (sequences, frames, sequences without any result, frames without a result), from completeness.csv."""
    found: dict[str, tuple[int, int, int, int]] = {}
    for row in read_csv(scores / "completeness.csv"):
        frames, missing = int(row["frames"]), int(row["missing"])
        one = (1, frames, int(missing == frames), missing)
        before = found.get(row["tracker"], (0, 0, 0, 0))
        found[row["tracker"]] = tuple(a + b for a, b in zip(before, one, strict=True))  # type: ignore[assignment]
    return found


def build(scores: Path, raw: Path, published: Series[str] = (), papers: Series[PaperNumber] = ()) -> list[Row]:
    """Rows of one scored benchmark, best first; speed and questions from each tracker's summary.json under `raw`."""
    main = files.read_json(scores / "protocol.json")["ranked_by"]
    values = read_overall(scores / "overall.csv", main)
    values.pop("ceiling", None)
    counted, intervals = frames_of(scores), intervals_of(scores / "intervals.csv", main)
    printed = paper_numbers(papers, values)
    rows = []
    for tracker, of in values.items():
        path = raw / tracker / "summary.json"
        summary = files.read_json(path) if path.exists() else {}
        source = PUBLISHED if tracker in published else summary.get("source", RUN_HERE)
        seconds = summary.get("seconds") or 0.0
        speed = summary["frames"] / seconds if seconds > 0 and source == RUN_HERE else None
        asked = (summary.get("vlm_calls"), summary.get("fall_backs")) if source == RUN_HERE else (None, None)
        sequences, frames, _, _ = counted[tracker]
        rows.append(Row(tracker, source, of, intervals[tracker], speed, sequences, frames, *asked, printed.get(tracker, {})))
    return sorted(rows, key=lambda r: -math.inf if math.isnan(r.scores[main]) else r.scores[main], reverse=True)


def paper_numbers(papers: Series[PaperNumber], values: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Tracker -> column -> what its paper prints. BadInput if the table has no such row or column."""
    found: dict[str, dict[str, float]] = {}
    for paper in papers:
        where = f"params.yaml, score.papers: {paper.tracker} on {paper.benchmark}"
        if paper.tracker not in values:
            raise BadInput(f"{where} is no row of the table; its rows are {', '.join(values)}.")
        if paper.metric not in values[paper.tracker]:
            raise BadInput(f"{where} has no {paper.metric}; its scores are {', '.join(values[paper.tracker])}.")
        found.setdefault(paper.tracker, {})[paper.metric] = paper.value
    return found


def facts_beside(scores: Path, rows: Series[Row], papers: Series[PaperNumber], language: Path | None) -> dict[str, Any]:
    """What is shown beside the table."""
    protocol = files.read_json(scores / "protocol.json")
    main = protocol["ranked_by"]
    facts: dict[str, Any] = {
        "protocol": {key: protocol[key] for key in ("protocol", "title", "compared", "ranked_by")},
        "ceiling": read_overall(scores / "overall.csv", main).get("ceiling", {}),
        "above_static": above_static(rows, main),
        "within_chance": within_chance(rows),
    }
    if (scores / "corrected.csv").exists():
        corrected = read_overall(scores / "corrected.csv", "SR")
        facts["corrected"] = {r.tracker: corrected[r.tracker] for r in rows if r.tracker in corrected}
    lost = {t: {"sequences": n, "frames": m} for t, (_, _, n, m) in frames_of(scores).items() if m}
    if lost:
        facts["incomplete"] = lost
    if papers:
        facts["papers"] = [p.model_dump(mode="json") for p in papers]
    if language is not None:
        facts["language"] = files.read_json(language)
    return facts


def above_static(rows: Series[Row], main: str) -> dict[str, float]:
    """Points that each tracker has above `static`, the first box for ever; empty without that row."""
    base = next((r.scores[main] for r in rows if r.tracker == "static"), None)
    if base is None:
        return {}
    return {r.tracker: r.scores[main] - base for r in rows if r.tracker != "static"}


def within_chance(rows: Series[Row]) -> dict[str, dict[str, float]]:
    """Trackers whose paired 95 % interval of the difference to the best tracker holds 0, with that interval."""
    below = [r for r in rows[1:] if r.interval["to best low"] <= 0 <= r.interval["to best high"]]
    return {r.tracker: {key: r.interval[key] for key in ("to best", "to best low", "to best high")} for r in below}


def write(path: Path, rows: Series[Row]) -> None:
    """Write the table as CSV."""
    cells = [row.cells() for row in rows]
    with files.atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(cells[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(cells)


def score_columns(columns: Series[str]) -> list[str]:
    """The scores among a table's columns, the ranking one first."""
    return [c.removeprefix("paper ") for c in columns if c.startswith("paper ")]


def show(path: Path, width: int | None = None) -> None:
    """Print a table and what its manifest says beside it."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    rows = read_csv(path)
    beside = path.with_suffix(".json")
    facts = manifest.read(beside)["facts"] if beside.exists() else {}
    scores = score_columns(list(rows[0])) if rows else []
    printed = [f"paper {c}" for c in scores if any(row[f"paper {c}"] for row in rows)]
    columns = ["tracker", "source", *scores[:1], "95 %", *scores[1:], *printed, *ABOUT]
    table = Table(title=str(path), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        side = "left" if column in ("tracker", "source") else "right"
        table.add_column(SHORT.get(column, column), justify=side, no_wrap=True)
    for row in rows:
        row["95 %"] = f"{float(row[f'{scores[0]} low']):.1f}-{float(row[f'{scores[0]} high']):.1f}"
        table.add_row(*(readable(column, row[column], scores) for column in columns))
    ceiling = facts.get("ceiling")
    if ceiling:
        table.add_section()
        table.add_row("(ceiling)", "", *(f"{ceiling[c]:.2f}" if c in ceiling else "" for c in columns[2 : len(scores) + 3]))
    output = Console(width=width or max(Console().width, NARROWEST), highlight=False)
    output.print(table)
    for line in sentences(facts):
        output.print(line, soft_wrap=True)


def readable(column: str, text: str, scores: Series[str]) -> str:
    """A cell for people: scores with two digits, speeds with one."""
    if not text or column not in (*scores, "frames per second"):
        return text
    return f"{float(text):.{2 if column in scores else 1}f}"


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
    main = facts.get("protocol", {}).get("ranked_by", "SR")
    if facts.get("above_static"):
        lines.append(
            f"{main} above static: " + ", ".join(f"{t} {v:+.1f}" for t, v in facts["above_static"].items()) + " points."
        )
    if facts.get("within_chance"):
        close = (
            f"{t} {v['to best']:+.1f} ({v['to best low']:+.1f} to {v['to best high']:+.1f})"
            for t, v in facts["within_chance"].items()
        )
        lines.append(f"Within chance of the best {main} (paired 95 % interval of the difference): {', '.join(close)}.")
    for tracker, lost in facts.get("incomplete", {}).items():
        lines.append(
            f"{tracker}: {lost['frames']} frames without a result, {lost['sequences']} whole sequences; counted as missed."
        )
    if facts.get("corrected"):
        counted = ", ".join(f"{t} {v['SR']:.2f}" for t, v in facts["corrected"].items())
        lines.append(f"Honest count (mean IoU of present frames after the first): {counted}.")
    for paper in facts.get("papers", []):
        number = f"{paper['tracker']}'s {paper['metric']} {paper['value']:g}"
        lines.append(f"Paper: {number} in {paper['paper']}, page {paper['page']}, read on {paper['date']}.")
    return lines


def main(arguments: Series[str] | None = None) -> None:
    """Build, publish or show a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--scores", type=Path, help="folder of a scoring run: build its table")
    what.add_argument("--publish", type=Path, help="a finished table to copy to --output, with what belongs beside it")
    what.add_argument("--show", type=Path, help="a table to print")
    parser.add_argument("--benchmark", default="tnllt", help="whose papers' numbers to show (default: tnllt)")
    parser.add_argument("--raw", type=Path, help="folder of the trackers' collected results, for speed and questions")
    parser.add_argument("--published", default="", help="comma-separated trackers whose results are their authors'")
    parser.add_argument("--language", type=Path, help="track's language.json")
    parser.add_argument("--parameters", help="JSON of score (default: params.yaml here, if any)")
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
        known = Path("params.yaml").exists() or args.parameters is not None
        papers = params.section(args.parameters, "score", Score).papers if known else []
        papers = [p for p in papers if p.benchmark == args.benchmark]
        rows = build(args.scores, args.raw, [n for n in args.published.split(",") if n], papers)
        facts = facts_beside(args.scores, rows, papers, args.language)
        write(args.output, rows)
        inputs = [args.scores / "overall.csv", *([args.language] if args.language else [])]
        manifest.write(beside, [args.output], {}, inputs, facts)
    show(args.output)


if __name__ == "__main__":
    console.run(main)
