"""A benchmark's table for papers and pages: LaTeX and Markdown, best in bold, second underlined, how sure it is beside it.

    python -m workflow_scripts.report.tables --table results/tnllt_table.csv --output results/mini/report/tables/tnllt

A dagger marks trackers within chance of the best: the paired 95 % bootstrap interval of the difference holds 0.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence as Series
from dataclasses import dataclass
from pathlib import Path

from workflow_scripts import console, files, manifest
from workflow_scripts.console import BadInput
from workflow_scripts.report.scored import read_rows

SPEED = "frames per second"
PAPER = "paper "  # what headings of papers' numbers start with
NOTE = "within chance of the best: the paired 95 % bootstrap interval of the difference holds 0."


@dataclass(frozen=True)
class Form:
    """How one kind of text marks things; {} is the value."""

    best: str
    second: str
    chance: str
    range: str


LATEX = Form(r"\textbf{{{}}}", r"\underline{{{}}}", r"{}$^\dagger$", "{}--{}")
MARKDOWN = Form("**{}**", "<u>{}</u>", "{}†", "{}–{}")


def scores_of(rows: Series[dict[str, str]], path: Path) -> list[str]:
    """The scores among a table's columns, the ranking one first. BadInput where it has none."""
    scores = [column.removeprefix(PAPER) for column in rows[0] if column.startswith(PAPER)]
    if not scores:
        raise BadInput(f"{path} is not a table of workflow_scripts.score.table: build it again.")
    return scores


def places(rows: Series[dict[str, str]], column: str) -> dict[str, int]:
    """Printed value -> 0 for the best and 1 for the second best, so that what reads alike is marked alike."""
    values = sorted({round(float(r[column]), 2) for r in rows if r[column] not in ("", "nan")}, reverse=True)
    return {f"{v:.2f}": place for place, v in enumerate(values[:2])}


def within_chance(row: dict[str, str], main: str) -> bool:
    """Whether the tracker's difference to the best may be chance; the best itself has a difference of exactly 0."""
    low, high = float(row[f"{main} to best low"]), float(row[f"{main} to best high"])
    return low <= 0 <= high and low < high


def cells(rows: Series[dict[str, str]], scores: list[str], form: Form) -> list[list[str]]:
    """Heading and rows as text. A column of a paper's numbers appears where there are some."""
    main = scores[0]
    printed = [column for column in scores if any(row[PAPER + column] for row in rows)]
    ranks = {column: places(rows, column) for column in scores}
    out = [["tracker", main, "95 %", *scores[1:], *(PAPER + column for column in printed), "fps"]]
    for row in rows:
        marked = []
        for column in scores:
            text = f"{float(row[column]):.2f}"
            place = ranks[column].get(text)
            marked.append(text if place is None else (form.best, form.second)[place].format(text))
        if within_chance(row, main):
            marked[0] = form.chance.format(marked[0])
        between = form.range.format(f"{float(row[f'{main} low']):.1f}", f"{float(row[f'{main} high']):.1f}")
        name = row["tracker"] + (" (published)" if row["source"] == "published" else "")
        papers = [row[PAPER + column] or "--" for column in printed]
        speed = f"{float(row[SPEED]):.1f}" if row[SPEED] else "--"
        out.append([name, marked[0], between, *marked[1:], *papers, speed])
    return out


def latex(rows: Series[dict[str, str]], scores: list[str]) -> str:
    """A booktabs table; the note stands in a comment, for the caption."""
    escape = str.maketrans({"_": r"\_", "&": r"\&", "%": r"\%", "#": r"\#"})
    head, *body = cells(rows, scores, LATEX)
    lines = [" & ".join([line[0].translate(escape), *line[1:]]) + r" \\" for line in body]
    titles = " & ".join(["Tracker", *(cell.translate(escape) for cell in head[1:])]) + r" \\"
    rules = [f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule", titles, r"\midrule"]
    note = [f"% $^\\dagger$ {NOTE}"] if any(r"\dagger" in line for line in lines) else []
    return "\n".join([*rules, *lines, r"\bottomrule", r"\end{tabular}", *note, ""])


def markdown(rows: Series[dict[str, str]], scores: list[str]) -> str:
    """A Markdown table, with its note below."""
    head, *body = cells(rows, scores, MARKDOWN)
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}", *(f"| {' | '.join(line)} |" for line in body)]
    note = ["", f"† {NOTE}"] if any("†" in line[1] for line in body) else []
    return "\n".join([*lines, *note, ""])


def main(arguments: Series[str] | None = None) -> None:
    """Write both forms."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True, help="a benchmark's table (CSV)")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    args = parser.parse_args(arguments)
    rows = read_rows(args.table)
    scores = scores_of(rows, args.table)
    with files.atomic_folder(args.output) as folder:
        (folder / "table.tex").write_text(latex(rows, scores), encoding="utf-8")
        (folder / "table.md").write_text(markdown(rows, scores), encoding="utf-8")
    if args.manifest:
        manifest.write(args.manifest, [args.output], {}, [args.table])


if __name__ == "__main__":
    console.run(main)
