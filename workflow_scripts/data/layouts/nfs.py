"""NfS at 30 fps, in the three forms that are about.

``sequences/<seq>/%05d.jpg`` with tab-separated ``anno/nfs_<seq>.txt``; ``<seq>/30/<seq>/%05d.jpg`` with
``<seq>/30/<seq>_pytracking.txt`` and commas; or, as published, with ``<seq>/30/<seq>.txt``, whose rows are
``id left top right bottom frame lost ...`` at 240 fps, every eighth of which is a frame's. One box more or less than frames is
known of and cut to the shorter.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.console import BadInput
from workflow_scripts.data.benchmarks import Benchmark
from workflow_scripts.data.layouts import common
from workflow_scripts.data.layouts.common import Entry
from workflow_scripts.sequences import Sequence

RATE = 8  # annotated frames a frame at 30 fps


def find(root: Path, benchmark: Benchmark, lists: Path) -> list[Entry]:
    """Whichever form is there."""
    split = benchmark.only_split or "test"
    if (root / "sequences").is_dir():
        return [Entry(p.name, split, p, root, lists) for p in common.folders(root / "sequences")]
    places = [p / "30" / p.name for p in common.folders(root)]
    return [Entry(p.name, split, p, root, lists) for p in places if p.is_dir()]


def read(entry: Entry, benchmark: Benchmark) -> Sequence:
    """One sequence."""
    frames = common.frames(entry.folder)
    published = entry.folder.parent / f"{entry.name}.txt"
    converted = (entry.root / "anno" / f"nfs_{entry.name}.txt", published.with_name(f"{entry.name}_pytracking.txt"))
    file = next((path for path in converted if common.exists(path)), None)
    boxes = common.read_boxes(file) if file else read_published(published)
    if file is None and abs(len(boxes) - RATE * len(frames)) < RATE:
        boxes = boxes[::RATE]
    if abs(len(frames) - len(boxes)) == 1:
        frames, boxes = frames[: len(boxes)], boxes[: len(frames)]
    return Sequence(
        name=entry.name,
        split=entry.split,
        frames=frames,
        boxes=boxes,
        present=common.presence(boxes),
        sentence="",
        fps=benchmark.fps,
    )


def read_published(path: Path) -> NDArray[np.float64]:
    """Boxes [N, 4] of the published rows, corners turned into sizes."""
    corners = []
    for number, line in enumerate(common.read_lines(path), start=1):
        row = common.fields(line)[1:5]
        if len(row) < 4 or not all(map(common.is_number, row)):
            raise BadInput(f"{path}, line {number}: {line[:60]!r} is not id left top right bottom ...; restore the file.")
        corners.append(row)
    boxes = np.array(corners, dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] -= boxes[:, :2]
    return boxes
