"""DUTrack as a pure step over a batch of states.

A frame: crop the search region around the last box, choose up to template_number + 1 templates from the memory, embed
what is new, one forward pass, decode at the maximum of score times Hann window, map back, clip, remember a template crop
of this frame around the new box. The memory holds uint8 crops; the stem's features of the templates in use stay in the
state, so that on average less than one template a frame is encoded. Frames that no later frame can choose are dropped.

Sequences of one call may be at different frames: those with equally many templates and query tokens share a forward
pass, so no token is padded and every sequence gets what it would get alone, up to rounding. With `rows` set, every pass
has that many rows (the last one repeated): matrix products of one shape give a row the same bits whatever its neighbours
are, so that boxes depend neither on the company a sequence runs in nor on where a killed run was resumed.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workflow_scripts.asking import Question, Reply
from workflow_scripts.boxes import clip_to_image
from workflow_scripts.track import crops
from workflow_scripts.track.networks.dutrack import DUTrack, DUTrackOutput, decode, hann_window
from workflow_scripts.track.precision import autocast, compile_for, dtype_of
from workflow_scripts.track.texts import Tokenizer
from workflow_scripts.track.trackers.base import (
    Box,
    Describer,
    Image,
    ModelDescriber,
    Output,
    ask_all,
    check_frame,
    check_start,
)

CACHED_TEXTS = 4096
COMPARED = 64  # sentences in one pass


@dataclass(frozen=True)
class State:
    """Everything that a sequence's next frame depends on."""

    frame: int  # index of the last frame seen; the first is 0
    box: Box
    sentence: str
    memory: Mapping[int, Image]  # template crops by frame: those that a later frame may choose
    features: Mapping[int, Tensor]  # stem features [Nz,D] of the templates last used, by frame
    query: Tensor | None  # [3,D] carried from the last frame; None before the first
    given: str = ""  # the sentence at the start: what a describer is asked about
    length: int | None = None  # frames of the sequence, where known


def choose_memory(frame: int, segments: int) -> list[int]:
    """Which earlier frames are templates of frame `frame` (from 1): frame 0 and the middle of each of `segments` parts."""
    if frame <= segments:
        return list(range(frame))
    if segments == 1:
        return [0]
    part = frame // segments
    return sorted({0, *(k * part + part // 2 for k in range(segments))})


@cache
def last_uses(segments: int, length: int) -> tuple[int, ...]:
    """For each frame of a sequence, the last frame that chooses it; -1 where none does."""
    last = [-1] * length
    for frame in range(1, length):
        for index in choose_memory(frame, segments):
            last[index] = frame
    return tuple(last)


def is_useful(index: int, frame: int, segments: int, length: int | None) -> bool:
    """Whether a frame after `frame` can choose `index` (at most `frame`) in a sequence of `length`, None for unknown.

    Without a length every frame will be the middle of the first part one day; with it, two in three never are chosen again.
    """
    if length is not None:
        return last_uses(segments, length)[index] > frame
    if index == 0 or frame < segments:
        return True
    return segments > 1 and index >= (frame + 1) // segments // 2


def in_own_pages(image: Image) -> Image:
    """A copy of a crop outside of the heap.

    Crops live for thousands of frames between arrays that live for one: in the heap each of them holds ten times its size.
    """
    pages = mmap.mmap(-1, image.nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    copy = np.frombuffer(pages, np.uint8).reshape(image.shape)
    copy[:] = image
    return copy


class DUTracker:
    """Tracker of a DUTrack network. Without a describer the first sentence stays; a describer is asked every frame."""

    lockstep = forgets = True

    def __init__(
        self,
        network: DUTrack,
        tokenizer: Tokenizer,
        describer: Describer | None = None,
        rows: int = 0,
        precision: str = "fp32",
        compiled: bool = False,
    ) -> None:
        """`rows` of every forward pass, 0 for as many as there are sequences; `precision` fp32, bf16 or fp16 (autocast);

        `compiled` runs the network through torch.compile, once for each number of rows and of templates.
        """
        self.network = network.eval()
        self.config = network.config
        self.tokenizer = tokenizer
        self.describer = describer
        self.ask = describer.ask if isinstance(describer, ModelDescriber) else None
        self.rows = rows
        self.dtype = dtype_of(precision)
        if len(tokenizer) > self.config.vocabulary_size:
            raise ValueError(f"{len(tokenizer)} words in the vocabulary, {self.config.vocabulary_size} in the network")
        self.device = next(network.parameters()).device
        self.window = hann_window(self.config.grid, self.device)
        self.forward = compile_for(self.device, network) if compiled else network
        self._texts: dict[str, Tensor] = {}  # sentence -> [16,D]; a cache, no state

    def start(
        self, frames: Sequence[Image], boxes: Sequence[Box], sentences: Sequence[str], lengths: Sequence[int] | None = None
    ) -> list[State]:
        """First frames uint8 [H,W,3], first boxes [4] xywh in pixels, sentences (empty: no words) to states.

        With `lengths` only those template crops are kept that a later frame of the sequence will choose.
        """
        checked = check_start(frames, boxes, sentences)
        given = list(sentences)
        if self.describer is not None:
            sentences = list(self.describer(list(frames), given))
        templates = self._template_crops(frames, checked)
        known = lengths or [None] * len(templates)
        return [
            State(0, box, sentence, {0: crop}, {}, None, words, length)
            for crop, box, sentence, words, length in zip(templates, checked, sentences, given, known, strict=True)
        ]

    def questions(self, states: Sequence[State], frames: Sequence[Image]) -> list[Question | None]:
        """What a describer that asks a model wants to know: the official rule, from frame 2 on a caption of every frame."""
        if self.ask is None:
            return [None] * len(states)
        asked = zip(states, frames, strict=True)
        return [self.describer.question(f, s.given) if s.frame >= 1 else None for s, f in asked]

    def step(
        self, states: Sequence[State], frames: Sequence[Image], answers: Sequence[Reply | None] | None = None
    ) -> tuple[list[State], list[Output]]:
        """The next frame of every sequence, with the replies to `questions`; `states` stay as they are."""
        for frame in frames:
            check_frame(frame)
        states, notes = self._describe(list(states), frames, answers)
        new, boxes, scores = self._track(states, frames)
        outputs = [
            Output(box=box, confidence=score, sentence=state.sentence, note=note)
            for box, score, state, note in zip(boxes, scores, states, notes, strict=True)
        ]
        return new, outputs

    @torch.inference_mode()
    def compare(
        self, first: Sequence[Image], boxes: Sequence[Box], second: Sequence[Image], sentences: Sequence[Sequence[str]]
    ) -> list[list[Box]]:
        """Where the target of each pair of frames is in the second one, under each of the pair's sentences: boxes [4] xywh.

        As `start` and `step` for each sentence, but what the network sees in a pair's crops is computed once for all of them.
        """
        for frame in second:
            check_frame(frame)
        before = np.stack(check_start(first, boxes, [""] * len(boxes)))  # [P,4]
        size = self.config.search_size
        images, factors = crops.crop_batch(second, before, self.config.search_factor, size)
        templates = crops.normalise(np.stack(self._template_crops(first, list(before))), self.device)
        asked = [(pair, text) for pair, texts in enumerate(sentences) for text in texts]
        found: list[list[Box]] = [[] for _ in sentences]
        with autocast(self.device, self.dtype):
            search = self.network.embed_search(crops.normalise(images, self.device))  # [P,F*F,D]
            template = self.network.embed_template(templates)[:, None]  # [P,1,Nz,D]
            for part in (asked[at : at + COMPARED] for at in range(0, len(asked), COMPARED)):
                of = [pair for pair, _ in part]
                output = self.network.locate(search[of], template[of], self._embed_texts([text for _, text in part]))
                output = DUTrackOutput(*(values.float() for values in output))
                fractions = decode(output, self.window)[0].cpu().numpy()
                for pair, box in zip(of, crops.map_back(fractions, before[of], size, factors[of]), strict=True):
                    found[pair].append(clip_to_image(box, second[pair].shape[1], second[pair].shape[0]))
        return found

    def _describe(
        self, states: list[State], frames: Sequence[Image], answers: Sequence[Reply | None] | None
    ) -> tuple[list[State], list[dict[str, Any] | None]]:
        """The official rule: from frame 2 on a caption of every frame, before it is tracked. States, and notes of questions."""
        notes: list[dict[str, Any] | None] = [None] * len(states)
        asked = [i for i, s in enumerate(states) if s.frame >= 1]
        if self.ask is not None:
            replies = ask_all(self, states, frames) if answers is None else answers
            for i in asked:
                before, reply = states[i].sentence, replies[i]
                states[i] = replace(states[i], sentence=self.describer.read(reply, before))
                notes[i] = {"asked": states[i].given, "text": reply.text, "fall_back": not reply.usable}
        elif self.describer is not None and asked:
            sentences = self.describer([frames[i] for i in asked], [states[i].given for i in asked])
            for i, sentence in zip(asked, sentences, strict=True):
                states[i] = replace(states[i], sentence=sentence)
        return states, notes

    @torch.inference_mode()
    def _track(self, states: Sequence[State], frames: Sequence[Image]) -> tuple[list[State], list[Box], list[float]]:
        size = self.config.search_size
        before = np.stack([s.box for s in states])  # [B,4]
        images, factors = crops.crop_batch(frames, before, self.config.search_factor, size)
        search = crops.normalise(images, self.device)  # [B,3,s,s]
        features = self._template_features(states)
        texts = self._embed_texts([s.sentence for s in states])  # [B,16,D]

        fractions, scores = np.empty((len(states), 4)), np.empty(len(states))
        queries: list[Any] = [None] * len(states)
        groups: dict[tuple[int, bool], list[int]] = {}
        for i, state in enumerate(states):
            groups.setdefault((len(features[i]), state.query is None), []).append(i)
        passes = [(first, part) for (_, first), members in groups.items() for part in self._parts(members)]
        for first, members in passes:
            wanted, members = len(members), self._filled(members)
            templates = torch.stack([torch.stack(list(features[i].values())) for i in members])  # [b,T,Nz,D]
            query = None if first else torch.stack([states[i].query for i in members])  # [b,3,D]
            with autocast(self.device, self.dtype):
                output = self.forward(search[members], templates, texts[members], query)
            output = DUTrackOutput(*(part.float() for part in output))  # cells are counted in more than 8 bits
            boxes, score, _ = decode(output, self.window)
            members = members[:wanted]
            fractions[members], scores[members] = boxes[:wanted].cpu().numpy(), score[:wanted].cpu().numpy()
            for i, q in zip(members, output.query[:wanted], strict=True):
                queries[i] = q.clone()

        mapped = crops.map_back(fractions, before, size, factors)
        boxes = [clip_to_image(box, frame.shape[1], frame.shape[0]) for box, frame in zip(mapped, frames, strict=True)]
        moved = [
            replace(state, frame=state.frame + 1, box=box, features=feature, query=query)
            for state, box, feature, query in zip(states, boxes, features, queries, strict=True)
        ]
        return self._remember(moved, frames), boxes, scores.tolist()

    def _remember(self, states: list[State], frames: Sequence[Image]) -> list[State]:
        """`states` with a template crop of their new frame, and without those, the new one too, that none later chooses."""

        def useful(state: State, index: int) -> bool:
            return is_useful(index, state.frame, self.config.template_number, state.length)

        fresh = [i for i, s in enumerate(states) if useful(s, s.frame)]
        made = dict(zip(fresh, self._template_crops([frames[i] for i in fresh], [states[i].box for i in fresh]), strict=True))
        new = []
        for i, state in enumerate(states):
            spent = [index for index in state.features if not useful(state, index)]  # one that was not chosen is as it was
            memory = {**state.memory, state.frame: made[i]} if i in made else dict(state.memory)
            for index in spent:
                del memory[index]
            new.append(replace(state, memory=memory))
        return new

    def _parts(self, members: list[Any]) -> list[list[Any]]:
        """`members` in passes of at most `rows`; all in one without."""
        size = self.rows or max(1, len(members))
        return [members[i : i + size] for i in range(0, len(members), size)]

    def _filled(self, members: list[Any]) -> list[Any]:
        """`members` with the last one repeated until they are `rows`."""
        return members + [members[-1]] * (self.rows - len(members))

    def _template_crops(self, frames: Sequence[Image], boxes: Sequence[Box]) -> list[Image]:
        if not boxes:
            return []
        images, _ = crops.crop_batch(frames, boxes, self.config.template_factor, self.config.template_size)
        return [in_own_pages(image) for image in images]

    def _template_features(self, states: Sequence[State]) -> list[dict[int, Tensor]]:
        """Features [Nz,D] of every state's templates by frame, oldest first; those not in the state are encoded at once."""
        wanted = [choose_memory(s.frame + 1, self.config.template_number) for s in states]
        missing = [(i, k) for i, s in enumerate(states) for k in wanted[i] if k not in s.features]
        found: dict[tuple[int, int], Tensor] = {}
        for part in self._parts(missing):
            images = np.stack([states[i].memory[k] for i, k in self._filled(part)])
            with autocast(self.device, self.dtype):
                encoded = self.network.embed_template(crops.normalise(images, self.device))  # [M,Nz,D]
            found |= {key: feature.clone() for key, feature in zip(part, encoded[: len(part)], strict=True)}
        return [{k: s.features[k] if k in s.features else found[i, k] for k in wanted[i]} for i, s in enumerate(states)]

    def _embed_texts(self, sentences: Sequence[str]) -> Tensor:
        fresh = [s for s in dict.fromkeys(sentences) if s not in self._texts]
        if fresh:
            if len(self._texts) + len(fresh) > CACHED_TEXTS:
                self._texts.clear()
                fresh = list(dict.fromkeys(sentences))
            ids = torch.from_numpy(self.tokenizer(fresh)).to(self.device)
            self._texts.update(zip(fresh, self.network.embed_text(ids), strict=True))
        return torch.stack([self._texts[s] for s in sentences])
