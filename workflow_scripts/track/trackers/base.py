"""The interface of all trackers: `start` makes states of first frames, `step` takes them and next frames to outputs.

Lists have one item a sequence; sequences in a call need not be at the same frame number. A state is never changed in
place by a tracker whose `lockstep` is True: the same state may be stepped twice and gives the same output.

A tracker that asks a vision-language model says what it would ask (`questions`) apart from its step, so that a sequence
whose answer is on its way does not hold up the others. Called without answers, a step asks by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.asking import Question, Reply
from workflow_scripts.console import BadInput
from workflow_scripts.images import Image

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
    """Interface of all trackers. `lockstep` False: feed one sequence a call (its states cannot be batched).

    One that also has `forgets` True takes the sequences' `lengths` at the start, and drops what no later frame needs.
    """

    lockstep: bool

    def start(self, frames: Sequence[Image], boxes: Sequence[Box], sentences: Sequence[str]) -> list[Any]:
        """First frames [H,W,3], first boxes [4] xywh and sentences to states."""

    def step(self, states: Sequence[Any], frames: Sequence[Image]) -> tuple[list[Any], list[Output]]:
        """The next frame of every sequence."""


Asker = Callable[[Sequence[Question]], Sequence[Reply | str]]  # in order, from any thread; a str is a text not yet judged
Describer = Callable[[list[Image], list[str]], Sequence[str]]  # current frames, sentences (given or in force) -> sentences


class Asking(Tracker, Protocol):
    """A tracker that may have to know an answer before it tracks a frame. `start` asks by itself, if it has to."""

    ask: Asker | None

    def questions(self, states: Sequence[Any], frames: Sequence[Image]) -> list[Question | None]:
        """What each sequence must know before its next frame is tracked, None for nothing. Changes no state."""

    def step(
        self, states: Sequence[Any], frames: Sequence[Image], answers: Sequence[Reply | None] | None = None
    ) -> tuple[list[Any], list[Output]]:
        """The next frame of every sequence, with the replies to `questions`; without `answers` they are asked for here."""


@dataclass(frozen=True)
class ModelDescriber:
    """A describer that asks a model, one question a sequence; a tracker may put them in flight instead of calling it."""

    ask: Asker
    question: Callable[[Image, str], Question]  # current frame, sentence (of a DUTrack the one it was given)
    read: Callable[[Reply, str], str]  # reply and the sentence so far -> sentence

    def __call__(self, frames: Sequence[Image], sentences: Sequence[str]) -> list[str]:
        asked = [self.question(f, s) for f, s in zip(frames, sentences, strict=True)]
        return [self.read(r, s) for r, s in zip(ask_for(self.ask, asked), sentences, strict=True)]


def ask_for(ask: Asker, questions: Sequence[Question]) -> list[Reply]:
    """Replies in the questions' order, texts judged by their question; nobody is asked where there are none."""
    answers = ask(questions) if questions else []
    return [a if isinstance(a, Reply) else Reply(a, q.usable(a)) for q, a in zip(questions, answers, strict=True)]


def ask_all(tracker: Asking, states: Sequence[Any], frames: Sequence[Image]) -> list[Reply | None]:
    """Replies to what a batch has to ask, all asked in one call; None for a sequence that asks nothing."""
    questions = tracker.questions(states, frames)
    replies = iter(ask_for(tracker.ask, [q for q in questions if q is not None]))
    return [None if q is None else next(replies) for q in questions]


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
