"""How much faster the SeqTrack of this repository is than a direct reading of its paper, on this machine's CPU, one stream.

    python benchmarks/seqtrack_cpu.py --frames 8 --threads 2

`Straightforward` is the same network without the savings: both templates embedded and encoded every frame, attention as two
products around a softmax, every token through every block, and a decoder that runs the whole prefix, with the memory's keys and
values projected anew, for each of the four words. Both track the same synthetic sequence with the same weights, frame by frame
in turn, so that what else the machine does meets both alike; the boxes have to agree.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "track")]

import recipe  # noqa: E402 (a script: the two folders above come first)

from workflow_scripts import console  # noqa: E402
from workflow_scripts.track.networks.seqtrack import (  # noqa: E402
    CONFIGS,
    DecoderAttention,
    EncoderBlock,
    SeqTrack,
    merge_heads,
    split_heads,
)
from workflow_scripts.track.trackers.seqtrack import SeqTrackTracker, update_rule  # noqa: E402


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    logits = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    return (logits if mask is None else logits + mask).softmax(dim=-1) @ v


class Straightforward(SeqTrack):
    """`embed_template` keeps the image: its tokens are computed every frame, as published."""

    def pack(self) -> None:
        """Weights stay as torch's linear layers take them."""

    def embed_template(self, images: Tensor) -> Tensor:
        return images

    def encode(self, search: Tensor, templates: tuple[Tensor, ...]) -> Tensor:
        tokens = [super(Straightforward, self).embed_template(t) for t in (templates[0], templates[-1])]
        x = torch.cat([search, *tokens], dim=1)
        for block in self.encoder.body.blocks:
            x = self.block(block, x)
        return self.bottleneck(self.encoder.body.norm(x)[:, : self.config.tokens])

    def block(self, block: EncoderBlock, x: Tensor) -> Tensor:
        q, k, v = (split_heads(t, block.attn.heads) for t in block.attn.qkv(block.norm1(x)).chunk(3, dim=-1))
        x = x + block.attn.proj(merge_heads(attention(q, k, v)))
        return x + block.mlp(block.norm2(x))

    def attend(self, layer: DecoderAttention, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        heads = attention(layer.project(q, 0), layer.project(k, 1), layer.project(v, 2), mask)
        return layer.out_proj(merge_heads(heads))

    def decode(self, features: Tensor) -> tuple[Tensor, Tensor]:
        bins = self.config.bins
        words = torch.full((len(features), 1), bins + 1)
        confidences = []
        for i in range(4):
            length = words.shape[1]
            mask = torch.full((length, length), float("-inf")).triu(1)
            position = self.decoder.embedding.position_embeddings.weight[:length]
            t = self.decoder.embedding(words)
            for layer in self.decoder.body.layers:
                t = layer.norm1(t + self.attend(layer.self_attn, t + position, t + position, t, mask))
                t = layer.norm2(t + self.attend(layer.multihead_attn, t + position, features + self.pos_embed, features, None))
                t = layer.norm3(t + layer.linear2(F.relu(layer.linear1(t))))
            p = self.vocab_embed(self.decoder.body.norm(t))[:, -1].softmax(dim=-1)[:, :bins].double()
            confidence, word = (p * self.window if i < 2 else p).max(dim=-1, keepdim=True)
            words, confidences = torch.cat([words, word], dim=1), [*confidences, confidence]
        return words[:, 1:], torch.cat(confidences, dim=1)


def ratio(seconds: dict[str, list[float]]) -> str:
    """How many times faster `here` is, after the first frame."""
    here, direct = seconds["here"][1:], seconds["straightforward"][1:]
    frames = statistics.median(d / h for d, h in zip(direct, here, strict=True))
    return (
        f"{sum(direct) / sum(here):.2f}x in total, {frames:.2f}x median of the frames, {min(direct) / min(here):.2f}x at best"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", default="seqtrack_b256", choices=sorted(CONFIGS))
    parser.add_argument("--frames", type=int, default=8, help="frames tracked and timed, after one that is not timed")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    trackers = {}
    for name, network in (("here", SeqTrack), ("straightforward", Straightforward)):
        built = network(CONFIGS[arguments.network])
        recipe.fill(built, "seqtrack")
        trackers[name] = SeqTrackTracker(built, update_rule(arguments.network, "otb99"))

    frame, box = recipe.render(0)
    states = {name: tracker.start([frame], [np.array(box)], ["the red square"]) for name, tracker in trackers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in trackers}
    busy: dict[str, list[float]] = {name: [] for name in trackers}  # CPU seconds: what other programs do counts less
    apart = 0.0
    for i in range(1, arguments.frames + 2):
        frame, _ = recipe.render(i)
        boxes = {}
        for name, tracker in trackers.items():
            start, busy_start = time.perf_counter(), time.process_time()
            states[name], outputs = tracker.step(states[name], [frame])
            seconds[name].append(time.perf_counter() - start)
            busy[name].append(time.process_time() - busy_start)
            boxes[name] = outputs[0].box
        apart = max(apart, float(np.abs(boxes["here"] - boxes["straightforward"]).max()))

    for name, values in seconds.items():
        timed = values[1:]
        print(f"{name:16} median {1e3 * statistics.median(timed):7.1f} ms, best {1e3 * min(timed):7.1f} ms a frame")
    print(f"frames per second: {ratio(seconds)}")
    print(f"frames per CPU second: {ratio(busy)}")
    print(f"boxes differ by at most {apart:.1e} px")
    if apart > 1e-2:
        raise console.BadInput("the two implementations disagree: the networks have to be compared block by block.")


if __name__ == "__main__":
    console.run(main)
