"""LaSOT and its extension: ``<class>/<class>-<n>/img/%08d.jpg`` from 1, comma boxes, nlp.txt.

Absent where full_occlusion.txt or out_of_view.txt says 1; both are one line with commas. The annotation's length counts: some
copies hold more images than boxes (monkey-17). Class names hold dashes and blanks, so nothing is taken from the name.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from workflow_scripts.data.benchmarks import Benchmark
from workflow_scripts.data.layouts import common
from workflow_scripts.data.layouts.common import Entry
from workflow_scripts.sequences import Sequence


def find(root: Path, benchmark: Benchmark, lists: Path) -> list[Entry]:
    """All sequences, by class and number; the test list makes the split."""
    folders = {folder.name: folder for folder in sorted(common.holding(root, "img"), key=_order)}
    return common.assign(folders, root, benchmark, lists)


def _order(folder: Path) -> tuple[str, int]:
    return folder.name.rpartition("-")[0], common.frame_number(f"{folder.name}.")[0]


def read(entry: Entry, benchmark: Benchmark) -> Sequence:
    """One sequence."""
    folder = entry.folder
    boxes = common.read_boxes(folder / "groundtruth.txt")
    present = common.presence(boxes)
    for name in ("full_occlusion.txt", "out_of_view.txt"):
        if (folder / name).exists():
            present &= common.fit(common.read_flags(folder / name), len(boxes), folder / name) == 0
    frames = common.frames(folder / "img")
    return Sequence(
        name=entry.name,
        split=entry.split,
        frames=frames[: len(boxes)],
        boxes=boxes,
        present=np.asarray(present, dtype=bool),
        sentence=common.read_sentence(folder / "nlp.txt"),
        fps=benchmark.fps,
    )
