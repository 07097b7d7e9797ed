"""Trackers that need no training, on the same interface as the networks: static, KCF, CSRT and MOSSE.

They set the scale of a table: `static` repeats the first box for ever, the others are OpenCV's. Nothing here imports torch.
An OpenCV tracker changes in place, so a step cannot be repeated: `lockstep` is False and the runner feeds one sequence a call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from workflow_scripts.console import BadInput
from workflow_scripts.images import Image
from workflow_scripts.track.trackers.base import Output, check_start

OPENCV: dict[str, Callable[[], Any]] = {
    "kcf": lambda: cv2.TrackerKCF_create(),
    "csrt": lambda: cv2.TrackerCSRT_create(),
    "mosse": lambda: cv2.legacy.TrackerMOSSE_create(),
}
NAMES = ("static", *OPENCV)


@dataclass
class State:
    """The last box [4] xywh pixels, the sentence (carried, never read), and OpenCV's own object."""

    box: NDArray[np.float64]
    sentence: str
    engine: Any = None


@dataclass(frozen=True)
class Classic:
    """A tracker of `NAMES`. `confidence` is 1 where OpenCV says that it found the target and 0 where it does not."""

    name: str
    lockstep: bool = False

    def start(self, frames: Sequence[Image], boxes: Sequence[NDArray[np.float64]], sentences: Sequence[str]) -> list[State]:
        """First frames [H, W, 3] RGB, boxes [4] xywh and sentences, one a sequence, to states."""
        states = []
        for frame, box, sentence in zip(frames, check_start(frames, boxes, sentences), sentences, strict=True):
            engine = OPENCV[self.name]() if self.name in OPENCV else None
            if engine is not None:
                engine.init(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), whole_pixels(box, frame))
            states.append(State(box, sentence, engine))
        return states

    def step(self, states: Sequence[State], frames: Sequence[Image]) -> tuple[list[State], list[Output]]:
        """The next frame of every sequence. A lost target keeps its last box."""
        new, outputs = [], []
        for state, frame in zip(states, frames, strict=True):
            box, found = state.box, True
            if state.engine is not None:
                found, answer = state.engine.update(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
                box = np.asarray(answer, dtype=np.float64) if found else box
            new.append(State(box, state.sentence, state.engine))
            outputs.append(Output(box=box, confidence=float(found), sentence=state.sentence))
        return new, outputs


def whole_pixels(box: NDArray[np.float64], frame: Image) -> tuple[int, int, int, int]:
    """`box` rounded and cut to the frame: OpenCV aborts the process on a box that leaves it."""
    height, width = frame.shape[:2]
    x1, y1 = (round(float(v)) for v in box[:2])
    x2, y2 = (round(float(v)) for v in box[:2] + box[2:])
    x1, y1 = min(max(x1, 0), width - 2), min(max(y1, 0), height - 2)
    return x1, y1, max(2, min(x2, width) - x1), max(2, min(y2, height) - y1)


def load(name: str) -> Classic:
    """The classic tracker called `name`; BadInput if there is none."""
    if name not in NAMES:
        raise BadInput(f"{name} is not a classic tracker: name one of {', '.join(NAMES)}.")
    cv2.setNumThreads(1)  # the same boxes and the same speed whatever else the machine does
    return Classic(name)
