"""OTB2015 and OTB99-Lang: ``<seq>/img/%04d.jpg``, boxes with commas, tabs or blanks in groundtruth_rect*.txt.

Some annotations begin at a later image (BlurCar1, BlurCar3, BlurCar4, David) or end before the last (Diving, Football1,
Freeman3, Freeman4): `spans` of the benchmark's YAML says which. `omitted` (Tiger1) leaves out first images with their boxes.
Some folders hold two targets: `folders` and `annotations` say where a sequence is. Sentences, where there are any, are one
file a sequence in the folders that the YAML's splits name.
"""

from __future__ import annotations

from pathlib import Path

from workflow_scripts.data.benchmarks import Benchmark
from workflow_scripts.data.layouts import common
from workflow_scripts.data.layouts.common import Entry
from workflow_scripts.sequences import Sequence


def find(root: Path, benchmark: Benchmark, lists: Path) -> list[Entry]:
    """By the files of sentences where the benchmark has them, else by folders (two-target folders once a target)."""
    videos = root / benchmark.options.videos
    shared = benchmark.options.folders
    if benchmark.splits:
        return [
            Entry(query.stem, split, videos / shared.get(query.stem, query.stem), root, lists)
            for split, name in benchmark.splits.items()
            for query in sorted((root / name).glob("*.txt"))
        ]
    entries = []
    for folder in common.holding(videos, "img", depth=1):
        annotations = benchmark.options.annotations
        targets = [name for name, place in shared.items() if place == folder.name and name in annotations]
        whole = [folder.name] if (folder / "groundtruth_rect.txt").exists() or not targets else []
        entries += [Entry(name, benchmark.only_split or "test", folder, root, lists) for name in [*whole, *targets]]
    return entries


def read(entry: Entry, benchmark: Benchmark) -> Sequence:
    """One sequence."""
    annotations = benchmark.options.annotations
    file = entry.folder / annotations.get(entry.name, "groundtruth_rect.txt")
    if entry.name in annotations and not common.exists(file):
        file = entry.folder / "groundtruth_rect.txt"  # OTB99's own copies have one file a folder
    span = benchmark.options.spans.get(entry.name)
    omitted = benchmark.options.omitted.get(entry.name, 0)
    boxes = common.read_boxes(file)[omitted:]
    query = next((entry.root / q / f"{entry.name}.txt" for s, q in benchmark.splits.items() if s == entry.split), None)
    return Sequence(
        name=entry.name,
        split=entry.split,
        frames=common.frames(entry.folder / "img", *(span or ()))[omitted:],
        boxes=boxes,
        present=common.presence(boxes),
        sentence=common.read_sentence(query) if query else "",
        fps=benchmark.fps,
        start=(span[0] - 1 if span else 0) + omitted,
    )
