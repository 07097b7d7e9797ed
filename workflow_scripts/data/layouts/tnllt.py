"""TNLLT: ``<seq>/imgs/%05d.png`` from 1, comma boxes, absent_label.txt with 1 = PRESENT, language.txt, attributes.txt.

Also TNL2K's one- and two-level trees, which differ in the flags' polarity and place: ``annos/absent/<seq>.txt`` with
1 = absent, beside boxes without size in absent frames; image names of any start and digits; extra flags.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from workflow_scripts.data.benchmarks import Benchmark
from workflow_scripts.data.layouts import common
from workflow_scripts.data.layouts.common import Entry
from workflow_scripts.sequences import Sequence


def find(root: Path, benchmark: Benchmark, lists: Path) -> list[Entry]:
    """Folders that hold imgs/, at any of the two levels that archives come in."""
    folders = {folder.name: folder for folder in common.holding(root, "imgs", skip=("revised_annotations", "annos"))}
    return common.assign(folders, root, benchmark, lists)


def read(entry: Entry, benchmark: Benchmark) -> Sequence:
    """One sequence."""
    folder = entry.folder
    boxes = common.read_boxes(folder / "groundtruth.txt")
    present = common.presence(boxes)
    places = (folder / "absent_label.txt", folder / "absent.txt", entry.root / "annos" / "absent" / f"{entry.name}.txt")
    flags = next((place for place in places if place.exists()), None)
    if flags is not None and benchmark.absent in ("present-is-one", "absent-is-one"):
        values = common.fit(common.read_flags(flags), len(boxes), flags)
        present = values == 1 if benchmark.absent == "present-is-one" else values == 0
    return Sequence(
        name=entry.name,
        split=entry.split,
        frames=common.frames(folder / "imgs"),
        boxes=boxes,
        present=np.asarray(present, dtype=bool),
        sentence=common.read_sentence(folder / "language.txt"),
        attributes=common.named_flags(folder / "attributes.txt", benchmark.attributes),
        fps=benchmark.fps,
    )
