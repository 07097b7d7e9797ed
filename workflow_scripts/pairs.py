"""Rendered pairs of frames with a sentence each: the mini study's task for a vision-language model that must look.

A frame shows one target; a sentence names its colour, texture, shape and the half of the frame it is in. In half of the
pairs something of it changes between the two frames (never the shape: that is what stays the target), and the model says
what it sees, whether the old sentence still holds, and the sentence that does. Copying the input is right in about half of
the pairs only. Two choices make the task learnable in minutes by a model of 0.6 million parameters, and cost nothing in
honesty: the background brightens from left to right (the vision tower has no absolute position, so "left" must be visible),
and the thought names every attribute before the decision, which is then a mere "or" over words already written.

SFT rows, RL rows and their scores are all made here, so that they cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workflow_scripts import answers

COLOURS = {"red": (215, 40, 40), "green": (40, 170, 60), "blue": (50, 70, 220), "yellow": (225, 205, 50)}
TEXTURES = ("plain", "striped")
SHAPES = ("circle", "square", "triangle")
PLACES = ("left", "right")
CHANGEABLE = {"colour": tuple(COLOURS), "texture": TEXTURES, "place": PLACES}
SIZE = 56  # side of a frame in pixels: 16 patches of 14, four image tokens


@dataclass(frozen=True)
class Target:
    """What a sentence says of the target."""

    colour: str
    texture: str
    shape: str
    place: str

    @property
    def sentence(self) -> str:
        """The target in words: ``the red striped circle on the left``."""
        return f"the {self.colour} {self.texture} {self.shape} on the {self.place}"


@dataclass(frozen=True)
class Pair:
    """Two frames and what is in them. frames: two uint8 [SIZE, SIZE, 3]; boxes: float64 [2, 4], xywh pixels."""

    before: Target
    after: Target
    frames: tuple[np.ndarray, np.ndarray]
    boxes: np.ndarray

    @property
    def decision(self) -> str:
        """``yes`` when the sentence of the first frame no longer holds in the second."""
        return "yes" if self.before != self.after else "no"


@dataclass(frozen=True)
class Score:
    """One answer's marks, each in 0..1: format, decision, share of the four attribute words, all four words."""

    format: float
    decision: float
    words: float
    sentence: float


def sample(generator: np.random.Generator, size: int = SIZE) -> Pair:
    """Draw one pair: with probability 1/2 one of colour, texture and place changes, each further one with 1/4."""
    before = Target(*(str(generator.choice(list(words))) for words in (COLOURS, TEXTURES, SHAPES, PLACES)))
    values = vars(before).copy()
    if generator.random() < 0.5:
        first = str(generator.choice(list(CHANGEABLE)))
        for name, words in CHANGEABLE.items():
            if name == first or generator.random() < 0.25:
                values[name] = str(generator.choice([word for word in words if word != values[name]]))
    after = Target(**values)
    (frame1, box1), (frame2, box2) = render(generator, before, size), render(generator, after, size)
    return Pair(before, after, (frame1, frame2), np.stack([box1, box2]))


def samples(seed: int, count: int, size: int = SIZE) -> list[Pair]:
    """`count` pairs; the same seed gives the same pairs."""
    generator = np.random.default_rng(seed)
    return [sample(generator, size) for _ in range(count)]


def render(generator: np.random.Generator, target: Target, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """One frame, uint8 [size, size, 3], and the target's box, float64 [4] xywh. Size, place and background vary."""
    radius = generator.uniform(0.16, 0.23) * size
    x = (0.26 if target.place == "left" else 0.74) * size + generator.uniform(-0.04, 0.04) * size
    y = 0.5 * size + generator.uniform(-0.2, 0.2) * size
    row, column = np.mgrid[:size, :size] + 0.5  # pixel centres
    base = int(generator.integers(150, 181))
    frame = np.repeat((base - 60 + 110 * column // size).astype(np.uint8)[..., None], 3, axis=2)
    dx, dy = column - x, row - y
    if target.shape == "circle":
        inside, half, top = dx**2 + dy**2 <= radius**2, radius, radius
    elif target.shape == "square":
        half = top = 0.9 * radius
        inside = (abs(dx) <= half) & (abs(dy) <= half)
    else:  # tip up, as high as wide
        inside, half, top = (abs(dx) <= (dy + radius) / 2) & (dy <= radius), radius, radius
    frame[inside] = COLOURS[target.colour]
    if target.texture == "striped":
        frame[inside & (row.astype(int) % 6 < 3)] = (20, 20, 20)
    return frame, np.array([x - half, y - top, 2 * half, 2 * top])


def thought(before: Target, after: Target) -> str:
    """What is seen, attribute by attribute, each with ``same`` or ``new``."""
    seen = [("color", "colour"), ("texture", "texture"), ("place", "place")]
    return ", ".join(
        f"{word} {getattr(after, name)} {'same' if getattr(before, name) == getattr(after, name) else 'new'}"
        for word, name in seen
    )


def answer(before: Target, after: Target) -> str:
    """The right answer to a pair, in the tags that `answers.parse` reads."""
    decision = "yes" if before != after else "no"
    return f"<think>{thought(before, after)}</think><d>{decision}</d><answer>{after.sentence}</answer>"


def score(text: str, before: Target, after: Target) -> Score:
    """Marks of an answer to the pair; an answer that breaks the format has none."""
    read = answers.parse(text)
    if not read.well_formed:
        return Score(0.0, 0.0, 0.0, 0.0)
    said, right = (read.sentence or "").split(), after.sentence.split()
    named = (1, 2, 3, 6)  # the words of colour, texture, shape and place
    words = [float(said[at] == right[at]) if len(said) == len(right) else 0.0 for at in named]
    decision = float((read.decision == "yes") == (before != after))
    return Score(1.0, decision, sum(words) / len(words), float(all(words)))
