"""Train a DUTrack or a SeqTrack on benchmarks' training splits, on one core or on many GPUs.

    python -m workflow_scripts.track.train --name dutrack --index results/mini/data/tnllt.npz \
        --output results/mini/track/weights/dutrack
    torchrun --standalone --nproc-per-node 8 -m workflow_scripts.track.train ...    # the same, each batch shared by 8

Crops are made by threads while the network learns. A checkpoint lies beside the output until the training ends, so that
a killed one goes on from there; samples and dropout of a step depend on the seed and the step alone, so it ends in the
same weights. Output: weights.safetensors, config.json, vocabulary.txt (where it reads), loss.csv (a line a step).
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed, nn

from workflow_scripts import console, files, manifest, params, sequences
from workflow_scripts.console import BadInput
from workflow_scripts.params.track import Train
from workflow_scripts.track import checkpoints, initial, sampler
from workflow_scripts.track.learners import Learner, frozen_parts, learner_of

FINAL_RATE = 1e-6  # where the cosine ends
COLUMNS = ("step", "learning_rate", "loss")  # of the log, and then a learner's parts

Row = tuple[float, ...]  # of the log


@dataclass(frozen=True)
class World:
    """The processes of a training: this one's number, and how many there are."""

    rank: int = 0
    size: int = 1


def join(device: str) -> World:
    """The processes that torch's launcher started; this one alone without it."""
    if "RANK" not in os.environ:
        return World()
    if device.startswith("cuda"):
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return World(distributed.get_rank(), distributed.get_world_size())


def share(batch: int, world: World) -> range:
    """Numbers of the samples of a batch that are this process's. BadInput where they cannot be shared evenly."""
    if batch % world.size:
        raise BadInput(f"a batch of {batch} cannot be shared by {world.size} processes: make it a multiple of them.")
    each = batch // world.size
    return range(world.rank * each, (world.rank + 1) * each)


def learning_rate(step: int, p: Train) -> float:
    """Rate of the head at `step` (0-based): linear warm-up, then a cosine to FINAL_RATE or one drop to a tenth."""
    if step < p.warm_up:
        return p.learning_rate * (step + 1) / p.warm_up
    done = (step - p.warm_up) / max(1, p.steps - p.warm_up)
    if p.schedule == "step":
        return p.learning_rate * (0.1 if step >= p.drop_at * p.steps else 1.0)
    return FINAL_RATE + (p.learning_rate - FINAL_RATE) * (1 + math.cos(math.pi * done)) / 2


def make_optimiser(learner: Learner, p: Train) -> torch.optim.AdamW:
    """AdamW whose groups remember their factor on the rate; norms, biases and single vectors do not decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in learner.network.named_parameters():
        if parameter.requires_grad:
            factor = 1.0 if learner.full_rate(name) else p.backbone_rate
            groups.setdefault((factor, p.weight_decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    described = [{"params": members, "factor": f, "weight_decay": w} for (f, w), members in groups.items()]
    return torch.optim.AdamW(described, lr=p.learning_rate, betas=p.betas)


def train(
    learner: Learner,
    batches: Iterable[sampler.Batch],
    p: Train,
    optimiser: torch.optim.Optimizer,
    world: World = World(),
    first: int = 0,
    after_step: Callable[[int, Row], None] = lambda step, row: None,
) -> None:
    """Optimise the learner's network in place from step `first` to p.steps; the processes' gradients are averaged.

    Batch norms see a process's share of the batch, as published. BadInput if the loss stops being a number.
    """
    learner.train()
    for part in frozen_parts(learner, p):
        part.eval()
    model: nn.Module = learner
    if world.size > 1:
        model = nn.parallel.DistributedDataParallel(learner)
    for step, batch in zip(range(first, p.steps), batches, strict=True):
        torch.manual_seed(int(np.random.default_rng([p.seed, step, world.rank]).integers(2**62)))  # of this step's dropout
        rate = learning_rate(step, p)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        with torch.autocast(p.device.split(":")[0], torch.bfloat16, enabled=p.dtype == "bf16"):
            loss, parts = model(batch)
        row = (step, rate, *mean_of_all([float(loss.detach()), *parts], p.device, world))
        if not math.isfinite(row[2]):
            raise BadInput(f"the loss is not a number at step {step}: lower the recipe's learning_rate.")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(learner.parameters(), p.clip)
        optimiser.step()
        after_step(step, row)


def mean_of_all(values: list[float], device: str, world: World) -> list[float]:
    """Means of the processes' values: those of the whole batch."""
    if world.size == 1:
        return values
    gathered = torch.tensor(values, dtype=torch.float32, device=device)
    distributed.all_reduce(gathered)
    return (gathered / world.size).tolist()


class Checkpoint:
    """The state of an unfinished training, in one file beside the output, replaced whole every few steps."""

    def __init__(self, output: Path, recipe: dict[str, Any]) -> None:
        self.path = output.with_name(f".{output.name}.unfinished.pt")
        self.recipe = json.dumps(recipe, sort_keys=True)  # another recipe or index does not resume from here

    def save(self, network: nn.Module, optimiser: torch.optim.Optimizer, rows: list[Row]) -> None:
        state = {"recipe": self.recipe, "network": network.state_dict(), "optimiser": optimiser.state_dict(), "rows": rows}
        with files.atomic_path(self.path) as temporary:
            torch.save(state, temporary)

    def load(self, network: nn.Module, optimiser: torch.optim.Optimizer) -> list[Row]:
        """Restore a training of the same recipe and return its log; an empty one where there is none."""
        if not self.path.is_file():
            return []
        try:
            state = torch.load(self.path, weights_only=True, map_location="cpu")
        except Exception as error:  # torch raises half a dozen types for a damaged file
            raise BadInput(f"{self.path} cannot be read ({type(error).__name__}): delete it to train from the start.") from None
        if state["recipe"] != self.recipe:
            print(f"{self.path} belongs to another recipe: training starts anew.", flush=True)
            return []
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        rows = [tuple(row) for row in state["rows"]]
        print(f"resuming after step {len(rows)}", flush=True)
        return rows


def write_weights(output: Path, learner: Learner, rows: list[Row]) -> None:
    """The folder a tracker is loaded from, whole or not at all."""
    with files.atomic_folder(output) as folder:
        checkpoints.save(folder, learner.network, learner.vocabulary)
        with open(folder / "loss.csv", "w", newline="") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow([*COLUMNS, *learner.parts])
            writer.writerows([int(row[0]), *(f"{v:.6g}" for v in row[1:])] for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="dutrack", help="the recipe, by its name in track.train of params.yaml")
    parser.add_argument("--parameters", help="the recipe as JSON (default: params.yaml)")
    parser.add_argument("--index", type=Path, action="append", required=True, help="index of a benchmark (.npz); once or often")
    parser.add_argument("--split", default="train", help="split to learn from")
    parser.add_argument("--initial", type=Path, help="weights to start from: a trained folder or a checkpoint")
    parser.add_argument("--vocabulary", default="", help="BERT's vocabulary file, for the official networks that read")
    parser.add_argument("--output", type=Path, required=True, help="folder of the trained network")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    arguments = parser.parse_args()
    p = params.section(arguments.parameters, f"track.train.{arguments.name}", Train)
    torch.set_num_threads(p.threads)
    world = join(p.device)
    numbers = share(p.batch, world)

    read = [sequences.read_index(index, split=arguments.split) for index in arguments.index]
    source = sampler.source_of(read, p.sampling, p.in_memory)
    learner = learner_of(p, [s.sentence for s in source.sequences], arguments.vocabulary)
    if arguments.initial:
        initial.take(learner.network, arguments.initial)
    learner.to(p.device)
    optimiser = make_optimiser(learner, p)
    recipe = {
        **p.model_dump(mode="json"),
        "indices": [files.sha256(index) for index in arguments.index],
        "initial": arguments.initial and manifest.summary(arguments.initial)["sha256"],
        "split": arguments.split,
        "processes": world.size,
    }
    checkpoint = Checkpoint(arguments.output, recipe)
    rows = checkpoint.load(learner.network, optimiser)

    draw = partial(sampler.draw_batch, source, learner.shape, p.sampling, p.augment, numbers, p.seed)
    ahead = sampler.feed(draw, len(rows), p.steps, p.queue, p.feeders)
    ticks = console.progress(range(len(rows), p.steps), f"training {p.network}")

    def after_step(step: int, row: Row) -> None:
        rows.append(row)
        if world.rank:
            return
        next(ticks, None)
        if (step + 1) % 50 == 0:
            recent = np.mean(rows[-50:], axis=0)
            print(f"step {step + 1}: loss {recent[2]:.3f}, IoU {recent[-1]:.3f}", flush=True)
        if (step + 1) % p.checkpoint_every == 0 and step + 1 < p.steps:
            checkpoint.save(learner.network, optimiser, rows)

    train(learner, ahead, p, optimiser, world, len(rows), after_step)
    if world.rank == 0:
        write_weights(arguments.output, learner, rows)
        checkpoint.path.unlink(missing_ok=True)
        if arguments.manifest:
            count = sum(x.numel() for x in learner.network.parameters())
            facts = {"sequences": len(source.sequences), "steps": p.steps, "parameters": count}
            facts["iou_last_100"] = round(float(np.mean([row[-1] for row in rows[-100:]])), 4)
            inputs = [*arguments.index, *([arguments.initial] if arguments.initial else [])]
            manifest.write(arguments.manifest, [arguments.output], p.model_dump(mode="json"), inputs, facts)
    if world.size > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    console.run(main)
