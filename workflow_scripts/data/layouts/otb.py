"""OTB2015 and OTB99-Lang: ``<seq>/img/%04d.jpg``, boxes with commas, tabs or blanks in groundtruth_rect*.txt.

Some annotations begin at a later image (BlurCar1, BlurCar3, BlurCar4, David): `spans` of the benchmark's YAML says which.
`omitted` (Tiger1) leaves out first images with their boxes. Some folders hold two targets: `folders` and `annotations` say
where a sequence is. Sentences, where there are any, are one file a sequence in the folders that the YAML's splits name.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

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
            Entry(query.stem, split, videos / shared.get(query.stem, query.stem), root)
            for split, name in benchmark.splits.items()
            for query in sorted((root / name).glob("*.txt"))
        ]
    entries = []
    for folder in common.holding(videos, "img", depth=1):
        annotations = benchmark.options.annotations
        targets = [name for name, place in shared.items() if place == folder.name and name in annotations]
        whole = [folder.name] if (folder / "groundtruth_rect.txt").exists() or not targets else []
        entries += [Entry(name, benchmark.only_split or "test", folder, root) for name in [*whole, *targets]]
    return entries


def read(entry: Entry, benchmark: Benchmark) -> Sequence:
    """One sequence."""
    annotations = benchmark.options.annotations
    file = entry.folder / annotations.get(entry.name, "groundtruth_rect.txt")
    if not file.exists() and entry.name in annotations:
        file = entry.folder / "groundtruth_rect.txt"  # OTB99's own copies have one file a folder
    boxes = common.read_boxes(file)
    frames = common.frames(entry.folder / "img")
    span = benchmark.options.spans.get(entry.name)
    start = 0
    if span:
        numbers = [common.frame_number(frame.name)[0] for frame in frames]
        start = next((i for i, number in enumerate(numbers) if number >= span[0]), 0)
        frames = [frame for frame, number in zip(frames, numbers, strict=True) if span[0] <= number <= span[1]]
    omitted = benchmark.options.omitted.get(entry.name)
    if omitted:
        start, frames, boxes = omitted, frames[omitted:], boxes[omitted:]
    query = next((entry.root / q / f"{entry.name}.txt" for s, q in benchmark.splits.items() if s == entry.split), None)
    return Sequence(
        name=entry.name,
        split=entry.split,
        frames=frames,
        boxes=boxes,
        present=np.asarray(common.presence(boxes), dtype=bool),
        sentence=common.read_sentence(query) if query else "",
        fps=benchmark.fps,
        start=start,
    )
