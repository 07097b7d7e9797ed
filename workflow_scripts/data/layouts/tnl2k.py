"""TNL2K: ``{train,test}/[<subset>/]<seq>/imgs/*``, comma boxes, absent frames as boxes without size.

Image names are jpg or png, of any start and digits, and go by number. The toolkit's flags (``annos/absent/<seq>.txt``,
1 = absent, one sequence has one more of them than boxes) and attributes (``annos/att/<seq>_attribute.txt``) are used where
they are there. ``revised_annotations`` is no sequence.
"""

from __future__ import annotations

from pathlib import Path

from workflow_scripts.data.benchmarks import Benchmark
from workflow_scripts.data.layouts import common
from workflow_scripts.data.layouts.common import Entry
from workflow_scripts.sequences import Sequence

SKIP = ("revised_annotations", "annos")


def find(root: Path, benchmark: Benchmark, lists: Path) -> list[Entry]:
    """Sequences of both split folders; a split that is not there is left out."""
    return [
        Entry(folder.name, split, folder, root, lists)
        for split, name in benchmark.splits.items()
        if (root / name).is_dir()
        for folder in common.by_name(common.holding(root / name, "imgs", skip=SKIP)).values()
    ]


def read(entry: Entry, benchmark: Benchmark) -> Sequence:
    """One sequence."""
    folder, toolkit = entry.folder, entry.root / "annos"
    boxes = common.read_boxes(folder / "groundtruth.txt")
    return Sequence(
        name=entry.name,
        split=entry.split,
        frames=common.frames(folder / "imgs"),
        boxes=boxes,
        present=common.unless_flagged(toolkit / "absent" / f"{entry.name}.txt", 1, boxes),
        sentence=common.read_sentence(folder / "language.txt"),
        attributes=common.named_flags(toolkit / "att" / f"{entry.name}_attribute.txt", benchmark.attributes),
        fps=benchmark.fps,
    )
