"""Check a dataset: counts, frames, boxes, absence and its polarity, leakage between splits. Table, JSON, CSV, exit code.

    python -m workflow_scripts.data.check --benchmark tnllt --root data/mini/tnllt --output report.json --csv report.csv

Errors end with status 1, warnings do not. `--images` says which frames are opened: none, the ends of each sequence, or all;
those are also compared by hash within and between splits.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from workflow_scripts import console, files, images, manifest, params
from workflow_scripts.console import BadInput
from workflow_scripts.data import benchmarks, layouts
from workflow_scripts.params.data import Checking
from workflow_scripts.sequences import Sequence


@dataclass(frozen=True)
class Problem:
    """One finding."""

    sequence: str
    level: Literal["error", "warning"]
    kind: str
    text: str


@dataclass(frozen=True)
class Report:
    """What a check found."""

    benchmark: str
    sequences: int
    frames: int
    absent_share: float
    splits: dict[str, int]
    problems: list[Problem] = field(default_factory=list)

    @property
    def errors(self) -> int:
        """How many problems are errors."""
        return sum(p.level == "error" for p in self.problems)


def check_counts(s: Sequence, first_frame_only: bool) -> Iterator[Problem]:
    """Frames against boxes."""
    if not s.frames:
        yield Problem(s.name, "error", "no frames", "there is no image")
    elif len(s.boxes) != len(s.frames) and not (first_frame_only and len(s.boxes) == 1):
        yield Problem(s.name, "error", "counts", f"{len(s.frames)} images, {len(s.boxes)} boxes")
    if not s.sentence:
        yield Problem(s.name, "warning", "no sentence", "no language annotation")


def check_boxes(s: Sequence) -> Iterator[Problem]:
    """Numbers that cannot be boxes of a present target."""
    lines = np.arange(1, len(s.boxes) + 1)
    finite = np.isfinite(s.boxes).all(axis=1)
    sizeless = finite & (s.boxes[:, 2:] <= 0).any(axis=1)
    for kind, bad in (("NaN box", ~finite), ("box without size", sizeless)):
        wrong = lines[bad & s.present]
        if len(wrong):
            yield Problem(s.name, "error", kind, f"{len(wrong)} present frames, the first is frame {wrong[0]}")
    negative = lines[finite & s.present & (s.boxes[:, :2] < 0).any(axis=1)]
    if len(negative):
        yield Problem(s.name, "warning", "negative corner", f"{len(negative)} boxes, the first is of frame {negative[0]}")


def check_absence(s: Sequence, settings: Checking) -> Iterator[Problem]:
    """Share of absent frames, and signs that the flags were read with the wrong polarity."""
    share = 1 - float(s.present.mean()) if len(s.present) else 0.0
    if len(s.present) and not s.present[0] and not settings.allow_absent_first:
        yield Problem(s.name, "error", "absent first frame", "the first frame is flagged absent: is the polarity right?")
    if share > settings.max_absent_share:
        text = f"{share:.0%} of the frames are absent, over {settings.max_absent_share:.0%}: is the polarity right?"
        yield Problem(s.name, "error", "absent share", text)
    sized = (np.nan_to_num(s.boxes[:, 2:]) > 0).all(axis=1)
    if len(s.boxes) > 1 and (~s.present).any() and sized[~s.present].all() and not sized[s.present].all():
        yield Problem(s.name, "error", "polarity", "boxes are empty where the flags say present, and not where they say absent")


def open_frame(frame: Path) -> tuple[str, tuple[int, int] | None, str]:
    """Hash of a frame's bytes, its (height, width), and what is wrong with it."""
    try:
        image = images.read_rgb(frame)
    except BadInput as error:
        return "", None, str(error)
    return hashlib.sha256(frame.read_bytes()).hexdigest(), image.shape[:2], ""


def chosen_frames(s: Sequence, which: str) -> list[int]:
    """Indices of the frames to open."""
    if which == "none" or not s.frames:
        return []
    return list(range(len(s.frames))) if which == "all" else sorted({0, len(s.frames) - 1})


def check_images(found: list[Sequence], which: str) -> Iterator[Problem]:
    """Unreadable frames, boxes beyond the image, and equal frames: twice in a sequence, or in two splits."""
    owners: dict[str, list[tuple[Sequence, int]]] = defaultdict(list)
    work = [(s, index) for s in found for index in chosen_frames(s, which)]
    with ThreadPoolExecutor(2) as pool:
        opened = pool.map(lambda job: open_frame(job[0].frames[job[1]]), work)
        for (s, index), (digest, size, wrong) in zip(work, console.progress(opened, "frames opened", len(work)), strict=True):
            if size is None:
                yield Problem(s.name, "error", "unreadable frame", wrong)
                continue
            owners[digest].append((s, index))
            if index < len(s.boxes) and s.present[index]:
                x, y, width, height = s.boxes[index]
                if x >= size[1] or y >= size[0] or x + width <= 0 or y + height <= 0:
                    yield Problem(
                        s.name, "error", "box outside", f"frame {index + 1}: {s.boxes[index].tolist()} in {size[1]}x{size[0]}"
                    )
    for places in owners.values():
        splits = {s.split for s, _ in places}
        (first, i), *others = places
        for other, j in others:
            if len(splits) > 1 and other.split != first.split:
                text = f"its frame {j + 1} is frame {i + 1} of {first.name} in the {first.split} split"
                yield Problem(other.name, "error", "leakage", text)
            elif other.name == first.name and abs(i - j) > 0:
                yield Problem(other.name, "warning", "duplicate frame", f"frames {i + 1} and {j + 1} are the same image")


def check(name: str, root: Path, settings: Checking, lists: Path | None = None) -> Report:
    """Check a whole benchmark. Every sequence is looked at, whatever is wrong with the others."""
    benchmark = benchmarks.load(name)
    found: list[Sequence] = []
    problems: list[Problem] = []
    owner: dict[str, str] = {}
    for entry in layouts.find(root, benchmark, lists):
        if owner.setdefault(entry.name, entry.split) != entry.split:
            text = f"in the {owner[entry.name]} and the {entry.split} split"
            problems.append(Problem(entry.name, "error", "leakage", text))
        if entry.split == "unlisted":
            problems.append(Problem(entry.name, "warning", "unlisted", "no split list names it"))
        try:
            s = layouts.read(entry, benchmark)
        except BadInput as error:
            problems.append(Problem(entry.name, "error", "unreadable annotation", str(error)))
            continue
        found.append(s)
        problems += [
            *check_counts(s, entry.split in benchmark.first_frame_only),
            *check_boxes(s),
            *check_absence(s, settings),
        ]
    problems += check_images(found, settings.images)
    present = np.concatenate([s.present for s in found] or [np.ones(1, bool)])
    counts = {split: sum(s.split == split for s in found) for split in sorted({s.split for s in found})}
    return Report(name, len(found), sum(map(len, found)), round(1 - float(present.mean()), 6), counts, problems)


def show(report: Report) -> None:
    """Print the report as a table."""
    from rich.console import Console
    from rich.table import Table

    out = Console(width=160)
    splits = ", ".join(f"{count} {split}" for split, count in report.splits.items())
    out.print(
        f"{report.benchmark}: {report.sequences} sequences ({splits}), {report.frames} frames, {report.absent_share:.1%} absent"
    )
    if report.problems:
        table = Table("sequence", "level", "kind", "what")
        for problem in report.problems[:200]:
            table.add_row(problem.sequence, problem.level, problem.kind, problem.text)
        out.print(table)
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
    parser.add_argument("--output", type=Path, help="JSON report to write")
    parser.add_argument("--csv", type=Path, help="CSV of the problems to write")
    parser.add_argument("--parameters", help="JSON of the section data.check (default: built-in values)")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    arguments = parser.parse_args()
    settings = params.section(arguments.parameters, "data.check", Checking) if arguments.parameters else Checking()
    if arguments.images:
        settings = settings.model_copy(update={"images": arguments.images})
    report = check(arguments.benchmark, arguments.root, settings, arguments.lists)
    show(report)
    if arguments.csv:
        with files.atomic_path(arguments.csv) as temporary, open(temporary, "w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, ("sequence", "level", "kind", "text"), lineterminator="\n")
            writer.writeheader()
            writer.writerows(asdict(problem) for problem in report.problems)
    if arguments.output:
        files.write_json(arguments.output, asdict(report) | {"errors": report.errors})
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
