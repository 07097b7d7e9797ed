"""UAV123: ``data_seq/UAV123/<folder>/%06d.jpg`` with one numbering a folder, ``anno/UAV123/<seq>.txt`` with commas.

Absent frames are rows of NaN. Many sequences are a span of a folder that several share: the benchmark's YAML names first and
last frame of each.
"""

from __future__ import annotations

from pathlib import Path

from workflow_scripts.data.benchmarks import Benchmark
from workflow_scripts.data.layouts import common
from workflow_scripts.data.layouts.common import Entry
from workflow_scripts.sequences import Sequence


def find(root: Path, benchmark: Benchmark, lists: Path) -> list[Entry]:
    """By annotation file; a sequence with a span lies in the folder of its name without the last number."""
    spans = benchmark.options.spans
    entries = []
    for file in sorted((root / "anno" / "UAV123").glob("*.txt")):
        folder = file.stem.rpartition("_")[0] if file.stem in spans else file.stem
        entries.append(Entry(file.stem, benchmark.only_split or "test", root / "data_seq" / "UAV123" / folder, root, lists))
    return entries


def read(entry: Entry, benchmark: Benchmark) -> Sequence:
    """One sequence."""
    boxes = common.read_boxes(entry.root / "anno" / "UAV123" / f"{entry.name}.txt")
    span = benchmark.options.spans.get(entry.name)
    return Sequence(
        name=entry.name,
        split=entry.split,
        frames=common.frames(entry.folder, *(span or ())),
        boxes=boxes,
        present=common.presence(boxes),
        sentence="",
        fps=benchmark.fps,
        start=span[0] - 1 if span else 0,
    )
