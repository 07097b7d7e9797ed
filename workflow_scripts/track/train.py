"""Train a DUTrack on a benchmark's training split, on one core or with torch's own distributed launcher.

    python -m workflow_scripts.track.train --index results/mini/data/tnllt.npz --output results/mini/track/weights/dutrack

Crops are made by threads while the network learns. A checkpoint lies beside the output until the training ends, so that
a killed one goes on from there; every step's samples depend on (seed, step) alone, so it ends in the same weights.
Output: weights.safetensors, config.json, vocabulary.txt, loss.csv (a line a step).
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workflow_scripts import console, files, manifest, params, sequences
from workflow_scripts.console import BadInput
from workflow_scripts.params.track import Train
from workflow_scripts.track import checkpoints, losses, sampler
from workflow_scripts.track.crops import normalise
from workflow_scripts.track.networks.dutrack import VARIANTS, DUTrack, DUTrackConfig
from workflow_scripts.track.texts import COLOURS, SHAPES, TEXTURES, Tokenizer, small_vocabulary

FAMILIES = (COLOURS, TEXTURES, SHAPES)  # words of which a sentence has one each
FINAL_RATE = 1e-6  # where the cosine ends
COLUMNS = ("step", "learning_rate", "loss", "giou", "l1", "focal", "iou")

Row = tuple[float, ...]  # of COLUMNS


def batch_loss(
    network: DUTrack, batch: sampler.Batch, tokenise: Tokenizer, p: Train, device: str = "cpu"
) -> tuple[Tensor, Row]:
    """Loss of one batch summed over its search frames, and its parts (giou, l1, focal, iou; means over the frames)."""
    b, t = batch.templates.shape[:2]
    memory = network.embed_template(normalise(batch.templates.reshape(b * t, *batch.templates.shape[2:]), device))
    memory = memory.unflatten(0, (b, t))  # [B, T, Nz, D]
    text = network.embed_text(torch.from_numpy(tokenise(batch.sentences)).to(device))
    weights = losses.Weights(p.giou, p.l1, p.focal)
    query, parts, named = None, [], []
    reader = Reader(network, tokenise, batch.sentences) if p.alignment else None
    for search, target in zip(batch.searches, batch.boxes, strict=True):
        output = network(normalise(search, device), memory, text, query)
        target = torch.from_numpy(target).to(device)
        parts.append(
            losses.tracking_loss(output.score.float(), output.size.float(), output.offset.float(), target, weights, p.decode_at)
        )
        query = output.query.detach()  # the next frame reads it, no gradient flows back in time
        if reader:
            named.append(reader.loss(target))
    total = torch.stack([part.total for part in parts]).sum()
    if reader:
        total = total + p.alignment * torch.stack(named).sum()
        reader.close()
    means = np.mean([(part.giou, part.l1, part.focal, part.iou) for part in parts], axis=0)
    return total, tuple(means.tolist())


class Reader:
    """Names the targets from what the small network's stem says of them, while the network runs on search crops."""

    def __init__(self, network: DUTrack, tokenise: Tokenizer, sentences: list[str]) -> None:
        backbone, device = network.backbone, network.backbone.word_embeddings.weight.device
        self.words = backbone.text_norm(backbone.word_embeddings.weight)  # [V, D]
        ids = torch.from_numpy(tokenise(sentences))  # [B, 16]
        self.named = torch.zeros(len(sentences), len(tokenise), dtype=torch.bool).scatter_(1, ids, True).to(device)
        self.families = [[tokenise.ids[w] for w in family if w in tokenise.ids] for family in FAMILIES]
        self.features: Tensor | None = None  # [B, D, F, F] of the stem's last pass
        self.hook = backbone.patch_embed.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.features = output

    def loss(self, target: Tensor) -> Tensor:
        """Alignment loss of the targets [B, 4] in the search crops that the network has just seen."""
        tokens = self.features.flatten(2).transpose(1, 2)  # [B, F * F, D]
        return losses.alignment_loss(losses.features_at(tokens, target), self.words, self.named, self.families)

    def close(self) -> None:
        self.hook.remove()


def learning_rate(step: int, p: Train) -> float:
    """Rate of the head at `step` (0-based): linear warm-up, then a cosine to FINAL_RATE or one drop to a tenth."""
    if step < p.warm_up:
        return p.learning_rate * (step + 1) / p.warm_up
    done = (step - p.warm_up) / max(1, p.steps - p.warm_up)
    if p.schedule == "step":
        return p.learning_rate * (0.1 if step >= p.drop_at * p.steps else 1.0)
    return FINAL_RATE + (p.learning_rate - FINAL_RATE) * (1 + math.cos(math.pi * done)) / 2


def make_optimiser(network: nn.Module, p: Train) -> torch.optim.AdamW:
    """AdamW whose groups remember their factor on the rate; norms, biases and single vectors do not decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        factor = 1.0 if name.startswith("box_head.") else p.backbone_rate
        groups.setdefault((factor, p.weight_decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    described = [{"params": members, "factor": f, "weight_decay": w} for (f, w), members in groups.items()]
    return torch.optim.AdamW(described, lr=p.learning_rate, betas=p.betas)


def train(
    network: DUTrack,
    batches: Iterator[sampler.Batch],
    tokenise: Tokenizer,
    p: Train,
    optimiser: torch.optim.Optimizer,
    first: int = 0,
    after_step: Callable[[int, Row], None] = lambda step, row: None,
) -> None:
    """Optimise `network` in place from step `first` to p.steps. BadInput if the loss stops being a number."""
    network.train()
    for step, batch in zip(range(first, p.steps), batches, strict=True):
        rate = learning_rate(step, p)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        with torch.autocast(p.device.split(":")[0], torch.bfloat16, enabled=p.dtype == "bf16"):
            loss, parts = batch_loss(network, batch, tokenise, p, p.device)
        if not math.isfinite(float(loss.detach())):
            raise BadInput(f"the loss is not a number at step {step}: lower track.train.learning_rate.")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(network)
        nn.utils.clip_grad_norm_(network.parameters(), p.clip)
        optimiser.step()
        after_step(step, (step, rate, float(loss.detach()), *parts))


def average_gradients(network: nn.Module) -> None:
    """Mean of the gradients over the processes of a distributed training; nothing in a training of one process."""
    if not torch.distributed.is_initialized():
        return
    for parameter in network.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        torch.distributed.all_reduce(parameter.grad)
        parameter.grad /= torch.distributed.get_world_size()


class Checkpoint:
    """The state of an unfinished training, in one file beside the output, replaced whole every few steps."""

    def __init__(self, output: Path, recipe: dict[str, Any]) -> None:
        self.path = output.with_name(f".{output.name}.unfinished.pt")
        self.recipe = json.dumps(recipe, sort_keys=True)  # another recipe or index does not resume from here

    def save(self, network: nn.Module, optimiser: torch.optim.Optimizer, rows: list[Row]) -> None:
        state = {"recipe": self.recipe, "network": network.state_dict(), "optimiser": optimiser.state_dict(), "rows": rows}
        with files.atomic_path(self.path) as temporary:
            torch.save({**state, "random": torch.get_rng_state()}, temporary)

    def load(self, network: nn.Module, optimiser: torch.optim.Optimizer) -> list[Row]:
        """Restore a training of the same recipe and return its log; an empty one where there is none."""
        if not self.path.is_file():
            return []
        try:
            state = torch.load(self.path, weights_only=True)
        except Exception as error:  # torch raises half a dozen types for a damaged file
            raise BadInput(f"{self.path} cannot be read ({type(error).__name__}): delete it to train from the start.") from None
        if state["recipe"] != self.recipe:
            print(f"{self.path} belongs to another recipe: training starts anew.", flush=True)
            return []
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["random"])
        rows = [tuple(row) for row in state["rows"]]
        print(f"resuming after step {len(rows)}", flush=True)
        return rows


def write_weights(output: Path, network: DUTrack, vocabulary: list[str], rows: list[Row]) -> None:
    """The folder a tracker is loaded from, whole or not at all."""
    with files.atomic_folder(output) as folder:
        checkpoints.save(folder, network, vocabulary)
        with open(folder / "loss.csv", "w", newline="") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows([int(row[0]), *(f"{v:.6g}" for v in row[1:])] for row in rows)


def build_network(p: Train, sentences: list[str]) -> tuple[DUTrack, Tokenizer]:
    """The fresh or pre-trained network of a recipe, and its tokenizer."""
    if p.network not in VARIANTS:
        raise BadInput(f"there is no network called {p.network}: track.train.network is one of {', '.join(VARIANTS)}.")
    config = VARIANTS[p.network]
    if config.backbone == "small":
        tokenise = Tokenizer(small_vocabulary(sentences))
        config = replace(config, vocabulary_size=len(tokenise))
    else:
        tokenise = Tokenizer.from_file(p.vocabulary, config.cased)
    if p.alignment and config.backbone != "small":
        raise BadInput(f"{p.network} does not learn by alignment: set track.train.alignment to 0.")
    torch.manual_seed(p.seed)
    network = DUTrack(config)
    if p.initial:
        state = checkpoints.read_checkpoint(p.initial)
        known = {k: v for k, v in state.items() if k in network.state_dict() and v.shape == network.state_dict()[k].shape}
        missing = network.load_state_dict(known, strict=False).missing_keys
        print(f"{p.initial}: {len(known)} tensors taken, {len(missing)} start at random", flush=True)
    return network, tokenise


def join_processes(device: str) -> tuple[int, int]:
    """Rank and number of the processes that torch.distributed.run started (0 and 1 without it)."""
    if "RANK" not in os.environ:
        return 0, 1
    torch.distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    if device.startswith("cuda"):
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--index", type=Path, required=True, help="index of the benchmark (.npz)")
    parser.add_argument("--split", default="train", help="split to learn from")
    parser.add_argument("--parameters", help="track.train as JSON (default: params.yaml)")
    parser.add_argument("--output", type=Path, required=True, help="folder of the trained network")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    arguments = parser.parse_args()
    p = params.section(arguments.parameters, "track.train", Train)
    torch.set_num_threads(p.threads)
    rank, processes = join_processes(p.device)

    chosen = sampler.usable(sequences.read_index(arguments.index, split=arguments.split))
    network, tokenise = build_network(p, [s.sentence for s in chosen])
    network.to(p.device)
    config: DUTrackConfig = network.config
    optimiser = make_optimiser(network, p)
    recipe = {
        **p.model_dump(mode="json"),
        "index": files.sha256(arguments.index),
        "split": arguments.split,
        "processes": processes,
    }
    checkpoint = Checkpoint(arguments.output, recipe)
    rows = checkpoint.load(network, optimiser)

    frames = sampler.Frames(chosen, p.in_memory)
    shape = sampler.Shape(config.search_size, config.search_factor, config.template_size, config.template_factor)
    draw = partial(sampler.draw_batch, chosen, frames, shape, p.sampling, p.augment, p.batch, p.seed)
    ahead = sampler.feed(lambda step: draw(step * processes + rank), len(rows), p.steps, p.queue, p.feeders)
    ticks = console.progress(range(len(rows), p.steps), f"training {p.network}")

    def after_step(step: int, row: Row) -> None:
        rows.append(row)
        next(ticks, None)
        if (step + 1) % 50 == 0 and rank == 0:
            recent = np.mean(rows[-50:], axis=0)
            print(f"step {step + 1}: loss {recent[2]:.3f}, IoU at the centre cell {recent[6]:.3f}", flush=True)
        if (step + 1) % p.checkpoint_every == 0 and rank == 0 and step + 1 < p.steps:
            checkpoint.save(network, optimiser, rows)

    train(network, ahead, tokenise, p, optimiser, len(rows), after_step)
    if rank == 0:
        write_weights(arguments.output, network, tokenise.words, rows)
        checkpoint.path.unlink(missing_ok=True)
        if arguments.manifest:
            facts = {"sequences": len(chosen), "steps": p.steps, "parameters": sum(x.numel() for x in network.parameters())}
            facts["iou_last_100"] = round(float(np.mean([row[6] for row in rows[-100:]])), 4)
            manifest.write(arguments.manifest, [arguments.output], p.model_dump(mode="json"), [arguments.index], facts)
    if processes > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    console.run(main)
