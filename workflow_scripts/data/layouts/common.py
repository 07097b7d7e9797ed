"""What the layouts share: boxes and flags in any delimiter, frames in numeric order, split lists, folders of sequences.

Readers touch the dataset through `exists`, `read_text` and `frames` alone, so that `touched` knows what a sequence was read
from: the cached index reads it again when one of these changes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.console import BadInput
from workflow_scripts.data.benchmarks import Benchmark
from workflow_scripts.frames import Frames, number

IMAGES = (".jpg", ".jpeg", ".png", ".bmp")
_SEPARATORS = re.compile(r"[,;\s]+")
_SINGLE_FLAGS = re.compile(rb"[01](?:[,;\s]+[01])*")
_noted: ContextVar[set[Path] | None] = ContextVar("noted", default=None)


@dataclass(frozen=True)
class Entry:
    """A sequence that is there, before it is read."""

    name: str
    split: str
    folder: Path  # of the sequence; where annotations are elsewhere, of its frames
    root: Path
    lists: Path  # folder of the split lists and of what else comes with the benchmark's toolkit


@contextmanager
def touched() -> Iterator[set[Path]]:
    """Yield a set that fills with the files and folders that are read or looked for within the block."""
    token = _noted.set(set())
    try:
        yield _noted.get()  # type: ignore[misc]
    finally:
        _noted.reset(token)


def note(path: Path) -> Path:
    """Say that `path` is looked at; returns it."""
    seen = _noted.get()
    if seen is not None:
        seen.add(path)
    return path


def exists(path: Path) -> bool:
    """Whether there is such a file or folder."""
    return note(path).exists()


def read_text(path: Path) -> str:
    """Text of an annotation file; BadInput if there is none."""
    try:
        return note(path).read_text(encoding="utf-8-sig", errors="replace")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise BadInput(f"{path} does not exist: restore the dataset again.") from None


def read_lines(path: Path) -> list[str]:
    """Lines of an annotation file without the blank ones at its end."""
    lines = read_text(path).splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def fields(line: str) -> list[str]:
    """What stands between the commas, semicolons, tabs or blanks of a line."""
    return _SEPARATORS.split(line.strip().strip(",;"))


def read_boxes(path: Path) -> NDArray[np.float64]:
    """Boxes [N, 4] of a file with one box a line; comma, semicolon, tab or blanks between the numbers; NaN stays NaN."""
    lines = read_lines(path)
    try:
        if lines and lines[0].count(",") == 3:  # the common case, at C speed
            with suppress(ValueError):
                values = np.loadtxt(lines, delimiter=",", comments=None, ndmin=2)
                if values.shape == (len(lines), 4):  # it skips blank lines
                    return values
        return np.array([fields(line) for line in lines], dtype=np.float64).reshape(len(lines), 4)
    except ValueError:
        raise BadInput(f"{path}, {_first_bad(lines, 4)} is no box x,y,w,h; mend or restore the file.") from None


def read_flags(path: Path) -> NDArray[np.int64]:
    """Integers of a file, one a line or all on one line with commas or blanks."""
    text = read_text(path).strip().strip(",;")
    if _SINGLE_FLAGS.fullmatch(raw := text.encode()):  # the common case, at C speed
        return (np.frombuffer(raw.translate(None, b",; \t\r\n\v\f"), dtype=np.uint8) - ord("0")).astype(np.int64)
    try:
        return np.array(fields(text) if text else [], dtype=np.float64).astype(np.int64)
    except ValueError:
        raise BadInput(f"{path}, {_first_bad(text.splitlines())} is no flag; mend or restore the file.") from None


def _first_bad(lines: list[str], width: int | None = None) -> str:
    """The number of the first line that holds anything but `width` numbers (None: any count), and what stands there."""
    for at, line in enumerate(lines, start=1):
        found = fields(line)
        if width is not None and (len(found) != width or not all(map(is_number, found))):
            return f"line {at}: {line.strip()[:60]!r}"
        if width is None and (wrong := [field for field in found if field and not is_number(field)]):
            return f"line {at}: {wrong[0][:60]!r}"
    return f"line {len(lines)}: {lines[-1].strip()[:60]!r}"


def is_number(text: str) -> bool:
    """Whether it is a number, NaN included."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_sentence(path: Path) -> str:
    """First line of a language file, as it is; empty if there is no file."""
    return (read_text(path).strip().splitlines() or [""])[0].strip() if exists(path) else ""


def named_flags(path: Path, names: list[str]) -> tuple[str, ...]:
    """Names of the raised flags of an attributes file; empty if there is no file or the benchmark names none."""
    if not names or not exists(path):
        return ()
    flags = read_flags(path)
    if len(flags) != len(names):
        raise BadInput(f"{path}, line 1: {len(flags)} flags, not the {len(names)} of {','.join(names)}; restore the file.")
    return tuple(name for name, flag in zip(names, flags, strict=True) if flag)


def frames(folder: Path, first: int | None = None, last: int | None = None) -> Frames:
    """Image files of a folder in the order of the last number in their names; those numbered `first` to `last` where given."""
    try:
        listed = os.listdir(note(folder))
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(f"{folder} does not exist: restore the dataset again.") from None
    # asked twice, for most endings are in small letters and there are millions of names
    names = [name for name in listed if (name.endswith(IMAGES) or name.lower().endswith(IMAGES)) and name[0] != "."]
    if first is not None and last is not None:
        names = [name for name in names if first <= number(name)[0] <= last]
    return Frames.numbered(folder, names)


def presence(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Present where the box is a number and has a size."""
    return np.isfinite(boxes).all(axis=1) & (np.nan_to_num(boxes[:, 2:]) > 0).all(axis=1)


def unless_flagged(path: Path, absent: int, boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Present [N] where the flag file says anything but `absent`, as the toolkits count; by the boxes if there is no file."""
    if not exists(path):
        return presence(boxes)
    return fit(read_flags(path), len(boxes), path, 1 - absent) != absent


def fit(flags: NDArray[np.int64], count: int, path: Path, missing: int) -> NDArray[np.int64]:
    """Flags, one a box: one of TNL2K's files has one too many; a last one that lacks is `missing`. BadInput if more lack."""
    if len(flags) < count - 1:
        raise BadInput(f"{path}, line {len(flags) + 1}: the file ends, after {len(flags)} flags for {count} boxes; restore it.")
    return np.append(flags, [missing] * (count - len(flags)))[:count] if len(flags) < count else flags[:count]


def read_list(path: Path) -> list[tuple[int, str]]:
    """Names of a split list, one a line, after the number of their line."""
    return [(at, line.strip()) for at, line in enumerate(read_text(path).splitlines(), start=1) if line.strip()]


def folders(root: Path) -> list[Path]:
    """Visible folders directly below `root`, sorted by name."""
    with os.scandir(root) as found:
        return sorted(root / entry.name for entry in found if not entry.name.startswith(".") and entry.is_dir())


def holding(root: Path, marker: str, depth: int = 2, skip: tuple[str, ...] = ()) -> Iterator[Path]:
    """Folders below `root`, at most `depth` levels down, that hold a file or folder `marker`; sorted by name."""
    for folder in folders(root):
        if folder.name in skip:
            continue
        if (folder / marker).exists():
            yield folder
        elif depth > 1:
            yield from holding(folder, marker, depth - 1, skip)


def class_and_number(folder: Path) -> tuple[str, int]:
    """Sort key of a folder <class>-<number>, whose class may hold dashes and blanks: airplane-9 before airplane-10."""
    name, _, digits = folder.name.rpartition("-")
    return (name, int(digits)) if digits.isdecimal() else (folder.name, 0)


def by_name(found: Iterable[Path]) -> dict[str, Path]:
    """Folders by their name, which is the sequence's; BadInput if two have the same."""
    result: dict[str, Path] = {}
    for folder in found:
        if (other := result.setdefault(folder.name, folder)) != folder:
            raise BadInput(f"{other} and {folder} are both called {folder.name}: move one of them out of the dataset.")
    return result


def assign(
    found: dict[str, Path], root: Path, benchmark: Benchmark, lists: Path, alike: Callable[[str], str] = str
) -> list[Entry]:
    """Give each folder (by sequence name) its split: by the lists, in their order; then what no list names.

    Names that are equal after `alike` are the same sequence's, which has the list's. BadInput when a list names a sequence that
    is not there, or one that was named before.
    """
    entries: list[Entry] = []
    seen: dict[str, str] = {}
    known = {alike(name): name for name in found}
    for split, file in benchmark.splits.items():
        path = lists / file
        if not path.exists():
            raise BadInput(f"{path}, the list of the {split} split, does not exist: fetch it, or name its folder with --lists.")
        for line, listed in read_list(path):
            name = known.get(alike(listed))
            if name is None:
                raise BadInput(f"{path}, line {line} names {listed}, which is not in {root}: restore the dataset again.")
            if name in seen:
                raise BadInput(f"{path}, line {line} names {listed}, which the {seen[name]} split has already: mend the lists.")
            seen[name] = split
            entries.append(Entry(listed, split, found[name], root, lists))
    rest = benchmark.only_split or benchmark.unlisted_split or "unlisted"
    entries += [Entry(name, rest, folder, root, lists) for name, folder in found.items() if name not in seen]
    return entries
