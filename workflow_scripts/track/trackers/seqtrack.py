"""SeqTrack as a pure step over a batch of states.

A frame: crop the search region around the last box, encode it together with two templates, decode four words, map the box
back and clip it. Every `interval` frames a confident answer gives a new second template (settings/seqtrack.yaml, by
benchmark); the first template is the first frame's for ever. Until the first update both are the same one and the network
folds them.

Sequences of one call may be at different frames: those that are folded and those that are not are passed through the
network as two groups, so every sequence gets what it would get alone, up to rounding. With `rows` set, every pass has that
many rows (the last one repeated), and boxes do not depend on the company a sequence runs in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from workflow_scripts.boxes import clip_to_image
from workflow_scripts.track import crops
from workflow_scripts.track.networks.seqtrack import SeqTrack
from workflow_scripts.track.precision import autocast, compile_for, dtype_of
from workflow_scripts.track.trackers.base import Box, Image, Output, check_frame, check_start

SETTINGS = Path(__file__).resolve().parent.parent / "settings" / "seqtrack.yaml"


@dataclass(frozen=True)
class UpdateRule:
    """A new second template is taken at every `interval`-th frame whose confidence is above `threshold`."""

    interval: int
    threshold: float


@cache
def read_settings(path: Path = SETTINGS) -> Mapping[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def update_rule(network: str, benchmark: str | None = None) -> UpdateRule:
    """Rule of a network (its name, e.g. seqtrack_b256) on a benchmark; one that the settings do not name takes the default."""
    settings = read_settings()
    name = (benchmark or "").lower()
    name = settings["aliases"].get(name, name)
    by_network = settings["networks"].get(network, {})
    return UpdateRule(**settings["default"] | settings["benchmarks"].get(name, {}) | by_network.get(name, {}))


@dataclass(frozen=True)
class State:
    """Everything that a sequence's next frame depends on."""

    frame: int  # index of the last frame seen; the first is 0
    box: Box
    sentence: str  # carried, never read
    first: Tensor  # [Nz,D] embedded tokens of the first frame's template
    newest: Tensor | None = None  # [Nz,D] of the second template; None while it is the first one again


class SeqTrackTracker:
    """Tracker of a SeqTrack network. An output's confidence is ten times the sum of its words' probabilities."""

    lockstep = True

    def __init__(
        self, network: SeqTrack, rule: UpdateRule, rows: int = 0, precision: str = "fp32", compiled: bool = False
    ) -> None:
        """`rows` of every pass, 0 for as many as there are sequences; `precision` fp32, bf16 or fp16 (autocast);

        `compiled` runs encoder and decoder through torch.compile, once for each number of rows and of templates.
        """
        self.dtype = dtype_of(precision)
        self.network = network.eval()
        self.config = network.config
        self.rule = rule
        self.rows = rows
        self.device = next(network.parameters()).device
        self.encode, self.decode = network.encode, network.decode
        if compiled:
            self.encode, self.decode = compile_for(self.device, self.encode), compile_for(self.device, self.decode)
        elif self.device.type == "cpu" and self.dtype == torch.float32:
            network.pack()

    def start(self, frames: Sequence[Image], boxes: Sequence[Box], sentences: Sequence[str]) -> list[State]:
        """First frames uint8 [H,W,3], first boxes [4] xywh in pixels (not clipped), and sentences to states."""
        checked = check_start(frames, boxes, sentences)
        tokens = self._template_tokens(frames, checked)
        return [State(0, b, s, t) for b, s, t in zip(checked, sentences, tokens, strict=True)]

    @torch.inference_mode()
    def step(self, states: Sequence[State], frames: Sequence[Image]) -> tuple[list[State], list[Output]]:
        """The next frame of every sequence; `states` stay as they are."""
        for frame in frames:
            check_frame(frame)
        before = np.stack([s.box for s in states])  # [B,4]
        images, factors = crops.crop_batch(frames, before, self.config.factor, self.config.image)
        words, probabilities = self._words(states, images)

        mapped = crops.map_back(words / (self.config.bins - 1), before, self.config.image, factors)
        confidences = 10 * probabilities.sum(axis=1)
        new, outputs = [], []
        for state, frame, box, confidence in zip(states, frames, mapped, confidences.tolist(), strict=True):
            box = clip_to_image(box, frame.shape[1], frame.shape[0])
            new.append(replace(state, frame=state.frame + 1, box=box))
            outputs.append(Output(box=box, confidence=confidence, sentence=state.sentence))
        return self._update(new, outputs, frames), outputs

    def _words(self, states: Sequence[State], images: Image) -> tuple[np.ndarray, np.ndarray]:
        """Words [B,4] in bins and their probabilities [B,4] of the search crops [B,S,S,3]."""
        found = np.empty((len(states), 8))
        for folded in (True, False):
            group = [i for i, s in enumerate(states) if (s.newest is None) == folded]
            for members, filled in self._passes(group):
                found[members] = self._pass([states[i] for i in filled], images[filled], folded)[: len(members)]
        return found[:, :4], found[:, 4:]

    def _passes(self, group: list[int]) -> Iterator[tuple[list[int], list[int]]]:
        """`group` in passes of `rows`: who is wanted, and the same with the last one repeated until the pass is full."""
        size = self.rows or max(1, len(group))
        for begin in range(0, len(group), size):
            members = group[begin : begin + size]
            yield members, members + members[-1:] * (self.rows - len(members))

    def _pass(self, states: Sequence[State], images: Image, folded: bool) -> np.ndarray:
        """Words and their probabilities [b,4 + 4] of states that all are folded, or all are not."""
        with autocast(self.device, self.dtype):
            search = self.network.embed_search(crops.normalise(images, self.device))  # [b,N,D]
            templates = [torch.stack([s.first for s in states])]
            if not folded:
                templates.append(torch.stack([s.newest for s in states]))
            words, probabilities = self.decode(self.encode(search, tuple(templates)))
        # one transfer for both, exact in double: a word is far below 2**53
        return torch.cat([words.double(), probabilities], dim=1).cpu().numpy()

    def _update(self, states: list[State], outputs: Sequence[Output], frames: Sequence[Image]) -> list[State]:
        """`states` with new second templates where the rule wants them: a crop around the new box."""
        due = [
            i
            for i, (state, output) in enumerate(zip(states, outputs, strict=True))
            if state.frame % self.rule.interval == 0 and output.confidence > self.rule.threshold
        ]
        if due:
            tokens = self._template_tokens([frames[i] for i in due], [states[i].box for i in due])
            for i, t in zip(due, tokens, strict=True):
                states[i] = replace(states[i], newest=t)
        return states

    @torch.inference_mode()
    def _template_tokens(self, frames: Sequence[Image], boxes: Sequence[Box]) -> list[Tensor]:
        images, _ = crops.crop_batch(frames, boxes, self.config.template_factor, self.config.template)
        tokens: list[Tensor] = []
        for members, filled in self._passes(list(range(len(images)))):
            with autocast(self.device, self.dtype):
                embedded = self.network.embed_template(crops.normalise(images[filled], self.device))
            tokens += [t.clone() for t in embedded[: len(members)]]  # a view would keep the whole pass in memory
        return tokens
