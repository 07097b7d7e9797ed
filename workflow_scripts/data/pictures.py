"""What only the images tell: unreadable frames, boxes beyond them, and equal frames, within a sequence or between splits.

Every opened frame is decoded, to see that it is whole, and hashed; beside decoding a hash costs next to nothing, so that no
frame is left out because no other has its size. Hashes are kept as numbers of eight bytes, and frames whose hashes agree are
compared byte by byte before anything is said of them.
"""

from __future__ import annotations

import filecmp
import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workflow_scripts import console, images
from workflow_scripts.console import BadInput
from workflow_scripts.data.faults import Problem
from workflow_scripts.sequences import Sequence

WORKERS = 2


@dataclass
class Seen:
    """The frames that were opened."""

    owners: list[tuple[str, Sequence]] = field(default_factory=list)  # benchmark and sequence
    hashes: list[NDArray[np.uint64]] = field(default_factory=list)  # one array an owner
    indices: list[NDArray[np.int64]] = field(default_factory=list)  # the frames that they are of


def open_frame(frame: Path) -> tuple[int, tuple[int, int] | None, str]:
    """Hash of a frame's bytes, its (height, width), and what is wrong with it."""
    try:
        height, width = images.read_rgb(frame).shape[:2]
        data = frame.read_bytes()
    except BadInput as error:
        return 0, None, str(error)
    except OSError as error:
        return 0, None, f"{frame} cannot be opened ({error.strerror}): restore the dataset again."
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little"), (height, width), ""


def chosen_frames(s: Sequence, which: str) -> list[int]:
    """Indices of the frames to open: none, the ends, or all."""
    if which == "none" or not s.frames:
        return []
    return list(range(len(s.frames))) if which == "all" else sorted({0, len(s.frames) - 1})


def look(found: list[Sequence], which: str, benchmark: str, seen: Seen) -> list[Problem]:
    """Open frames, remember their hashes in `seen`, and tell what is wrong with them and with the boxes in them."""
    problems: list[Problem] = []
    if which == "none":
        return problems
    with ThreadPoolExecutor(WORKERS) as pool:
        for s in console.progress(found, f"{benchmark}: sequences opened", len(found)):
            chosen = chosen_frames(s, which)
            opened = list(pool.map(open_frame, [s.frames[i] for i in chosen]))
            whole = [at for at, (_, size, _) in enumerate(opened) if size is not None]
            problems += [Problem(s.name, "error", "unreadable frame", wrong) for _, size, wrong in opened if size is None]
            if whole:
                indices = np.array([chosen[at] for at in whole])
                problems += outside(s, indices, np.array([opened[at][1] for at in whole]))
                seen.owners.append((benchmark, s))
                seen.hashes.append(np.array([opened[at][0] for at in whole], dtype=np.uint64))
                seen.indices.append(indices)
    return problems


def outside(s: Sequence, indices: NDArray[np.int64], sizes: NDArray[np.int64]) -> Iterator[Problem]:
    """Boxes wholly beyond their image; frames `indices` [K] have `sizes` [K, 2] (height, width), others the first of these."""
    shapes = np.broadcast_to(sizes[0], (max(len(s.boxes), len(s.frames)), 2)).copy()
    shapes[indices] = sizes
    if (sizes != sizes[0]).any():
        odd = int((sizes != sizes[0]).any(axis=1).argmax())
        (h, w), (h1, w1) = sizes[odd], sizes[0]
        yield Problem(s.name, "warning", "image size", f"frame {indices[odd] + 1} is {w}x{h}, frame {indices[0] + 1} {w1}x{h1}")
    x, y, width, height = np.nan_to_num(s.boxes).T
    rows, columns = shapes[: len(s.boxes)].T
    beyond = s.present & ((x >= columns) | (y >= rows) | (x + width < 0) | (y + height < 0))
    if beyond.any():
        at = int(beyond.argmax())
        text = f"{beyond.sum()} boxes, the first of frame {at + 1}: {s.boxes[at].tolist()} in {columns[at]}x{rows[at]}"
        yield Problem(s.name, "error", "box outside", text)


def equal_frames(seen: Seen, own: str) -> Iterator[Problem]:
    """Equal frames that concern benchmark `own`, whose sequences come last: one finding for each pair of sequences.

    One file that two sequences share (UAV123's spans meet in a frame) is no finding.
    """
    if not seen.owners:
        return
    hashes, indices = np.concatenate(seen.hashes), np.concatenate(seen.indices)
    owners = np.repeat(np.arange(len(seen.owners)), [len(h) for h in seen.hashes])
    order = np.argsort(hashes, kind="stable")
    starts = np.flatnonzero(np.diff(hashes[order], prepend=~hashes[order[:1]]))
    counts = np.diff(starts, append=len(order))
    pairs: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for start, count in zip(starts[counts > 1], counts[counts > 1], strict=True):
        group = order[start : start + count].tolist()
        for first, second in _twins(group, [seen.owners[owners[at]][1].split for at in group]):
            pairs.setdefault((int(owners[first]), int(owners[second])), []).append((int(indices[first]), int(indices[second])))
    for (a, b), frames in sorted(pairs.items()):
        (benchmark, one), (theirs, other) = seen.owners[a], seen.owners[b]
        if theirs != own:
            continue
        frames = [(i, j) for i, j in frames if _equal(one.frames[i], other.frames[j])]
        if not frames:
            continue
        i, j = frames[0]
        if a == b:
            text = f"{len(frames)} frames repeat an earlier one, the first: frame {j + 1} is frame {i + 1}"
            yield Problem(one.name, "warning", "duplicate frame", text)
        else:
            where = f"{one.name} in the {one.split} split" + (f" of {benchmark}" if benchmark != own else "")
            text = f"{len(frames)} frames are also in {where}, the first: its frame {j + 1} is frame {i + 1} there"
            leak = other.split != one.split
            yield Problem(other.name, "error" if leak else "warning", "leakage" if leak else "shared frame", text)


def _twins(group: list[int], splits: list[str]) -> Iterator[tuple[int, int]]:
    """Each of some equal frames after the first, with the first one of another split, or else with the one before it."""
    firsts: dict[str, int] = {}
    for at, (frame, split) in enumerate(zip(group, splits, strict=True)):
        other = next((first for known, first in firsts.items() if known != split), None)
        if at:
            yield (group[at - 1] if other is None else other), frame
        firsts.setdefault(split, frame)


def _equal(one: Path, other: Path) -> bool:
    return one != other and filecmp.cmp(one, other, shallow=False)
