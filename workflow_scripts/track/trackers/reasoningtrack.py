"""ReasoningTrack: DUTrack whose sentence is questioned by a vision-language model when the target has changed.

The paper's rule. After every 10th tracked frame the box is compared with the box at the last question (the first box
before any): if the smaller area is under 0.95 of the larger one, or the top-left corner has moved by more than 1/32 of
the frame's width or height, the model is asked before the next frame is tracked. It sees a reference frame, a current
frame and the *first* sentence. ``yes`` with a usable answer replaces the sentence; everything else brings the first
sentence back.

Two details of the published code are reproduced only with ``reproduce_paper``:
- its current frame is the one *before* the frame about to be tracked: files count from 1 and it used the index as a
  file's number. Ours is the frame about to be tracked.
- its reference is the first frame for ever. Ours is the frame of the last ``yes``, the first one before any.
With ``reproduce_paper`` tags of an answer are also read one by one, a missing one counting as ``no``; ours must be
well formed, or the answer counts as ``no`` and as a fall-back.

The model is any callable that answers a list of questions; the runner keeps those of many sequences in flight. A plain
describer ``(frames, sentences) -> sentences`` will do as well. The model sees whole frames, or target-centred crops
(``view="crop"``) where a small one could not find the target otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from workflow_scripts.answers import Answer, between, parse, well_formed
from workflow_scripts.asking import Question, Reply
from workflow_scripts.console import BadInput
from workflow_scripts.track import crops
from workflow_scripts.track.trackers import dutrack
from workflow_scripts.track.trackers.base import Asker, Box, Describer, Image, Output, ask_all

NO_ANSWER = "tracking the object"  # what the published code reads where the answer is missing


@dataclass(frozen=True)
class Rule:
    """When to ask, and what is shown."""

    every: int = 10  # frames between looks at the gates
    area: float = 0.95  # ask if smaller area / larger area is below
    shift: float = 1 / 32  # ask if the top-left corner moved by more, as a share of the frame's width or height
    reproduce_paper: bool = False
    view: Literal["frame", "crop"] = "frame"
    view_factor: float = 4.0  # side of a crop in target sizes
    view_size: int = 224  # pixels of a crop

    def __post_init__(self) -> None:
        if self.view not in ("frame", "crop"):
            raise BadInput(f"reasoningtrack's view is frame or crop, not {self.view}.")
        if self.every < 1:
            raise BadInput(f"reasoningtrack looks every {self.every} frames: give at least 1.")


@dataclass(frozen=True)
class State:
    """A DUTrack state and what the rule remembers."""

    track: dutrack.State
    first_sentence: str
    reference: Image  # as the model will see it
    reference_frame: int
    questioned_box: Box  # box at the last question, the first box before any
    ask: bool  # before the next frame
    previous: Image | None = None  # the last frame as the model would see it; kept only where the paper's slip needs it


def must_ask(before: Box, now: Box, width: int, height: int, rule: Rule) -> bool:
    """The gates on area and shift between two xywh boxes."""
    areas = sorted((before[2] * before[3], now[2] * now[3]))
    distance = float(np.hypot(*(now[:2] - before[:2])))
    return areas[0] / areas[1] < rule.area or distance > rule.shift * height or distance > rule.shift * width


def read_like_the_paper(text: str) -> tuple[bool, str]:
    """Decision and sentence by the published reading: each tag alone, absent ones being ``no`` and no answer."""
    answer = between(text, "answer")
    return between(text, "d") == "yes", NO_ANSWER if answer is None else answer


class ReasoningTracker:
    """DUTrack and the rule. Give `ask`, or a describer."""

    lockstep = forgets = True

    def __init__(
        self,
        tracker: dutrack.DUTracker,
        ask: Asker | None = None,
        describer: Describer | None = None,
        rule: Rule = Rule(),
    ) -> None:
        if (ask is None) == (describer is None):
            raise ValueError("reasoningtrack needs one of ask and describer")
        self.tracker, self.ask, self.describer, self.rule = tracker, ask, describer, rule

    def start(
        self, frames: Sequence[Image], boxes: Sequence[Box], sentences: Sequence[str], lengths: Sequence[int] | None = None
    ) -> list[State]:
        """First frames, first boxes and the sentences that describe the targets."""
        states = self.tracker.start(frames, boxes, sentences, **({"lengths": lengths} if lengths else {}))
        return [
            State(state, state.sentence, self._view(frame, state.box), 0, state.box, False)
            for state, frame in zip(states, frames, strict=True)
        ]

    def questions(self, states: Sequence[State], frames: Sequence[Image]) -> list[Question | None]:
        """What the rule asks before the next frames are tracked, None where it asks nothing."""
        if self.ask is None:
            return [None] * len(states)
        return [self._question(s, f) if s.ask else None for s, f in zip(states, frames, strict=True)]

    def step(
        self, states: Sequence[State], frames: Sequence[Image], answers: Sequence[Reply | None] | None = None
    ) -> tuple[list[State], list[Output]]:
        """The next frame of every sequence, with the replies to `questions`; without them all are asked in one call."""
        if self.describer is not None:
            read = self._described(states, frames)
        else:
            replies = ask_all(self, states, frames) if answers is None else answers
            read = [None if reply is None else self._read(reply) for reply in replies]
        refined, notes = [], []
        for state, frame, answer in zip(states, frames, read, strict=True):
            state, note = (state, None) if answer is None else self._apply(state, frame, answer)
            refined.append(state)
            notes.append(note)
        tracked, outputs = self.tracker.step([s.track for s in refined], frames)
        new = [self._look(s, t, f) for s, t, f in zip(refined, tracked, frames, strict=True)]
        return new, [replace(output, note=note) for output, note in zip(outputs, notes, strict=True)]

    def _look(self, state: State, track: dutrack.State, frame: Image) -> State:
        """After tracking: does the next frame begin with a question?"""
        height, width = frame.shape[:2]
        ask = track.frame % self.rule.every == 0 and must_ask(state.questioned_box, track.box, width, height, self.rule)
        previous = self._view(frame, track.box) if ask and self.rule.reproduce_paper else None
        return replace(state, track=track, ask=ask, previous=previous)

    def _question(self, state: State, frame: Image) -> Question:
        current = state.previous if self.rule.reproduce_paper else self._view(frame, state.track.box)
        return Question((state.reference, current), {"sentence": state.first_sentence}, well_formed)

    def _described(self, states: Sequence[State], frames: Sequence[Image]) -> list[Answer | None]:
        """The describer's sentences as answers, for the states that ask."""
        asked = [i for i, s in enumerate(states) if s.ask]
        found: list[Answer | None] = [None] * len(states)
        if asked:
            sentences = self.describer([frames[i] for i in asked], [states[i].track.sentence for i in asked])
            for i, sentence in zip(asked, sentences, strict=True):
                found[i] = Answer(sentence, None, "yes", sentence, True)
        return found

    @staticmethod
    def _read(reply: Reply) -> Answer:
        return parse(reply.text) if reply.usable else Answer(reply.text, None, None, None, False)

    def _apply(self, state: State, image: Image, answer: Answer) -> tuple[State, dict[str, Any]]:
        """`state` with the sentence that an answer about its next frame, `image`, gives, and a note of it."""
        frame = state.track.frame + 1
        if self.rule.reproduce_paper and self.ask is not None:
            yes, sentence = read_like_the_paper(answer.text)
        else:
            yes, sentence = answer.decision == "yes", answer.sentence or NO_ANSWER
        changed = yes and sentence != NO_ANSWER
        sentence = sentence if changed else state.first_sentence
        note = {
            "frame": frame,
            "reference": state.reference_frame,
            "current": frame - 1 if self.rule.reproduce_paper else frame,
            "asked": state.first_sentence,
            "decision": "yes" if yes else "no",
            "sentence": sentence,
            "think": answer.think,
            "text": answer.text,
            "fall_back": not answer.well_formed,
        }
        new = replace(
            state, track=replace(state.track, sentence=sentence), questioned_box=state.track.box, ask=False, previous=None
        )
        if changed and not self.rule.reproduce_paper:
            new = replace(new, reference=self._view(image, state.track.box), reference_frame=frame)
        return new, note

    def _view(self, frame: Image, box: Box) -> Image:
        if self.rule.view == "frame":
            return frame
        return crops.crop(frame, box, self.rule.view_factor, self.rule.view_size)[0]
