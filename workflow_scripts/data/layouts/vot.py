"""VOT: ``<seq>/color/%08d.jpg`` from 1, groundtruth.txt with a region a line, a list.txt of sequences.

A region is a mask ``m x0,y0,w,h,rle...`` (runs of zeros and ones, row by row, in the window at x0,y0), a rectangle x,y,w,h or
a polygon x1,y1,x2,y2,...; its box is the one that encloses it, of a mask whole pixels. An empty mask, a NaN and a single number
(a code) mean that there is no target. Files ending in .tag (earlier years: .label) hold one flag a frame: a sequence has the
attributes that any of its frames has. The file `sequence` may say fps. Years without a folder color/ keep images beside the
annotation.
"""

from __future__ import annotations

import re
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.console import BadInput
from workflow_scripts.data.benchmarks import Benchmark
from workflow_scripts.data.layouts import common
from workflow_scripts.data.layouts.common import Entry
from workflow_scripts.sequences import Sequence

NOWHERE = (np.nan,) * 4
Box = tuple[float, ...]


def find(root: Path, benchmark: Benchmark, lists: Path) -> list[Entry]:
    """By list.txt where there is one, else by folder."""
    split, listed = benchmark.only_split or "test", root / "list.txt"
    if not listed.is_file():
        return [Entry(p.name, split, p, root, lists) for p in common.holding(root, "groundtruth.txt", depth=1)]
    for line, name in common.read_list(listed):
        if not (root / name).is_dir():
            raise BadInput(f"{listed}, line {line} names {name}, which is not there: restore the dataset again.")
    return [Entry(name, split, root / name, root, lists) for _, name in common.read_list(listed)]


def read(entry: Entry, benchmark: Benchmark) -> Sequence:
    """One sequence."""
    folder = entry.folder
    boxes = read_regions(folder / "groundtruth.txt")
    about = common.read_text(folder / "sequence") if common.exists(folder / "sequence") else ""
    fps = re.search(r"^fps\s*=\s*([0-9.]+)\s*$", about, re.MULTILINE)
    tags = [path for ending in ("tag", "label") for path in common.note(folder).glob(f"*.{ending}")]
    return Sequence(
        name=entry.name,
        split=entry.split,
        frames=common.frames(folder / "color" if common.exists(folder / "color") else folder),
        boxes=boxes,
        present=common.presence(boxes),
        sentence="",
        attributes=tuple(sorted(path.stem for path in tags if common.read_flags(path).any())),
        fps=float(fps[1]) if fps else benchmark.fps,
    )


def read_regions(path: Path) -> NDArray[np.float64]:
    """The enclosing boxes [N, 4] of a file with one region a line; NaN where there is no target."""
    boxes = []
    for number, line in enumerate(common.read_lines(path), start=1):
        try:
            boxes.append(enclosing_box(line))
        except ValueError as error:
            raise BadInput(f"{path}, line {number}: {line[:60]!r} {error}; mend or restore the file.") from None
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def enclosing_box(region: str) -> Box:
    """Box x, y, w, h of one region in VOT's text form; ValueError says what is wrong with it."""
    if region.startswith("m"):
        return _mask_box(_numbers(region[1:], int))
    values = _numbers(region, float)
    if len(values) == 1 or not np.isfinite(values).all():
        return NOWHERE
    if len(values) == 4:
        return tuple(values)
    if len(values) % 2 or len(values) < 6:
        raise ValueError(f"has {len(values)} numbers, which is neither a rectangle nor a polygon")
    xs, ys = values[::2], values[1::2]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _numbers(text: str, kind: type) -> list:
    try:
        return [kind(field) for field in common.fields(text)]
    except ValueError:
        raise ValueError("is no mask, rectangle or polygon") from None


def _mask_box(values: list[int]) -> Box:
    if len(values) < 5 or min(values[2:]) < 0:
        raise ValueError("is a mask without its window x0,y0,w,h or its runs")
    left, top, width, height, *runs = values
    if sum(runs) > width * height:
        raise ValueError(f"is a mask whose runs go beyond its window of {width}x{height}")
    # runs alternate, zeros first; each [start, end) of ones is a stretch of the window read row by row
    ones = [(start, end) for start, end in list(pairwise([0, *accumulate(runs)]))[1::2] if end > start]
    if not ones:
        return NOWHERE
    first, last = ones[0][0] // width, (ones[-1][1] - 1) // width
    if any(start // width != (end - 1) // width for start, end in ones):  # a run over a row's end touches both sides
        columns = (0, width - 1)
    else:
        columns = (min(start % width for start, _ in ones), max((end - 1) % width for _, end in ones))
    return left + columns[0], top + first, columns[1] - columns[0] + 1, last - first + 1
