"""Check a dataset: counts, frames, boxes, absence and its polarity, duplicates, leakage. Table, JSON, CSV, exit code.

    python -m workflow_scripts.data.check --benchmark tnllt --root data/mini/tnllt --output report.json --csv report.csv

Errors end with status 1, warnings do not. `--images` says which frames are opened: none, the ends of each sequence, or all;
those that are opened are compared by their hash within and between the splits, and with the benchmarks whose indices
`--against` names. Annotations that have not changed since they were last read come from the cache.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Series
from dataclasses import asdict, dataclass, field
from pathlib import Path

from workflow_scripts import console, files, manifest, params, sequences
from workflow_scripts.console import BadInput
from workflow_scripts.data import benchmarks, faults, index, pictures
from workflow_scripts.data.faults import Problem
from workflow_scripts.params.data import Checking
from workflow_scripts.sequences import Sequence

SHOWN = 200  # problems that the table lists; the files hold all


@dataclass(frozen=True)
class Report:
    """What a check found."""

    benchmark: str
    sequences: int
    frames: int
    opened: int
    absent_share: float
    splits: dict[str, int]
    problems: list[Problem] = field(default_factory=list)

    @property
    def errors(self) -> int:
        """How many problems are errors."""
        return sum(p.level == "error" for p in self.problems)


def check(
    name: str, root: Path, settings: Checking, lists: Path | None = None, against: Mapping[str, Series[Sequence]] | None = None
) -> Report:
    """Check a whole benchmark, also `against` others' sequences. Each sequence is looked at, whatever is wrong elsewhere."""
    benchmark = benchmarks.load(name)
    found: list[Sequence] = []
    problems: list[Problem] = []
    read = index.read_all(name, root, lists)
    for entry, sequence in read:
        if entry.split == "unlisted":
            problems.append(Problem(entry.name, "warning", "unlisted", "no split list names it"))
        if isinstance(sequence, BadInput):
            problems.append(Problem(entry.name, "error", "unreadable annotation", str(sequence)))
            continue
        found.append(sequence)
        problems += faults.in_counts(sequence)
        problems += faults.in_boxes(sequence, benchmark)
        problems += faults.in_presence(sequence, settings)
    problems += faults.in_benchmark(found, settings)
    problems += shared_names([(entry.name, entry.split) for entry, _ in read], name, against or {})
    seen = pictures.Seen()
    for other, theirs in (against or {}).items():
        unreadable = pictures.look(list(theirs), settings.images, other, seen)
        if unreadable:
            raise BadInput(f"{other}: {unreadable[0].text} Or leave out --against {other}'s index.")
    foreign = len(seen.owners)
    problems += pictures.look(found, settings.images, name, seen)
    problems += pictures.equal_frames(seen, name)
    splits = {split: sum(s.split == split for s in found) for split in sorted({s.split for s in found})}
    opened = sum(map(len, seen.hashes[foreign:]))
    return Report(name, len(found), sum(map(len, found)), opened, round(faults.absent_share(found), 6), splits, problems)


def shared_names(found: list[tuple[str, str]], own: str, against: Mapping[str, Series[Sequence]]) -> Iterator[Problem]:
    """Names (name, split) that occur in two splits, of this benchmark or of this one and another."""
    owner = {s.name: (s.split, benchmark) for benchmark, theirs in against.items() for s in theirs}
    for name, split in found:
        other, benchmark = owner.setdefault(name, (split, own))
        if other != split:
            where = f"the {other}" if benchmark == own else f"the {other} split of {benchmark}"
            yield Problem(name, "error", "leakage", f"in {where} and the {split} split")


def show(report: Report) -> None:
    """Print the report as a table."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    out = Console(width=160)
    splits = ", ".join(f"{count} {split}" for split, count in report.splits.items())
    out.print(
        f"{report.benchmark}: {report.sequences} sequences ({splits}), {report.frames} frames, {report.opened} opened, "
        f"{report.absent_share:.1%} absent"
    )
    if report.problems:
        table = Table("sequence", "level", "kind", "what")
        for problem in sorted(report.problems, key=lambda p: p.level)[:SHOWN]:
            table.add_row(*map(escape, (problem.sequence, problem.level, problem.kind, problem.text)))
        out.print(table)
    if len(report.problems) > SHOWN:
        out.print(f"... and {len(report.problems) - SHOWN} more, in the files that --output and --csv name")
    out.print(f"{report.errors} errors, {len(report.problems) - report.errors} warnings")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Check a dataset's frames, boxes, absence flags and splits.")
    parser.add_argument("--benchmark", required=True, help="name of a YAML in workflow_scripts/data/benchmarks")
    parser.add_argument("--root", type=Path, required=True, help="dataset folder")
    parser.add_argument("--lists", type=Path, help="folder of the split lists (default: the dataset folder)")
    parser.add_argument(
        "--images", choices=("none", "ends", "all"), help="frames to open (default: the parameter check.images)"
    )
    parser.add_argument(
        "--allow-absent-first", action="store_true", help="accept sequences whose first frame is flagged absent"
    )
    parser.add_argument("--max-absent-share", type=float, metavar="SHARE", help="accept so many absent frames (default: 0.5)")
    parser.add_argument(
        "--against", type=Path, action="append", default=[], metavar="INDEX", help="index of another benchmark to compare with"
    )
    parser.add_argument("--output", type=Path, help="JSON report to write")
    parser.add_argument("--csv", type=Path, help="CSV of the problems to write")
    parser.add_argument("--parameters", help="JSON of the section data.check (default: built-in values)")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    arguments = parser.parse_args()
    settings = params.section(arguments.parameters, "data.check", Checking) if arguments.parameters else Checking()
    told = {"images": arguments.images, "max_absent_share": arguments.max_absent_share}
    told |= {"allow_absent_first": arguments.allow_absent_first or None}
    settings = params.validate(Checking, settings.model_dump() | {k: v for k, v in told.items() if v is not None}, "flags")
    against = {sequences.read_header(path)["benchmark"]: sequences.read_index(path) for path in arguments.against}
    report = check(arguments.benchmark, arguments.root, settings, arguments.lists, against)
    show(report)
    if arguments.csv:
        with files.atomic_path(arguments.csv) as temporary, open(temporary, "w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, ("sequence", "level", "kind", "text"), lineterminator="\n")
            writer.writeheader()
            writer.writerows(asdict(problem) for problem in report.problems)
    if arguments.output:
        files.write_json(
            arguments.output, asdict(report) | {"errors": report.errors, "warnings": len(report.problems) - report.errors}
        )
    if report.errors:
        first = next(p for p in report.problems if p.level == "error")
        raise BadInput(
            f"{arguments.root} has {report.errors} errors, the first: {first.sequence}: {first.text}; mend or restore them."
        )
    if arguments.manifest:
        written = [path for path in (arguments.output, arguments.csv) if path]
        manifest.write(arguments.manifest, written, json.loads(settings.model_dump_json()), facts=report.splits)


if __name__ == "__main__":
    console.run(main)
