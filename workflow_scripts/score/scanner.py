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
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workflow_scripts import files

SOURCE = Path(__file__).with_name("scanner.c")
# contraction into fused multiply-adds would change last bits; sqrt need not set errno; no -march, as caches are shared
FLAGS = ("-O3", "-ffp-contract=off", "-fno-math-errno", "-fPIC", "-shared")

UNREPAIRED, NOT_COMPARED, PIXEL_HIT, NORM_HIT = (np.uint8(1 << bit) for bit in range(4))  # what a frame is, as in scanner.c
REPAIRS = ("none", "bad", "zero size")  # Rules.repair by number

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

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
    found.count_frames.restype = None
    found.count_frames.argtypes = [_whole, _whole, *[_at] * 5, _whole, _real, _real, *[_at] * 6]
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


def scan_boxes(library: ctypes.CDLL, raw: bytes, planes: Floats) -> int | None:
    """Write a file's boxes into `planes` [4, N], cut to N rows. Returns how many it has, or None where a line is anything but
    four plain numbers (`planes` then holds anything)."""
    start, step = planes.__array_interface__["data"][0], planes.strides[0]
    rows = library.scan_boxes(raw, len(raw), planes.shape[1], start, start + step, start + 2 * step, start + 3 * step)
    return rows if rows >= 0 else None


@dataclass(frozen=True)
class Counts:
    """K trackers' frames by how many thresholds lie below their values, and what was counted on the way."""

    success: Integers  # [K, T + 1] overlap
    pixel: Integers  # [K, E + 1] centre error in pixels
    norm: Integers  # [K, E + 1] centre error in units of the target's size
    overlap: Floats  # [K, N] IoU, 0 where the frame cannot be a success
    repaired: Integers  # [K]
    non_finite: Integers  # [K]


def count_frames(
    library: ctypes.CDLL,
    planes: Floats,
    truth: Floats,
    kinds: NDArray[np.uint8],
    missed: NDArray[np.bool_],
    first: Floats | None,
    repair: int,
    corner: float,
    middle: float,
    thresholds: tuple[Floats, Floats, Floats],
) -> Counts:
    """Count boxes `planes` [4, K, N] against `truth` [N, 11]; the arguments are described in scanner.c."""
    trackers, frames = planes.shape[1:]
    planes, truth, missed = (np.ascontiguousarray(a) for a in (planes, truth, missed))
    histograms = [np.zeros((trackers, len(t) + 1), dtype=np.int64) for t in thresholds]
    overlap = np.empty((trackers, frames))
    repaired, non_finite = np.zeros(trackers, dtype=np.int64), np.zeros(trackers, dtype=np.int64)
    addresses = [(_at * 3)(*(a.ctypes.data for a in arrays)) for arrays in (thresholds, histograms)]
    steps = (_whole * 3)(*(len(t) for t in thresholds))
    library.count_frames(
        trackers,
        frames,
        *(a.ctypes.data for a in (planes, truth, kinds, missed)),
        None if first is None else first.ctypes.data,
        repair,
        corner,
        middle,
        addresses[0],
        steps,
        addresses[1],
        *(a.ctypes.data for a in (overlap, repaired, non_finite)),
    )
    return Counts(histograms[0], histograms[1], histograms[2], overlap, repaired, non_finite)
