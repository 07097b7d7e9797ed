"""Frame paths in order, kept as one folder and runs of counting names: a sequence of 2,500 frames is a few words.

A run is the name of its first file and its length. ("00001.png", 3) stands for 00001.png, 00002.png, 00003.png: the last
number in the name counts up and keeps at least its digits ("8.jpg" is followed by 9.jpg and 10.jpg). A name that does not
count is a run of one. The order of frames is that of the last number in their names, whatever the digits.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Series
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import overload

import numpy as np

Run = tuple[str, int]
_LAST_NUMBER = re.compile(r"(\d+)(\D*)$")


class Frames(Series[Path]):
    """Paths `folder`/name of the names that `runs` stand for; behaves as an immutable list of them."""

    def __init__(self, folder: str | Path, runs: Iterable[Run]) -> None:
        self.folder = Path(folder)
        self.runs = tuple((name, count) for name, count in runs)

    @classmethod
    def of(cls, folder: str | Path, names: Iterable[str]) -> Frames:
        """Frames called `names` in `folder`, in the order given."""
        return cls(folder, runs(list(names)))

    @classmethod
    def numbered(cls, folder: str | Path, names: Iterable[str]) -> Frames:
        """Frames called `names` in `folder`, in the order of the last number in each name (9 before 10)."""
        names = sorted(names)
        found = runs(names)
        return cls(folder, found if len(found) < 2 else runs(sorted(names, key=number)))

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(count for _, count in self.runs))

    def names(self) -> list[str]:
        """File names, in order."""
        return [name for first, count in self.runs for name in counting(first, count)]

    def __len__(self) -> int:
        return self._ends[-1] if self.runs else 0

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> Frames: ...
    def __getitem__(self, index: int | slice) -> Path | Frames:
        if isinstance(index, slice):
            return self if index == slice(None) else Frames.of(self.folder, self.names()[index])
        at = range(len(self))[index]  # IndexError as a list's
        run = bisect_right(self._ends, at)
        first, count = self.runs[run]
        return self.folder / nth(first, at - self._ends[run] + count)

    def __iter__(self) -> Iterator[Path]:
        return (self.folder / name for name in self.names())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Frames) and (self.folder, self.runs) == (other.folder, other.runs):
            return True
        return isinstance(other, Series) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Frames({self.folder.as_posix()!r}, {self.runs})"


def number(name: str) -> tuple[int, str]:
    """Sort key of a frame's file name: the last number before its ending (-1: none), then the name."""
    digits = _parts(name)[1]
    return int(digits) if digits else -1, name


def nth(first: str, offset: int) -> str:
    """The name `offset` places after `first` in a run."""
    before, digits, after = _parts(first)
    return f"{before}{int(digits) + offset:0{len(digits)}d}{after}" if offset else first


def counting(first: str, count: int) -> list[str]:
    """The `count` names of a run."""
    if count == 1:
        return [first]
    before, digits, after = _parts(first)
    start, width = int(digits), len(digits)
    return [f"{before}{n:0{width}d}{after}" for n in range(start, start + count)]


def runs(names: Series[str]) -> list[Run]:
    """Names as runs, as few as their order allows."""
    if len(names) > 1 and _is_one_run(names):
        return [(names[0], len(names))]
    found, at = [], 0
    while at < len(names):
        before, digits, after = _parts(names[at])
        count = 1
        if digits:
            following, width = int(digits) + 1, len(digits)
            while at + count < len(names) and names[at + count] == f"{before}{following:0{width}d}{after}":
                following, count = following + 1, count + 1
        found.append((names[at], count))
        at += count
    return found


def _is_one_run(names: Series[str]) -> bool:
    """Whether names of one length are one run: the common case, decided without making each name again."""
    before, digits, after = _parts(names[0])
    raw, length = "".join(names).encode(), len(names[0])
    if not 0 < len(digits) < 19 or len(raw) != len(names) * length or set(map(len, names)) != {length}:
        return False
    table = np.frombuffer(raw, dtype=np.uint8).reshape(len(names), length)
    start, stop = len(before), length - len(after)
    numbers = (table[:, start:stop].astype(np.int64) - ord("0")) @ 10 ** np.arange(stop - start - 1, -1, -1)
    return bool(
        (np.delete(table, np.s_[start:stop], axis=1) == np.frombuffer((before + after).encode(), dtype=np.uint8)).all()
        and ((table[:, start:stop] >= ord("0")) & (table[:, start:stop] <= ord("9"))).all()
        and (numbers == int(digits) + np.arange(len(names))).all()
    )


def _parts(name: str) -> tuple[str, str, str]:
    """What is before the last number in the name (its ending aside), the number's digits, and what is after."""
    stem, dot, ending = name.rpartition(".")
    match = _LAST_NUMBER.search(stem)
    return (stem[: match.start()], match[1], f"{match[2]}{dot}{ending}") if match else (name, "", "")
