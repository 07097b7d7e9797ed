"""Pairs of frames of sequences: which two frames, as many of each kind if asked, and what is shown and asked of them.

What ReasoningTrack learns from are whole frames with the sentence; what R1-Track learns from are crops with boxes in their
pixels. A published crop follows from the target's area alone, so that long targets leave it and their labels lie outside
(one in two at an aspect of 16); here a crop is at least as wide as the shifted target needs, and numbers are rounded, not cut.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workflow_scripts import boxes, cropping, images, sequences
from workflow_scripts.console import BadInput
from workflow_scripts.grpo.rewards import Truth
from workflow_scripts.params.grpo import Crops, Pairs

LEAST_SIDE = 2.0  # pixels; thinner boxes are annotation noise
POOL = 8  # candidates drawn for each pair that is wanted, where kinds are balanced
KINDS = {  # upper edges of the kinds that are told apart
    "aspect": (1.25, 1.6, 2.5, 4.0),  # longer over shorter side, of the frame in which it is larger
    "motion": (0.1, 0.3, 1.0, 3.0),  # way of the centre between the frames, in sizes (root of the area) of the target
}


@dataclass(frozen=True)
class Candidate:
    """Two frames of a sequence, by their indices."""

    sequence: sequences.Sequence
    frames: tuple[int, int]

    @property
    def boxes(self) -> NDArray[np.float64]:
        """[2, 4] xywh pixels."""
        return self.sequence.boxes[list(self.frames)]


@dataclass(frozen=True)
class Row:
    """One pair before it is written: two RGB pictures, their file names, the truth, what the prompt's field is filled with."""

    pictures: tuple[np.ndarray, np.ndarray]
    names: tuple[str, str]
    truth: Truth
    asked: Mapping[str, str]


# ---------------------------------------------------------------- two frames


def visible(sequence: sequences.Sequence) -> np.ndarray:
    """Flags [N]: frames with the target in view and a box of more than a few pixels."""
    count = min(len(sequence.frames), len(sequence.boxes))
    found = sequence.boxes[:count]
    return sequence.present[:count] & np.isfinite(found).all(axis=1) & (found[:, 2:] >= LEAST_SIDE).all(axis=1)


def first_frames(shown: np.ndarray, longest_gap: int) -> np.ndarray:
    """Positions in `shown` that another frame follows within `longest_gap` (0: any distance)."""
    return np.flatnonzero(np.diff(shown) <= (longest_gap or np.inf))


def second_frames(shown: np.ndarray, first: int, longest_gap: int) -> np.ndarray:
    """Frame indices after shown[first], at most `longest_gap` on (0: any distance)."""
    later = shown[first + 1 :]
    return later[later - shown[first] <= (longest_gap or np.inf)]


def draw(chosen: list[sequences.Sequence], count: int, longest_gap: int, generator: np.random.Generator) -> list[Candidate]:
    """`count` pairs of the sequences `chosen`, which are visited in turn; the later frame is the second."""
    usable = {s.name: np.flatnonzero(visible(s)) for s in chosen}
    ready = [s for s in chosen if first_frames(usable[s.name], longest_gap).size]
    if not ready:
        raise BadInput("no training sequence has two frames with the target in view: check the index of the benchmark.")
    order = np.concatenate([generator.permutation(len(ready)) for _ in range(-(-count // len(ready)))])[:count]
    drawn = []
    for position in order:
        shown = usable[ready[position].name]
        first = int(generator.choice(first_frames(shown, longest_gap)))
        second = int(generator.choice(second_frames(shown, first, longest_gap)))
        drawn.append(Candidate(ready[position], (int(shown[first]), second)))
    return drawn


def kind(candidate: Candidate, told: Sequence[str]) -> tuple[int, ...]:
    """Which kind a pair is of in each of the properties `told` (KINDS)."""
    sides = candidate.boxes[:, 2:]
    sizes = np.sqrt(sides.prod(axis=1))
    values = {
        "aspect": float((sides.max(axis=1) / sides.min(axis=1)).max()),
        "motion": float(boxes.centre_error(*candidate.boxes)) / float(sizes.mean()),
    }
    return tuple(int(np.searchsorted(KINDS[name], values[name])) for name in told)


def balanced(candidates: list[Candidate], count: int, told: Sequence[str]) -> list[Candidate]:
    """`count` of the candidates, kinds in turn until one has none left: as many of each as there are."""
    by_kind: dict[tuple[int, ...], list[Candidate]] = {}
    for candidate in candidates:
        by_kind.setdefault(kind(candidate, told), []).append(candidate)
    left = [by_kind[k][::-1] for k in sorted(by_kind)]
    taken: list[Candidate] = []
    while len(taken) < count:
        taken += [queue.pop() for queue in left if queue]
    return taken[:count]


# ---------------------------------------------------------------- rows


def sampled(chosen: list[sequences.Sequence], count: int, parameters: Pairs, name: str) -> Iterator[Row]:
    """`count` rows of the sequences `chosen`, seeded; frames are read where they lie."""
    generator = np.random.default_rng([parameters.seed, name == "val"])
    told = parameters.balance
    drawn = draw(chosen, POOL * count if told else count, parameters.longest_gap, generator)
    picked = balanced(drawn, count, told) if told else drawn
    for at, candidate in enumerate(picked):
        names = tuple(f"{name}/{at // 1000:03d}/{at:06d}_{side}.jpg" for side in (1, 2))
        make = crop_row if parameters.source == "crops" else frame_row
        yield make(candidate, names, parameters, generator)  # type: ignore[arg-type]


def frame_row(candidate: Candidate, names: tuple[str, str], parameters: Pairs, _: np.random.Generator) -> Row:
    """Two whole frames, resized by the one rule of every language-model stage; boxes in pixels of the frames as they lie."""
    paths = tuple(candidate.sequence.frames[i] for i in candidate.frames)
    limits = parameters.min_pixels, parameters.max_pixels
    pictures = tuple(images.fit_pixels(images.read_rgb(path), *limits) for path in paths)
    truth = Truth(candidate.sequence.sentence, candidate.boxes, tuple(path.as_posix() for path in paths))  # type: ignore[arg-type]
    return Row(pictures, names, truth, {"sentence": truth.description})  # type: ignore[arg-type]


def crop_row(candidate: Candidate, names: tuple[str, str], parameters: Pairs, generator: np.random.Generator) -> Row:
    """Two crops around the target, either frame first; boxes in pixels of the crops, whole numbers as the prompt says them."""
    frames = candidate.frames if generator.random() < 0.5 else candidate.frames[::-1]
    pictures, labels = [], []
    for index in frames:
        frame = images.read_rgb(candidate.sequence.frames[index])
        picture, label = cut(frame, candidate.sequence.boxes[index], parameters.crops, generator)
        pictures.append(picture)
        labels.append(label)
    source = [candidate.sequence.frames[index].as_posix() for index in frames]
    target = boxes.xyxy_to_xywh(np.array(labels, float))
    truth = Truth(candidate.sequence.sentence, target, attributes={"cut_from": source})
    return Row(tuple(pictures), names, truth, {"box": f"[{','.join(map(str, labels[0]))}]"})  # type: ignore[arg-type]


def cut(
    frame: images.Image, box: NDArray[np.float64], rule: Crops, generator: np.random.Generator
) -> tuple[images.Image, list[int]]:
    """A crop uint8 [size, size, 3] around the target of `box` (xywh), and its corners there in whole pixels.

    The crop's side is a random number of the box's sizes, its centre off by a random share of the side. Unless the published
    code is repeated, the side is as long as it takes to hold the whole target however it is shifted.
    """
    size, longest = math.sqrt(box[2] * box[3]), float(max(box[2:]))
    factor = float(generator.uniform(*rule.factors))
    if not rule.reproduce_paper:
        factor = max(factor, longest / (1 - 2 * rule.offset) / size)
    shift = generator.uniform(-rule.offset, rule.offset, 2) * math.ceil(size * factor)
    around = np.concatenate([box[:2] + shift, box[2:]])
    picture, scale = cropping.crop(frame, around, factor, rule.size)
    left, top, _ = cropping.square(around, factor)
    corners = (boxes.xywh_to_xyxy(box) - [left, top, left, top]) * scale
    if rule.reproduce_paper:
        return picture, [int(value) for value in corners]
    return picture, [min(max(round(value), 0), rule.size) for value in corners]
