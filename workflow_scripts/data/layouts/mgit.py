"""MGIT and VideoCube: ``data/<split>/<id>/frame_<id>/%06d.jpg`` from 0, ``attribute/groundtruth/<id>.txt`` with commas.

Trackers' authors also pass on ``MGIT-Test/<id>/frame_<id>``. ``attribute/absent/<id>.txt`` says 1 for absent; the test split
has no such file and boxes for its restarts only, of which the first is kept. mgit.json (of the toolkit, beside the data or in
the folder of the lists) says which of VideoCube's sequences are MGIT's; without it all that are there are taken. A sequence's
sentence is the last description of ``mgit_nlp/<id>.xlsx``: the story, where there is one. The finer levels (activity, action)
are that file's rows before.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import openpyxl
from openpyxl.utils.exceptions import InvalidFileException

from workflow_scripts import files
from workflow_scripts.console import BadInput
from workflow_scripts.data.benchmarks import Benchmark
from workflow_scripts.data.layouts import common
from workflow_scripts.data.layouts.common import Entry
from workflow_scripts.sequences import Sequence

LIST = "mgit.json"
VERSION = "tiny"  # the key of MGIT's lists in it


def find(root: Path, benchmark: Benchmark, lists: Path) -> list[Entry]:
    """Sequences of every split folder that is there: those that mgit.json names, in its order, or all."""
    file = next((folder / LIST for folder in (lists, root) if (folder / LIST).is_file()), None)
    named = listed(file) if file else {}
    entries = []
    for split, place in benchmark.splits.items():
        folder = next((f for f in (root / place, root / f"MGIT-{split.capitalize()}") if f.is_dir()), None)
        if folder is None:
            continue
        ids = named.get(split, []) if file else [p.name for p in common.folders(folder)]
        for name in ids:
            if not (folder / name).is_dir():
                lines = file.read_text().splitlines() if file else []
                line = next((at for at, text in enumerate(lines, start=1) if f'"{name}"' in text), 1)
                raise BadInput(
                    f"{file}, line {line} names {name} ({split}), which is not in {folder}: restore the dataset again."
                )
            entries.append(Entry(name, split, folder / name / f"frame_{name}", root, lists))
    return entries


def listed(file: Path) -> dict[str, list[str]]:
    """MGIT's sequences by split."""
    named = files.read_json(file)
    splits = named.get(VERSION) if isinstance(named, dict) else None
    if not isinstance(splits, dict) or not all(isinstance(ids, list) for ids in splits.values()):
        raise BadInput(f"{file}, line 1: no lists of sequences under {VERSION!r}; fetch it from the toolkit again.")
    return splits


def read(entry: Entry, benchmark: Benchmark) -> Sequence:
    """One sequence."""
    attributes = entry.root / "attribute"
    boxes = common.read_boxes(attributes / "groundtruth" / f"{entry.name}.txt")
    first_frame_only = entry.split in benchmark.first_frame_only
    if first_frame_only:
        boxes = boxes[:1]
    tables = [folder / "mgit_nlp" / f"{entry.name}.xlsx" for folder in (entry.lists, entry.root)]
    table = next((path for path in tables if common.exists(path)), None)
    return Sequence(
        name=entry.name,
        split=entry.split,
        frames=common.frames(entry.folder),
        boxes=boxes,
        present=common.presence(boxes)
        if first_frame_only
        else common.unless_flagged(attributes / "absent" / f"{entry.name}.txt", 1, boxes),
        sentence=read_story(table) if table else "",
        fps=benchmark.fps,
        first_frame_only=first_frame_only,
    )


def read_story(path: Path) -> str:
    """The last description of a sequence's table."""
    try:
        rows = list(openpyxl.load_workbook(path, read_only=True, data_only=True).active.values)
        column = rows[0].index("description")
        told = [str(row[column]).strip() for row in rows[1:] if row[column]]
    except (OSError, zipfile.BadZipFile, InvalidFileException, KeyError, IndexError, ValueError, AttributeError, TypeError):
        raise BadInput(f"{path} is no table with a column description on line 1: fetch it from the toolkit again.") from None
    if not told:
        raise BadInput(f"{path}, line 2: no description in the table; fetch it from the toolkit again.")
    return " ".join(told[-1].split())
