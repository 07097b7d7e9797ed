"""A whole model as the rank files that EasyR1's FSDP workers would write: one process a rank, DTensors cut in dimension 0.

TRL trains the mini study in one process. So that the merge and its check run on the real thing, the processes here form a
group (gloo), place every tensor on a mesh called "fsdp" and save what each holds, as FSDP's sharded state dict does.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from workflow_scripts import files
from workflow_scripts.grpo.checkpoints import shard_name


def write(state: Mapping[str, torch.Tensor], actor: Path, world: int) -> None:
    """Write `state` under `actor` as `world` rank files. Each file appears whole or not at all, and a killed writer's goes."""
    import torch.multiprocessing as processes

    actor.mkdir(parents=True, exist_ok=True)
    files.sweep([actor / "shards"])
    warm_up()
    with tempfile.TemporaryDirectory(dir=actor, prefix=".shards.", suffix=".tmp") as scratch:
        torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, f"{scratch}/state.pt")
        arguments = (str(actor), world, scratch)
        processes.start_processes(_write_rank, arguments, nprocs=world, start_method="forkserver")


def warm_up() -> None:
    """Start the process that ranks are forked from: not the trainer, which holds threads, and with its imports behind it."""
    from multiprocessing import forkserver, set_forkserver_preload

    set_forkserver_preload(["torch.distributed.tensor", __name__])
    forkserver.ensure_running()


def _write_rank(rank: int, actor: str, world: int, scratch: str) -> None:
    import torch.distributed as group
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # one machine: needs no network
    store = group.FileStore(f"{scratch}/meeting", world)
    group.init_process_group("gloo", store=store, rank=rank, world_size=world)
    try:
        mesh = init_device_mesh("cpu", (world,), mesh_dim_names=("fsdp",))
        whole = torch.load(f"{scratch}/state.pt", weights_only=True, mmap=True)
        parts = {
            name: distribute_tensor(tensor, mesh, [Shard(0) if tensor.ndim else Replicate()]) for name, tensor in whole.items()
        }
        target = Path(actor) / shard_name(world, rank)
        temporary = Path(scratch) / target.name
        torch.save(parts, temporary)
        temporary.replace(target)
        group.barrier()
    finally:
        group.destroy_process_group()
