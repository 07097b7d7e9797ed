"""VastTrack: ``[{train,test}/]<Class>/<Class>-<n>/imgs/%05d.jpg`` from 1, ``Groundtruth.txt`` (capital G) with commas, nlp.txt.

Absent frames are boxes 0,0,0,0. Class names hold blanks and dashes, so a name is split at its last dash; folders may have
underscores where the test list has blanks, and the list's name is the sequence's. The toolkit's attributes
(``annos/att/<seq>.txt``) are used where they are there.
"""

from __future__ import annotations

from pathlib import Path

from workflow_scripts.data.benchmarks import Benchmark
from workflow_scripts.data.layouts import common
from workflow_scripts.data.layouts.common import Entry
from workflow_scripts.sequences import Sequence


def find(root: Path, benchmark: Benchmark, lists: Path) -> list[Entry]:
    """All sequences, by class and number; the test list makes the split, or without it the folders train and test."""
    halves = {split: root / split for split in ("train", "test") if (root / split).is_dir()}
    places = list(halves.values()) or [root]
    found = common.by_name(sorted((p for place in places for p in _sequences(place)), key=common.class_and_number))
    if not halves or all((lists / file).is_file() for file in benchmark.splits.values()):
        return common.assign(found, root, benchmark, lists, alike=lambda name: name.replace(" ", "_"))
    return [Entry(name, place.parents[1].name, place, root, lists) for name, place in found.items()]


def _sequences(place: Path) -> list[Path]:
    return [folder for group in common.folders(place) for folder in common.holding(group, "imgs", depth=1)]


def read(entry: Entry, benchmark: Benchmark) -> Sequence:
    """One sequence."""
    boxes = common.read_boxes(entry.folder / "Groundtruth.txt")
    return Sequence(
        name=entry.name,
        split=entry.split,
        frames=common.frames(entry.folder / "imgs"),
        boxes=boxes,
        present=common.presence(boxes),
        sentence=common.read_sentence(entry.folder / "nlp.txt"),
        attributes=common.named_flags(entry.root / "annos" / "att" / f"{entry.name}.txt", benchmark.attributes),
        fps=benchmark.fps,
    )
