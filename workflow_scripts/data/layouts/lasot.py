"""LaSOT and its extension: ``<class>/<class>-<n>/img/%08d.jpg`` from 1, comma boxes, nlp.txt.

Absent where full_occlusion.txt or out_of_view.txt says 1; both are one line with commas. The annotation's length counts: some
copies hold more images than boxes (monkey-17). Class names hold dashes and blanks, so nothing is taken from the name.
"""

from __future__ import annotations

from pathlib import Path

from workflow_scripts.data.benchmarks import Benchmark
from workflow_scripts.data.layouts import common
from workflow_scripts.data.layouts.common import Entry
from workflow_scripts.sequences import Sequence


def find(root: Path, benchmark: Benchmark, lists: Path) -> list[Entry]:
    """All sequences, by class and number; the test list makes the split."""
    folders = common.by_name(sorted(common.holding(root, "img"), key=common.class_and_number))
    return common.assign(folders, root, benchmark, lists)


def read(entry: Entry, benchmark: Benchmark) -> Sequence:
    """One sequence."""
    folder = entry.folder
    boxes = common.read_boxes(folder / "groundtruth.txt")
    occluded, outside = (common.unless_flagged(folder / f, 1, boxes) for f in ("full_occlusion.txt", "out_of_view.txt"))
    return Sequence(
        name=entry.name,
        split=entry.split,
        frames=common.frames(folder / "img")[: len(boxes)],
        boxes=boxes,
        present=occluded & outside,
        sentence=common.read_sentence(folder / "nlp.txt"),
        fps=benchmark.fps,
    )
