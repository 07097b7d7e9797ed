"""The compiled inner loops (scanner.c), where a C compiler is: the bits of results.py and curves.py several times faster.

The source is compiled once, with the machine's own compiler (CC, else cc), into the user's cache under a name made of its hash.
No setting asks for it and nothing depends on it: without a compiler, or where compiling fails, `library` is None and NumPy and
Arrow do the work.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Sequence as Series
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from workflow_scripts import files

if TYPE_CHECKING:
    from workflow_scripts.score.curves import Ground

SOURCE = Path(__file__).with_name("scanner.c")
# contraction into fused multiply-adds would change last bits; sqrt need not set errno; no -march, as caches are shared
FLAGS = ("-O3", "-ffp-contract=off", "-fno-math-errno", "-fPIC", "-shared")

UNREPAIRED, NOT_COMPARED, PIXEL_HIT, NORM_HIT = (np.uint8(1 << bit) for bit in range(4))  # what a frame is, as in scanner.c
REPAIRS = ("none", "bad", "zero size", "miss")  # Rules.repair by number

MOST_STEPS = 128  # thresholds of a curve

Floats = NDArray[np.float64]

_whole, _real, _bytes, _at = ctypes.c_int64, ctypes.c_double, ctypes.c_char_p, ctypes.c_void_p


@cache
def library() -> ctypes.CDLL | None:
    """The compiled scanner, built on first use; None where it cannot be had."""
    path = _compiled()
    if path is None:
        return None
    try:
        found = ctypes.CDLL(str(path))
    except OSError:  # e.g. a cache that may not hold programs
        return None
    found.scan_boxes.restype = _whole
    found.scan_boxes.argtypes = [_bytes, _whole, _whole, _at, _at, _at, _at]
    found.score_boxes.restype = None
    found.score_boxes.argtypes = [_at, _whole, _at, _at]
    found.score_text.restype = _whole
    found.score_text.argtypes = [_bytes, _whole, _at, _whole, _at, _at]
    return found


def _compiled() -> Path | None:
    key = hashlib.sha256(SOURCE.read_bytes() + " ".join(FLAGS).encode()).hexdigest()[:16]
    target = files.cache_folder("scanner") / f"{platform.machine()}-{key}.so"
    if target.exists():
        return target
    compiler = shlex.split(os.environ.get("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        return None
    try:
        with files.atomic_path(target) as temporary:
            subprocess.run([*compiler, *FLAGS, "-o", temporary, SOURCE], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return target


def _loaded() -> ctypes.CDLL:
    found = library()
    assert found is not None, "ask library() first"
    return found


def scan_boxes(raw: bytes, planes: Floats) -> int | None:
    """Write a file's boxes into `planes` [4, N], cut to N rows. Returns how many it has, or None where a line is anything but
    four plain numbers (`planes` then holds anything)."""
    start, step = _address(planes), planes.strides[0]
    rows = _loaded().scan_boxes(raw, len(raw), planes.shape[1], start, start + step, start + 2 * step, start + 3 * step)
    return rows if rows >= 0 else None


class _Ground(ctypes.Structure):
    """ground_t of scanner.c."""

    _fields_: ClassVar = [
        ("frames", _whole),
        ("scored", _whole),
        ("truth", _at),
        ("kinds", _at),
        ("first", _at),
        ("repair", _whole),
        ("corner", _real),
        ("middle", _real),
        ("share", _real),
        ("thresholds", _at * 3),
        ("steps", _whole * 3),
    ]


@dataclass(frozen=True)
class Prepared:
    """A sequence's ground truth under P protocols, as scanner.c reads it."""

    grounds: ctypes.Array[_Ground]  # [P]
    arrays: list[object]  # what they point to


def prepare(grounds: Series[Ground]) -> Prepared | None:
    """What the ground truth alone decides, computed once, in NumPy and in the order of curves.py. None where the scanner is not
    there or does not know all the rules: it knows those of the MATLAB toolkits and some near them."""
    if library() is None or not all(map(_knows, grounds)):
        return None
    found, arrays = [], []
    for ground in grounds:
        values, kinds, first = _values(ground), _kinds(ground), ground.truth[:, 0].copy()
        arrays += [values, kinds, first, ground.thresholds]
        found.append(
            _Ground(
                ground.truth.shape[1],
                ground.frames,
                values.ctypes.data,
                kinds.ctypes.data,
                first.ctypes.data if ground.rules.first_frame == "ground truth" else None,
                REPAIRS.index(ground.rules.repair),
                float(ground.rules.inclusive_overlap),
                float(ground.rules.inclusive_centre),
                ground.share,
                (_at * 3)(*(t.ctypes.data for t in ground.thresholds)),
                (_whole * 3)(*map(len, ground.thresholds)),
            )
        )
    return Prepared((_Ground * len(found))(*found), arrays)


def _knows(ground: Ground) -> bool:
    rules = ground.rules
    usual = not (rules.clip_to_image or rules.rounded or rules.refuse_invalid) and rules.success_at == ">"
    return usual and rules.norm_size == "truth" and rules.repair in REPAIRS and max(map(len, ground.thresholds)) <= MOST_STEPS


def _values(ground: Ground) -> Floats:
    """truth_t of scanner.c, [N, 11]."""
    low, size = ground.truth[:2], ground.truth[2:]
    with np.errstate(all="ignore"):
        centre = low + (size - float(ground.rules.inclusive_centre)) * 0.5
        far = low + size - float(ground.rules.inclusive_overlap)
        columns = [low, far, size[:1] * size[1:], centre, size, centre / size]
    return np.ascontiguousarray(np.concatenate(columns).T)


def _kinds(ground: Ground) -> NDArray[np.uint8]:
    """What each frame is, [N]."""
    kinds = np.isnan(ground.truth).any(axis=0) * UNREPAIRED | (ground.removed | ground.invalid) * NOT_COMPARED
    if ground.rules.invalid_truth_pixel == "hit":
        kinds |= ground.invalid * PIXEL_HIT
    if ground.rules.invalid_truth_norm == "hit":
        kinds |= ground.invalid * NORM_HIT
    return kinds


def score_boxes(boxes: Floats, prepared: Prepared, record: Floats) -> None:
    """Write the record [R] of boxes [4, N] under all protocols, laid out as scoring.py says."""
    boxes = np.ascontiguousarray(boxes)
    _loaded().score_boxes(_address(boxes), len(prepared.grounds), prepared.grounds, _address(record))


def score_text(raw: bytes, room: Floats, prepared: Prepared, record: Floats) -> bool:
    """Write the record [R] of a result file: whether it could be read and has a row a frame. `room` [4, N] is scratch space."""
    given = len(prepared.grounds), prepared.grounds, _address(record)
    return _loaded().score_text(raw, len(raw), _address(room), *given) >= room.shape[1]


def _address(array: Floats) -> int:
    return array.__array_interface__["data"][0]
