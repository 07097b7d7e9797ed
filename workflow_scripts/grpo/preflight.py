"""What a GPU node lacks for EasyR1, in seconds and all at once; the trainer finds out one after the other, after minutes each.

python -m workflow_scripts.in_env grpo-gpu -- python -m workflow_scripts.grpo.preflight --config results/full/grpo/config.yaml
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workflow_scripts import console, gpus, params, weights
from workflow_scripts.console import BadInput
from workflow_scripts.gpus import Device
from workflow_scripts.grpo import easyr1_config

LEAST_CAPABILITY = (8, 0)  # flash-attention 2
PACKAGES = {
    "flash_attn": "pip install --no-build-isolation flash-attn==2.8.3",
    "vllm": "build the grpo-gpu environment again",
    "ray": "build the grpo-gpu environment again",
}
GIB = 2**30


@dataclass(frozen=True)
class Node:
    """What was found on this machine. disk: free bytes where checkpoints go; ports: those of ours that are taken."""

    gpus: tuple[Device, ...]
    packages: frozenset[str]
    disk: int
    ports: frozenset[int]


def look(folder: Path, port: int | None) -> Node:
    """This machine, as a run that saves in `folder` (or will) and listens on `port` finds it."""
    while not folder.exists():
        folder = folder.parent
    found = frozenset(name for name in PACKAGES if importlib.util.find_spec(name))
    there = gpus.visible() if gpus.driver() else []
    return Node(tuple(there), found, shutil.disk_usage(folder).free, frozenset([port] if port and is_taken(port) else []))


def is_taken(port: int) -> bool:
    """Whether somebody listens on the loopback port."""
    try:
        with socket.create_server(("127.0.0.1", port)):
            return False
    except OSError:
        return True


def checkpoint_bytes(trainer: Mapping[str, Any], parameters: int) -> int:
    """What the kept steps take on disk, and one more: an old step is deleted before the new one is whole, ours is copied."""
    value = {key: entry["default"] for key, entry in easyr1_config.key_table().items()} | dict(easyr1_config.flatten(trainer))
    narrow = value["worker.actor.fsdp.torch_dtype"] in ("bf16", "bfloat16", "fp16")
    weights = 2 if narrow else 4
    moments = 0 if value["trainer.save_model_only"] else 2 * (2 if value["worker.actor.optim.strategy"] == "adamw_bf16" else 4)
    kept = value["trainer.save_limit"] if value["trainer.save_limit"] > 0 else 1
    return (kept + 1) * parameters * (weights + moments)


def lacks(node: Node, config: Mapping[str, Any], parameters: int) -> list[str]:
    """A sentence for each thing that is missing; none where EasyR1 can start. `parameters` of the model."""
    launch, trainer = config["easyr1"], config["trainer"]
    wanted, share = (
        launch["gpus"],
        float(dict(easyr1_config.flatten(trainer)).get("worker.rollout.gpu_memory_utilization", 0.6)),
    )
    said = []
    if len(node.gpus) < wanted:
        said.append(
            f"this machine shows {len(node.gpus)} GPUs and grpo.easyr1.gpus asks for {wanted}: run the job on a GPU node."
        )
    for gpu in node.gpus[:wanted]:
        if gpu.capability < LEAST_CAPABILITY:
            capability = ".".join(map(str, gpu.capability))
            said.append(
                f"GPU {gpu.index} ({gpu.name}) has compute capability {capability}: flash-attention 2 needs 8.0 or newer."
            )
        if gpu.free < share * gpu.total:
            said.append(
                f"GPU {gpu.index} ({gpu.name}) has {gpu.free / GIB:.0f} of {gpu.total / GIB:.0f} GiB free, and the rollout "
                f"takes {share:.0%} of all (worker.rollout.gpu_memory_utilization): end what else runs there, or lower it."
            )
    for package, remedy in PACKAGES.items():
        if package not in node.packages:
            said.append(f"{package} is not installed in this environment: {remedy}.")
    needed = checkpoint_bytes(trainer, parameters)
    if node.disk < needed:
        said.append(
            f"{node.disk / GIB:.0f} GiB of disk are free, and the kept checkpoints take {needed / GIB:.0f}: make room, "
            "or lower trainer.save_limit (grpo.easyr1.overrides)."
        )
    for port in sorted(node.ports):
        said.append(f"port {port} is taken: set grpo.easyr1.tracker_port to a free one.")
    return said


def check(config: Mapping[str, Any], folder: Path) -> None:
    """BadInput says all that this machine lacks for the run of `config` that saves in `folder`."""
    launch = config["easyr1"]
    node = look(folder, launch["tracker_port"] if launch["tracker"] else None)
    if said := lacks(node, config, weights.parameters(Path(config["model"]))):
        raise BadInput(" ".join(said))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Say what this machine lacks for GRPO by EasyR1.")
    parser.add_argument("--config", type=Path, required=True, help="configuration written by grpo.configure")
    arguments = parser.parse_args()
    config = params.read_tree(arguments.config)
    if config.get("engine") != "easyr1":
        raise BadInput(f"{arguments.config} is no configuration of EasyR1: the trl engine runs anywhere.")
    check(config, arguments.config.parent)
    print("nothing is missing")


if __name__ == "__main__":
    console.run(main)
