"""TNLLT: ``<seq>/imgs/%05d.png`` from 1, comma boxes, absent_label.txt with 1 = PRESENT, language.txt, attributes.txt.

The opposite polarity of LaSOT's and TNL2K's flags. The archive may come with a folder of its own around the sequences.
"""

from __future__ import annotations

from pathlib import Path

from workflow_scripts.data.benchmarks import Benchmark
from workflow_scripts.data.layouts import common
from workflow_scripts.data.layouts.common import Entry
from workflow_scripts.sequences import Sequence


def find(root: Path, benchmark: Benchmark, lists: Path) -> list[Entry]:
    """Folders that hold imgs/, at any of the two levels that archives come in."""
    return common.assign(common.by_name(common.holding(root, "imgs")), root, benchmark, lists)


def read(entry: Entry, benchmark: Benchmark) -> Sequence:
    """One sequence."""
    folder = entry.folder
    boxes = common.read_boxes(folder / "groundtruth.txt")
    return Sequence(
        name=entry.name,
        split=entry.split,
        frames=common.frames(folder / "imgs"),
        boxes=boxes,
        present=common.unless_flagged(folder / "absent_label.txt", 0, boxes),
        sentence=common.read_sentence(folder / "language.txt"),
        attributes=common.named_flags(folder / "attributes.txt", benchmark.attributes),
        fps=benchmark.fps,
    )
