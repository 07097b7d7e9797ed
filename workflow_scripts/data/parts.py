"""The parts of an archive: how they are numbered, which there are, in order and without a gap."""

from __future__ import annotations

import glob
import itertools
import re
import string
from collections.abc import Iterable
from pathlib import Path

from workflow_scripts.console import BadInput
from workflow_scripts.data import integrity, packing

LOOKS_LIKE_A_PART = re.compile(r"[._-]part[._-]?\w+$")


def find(pattern: str, *others: Path | None) -> list[Path]:
    """The files of a glob pattern, in the parts' order. BadInput if there is none, or one is missing, empty or a web page.

    Manifests, checksum files and `others` are left out where the pattern catches them.
    """
    matches = glob.glob(pattern)  # noqa: PTH207 - a pattern as the user gave it, absolute or not
    found = [Path(p) for p in matches if not p.endswith((".md5", ".json"))]
    found = [p for p in found if p.is_file() and p.resolve() not in {other.resolve() for other in others if other}]
    if not found:
        raise BadInput(f"{pattern} matches no file: fetch the parts first, and quote the pattern.")
    found = in_order(found)
    for path in found:
        if path.stat().st_size == 0:
            raise BadInput(f"{path} is empty: delete it and fetch it again.")
        integrity.refuse_page(path)
    return found


def in_order(found: list[Path]) -> list[Path]:
    """The parts by number or letters. BadInput where one is left out (gzip would notice at the gap, hours later) or strange."""
    if len(found) == 1:
        return found
    found = sorted(found, key=lambda path: path.name)
    first = found[0].name
    stem = first.rstrip(string.digits)
    if len(stem) < len(first):
        return _numbered(found, stem)
    letters = len(first) - len(first.rstrip(string.ascii_lowercase))
    for width in range(2, letters + 1):
        stem = first[:-width]
        if all(path.name.startswith(stem) for path in found):
            return _lettered(found, stem, width)
    return _lettered(found, first[:-2], 2)


def _numbered(found: list[Path], stem: str) -> list[Path]:
    """part_1, part_2, ..., part_10, padded or not, from 0 or 1."""
    numbers = {}
    for path in found:
        suffix = path.name.removeprefix(stem)
        if not path.name.startswith(stem) or not suffix.isdecimal():
            raise _strange(path)
        if int(suffix) in numbers:
            raise BadInput(f"{path} has the number of {numbers[int(suffix)]}: move one of them away.")
        numbers[int(suffix)] = path
    for wanted in range(min(1, *numbers), max(numbers) + 1):
        if wanted not in numbers:
            after = numbers[min(n for n in numbers if n > wanted)]
            raise BadInput(f"part {wanted} is missing before {after}: fetch it.")
    return [numbers[number] for number in sorted(numbers)]


def _lettered(found: list[Path], stem: str, width: int) -> list[Path]:
    """part_aa, part_ab, ...: as `split` writes them, or with `-a` and so all of one width."""
    suffixes = [path.name.removeprefix(stem) for path in found]
    fixed = all(len(suffix) == width for suffix in suffixes)
    series = map("".join, itertools.product(string.ascii_lowercase, repeat=width)) if fixed else packing.suffixes()
    for path, suffix, wanted in zip(found, suffixes, series, strict=False):
        if not path.name.startswith(stem) or not (suffix.isalpha() and suffix.islower()):
            raise _strange(path)
        if suffix != wanted:
            raise BadInput(f"{path.with_name(stem + wanted)} is missing before {path.name}: fetch it.")
    return found


def _strange(path: Path) -> BadInput:
    return BadInput(
        f"{path} is not numbered as its neighbours are (aa, ab, ... or 1, 2, ...): move it away if it is a second download, "
        "or narrow the pattern."
    )


def check_listed(listed: Iterable[str], found: list[Path]) -> None:
    """BadInput if a published checksum is of a part that is not there."""
    there = {path.name for path in found}
    for name in listed:
        if LOOKS_LIKE_A_PART.search(name) and name not in there:
            raise BadInput(f"{found[0].with_name(name)} has a published checksum and is missing: fetch it.")
