"""Rendered pairs of frames with a sentence each: the mini study's task for a vision-language model that must look.

A frame shows one target; a sentence names its colour, texture, shape and the half of the frame it is in. In half of the
pairs something of it changes between the two frames (never the shape: that is what stays the target), and the model says
what it sees, whether the old sentence still holds, and the sentence that does. Copying the input is right in about half of
the pairs only. Two choices make the task learnable in minutes by a model of 0.6 million parameters, and cost nothing in
honesty: the background brightens from left to right (the vision tower has no absolute position, so "left" must be visible),
and the thought names every attribute before the decision, which is then a mere "or" over words already written.

A second kind of pair, the views, shows what `reasoningtrack` sees in the rendered sequences: the target in the middle, about
half as wide as the picture, drawn by the sequences' own renderer with their backgrounds, light, look-alikes and occluders, and
their sentences (all colours, textures and shapes, no place). In half of them the colour changes, which is what tells the
sequences' look-alikes apart. The texture never does: at this size and in minutes the model does not learn to tell the four.

SFT rows, RL rows and their scores are all made here, so that they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np

from workflow_scripts import answers
from workflow_scripts.drawing import backgrounds, sprites

COLOURS = {"red": (215, 40, 40), "green": (40, 170, 60), "blue": (50, 70, 220), "yellow": (225, 205, 50)}
TEXTURES = ("plain", "striped")
SHAPES = ("circle", "square", "triangle")
PLACES = ("left", "right")
CHANGEABLE = {"colour": tuple(COLOURS), "texture": TEXTURES, "place": PLACES}
SIZE = 56  # side of a frame in pixels: 16 patches of 14, four image tokens
FORM = "the {colour} {texture} {shape} on the {place}"
VIEW_FACTOR = 2.0  # side of a view in target sizes, as track.reasoning crops
PER_CANVAS = 16  # views that share a background: drawing one costs more than they do
EQUALISED = (118.0, 126.0, 134.0, 142.0)  # luminances of the targets that only colour tells from their look-alikes


@dataclass(frozen=True)
class Target:
    """What a sentence says of the target, and in which form: words, and the attributes in braces. A view has no place."""

    colour: str
    texture: str
    shape: str
    place: str = ""
    form: str = FORM

    @property
    def sentence(self) -> str:
        """The target in words: ``the red striped circle on the left``."""
        return " ".join(self.form.format(**vars(self)).split())


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
    """One answer's marks, each in 0..1: format, decision, share of the attributes' words, the whole sentence."""

    format: float
    decision: float
    words: float
    sentence: float


def sample(generator: np.random.Generator, size: int = SIZE) -> Pair:
    """Draw one pair: with probability 1/2 one of colour, texture and place changes, each further one with 1/4."""
    before = recipe_target(generator)
    after = later(generator, before, CHANGEABLE)
    (frame1, box1), (frame2, box2) = render(generator, before, size), render(generator, after, size)
    return Pair(before, after, (frame1, frame2), np.stack([box1, box2]))


def recipe_target(generator: np.random.Generator) -> Target:
    """A target of the first kind of pair."""
    return Target(*(str(generator.choice(list(words))) for words in (COLOURS, TEXTURES, SHAPES, PLACES)))


def later(generator: np.random.Generator, before: Target, changeable: Mapping[str, Sequence[str]]) -> Target:
    """The target of the second frame: in half of the cases one attribute is new, each further one with probability 1/4."""
    values = vars(before).copy()
    if generator.random() < 0.5:
        first = str(generator.choice(list(changeable)))
        for name, words in changeable.items():
            if name == first or generator.random() < 0.25:
                values[name] = str(generator.choice([word for word in words if word != values[name]]))
    return Target(**values)


def samples(seed: int, count: int, size: int = SIZE) -> list[Pair]:
    """`count` pairs; the same seed gives the same pairs."""
    generator = np.random.default_rng(seed)
    return [sample(generator, size) for _ in range(count)]


def views(seed: int, count: int, bare: float = 0.0, size: int = SIZE) -> list[Pair]:
    """`count` views; the same seed gives the same views. A share `bare` of them is asked without the colour.

    Those teach to look: what the sentence does not say cannot be copied from it.
    """
    generator = np.random.default_rng([seed, 1])
    drawn = []
    while len(drawn) < count:
        canvas = backgrounds.canvas(2 * size, 2 * size, generator)
        drawn += [sample_view(generator, canvas, bare, size) for _ in range(min(PER_CANVAS, count - len(drawn)))]
    return drawn


def mixture(seed: int, count: int, share: float) -> list[Pair]:
    """`count` pairs, the last `share` of them views."""
    viewed = round(share * count)
    return samples(seed, count - viewed) + views(seed, viewed)


def sample_view(generator: np.random.Generator, canvas: np.ndarray, bare: float = 0.0, size: int = SIZE) -> Pair:
    """Draw one view. In half of them all colours have one luminance; in half of those the first frame is grey."""
    luminance = float(generator.choice(EQUALISED)) if generator.random() < 0.5 else None
    palette = tuple(sprites.COLOURS) if luminance is None else sprites.LANGUAGE_COLOURS
    before = view_target(generator, palette)
    after = later(generator, before, {"colour": palette})
    night = luminance is not None and generator.random() < 0.5
    first = render_view(generator, canvas, before, luminance, size, first=True, grey=night)
    second = render_view(generator, canvas, after, luminance, size)
    if generator.random() < bare:
        before = replace(before, colour="")
    return Pair(before, after, (first[0], second[0]), np.stack([first[1], second[1]]))


def view_target(generator: np.random.Generator, palette: Sequence[str] = tuple(sprites.COLOURS)) -> Target:
    """A target as the sequences have them, in one of the forms of their sentences."""
    words = (str(generator.choice(list(group))) for group in (palette, sprites.TEXTURES, sprites.SHAPES))
    return Target(*words, form=sprites.sentence(sprites.Look("{colour}", "{texture}", "{shape}"), generator))


@cache
def painted(colour: str, texture: str, shape: str, luminance: float | None) -> sprites.Sprite:
    """The sprite of a look, drawn once."""
    return sprites.paint(sprites.Look(colour, texture, shape), luminance)


def render_view(
    generator: np.random.Generator,
    canvas: np.ndarray,
    target: Target,
    luminance: float | None,
    size: int,
    first: bool = False,
    grey: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """What a tracker crops around the target: uint8 [size, size, 3], and its box, float64 [4] xywh.

    The scene is drawn as large as it is in a frame and resized as crops are. A later frame (not `first`) is less well
    centred, and something may cover a part of the target.
    """
    sprite = painted(target.colour, target.texture, target.shape, luminance)
    extent = float(np.exp(generator.uniform(np.log(22), np.log(70))))  # pixels
    linear = sprites.linear_part(extent, 1.25 ** generator.uniform(-1, 1), generator.uniform(-0.6, 0.6))
    box = sprites.box_of(sprite, np.zeros(2), linear)
    slack = 0.0 if first else 1.0
    side = int(np.ceil(np.sqrt(box[2] * box[3]) * VIEW_FACTOR * np.exp(slack * generator.uniform(-0.15, 0.15))))
    centre = side / 2 - box[:2] - box[2:] / 2 + slack * generator.uniform(-0.12, 0.12, 2) * extent
    scene = backgrounds.view(canvas, side, side, generator.uniform(-40, 40, 2))
    patches = [(sprite, centre, linear)]
    if generator.random() < 0.5:
        for turn in generator.uniform(0, 2 * np.pi, generator.integers(1, 4)):
            colour = str(generator.choice(sprites.LANGUAGE_COLOURS))
            away = generator.uniform(1.2, 1.9) * extent * np.array([np.cos(turn), np.sin(turn)])
            patches.append((painted(colour, target.texture, target.shape, luminance), centre + away, linear))
    if not first and generator.random() < 0.15:
        turn = generator.uniform(0, 2 * np.pi)
        away = generator.uniform(0.6, 1.0) * extent * np.array([np.cos(turn), np.sin(turn)])
        patches.append((sprites.textured_square(generator), centre + away, np.eye(2) * extent))
    blurred = generator.random() < 0.1
    for drawn, at, shape in patches:
        patch, x, y = sprites.warp(drawn, at, shape)
        if blurred:
            patch, x, y = sprites.motion_blur(patch, x, y, generator.uniform(-4, 4, 2))
        sprites.lay_over(scene, patch, x, y)
    gain = generator.uniform(0.4, 1.6) if generator.random() < 0.25 else 1.0
    shrink = generator.uniform(1.6, 2.2) if generator.random() < 0.1 else 1.0
    frame = cv2.resize(backgrounds.expose(scene, gain, shrink, grey, generator), (size, size))
    return frame, np.concatenate([box[:2] + centre, box[2:]]) * size / side


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
    """What is seen, attribute by attribute, each with ``same`` or ``new``; a view has no place."""
    seen = [("color", "colour"), ("texture", "texture"), *([("place", "place")] if after.place else [])]
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
    named = [at for at, word in enumerate(after.form.split()) if word.startswith("{")]
    words = [float(said[at] == right[at]) if len(said) == len(right) else 0.0 for at in named]
    decision = float((read.decision == "yes") == (before != after))
    return Score(1.0, decision, sum(words) / len(words), float(said == right))
