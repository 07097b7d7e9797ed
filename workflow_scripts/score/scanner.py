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
    found.score_boxes.argtypes = [_at, _at, _at]
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
    start, step = planes.__array_interface__["data"][0], planes.strides[0]
    rows = _loaded().scan_boxes(raw, len(raw), planes.shape[1], start, start + step, start + 2 * step, start + 3 * step)
    return rows if rows >= 0 else None


class Prepared(ctypes.Structure):
    """One sequence's ground truth under one benchmark's rules, as scanner.c reads it."""

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


def prepare(ground: Ground) -> Prepared | None:
    """What of `ground` alone decides, computed in NumPy and in the order of curves.py; None for rules that scanner.c does not
    know: it knows the MATLAB toolkits' and those near them."""
    rules, truth = ground.rules, ground.truth
    known = rules.repair in REPAIRS and rules.norm_size == "truth" and rules.success_at == ">"
    if (
        not known
        or rules.clip_to_image
        or rules.rounded
        or rules.refuse_invalid
        or max(map(len, ground.thresholds)) > MOST_STEPS
    ):
        return None
    corner, middle = float(rules.inclusive_overlap), float(rules.inclusive_centre)
    low, size = truth[:2], truth[2:]
    with np.errstate(all="ignore"):
        centre = low + (size - middle) * 0.5
        columns = [low, low + size - corner, size[:1] * size[1:], centre, size, centre / size]
    kinds = np.isnan(truth).any(axis=0) * UNREPAIRED | (ground.removed | ground.invalid) * NOT_COMPARED
    if rules.invalid_truth_pixel == "hit":
        kinds |= ground.invalid * PIXEL_HIT
    if rules.invalid_truth_norm == "hit":
        kinds |= ground.invalid * NORM_HIT
    values, first = np.ascontiguousarray(np.concatenate(columns).T), truth[:, 0].copy()
    found = Prepared(
        truth.shape[1],
        ground.frames,
        values.ctypes.data,
        kinds.ctypes.data,
        first.ctypes.data if rules.first_frame == "ground truth" else None,
        REPAIRS.index(rules.repair),
        corner,
        middle,
        ground.share,
        (_at * 3)(*(t.ctypes.data for t in ground.thresholds)),
        (_whole * 3)(*(len(t) for t in ground.thresholds)),
    )
    found.arrays = (values, kinds, first, ground.thresholds)  # which must live as long as it does
    return found


def score_boxes(boxes: Floats, ground: Prepared, record: Floats) -> None:
    """Write the record of boxes [4, N] into `record` [R], which is laid out as scoring.py says."""
    boxes = np.ascontiguousarray(boxes)
    _loaded().score_boxes(boxes.ctypes.data, ctypes.byref(ground), record.ctypes.data)


def score_text(raw: bytes, room: Floats, grounds: Series[Prepared], records: Series[Floats]) -> bool:
    """Write a result file's record [R] under each of several protocols: whether it could be read and has a row a frame.

    `room` [4, N] is scratch space."""
    pointers = (_at * len(grounds))(*(ctypes.addressof(g) for g in grounds))
    outputs = (_at * len(grounds))(*(r.__array_interface__["data"][0] for r in records))
    rows = _loaded().score_text(raw, len(raw), room.__array_interface__["data"][0], len(grounds), pointers, outputs)
    return rows >= room.shape[1]
