"""The interface of all trackers: `start` makes states of first frames, `step` takes them and next frames to outputs.

Lists have one item a sequence; sequences in a call need not be at the same frame number. A state is never changed in
place by a tracker whose `lockstep` is True: the same state may be stepped twice and gives the same output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.answers import Answer
from workflow_scripts.console import BadInput

Image = NDArray[np.uint8]  # H x W x 3, RGB
Box = NDArray[np.float64]  # left, top, width, height in pixels


@dataclass(frozen=True)
class Output:
    """Answer for one frame.

    `confidence` is the tracker's own score, not comparable between trackers. `note` is what happened besides (a question
    and its answer, by the names of the runner's trace), None on most frames.
    """

    box: Box
    confidence: float
    sentence: str
    note: Mapping[str, Any] | None = None


class Tracker(Protocol):
    """Interface of all trackers. `lockstep` False: feed one sequence a call (its states cannot be batched)."""

    lockstep: bool

    def start(self, frames: Sequence[Image], boxes: Sequence[Box], sentences: Sequence[str]) -> list[Any]:
        """First frames [H,W,3], first boxes [4] xywh and sentences to states."""

    def step(self, states: Sequence[Any], frames: Sequence[Image]) -> tuple[list[Any], list[Output]]:
        """The next frame of every sequence."""


class Question(NamedTuple):
    """Is the sentence still right? `reference` and `current` are frames (or target-centred crops of them)."""

    reference: Image
    current: Image
    sentence: str


Asker = Callable[[list[Question]], Sequence[Answer | str]]  # answers in the questions' order; a str is a raw completion
Describer = Callable[[list[Image], list[str]], Sequence[str]]  # current frames and sentences -> sentences


def check_start(frames: Sequence[Image], boxes: Sequence[Box], sentences: Sequence[str]) -> list[Box]:
    """First boxes as float64 arrays; BadInput for frames that are not RGB uint8 and for boxes that show nothing."""
    checked = []
    for frame, box, _ in zip(frames, boxes, sentences, strict=True):
        check_frame(frame)
        b = np.asarray(box, dtype=np.float64)
        height, width = frame.shape[:2]
        if b.shape != (4,) or not np.isfinite(b).all() or min(b[2:]) <= 0:
            raise BadInput(f"The first box {b.tolist()} must be left, top, width, height with positive width and height.")
        if b[0] >= width or b[1] >= height or b[0] + b[2] <= 0 or b[1] + b[3] <= 0:
            raise BadInput(f"The first box {b.tolist()} lies outside the {width}x{height} frame: correct the annotation.")
        checked.append(b)
    return checked


def check_frame(frame: Image) -> None:
    """BadInput unless the frame is H x W x 3 uint8 (images.read_rgb makes such frames of any file)."""
    if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        seen = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise BadInput(f"A frame must be uint8 H x W x 3 RGB, not {seen}: read it with workflow_scripts.images.read_rgb.")
