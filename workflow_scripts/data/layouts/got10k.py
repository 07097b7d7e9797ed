"""GOT-10k: ``{train,val,test}/<seq>/%08d.jpg`` from 1, comma boxes; list.txt of each split gives the order.

Visible means: absence.label 0 and cover.label over 0. The test split publishes the first box alone. There is no language.
"""

from __future__ import annotations

from pathlib import Path

from workflow_scripts.console import BadInput
from workflow_scripts.data.benchmarks import Benchmark
from workflow_scripts.data.layouts import common
from workflow_scripts.data.layouts.common import Entry
from workflow_scripts.sequences import Sequence


def find(root: Path, benchmark: Benchmark, lists: Path) -> list[Entry]:
    """Sequences in the order of each split's list.txt; a split that is not there is left out."""
    entries = []
    for split, name in benchmark.splits.items():
        folder = root / name
        if not folder.is_dir():
            continue
        for line, sequence in common.read_list(folder / "list.txt"):
            if not (folder / sequence).is_dir():
                raise BadInput(f"{folder / 'list.txt'}, line {line} names {sequence}, which is not there: restore the dataset.")
            entries.append(Entry(sequence, split, folder / sequence, root, lists))
    return entries


def read(entry: Entry, benchmark: Benchmark) -> Sequence:
    """One sequence."""
    folder = entry.folder
    boxes = common.read_boxes(folder / "groundtruth.txt")
    present = common.presence(boxes)
    for name, absent in (("absence.label", 1), ("cover.label", 0)):
        if common.exists(folder / name):
            present &= common.unless_flagged(folder / name, absent, boxes)
    return Sequence(
        name=entry.name,
        split=entry.split,
        frames=common.frames(folder),
        boxes=boxes,
        present=present,
        sentence="",
        fps=benchmark.fps,
        first_frame_only=entry.split in benchmark.first_frame_only,
    )
