"""NfS at 30 fps, in the two forms that trackers' authors pass on.

``sequences/<seq>/%05d.jpg`` with tab-separated ``anno/nfs_<seq>.txt``, or ``<seq>/30/<seq>/%05d.jpg`` with
``<seq>/30/<seq>_pytracking.txt`` and commas. One box more or less than frames is known of and cut to the shorter.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from workflow_scripts.data.benchmarks import Benchmark
from workflow_scripts.data.layouts import common
from workflow_scripts.data.layouts.common import Entry
from workflow_scripts.sequences import Sequence


def find(root: Path, benchmark: Benchmark, lists: Path) -> list[Entry]:
    """Whichever form is there."""
    split = benchmark.only_split or "test"
    if (root / "sequences").is_dir():
        return [Entry(p.name, split, p, root) for p in sorted((root / "sequences").iterdir()) if p.is_dir()]
    return [Entry(p.name, split, p / "30" / p.name, root) for p in sorted(root.iterdir()) if (p / "30" / p.name).is_dir()]


def read(entry: Entry, benchmark: Benchmark) -> Sequence:
    """One sequence."""
    flat = entry.root / "anno" / f"nfs_{entry.name}.txt"
    boxes = common.read_boxes(flat if flat.exists() else entry.folder.parent / f"{entry.name}_pytracking.txt")
    frames = common.frames(entry.folder)
    if abs(len(frames) - len(boxes)) == 1:
        frames, boxes = frames[: len(boxes)], boxes[: len(frames)]
    return Sequence(
        name=entry.name,
        split=entry.split,
        frames=frames,
        boxes=boxes,
        present=np.asarray(common.presence(boxes), dtype=bool),
        sentence="",
        fps=benchmark.fps,
    )
