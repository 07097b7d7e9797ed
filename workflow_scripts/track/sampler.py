"""Training samples: crops of a sequence's frames, jittered and augmented, with a sentence that stays true.

A sample is `templates` crops of earlier frames and `searches` crops of later ones. Two augmentations make a small network
read: templates lose their colour (then only the words tell it), and the colour channels are permuted together with the
sentence's colour words (then no sequence's colour can be learnt by heart). Every sample is drawn from a generator seeded
by (seed, step, its number in the batch): a resumed training sees what an uninterrupted one would have seen, and many
processes see together what one would have seen alone.

Boxes are fractions of the crop's side, as at test. SeqTrack's published training divides by one pixel less, which its
tracker never undoes.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from collections.abc import Sequence as Series
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from workflow_scripts import images
from workflow_scripts.console import BadInput, progress
from workflow_scripts.images import Image
from workflow_scripts.params.track import Augment, Sampling
from workflow_scripts.sequences import Sequence

COLOUR_WORD = re.compile(r"\b(red|green|blue|cyan|purple|yellow|orange)\b")
PRIMARIES = ("red", "green", "blue")  # the word of channel c
SECONDARIES = ("cyan", "purple", "yellow")  # the word of a colour that lacks channel c
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True)
class Shape:
    """Sizes of the crops: side in pixels, and how many box sizes it covers."""

    search: int
    search_factor: float
    template: int
    template_factor: float


@dataclass(frozen=True)
class Batch:
    """B samples. boxes are cx, cy, w, h as fractions of the search crop."""

    templates: NDArray[np.uint8]  # [B, T, h, w, 3]
    searches: NDArray[np.uint8]  # [K, B, H, W, 3]
    boxes: NDArray[np.float32]  # [K, B, 4]
    sentences: list[str]


@dataclass(frozen=True)
class Source:
    """What samples are drawn from."""

    sequences: list[Sequence]
    benchmarks: list[range]  # numbers of each benchmark's sequences; a sample is of any benchmark with equal chance
    frames: Frames


class Frames:
    """The frames of some sequences: decoded once where memory allows, else read when asked for."""

    def __init__(self, sequences: Series[Sequence], in_memory: bool, readers: int = 2) -> None:
        self.sequences = list(sequences)
        self.memory: list[list[Image]] | None = None
        if in_memory:
            with ThreadPoolExecutor(readers) as pool:
                read = pool.map(lambda s: [images.read_rgb(f) for f in s.frames], self.sequences)
                self.memory = list(progress(read, "reading sequences", len(self.sequences)))

    def __call__(self, sequence: int, frame: int) -> Image:
        """Frame [H, W, 3] number `frame` of sequence number `sequence`."""
        if self.memory is not None:
            return self.memory[sequence][frame]
        return images.read_rgb(self.sequences[sequence].frames[frame])


def usable(sequences: Series[Sequence], order: str = "causal") -> list[Sequence]:
    """Sequences with a box for every frame and enough visible ones (in any order, a single image will do).

    BadInput if none is left.
    """
    needed = 2 if order == "causal" else 1
    kept = [s for s in sequences if len(s.boxes) == len(s.frames) and int(visible(s).sum()) >= needed]
    if not kept:
        raise BadInput("no sequence of the index has boxes to train on: name a training split that has ground truth.")
    return kept


def source_of(benchmarks: Series[Series[Sequence]], sampling: Sampling, in_memory: bool) -> Source:
    """The usable sequences of several benchmarks, and their frames."""
    kept = [usable(sequences, sampling.order) for sequences in benchmarks]
    ends = list(itertools.accumulate(map(len, kept), initial=0))
    sequences = list(itertools.chain.from_iterable(kept))
    return Source(sequences, [range(a, b) for a, b in itertools.pairwise(ends)], Frames(sequences, in_memory))


def visible(sequence: Sequence) -> NDArray[np.bool_]:
    """[N] frames that show the target with a box of some size."""
    return sequence.present & (sequence.boxes[:, 2:] > 1).all(axis=1)


def draw_batch(
    source: Source, shape: Shape, sampling: Sampling, augment: Augment, numbers: Series[int], seed: int, step: int
) -> Batch:
    """Samples `numbers` of the batch of step `step`: a pure function of its arguments."""
    generators = [np.random.default_rng([seed, step, number]) for number in numbers]
    samples = [draw_sample(rng, source, shape, sampling, augment) for rng in generators]
    templates, searches, boxes, sentences = zip(*samples, strict=True)
    return Batch(np.stack(templates), np.stack(searches, axis=1), np.stack(boxes, axis=1), list(sentences))


def draw_sample(
    rng: np.random.Generator, source: Source, shape: Shape, sampling: Sampling, augment: Augment
) -> tuple[Image, Image, NDArray[np.float32], str]:
    """Templates [T, h, w, 3], searches [K, H, W, 3], boxes [K, 4] and the sentence of one sample."""
    benchmark = source.benchmarks[rng.integers(len(source.benchmarks))]
    number = benchmark[rng.integers(len(benchmark))]
    sequence = source.sequences[number]
    template_frames, search_frames = draw_frames(rng, np.flatnonzero(visible(sequence)), sampling)
    templates, searches, boxes = [], [], []
    for frame in template_frames:
        box = sequence.boxes[frame]
        around = jitter(rng, box, sampling.template_shift, sampling.template_scale, sampling.keep_aspect)
        patch, _ = crop(source.frames(number, frame), around, shape.template_factor, shape.template)
        templates.append(brightened(rng, patch, augment.template_gain))
    for frame in search_frames:
        box = sequence.boxes[frame]
        shift = sampling.search_shift * rng.uniform(sampling.search_shift_least, 1.0)
        around = jitter(rng, box, shift, sampling.search_scale, sampling.keep_aspect)
        patch, inside = crop(source.frames(number, frame), around, shape.search_factor, shape.search, box)
        searches.append(brightened(rng, patch, augment.gain))
        boxes.append(inside)
    return augmented(rng, np.stack(templates), np.stack(searches), np.stack(boxes), sequence.sentence, augment)


def draw_frames(rng: np.random.Generator, shown: NDArray[np.int64], sampling: Sampling) -> tuple[list[int], list[int]]:
    """Numbers of the template frames and of the search frames, all out of `shown` (ascending), none rarer than another.

    causal: a base frame, templates from before it and the base itself, searches from after it. any: all from around a base
    frame, in the order of time or in the reverse.
    """
    causal = sampling.order == "causal"
    base = int(rng.integers(len(shown) - causal))
    low, high = 0, len(shown)
    if sampling.max_gap:
        low = int(np.searchsorted(shown, shown[base] - sampling.max_gap))
        high = int(np.searchsorted(shown, shown[base] + sampling.max_gap, side="right"))
    if not causal:
        drawn = np.sort(rng.choice(shown[low:high], sampling.templates + sampling.searches))
        drawn = drawn[:: 1 if rng.random() < 0.5 else -1].tolist()
        return drawn[: sampling.templates], drawn[sampling.templates :]
    earlier = np.sort(rng.choice(shown[low : base + 1], sampling.templates - 1)).tolist()
    later = rng.choice(shown[base + 1 : max(high, base + 2)], sampling.searches).tolist()
    templates = [*earlier, int(shown[base])]
    if rng.random() < sampling.first_frame:
        templates[0] = int(shown[0])
    return templates, later


def jitter(
    rng: np.random.Generator, box: NDArray[np.float64], shift: float, scale: float, keep_aspect: bool = True
) -> NDArray[np.float64]:
    """`box` xywh resized by exp(scale x N(0, 1)) and moved by up to `shift` sizes (the root of its area).

    The published way (`keep_aspect` False) resizes each side by a factor of its own and moves by sizes of the resized box.
    """
    sides = box[2:] * np.exp(scale * rng.standard_normal(1 if keep_aspect else 2))
    size = np.sqrt((box[2:] if keep_aspect else sides).prod())
    centre = box[:2] + box[2:] / 2 + rng.uniform(-shift, shift, 2) * size
    return np.concatenate([centre - sides / 2, sides])


def brightened(rng: np.random.Generator, patch: Image, gain: float) -> Image:
    """A crop [H, W, 3] times U(1 - gain, 1 + gain)."""
    return np.clip(patch * np.float32(rng.uniform(1 - gain, 1 + gain)), 0, 255).astype(np.uint8) if gain else patch


def crop(
    frame: Image, around: NDArray[np.float64], factor: float, side: int, box: NDArray[np.float64] | None = None
) -> tuple[Image, NDArray[np.float32]]:
    """The square of `factor` sizes around a box as [side, side, 3], black outside the frame; and `box` as cx, cy, w, h in it.

    Sub-pixel, unlike the crop at test: the rounding of the origin there is one more jitter.
    """
    extent = max(float(np.sqrt(around[2:].prod())) * factor, 4.0)
    scale = side / extent
    x1, y1 = around[:2] + around[2:] / 2 - extent / 2
    matrix = np.array([[scale, 0, -x1 * scale], [0, scale, -y1 * scale]])
    patch = cv2.warpAffine(frame, matrix, (side, side), flags=cv2.INTER_LINEAR)
    if box is None:
        return patch, np.zeros(4, np.float32)
    corners = np.clip(np.concatenate([box[:2], box[:2] + box[2:]]) - [x1, y1, x1, y1], 0, extent) / extent
    return patch, np.concatenate([(corners[:2] + corners[2:]) / 2, corners[2:] - corners[:2]]).astype(np.float32)


def augmented(
    rng: np.random.Generator, templates: Image, searches: Image, boxes: NDArray[np.float32], sentence: str, augment: Augment
) -> tuple[Image, Image, NDArray[np.float32], str]:
    """One sample with colours, sides and words changed together, so that the sentence stays true of what is seen."""
    if rng.random() < augment.look_alike:
        templates, searches, boxes, sentence = with_look_alike(rng, templates, searches, boxes, sentence)
    if rng.random() < augment.permute_channels:
        order = rng.permutation(3)
        renamed = permute_words(sentence, order)
        if renamed is not None:
            templates, searches, sentence = templates[..., order], searches[..., order], renamed
    if rng.random() < augment.colourless_templates:
        templates = brightened(rng, grey(templates), augment.colourless_gain)  # or the luma would tell the colour
    elif rng.random() < augment.colourless_first:
        templates = np.concatenate([grey(templates[:1]), templates[1:]])
    if rng.random() < augment.empty_sentence:
        sentence = ""
    if rng.random() < augment.grey:
        templates, searches = grey(templates), grey(searches)
    if re.search(r"\b(left|right)\b", sentence):
        return templates, searches, boxes, sentence
    joint = rng.random() < augment.flip
    flips = joint ^ (rng.random(len(templates) + len(searches)) < augment.flip_each)
    templates, searches, boxes = templates.copy(), searches.copy(), boxes.copy()
    for crops, chosen in ((templates, flips[: len(templates)]), (searches, flips[len(templates) :])):
        crops[chosen] = crops[chosen, :, ::-1]
    mirrored = flips[len(templates) :]
    boxes[mirrored, 0] = 1 - boxes[mirrored, 0]
    return templates, searches, boxes, sentence


def with_look_alike(
    rng: np.random.Generator, templates: Image, searches: Image, boxes: NDArray[np.float32], sentence: str
) -> tuple[Image, Image, NDArray[np.float32], str]:
    """One sample whose search crops show a copy of the target in another colour; in half of them the copy is the target.

    Where look-alikes surround a target, a network can guess "the one in the middle" and never learn to read. Here neither
    place nor the seams of pasting say which of the two is meant, only the colour: that of the templates, or the word.
    Unchanged where the sentence names no colour that a permutation renames, or where there is no room.
    """
    orders = [np.array(o) for o in itertools.permutations(range(3)) if permute_words(sentence, o) not in (sentence, None)]
    if not orders:
        return templates, searches, boxes, sentence
    order = orders[rng.integers(len(orders))]
    pasted = [paste_copy(rng, patch, box, order) for patch, box in zip(searches, boxes, strict=True)]
    if any(p is None for p in pasted):
        return templates, searches, boxes, sentence
    searches = np.stack([p[0] for p in pasted])
    if rng.random() < 0.5:
        return templates, searches, boxes, sentence
    return templates[..., order], searches, np.stack([p[1] for p in pasted]), permute_words(sentence, order)


def paste_copy(
    rng: np.random.Generator, patch: Image, box: NDArray[np.float32], order: NDArray[np.int64]
) -> tuple[Image, NDArray[np.float32]] | None:
    """`patch` [S, S, 3] with the target pasted once more, clear of itself, its channels in `order`; and the copy's box.

    None where the target is cut by the border, or no place is found in a few tries.
    """
    side = patch.shape[0]
    half = box[2:] * side / 2 + 2  # with a rim, for the soft edge
    centre = box[:2] * side
    if (centre - half < 0).any() or (centre + half > side).any():
        return None
    for _ in range(8):
        moved = rng.uniform(half, side - half)
        if (np.abs(moved - centre) > 1.6 * half).any():
            break
    else:
        return None
    shift = (moved - centre).round().astype(int)
    x, y = np.meshgrid(np.arange(side) - centre[0] - shift[0], np.arange(side) - centre[1] - shift[1])
    # a rounded rectangle that fades over the rim
    far = ((np.abs(x) / half[0]) ** 6 + (np.abs(y) / half[1]) ** 6) ** (1 / 6)
    alpha = np.clip((1 - far) * half.min() / 2, 0, 1)[..., None]
    copy = np.roll(patch[..., order], (shift[1], shift[0]), axis=(0, 1))
    mixed = (patch * (1 - alpha) + copy * alpha).round().astype(np.uint8)
    return mixed, np.concatenate([box[:2] + shift / side, box[2:]]).astype(np.float32)


def permute_words(sentence: str, order: Series[int]) -> str | None:
    """The sentence after image channel c is replaced by channel order[c]; None where a colour word has no name afterwards.

    A primary is its channel's, a secondary lacks one channel; white and grey stay; orange would become a colour without a word.
    """
    moved = {int(old): new for new, old in enumerate(order)}
    names = {old: family[moved[c]] for family in (PRIMARIES, SECONDARIES) for c, old in enumerate(family)}
    if "orange" in COLOUR_WORD.findall(sentence) and list(order) != [0, 1, 2]:
        return None
    return COLOUR_WORD.sub(lambda match: names.get(match.group(), match.group()), sentence)


def grey(patches: Image) -> Image:
    """[..., 3] with its luma in all channels."""
    luma = (patches.astype(np.float32) @ LUMA).round().clip(0, 255).astype(np.uint8)
    return np.repeat(luma[..., None], 3, axis=-1)


def feed(make, first: int, last: int, ahead: int, workers: int = 1) -> Iterator[Batch]:
    """`make(step)` for steps first .. last - 1, in order, made by threads up to `ahead` steps before they are asked for."""
    if workers < 1 or ahead < 1:
        raise ValueError("feed needs at least one worker and one batch ahead")
    with ThreadPoolExecutor(workers, thread_name_prefix="crops") as pool:
        steps = iter(range(first, last))
        pending = [pool.submit(make, s) for s in itertools.islice(steps, ahead)]
        try:
            while pending:
                batch = pending.pop(0).result()
                pending.extend(pool.submit(make, s) for s in itertools.islice(steps, 1))
                yield batch
        finally:
            for future in pending:
                future.cancel()
