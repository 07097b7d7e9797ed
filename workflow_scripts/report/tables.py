"""The study's table for papers and pages: LaTeX and Markdown, best in bold, second underlined.

python -m workflow_scripts.report.tables --table results/tnllt_table.csv --output results/mini/report/tables
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence as Series
from pathlib import Path

from workflow_scripts import console, files, manifest
from workflow_scripts.report.figures import read_rows

SCORES = ("SR", "PR", "NPR")
SPEED = "frames per second"


def places(rows: Series[dict[str, str]], column: str) -> dict[str, int]:
    """Printed value -> 0 for the best and 1 for the second best, so that what reads alike is marked alike."""
    values = sorted({round(float(r[column]), 2) for r in rows if r[column] not in ("", "nan")}, reverse=True)
    return {f"{v:.2f}": place for place, v in enumerate(values[:2])}


def cells(rows: Series[dict[str, str]], marks: tuple[str, str]) -> list[list[str]]:
    """Rows as text; `marks` are the patterns of best and second ({} is the value)."""
    ranks = {column: places(rows, column) for column in SCORES}
    out = []
    for row in rows:
        line = [row["tracker"] + (" (published)" if row["source"] == "published" else "")]
        for column in SCORES:
            text = f"{float(row[column]):.2f}"
            place = ranks[column].get(text)
            line.append(text if place is None else marks[place].format(text))
        line.append(f"{float(row[SPEED]):.1f}" if row[SPEED] else "--")
        out.append(line)
    return out


def latex(rows: Series[dict[str, str]]) -> str:
    """A booktabs table."""
    escape = str.maketrans({"_": r"\_", "&": r"\&", "%": r"\%", "#": r"\#"})
    body = "".join(
        f"{line[0].translate(escape)} & {' & '.join(line[1:])} \\\\\n"
        for line in cells(rows, (r"\textbf{{{}}}", r"\underline{{{}}}"))
    )
    head = "\\begin{tabular}{lrrrr}\n\\toprule\nTracker & SR & PR & NPR & fps \\\\\n\\midrule\n"
    return f"{head}{body}\\bottomrule\n\\end{{tabular}}\n"


def markdown(rows: Series[dict[str, str]]) -> str:
    """A Markdown table."""
    lines = ["| tracker | SR | PR | NPR | fps |", "|---|---:|---:|---:|---:|"]
    lines += [f"| {' | '.join(line)} |" for line in cells(rows, ("**{}**", "<u>{}</u>"))]
    return "\n".join(lines) + "\n"


def main(arguments: Series[str] | None = None) -> None:
    """Write both forms."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True, help="the study's table (CSV)")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    args = parser.parse_args(arguments)
    rows = read_rows(args.table)
    with files.atomic_folder(args.output) as folder:
        (folder / "table.tex").write_text(latex(rows), encoding="utf-8")
        (folder / "table.md").write_text(markdown(rows), encoding="utf-8")
    if args.manifest:
        manifest.write(args.manifest, [args.output], {}, [args.table])


if __name__ == "__main__":
    console.run(main)
