"""R1-Track: a vision-language model is shown a template and a search crop, and answers with the target's box.

The template is a crop around the first box, for ever; its box goes into the prompt, in pixels of the crop. Each later frame
is cropped around the last box, and the answer is a box in pixels of that crop: every frame is a question. A sequence may
also start from its sentence alone: the model is asked for the box of what it says, in the whole first frame.

What the published code does wrong is repeated only with ``reproduce_paper``:
- an answer that is no box brings the last one back in pixels of *its* crop, laid on a crop that has moved and been rescaled
  since, so that failures shrink and move the box. Ours keeps the last box in the image.
- a crop's side follows from the area alone, and a long target leaves its crop. Ours is at least `margin` longer sides.
- the prompt's numbers are cut to integers, and may lie outside the crop. Ours are rounded, and cut to the crop.
- a box over the left or top border is moved in and so grows to the right or down. Ours is cut at the border, and a box that
  lies outside the image altogether is no answer.
- the words <image> <image> stand in the text beside the pictures. Ours has the pictures there, as in training.
- any JSON of length four is a box, and four strings lose the video. Ours are four numbers, corners in order.
Its start from a sentence could never work; ours is the same with and without the flag.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from workflow_scripts import cropping, images, prompts
from workflow_scripts.answers import parse_box, parse_located
from workflow_scripts.asking import Question, Reply
from workflow_scripts.boxes import clip_to_image, xywh_to_xyxy, xyxy_to_xywh
from workflow_scripts.console import BadInput
from workflow_scripts.track.trackers.base import Asker, Box, Image, Output, ask_all, ask_for, check_frame, check_start

PROMPTS = ("new", "old", "think", "old-think")
LONGEST_SENTENCE = 1000  # characters that a model is asked to find
THINK = re.compile(r"\s*<think>(.*?)</think>", re.DOTALL)
Corners = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Rule:
    """What the model is shown, and how its answers are read."""

    factor: float = 4.0  # side of a crop in sizes of the box (root of its area); trained with 2 to 8
    margin: float = 2.0  # and at least this many longer sides of the box
    size: int = 336  # pixels of a crop: those that the prompt and the answers count in
    prompt: Literal["new", "old", "think", "old-think"] = "new"
    start: Literal["box", "sentence"] = "box"
    min_pixels: int = 3136  # limits of a picture's area at the model: crops must pass unresized
    max_pixels: int = 313600
    reproduce_paper: bool = False

    def __post_init__(self) -> None:
        if self.prompt not in PROMPTS:
            raise BadInput(f"r1track has no prompt {self.prompt}: name one of {', '.join(PROMPTS)}.")
        if self.start not in ("box", "sentence"):
            raise BadInput(f"r1track starts from a box or from a sentence, not from a {self.start}.")
        fitted = images.fit_size(self.size, self.size, self.min_pixels, self.max_pixels)
        if fitted != (self.size, self.size):
            raise BadInput(
                f"crops of {self.size} pixels would reach r1track's model as {fitted[1]}x{fitted[0]}, and its answers count "
                f"pixels: give a size that is a multiple of 28 and within the limits of serve.pixels."
            )

    @property
    def prompt_name(self) -> str:
        """Name in prompts.PROMPTS."""
        return prompts.of_r1track(self.prompt, self.reproduce_paper)


@dataclass(frozen=True)
class Window:
    """The part of an image that a crop shows: a square, in image pixels, and the crop's pixels per image pixel."""

    factor: float
    left: int
    top: int
    side: int
    scale: float

    def into(self, box: Box) -> Corners:
        """A box xywh of the image as corners in crop pixels, not clipped."""
        x, y = (float(box[0]) - self.left) * self.scale, (float(box[1]) - self.top) * self.scale
        return x, y, x + float(box[2]) * self.scale, y + float(box[3]) * self.scale

    def back(self, corners: Corners) -> Box:
        """Corners in crop pixels as a box xywh of the image, not clipped."""
        offsets = (self.left, self.top, self.left, self.top)
        return xyxy_to_xywh([v / self.scale + offset for v, offset in zip(corners, offsets, strict=True)])


@dataclass(frozen=True)
class State:
    """Everything that a sequence's next frame depends on."""

    frame: int  # index of the last frame seen; the first is 0
    box: Box
    sentence: str  # carried; read only where a sequence starts from it
    template: Image  # [size,size,3] crop of the first frame
    shown: str  # the template's box as the prompt says it
    answered: Corners  # the last box in pixels of its own crop: what the published code falls back to


def window_of(box: Box, rule: Rule) -> Window:
    """The square that is cropped around a box."""
    factor, (w, h) = rule.factor, (float(v) for v in box[2:])
    if not rule.reproduce_paper and w > 0 and h > 0:
        factor = max(factor, rule.margin * max(w, h) / math.sqrt(w * h))
    left, top, side = cropping.square(box, factor)
    return Window(factor, left, top, side, rule.size / side)


def written(corners: Corners, rule: Rule) -> str:
    """The template's box as the prompt says it."""
    number = int if rule.reproduce_paper else lambda v: round(min(max(v, 0.0), rule.size))
    return f"[{','.join(str(number(v)) for v in corners)}]"


def read(text: str, window: Window, width: int, height: int, size: int) -> Box | None:
    """The answer as a box xywh within the image; None if it is no box, or one that lies outside of crop or image."""
    said = parse_box(text)
    corners = None if said is None else cut(said, size)
    if corners is None:
        return None
    x1, y1, x2, y2 = xywh_to_xyxy(window.back(corners))
    if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
        return None
    return clip_to_image([x1, y1, x2 - x1, y2 - y1], width, height, margin=1.0)


def cut(corners: Sequence[Any], size: int) -> Corners | None:
    """Corners cut to the crop; None if nothing is left."""
    x1, y1, x2, y2 = (max(0, min(corners[i], size)) for i in range(4))
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def read_like_the_paper(text: str, think: bool) -> Any:
    """The published reading: any JSON of length four (of what the <answer> tags hold, with `think`), or None."""
    try:
        if think:
            form = re.fullmatch(r"<think>.*</think>.*<answer>(.*?)</answer>", text, re.DOTALL)
            text = form.group(1) if form else ""
        value = json.loads(text)
        return value if len(value) == 4 else None
    except (ValueError, TypeError, RecursionError):
        return None


def border_like_the_paper(box: Box, width: int, height: int) -> Box:
    """The published cut at the border: a corner is moved in without its opposite, so that the box grows."""
    x, y = max(0.0, box[0]), max(0.0, box[1])
    return np.array([x, y, max(1.0, min(box[2], width - x)), max(1.0, min(box[3], height - y))])


class R1Tracker:
    """Tracker that asks `ask` about every frame. Confidence is 1 where it was answered and 0 where the box was kept."""

    lockstep = True

    def __init__(self, ask: Asker, rule: Rule = Rule()) -> None:
        self.ask, self.rule = ask, rule

    def start(self, frames: Sequence[Image], boxes: Sequence[Box | None], sentences: Sequence[str]) -> list[State]:
        """First frames uint8 [H,W,3], first boxes [4] xywh, sentences to states.

        A box that is None, and every box where the rule starts from the sentence, is asked for. BadInput where the model
        finds none.
        """
        boxes = list(boxes)
        for frame in frames:
            check_frame(frame)
        asked = [i for i, box in enumerate(boxes) if box is None or self.rule.start == "sentence"]
        for i, box in zip(asked, self.locate([frames[i] for i in asked], [sentences[i] for i in asked]), strict=True):
            boxes[i] = box
        checked = check_start(frames, boxes, sentences)
        return [self._first(f, b, s) for f, b, s in zip(frames, checked, sentences, strict=True)]

    def locate(self, frames: Sequence[Image], sentences: Sequence[str]) -> list[Box]:
        """Boxes xywh of what the sentences say, each in its frame. The model counts pixels of the picture that it is sent."""
        shown = []
        for frame, sentence in zip(frames, sentences, strict=True):
            if not sentence.strip() or len(sentence) > LONGEST_SENTENCE:
                raise BadInput(
                    f"r1track can start from a sentence of 1 to {LONGEST_SENTENCE} characters, not of "
                    f"{len(sentence.strip())}: shorten it, or give a first box."
                )
            shown.append(images.fit_pixels(frame, self.rule.min_pixels, self.rule.max_pixels))
        questions = [
            Question((picture,), {"sentence": s}, lambda text: parse_located(text) is not None, "r1track-start")
            for picture, s in zip(shown, sentences, strict=True)
        ]
        found = []
        for frame, picture, question, reply in zip(frames, shown, questions, ask_for(self.ask, questions), strict=True):
            corners = parse_located(reply.text) if reply.usable else None
            (height, width), (seen_height, seen_width) = frame.shape[:2], picture.shape[:2]
            box = xyxy_to_xywh(np.array(corners or (0,) * 4) * np.tile([width / seen_width, height / seen_height], 2))
            if corners is None or box[0] >= width or box[1] >= height or (box[:2] + box[2:] <= 0).any():
                raise BadInput(
                    f"the model found no {question.fields['sentence']!r} in the first frame (it answered "
                    f"{reply.text[:200]!r}): give a first box, or another sentence."
                )
            found.append(clip_to_image(box, width, height, margin=1.0))
        return found

    def questions(self, states: Sequence[State], frames: Sequence[Image]) -> list[Question | None]:
        """One question a sequence: where is the template's target in the crop around the last box?"""
        return [self._question(s, f) for s, f in zip(states, frames, strict=True)]

    def step(
        self, states: Sequence[State], frames: Sequence[Image], answers: Sequence[Reply | None] | None = None
    ) -> tuple[list[State], list[Output]]:
        """The next frame of every sequence, with the replies to `questions`; without them all are asked in one call."""
        replies = ask_all(self, states, frames) if answers is None else answers
        stepped = [self._follow(s, f, r) for s, f, r in zip(states, frames, replies, strict=True)]
        return [state for state, _ in stepped], [output for _, output in stepped]

    def _first(self, frame: Image, box: Box, sentence: str) -> State:
        window = window_of(box, self.rule)
        template = cropping.crop(frame, box, window.factor, self.rule.size)[0]
        corners = window.into(box)
        return State(0, box, sentence, template, written(corners, self.rule), corners)

    def _question(self, state: State, frame: Image) -> Question:
        check_frame(frame)
        window = window_of(state.box, self.rule)
        crop = cropping.crop(frame, state.box, window.factor, self.rule.size)[0]
        (height, width), rule = frame.shape[:2], self.rule

        def usable(text: str) -> bool:
            if rule.reproduce_paper:
                return read_like_the_paper(text, "think" in rule.prompt) is not None
            return read(text, window, width, height, rule.size) is not None

        return Question((state.template, crop), {"box": state.shown}, usable, rule.prompt_name)

    def _follow(self, state: State, frame: Image, reply: Reply) -> tuple[State, Output]:
        window, (height, width) = window_of(state.box, self.rule), frame.shape[:2]
        answered = state.answered
        if self.rule.reproduce_paper:
            said = read_like_the_paper(reply.text, "think" in self.rule.prompt)
            found = cut(state.answered if said is None else said, self.rule.size)
            kept = said is None or found is None
            answered = state.answered if found is None else found
            box = border_like_the_paper(window.back(answered), width, height)
        else:
            box = read(reply.text, window, width, height, self.rule.size) if reply.usable else None
            kept = box is None
            box = state.box if box is None else box
        think = THINK.match(reply.text)
        note = {"asked": state.shown, "text": reply.text, "think": think and think.group(1).strip(), "fall_back": kept}
        new = replace(state, frame=state.frame + 1, box=box, answered=answered)
        return new, Output(box=box, confidence=float(not kept), sentence=state.sentence, note=note)
