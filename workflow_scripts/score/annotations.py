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
    return [_read(name, boxes, absent_folder, value, protocol) for name in names]


def _read(name: str, boxes: Path, absent_folder: Path | None, value: int | None, protocol: Protocol) -> Annotation:
    truth = np.ascontiguousarray(results.read_boxes(boxes / f"{name}.txt").boxes.T)
    absent = np.zeros(truth.shape[1], dtype=bool)
    if value is not None and absent_folder is not None:
        path = absent_folder / f"{name}.txt"
        absent = absent_frames(results.read_flags(path), value, truth.shape[1], path)
    folder = _beside(boxes, "att")
    found = [p for p in ((folder or boxes) / f"{name}.txt", boxes / f"{name}_attribute.txt") if p.is_file()]
    attributes: tuple[str, ...] = ()
    if (found and found[0].parent != boxes) or (found and found[0].stem.endswith("_attribute")):
        flags = results.read_flags(found[0])
        known = (*protocol.attributes, *(f"attribute {i + 1}" for i in range(len(protocol.attributes), len(flags))))
        attributes = tuple(a for a, flag in zip(known, flags, strict=False) if flag > 0)
    return Annotation(name, truth, absent, attributes)


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
