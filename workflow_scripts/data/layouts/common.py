"""What the layouts share: boxes and flags in any delimiter, frames in numeric order, split lists, folders of sequences."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.console import BadInput
from workflow_scripts.data.benchmarks import Benchmark

IMAGES = (".jpg", ".jpeg", ".png", ".bmp")
_SEPARATORS = re.compile(r"[,;\s]+")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Entry:
    """A sequence that is there, before it is read."""

    name: str
    split: str
    folder: Path  # of the sequence; where annotations are elsewhere, of its frames
    root: Path


def read_text(path: Path) -> str:
    """Text of an annotation file; BadInput if there is none."""
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(f"{path} does not exist: restore the dataset again.") from None


def read_boxes(path: Path) -> NDArray[np.float64]:
    """Boxes [N, 4] of a file with one box a line; comma, semicolon, tab or blanks between the numbers; NaN stays NaN."""
    text = read_text(path)
    lines = text.splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    commas = text.count(",") == 3 * len(lines) and not any(c in text for c in "\t; ")
    try:
        if commas:  # the common case, at C speed
            values = np.array(",".join(lines).split(","), dtype=np.float64)
        else:
            values = np.array([_SEPARATORS.split(line.strip().strip(",")) for line in lines], dtype=np.float64)
        return values.reshape(len(lines), 4)
    except ValueError:
        for number, line in enumerate(lines, start=1):
            fields = _SEPARATORS.split(line.strip().strip(","))
            if len(fields) != 4 or not all(_is_number(field) for field in fields):
                raise BadInput(
                    f"{path}, line {number}: {line.strip()[:60]!r} is no box x,y,w,h; mend or restore the file."
                ) from None
        raise


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_flags(path: Path) -> NDArray[np.int64]:
    """Integers of a file, one a line or all on one line with commas or blanks."""
    words = _SEPARATORS.split(read_text(path).strip().strip(","))
    try:
        return np.array([word for word in words if word], dtype=np.float64).astype(np.int64)
    except ValueError:
        raise BadInput(f"{path} holds something that is no number: mend or restore the file.") from None


def read_sentence(path: Path) -> str:
    """First line of a language file, as it is; empty if there is no file."""
    return (read_text(path).strip().splitlines() or [""])[0].strip() if path.exists() else ""


def named_flags(path: Path, names: list[str]) -> tuple[str, ...]:
    """Names of the raised flags of an attributes file; empty if there is no file or the benchmark names none."""
    if not names or not path.exists():
        return ()
    flags = read_flags(path)
    if len(flags) != len(names):
        raise BadInput(f"{path} has {len(flags)} flags, not {len(names)}: mend or restore the file.")
    return tuple(name for name, flag in zip(names, flags, strict=True) if flag)


def frames(folder: Path) -> list[Path]:
    """Image files of a folder in the order of the last number in their names (9 before 10 whatever the digits)."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.lower().endswith(IMAGES) and not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(f"{folder} does not exist: restore the dataset again.") from None
    return [folder / name for name in sorted(names, key=frame_number)]


def frame_number(name: str) -> tuple[int, str]:
    """Sort key of a frame's file name."""
    numbers = _NUMBER.findall(name.rpartition(".")[0])
    return (int(numbers[-1]) if numbers else -1, name)


def presence(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Present where the box is a number and has a size."""
    return np.isfinite(boxes).all(axis=1) & (np.nan_to_num(boxes[:, 2:]) > 0).all(axis=1)


def fit(flags: NDArray[np.int64], count: int, path: Path) -> NDArray[np.int64]:
    """Flags cut to the number of boxes (one sequence of TNL2K has one more). BadInput if there are fewer."""
    if len(flags) < count:
        raise BadInput(f"{path} has {len(flags)} flags for {count} boxes: mend or restore the file.")
    return flags[:count]


def read_list(path: Path) -> list[str]:
    """Names of a split list, one a line."""
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def holding(root: Path, marker: str, depth: int = 2, skip: tuple[str, ...] = ()) -> Iterator[Path]:
    """Folders below `root`, at most `depth` levels down, that hold a file or folder `marker`; sorted by name."""
    for folder in sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".") and p.name not in skip):
        if (folder / marker).exists():
            yield folder
        elif depth > 1:
            yield from holding(folder, marker, depth - 1, skip)


def assign(folders: dict[str, Path], root: Path, benchmark: Benchmark, lists: Path) -> list[Entry]:
    """Give each folder (by sequence name) its split: by the lists, in their order; then what no list names.

    BadInput when a list names a sequence that is not there, or two lists name the same one.
    """
    entries: list[Entry] = []
    seen: dict[str, str] = {}
    for split, file in benchmark.splits.items():
        path = lists / file
        if not path.exists():
            raise BadInput(f"{path}, the list of the {split} split, does not exist: fetch it, or name its folder with --lists.")
        for name in read_list(path):
            if name in seen:
                raise BadInput(f"{path} names {name}, which the {seen[name]} split has already: mend the lists.")
            if name not in folders:
                raise BadInput(f"{path} names {name}, which is not in {root}: restore the dataset again.")
            seen[name] = split
            entries.append(Entry(name, split, folders[name], root))
    rest = benchmark.only_split or benchmark.unlisted_split or "unlisted"
    entries += [Entry(name, rest, folder, root) for name, folder in folders.items() if name not in seen]
    return entries
