"""Ground truth for scoring, from the toolkits' layout or from the study's index, and the check of its absence flags."""

from __future__ import annotations

from collections.abc import Sequence as Series
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workflow_scripts import sequences
from workflow_scripts.console import BadInput
from workflow_scripts.score import results
from workflow_scripts.score.protocols import Protocol
from workflow_scripts.score.results import Flags, Floats

TOGETHER = 100  # ground truths read at once
POLARITIES = {"1-is-absent": 1, "1-is-present": 0, "none": None}


@dataclass(frozen=True)
class Annotation:
    """What scoring needs to know of one sequence."""

    name: str
    truth: Floats  # [4, N], planes x, y, w, h
    absent: Flags  # [N]
    attributes: tuple[str, ...] = ()


def absent_frames(flags: Floats, value: int, frames: int, path: Path) -> Flags:
    """[N] absence from a flag file: only `value` means absent. A short file's tail is present; a long one may not mark more."""
    absent = np.zeros(frames, dtype=bool)
    absent[: len(flags)] = flags[:frames] == value
    if (flags[frames:] == value).any():
        line = frames + 1 + int(np.argmax(flags[frames:] == value))
        raise BadInput(f"{path}, line {line}: marks a frame beyond the {frames} boxes of its sequence; correct one of them.")
    return absent


def from_toolkit(
    folder: str | Path, protocol: Protocol, polarity: str | None = None, names: Series[str] | None = None
) -> list[Annotation]:
    """Annotations in the toolkits' layout: <seq>.txt, absent/<seq>.txt, att/<seq>.txt in `folder` or its annos/ or gt_rect/.

    `polarity` says what 1 means in the absence files where that differs from the protocol's own; "none" ignores them.
    """
    root = Path(folder)
    boxes = next((d for d in (root / "annos", root / "gt_rect", root) if any(d.glob("*.txt"))), None)
    if boxes is None:
        raise BadInput(f"{root} holds no <sequence>.txt, nor do its annos/ or gt_rect/: name the toolkit's annotations.")
    value = protocol.absent_value if polarity is None else POLARITIES[polarity]
    if protocol.rules.absent_frames != "miss":
        value = None
    absent_folder = _beside(boxes, "absent")
    if value is not None and absent_folder is None:
        raise BadInput(f"{boxes} has no absent/ folder: restore it, or use --absent-polarity none to score every frame.")
    if names is None:
        names = sorted(p.stem for p in boxes.glob("*.txt") if not p.stem.endswith("_attribute"))
    flags = absent_folder if value is not None else None
    attributes = _beside(boxes, "att")
    found = []
    for start in range(0, len(names), TOGETHER):
        paths = [boxes / f"{name}.txt" for name in names[start : start + TOGETHER]]
        for path, file in zip(paths, results.read_all_boxes(paths), strict=True):
            truth = np.ascontiguousarray(file.boxes.T)
            found.append(_complete(path, truth, flags, value, attributes, protocol.attributes))
    return found


def _complete(
    path: Path, truth: Floats, flags: Path | None, value: int | None, attributes: Path | None, known: tuple[str, ...]
) -> Annotation:
    """Add to ground truth [4, N], read at `path`, what the flag files say."""
    frames = truth.shape[1]
    if not frames:
        raise BadInput(f"{path} holds no box: restore it from the benchmark's annotations, or leave the sequence out.")
    absent = np.zeros(frames, dtype=bool)
    if flags is not None and value is not None:
        marks = flags / path.name
        absent = absent_frames(results.read_flags(marks), value, frames, marks)
    of_sequence = attributes / path.name if attributes else path.with_name(f"{path.stem}_attribute.txt")
    found: tuple[str, ...] = ()
    if of_sequence.is_file():
        given = results.read_flags(of_sequence)
        names = (*known, *(f"attribute {i + 1}" for i in range(len(known), len(given))))
        found = tuple(n for n, flag in zip(names, given, strict=False) if flag > 0)
    return Annotation(path.stem, truth, absent, found)


def _beside(boxes: Path, name: str) -> Path | None:
    return next((d for d in (boxes / name, boxes.parent / name) if d.is_dir()), None)


def from_index(
    path: str | Path, protocol: Protocol, split: str | None = None, names: Series[str] | None = None
) -> list[Annotation]:
    """Annotations out of the study's index. BadInput where only the first frame's box is public."""
    found = []
    for s in sequences.read_index(path, split=split, names=names):
        if s.first_frame_only:
            raise BadInput(f"{path}: of {s.name} only the first box is public; its scores come from the benchmark's server.")
        absent = ~s.present if protocol.rules.absent_frames == "miss" else np.zeros(len(s.boxes), dtype=bool)
        found.append(Annotation(s.name, np.ascontiguousarray(s.boxes.T), absent, s.attributes))
    if not found:
        raise BadInput(f"{path} has no sequence of split {split!r}: choose another --split.")
    return found


def check_polarity(annotations: Series[Annotation], source: str | Path) -> None:
    """Refuse flags that say the wrong thing: a benchmark's targets are there in most first frames and in most frames.

    The toolkits take inverted flags without a word and print nonsense. Single sequences may be odd; a majority may not.
    """
    missing_first = sum(bool(a.absent[0]) for a in annotations if a.absent.size)
    absent = sum(int(a.absent.sum()) for a in annotations)
    frames = sum(a.absent.size for a in annotations)
    if 2 * missing_first > len(annotations) or 2 * absent > frames:
        raise BadInput(
            f"{source}: the target would be absent in {missing_first} of {len(annotations)} first frames and in "
            f"{absent} of {frames} frames; the flags mean the opposite: set --absent-polarity."
        )
