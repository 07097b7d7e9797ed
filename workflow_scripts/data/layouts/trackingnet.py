"""TrackingNet: ``{TEST,TRAIN_0..11}/frames/<id>/<i>.jpg`` from 0 without padding, ``anno/<id>.txt`` with commas.

Ids are YouTube's: they may begin with a dash and hold underscores. The test set publishes the first box alone.
"""

from __future__ import annotations

from pathlib import Path

from workflow_scripts.data.benchmarks import Benchmark
from workflow_scripts.data.layouts import common
from workflow_scripts.data.layouts.common import Entry
from workflow_scripts.sequences import Sequence


def find(root: Path, benchmark: Benchmark, lists: Path) -> list[Entry]:
    """Sequences of TEST, then of the training chunks in numeric order; by annotation file."""
    chunks = sorted((p for p in root.glob("TRAIN_*") if p.is_dir()), key=lambda p: int(p.name.rpartition("_")[2]))
    folders = [(split, root / name) for split, name in benchmark.splits.items()] + [("train", chunk) for chunk in chunks]
    return [
        Entry(file.stem, split, folder / "frames" / file.stem, root, lists)
        for split, folder in folders
        for file in sorted((folder / "anno").glob("*.txt"))
    ]


def read(entry: Entry, benchmark: Benchmark) -> Sequence:
    """One sequence."""
    boxes = common.read_boxes(entry.folder.parent.parent / "anno" / f"{entry.name}.txt")
    return Sequence(
        name=entry.name,
        split=entry.split,
        frames=common.frames(entry.folder),
        boxes=boxes,
        present=common.presence(boxes),
        sentence="",
        fps=benchmark.fps,
        first_frame_only=entry.split in benchmark.first_frame_only,
    )
