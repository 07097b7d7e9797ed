"""The adapter of a LoRA checkpoint: what it adds to the base model's matrices.

actor/model_world_size_<W>_rank_<R>.pt    base_model.model.<module>.base_layer.weight, .lora_A.default.weight, .lora_B...
actor/lora_adapter/adapter_config.json    rank and alpha, from which the scaling follows; nothing in the shards says it
actor/lora_adapter/adapter_model.safetensors    A and B once more, whole: they must be those of the shards
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from workflow_scripts import files
from workflow_scripts.console import BadInput

WRAPPED, BASE = "base_model.model.", ".base_layer."
PARTS = ("lora_A", "lora_B")


def plain_name(name: str) -> str:
    """Name of a shard's tensor in the model without adapters; the adapter's own tensors keep what tells them apart."""
    return name.removeprefix(WRAPPED).replace(BASE, ".") if name.startswith(WRAPPED) else name


def is_adapter(name: str) -> bool:
    """Whether a tensor of a shard belongs to an adapter."""
    return any(f".{part}." in name for part in PARTS)


def part_of(matrix: str, part: str) -> str:
    """Name in the shards of the adapter's `part` for the model's tensor `matrix`."""
    return f"{matrix.removesuffix('.weight')}.{part}.default.weight"


@dataclass(frozen=True)
class Adapter:
    """Low-rank additions. matrices: names in the model of the tensors that are added to."""

    folder: Path
    scaling: float
    matrices: frozenset[str]

    def added(self, name: str, matrix: torch.Tensor, whole: Callable[[str], torch.Tensor]) -> torch.Tensor:
        """`matrix` + scaling x B A, summed in float32 at least; `whole` gives the whole tensor of a name in the shards."""
        a, b = (whole(part_of(name, part)) for part in PARTS)
        kind = torch.promote_types(torch.promote_types(a.dtype, matrix.dtype), torch.float32)
        if a.ndim != 2 or b.ndim != 2 or (b.shape[0], a.shape[1]) != tuple(matrix.shape) or a.shape[0] != b.shape[1]:
            raise BadInput(
                f"{self.folder.parent}: the adapter's {tuple(b.shape)} x {tuple(a.shape)} does not fit {name} "
                f"{tuple(matrix.shape)}; the step is another model's."
            )
        return (matrix.to(kind) + (b.to(kind) @ a.to(kind)) * self.scaling).to(matrix.dtype)

    def check(self, whole: Callable[[str], torch.Tensor]) -> None:
        """BadInput if the adapter's own file does not hold the shards' A and B."""
        from safetensors import SafetensorError, safe_open

        path = self.folder / "adapter_model.safetensors"
        wanted = {f"{WRAPPED}{part_of(m, p).replace('.default.', '.')}": part_of(m, p) for m in self.matrices for p in PARTS}
        try:
            with safe_open(path, "pt") as opened:
                if different := sorted(set(wanted) ^ set(opened.keys())):
                    raise BadInput(f"{path} and the shards do not hold the same tensors (e.g. {different[0]}): copy one run's.")
                for name, stored in wanted.items():
                    if not torch.equal(opened.get_tensor(name), whole(stored)):
                        raise BadInput(f"{path}: {name} is not that of the shards; copy the files of one step.")
        except (OSError, SafetensorError) as error:
            raise BadInput(f"{path} cannot be read ({error}): copy it again from the node that wrote it.") from None


def read(actor: Path, names: Iterable[str]) -> Adapter | None:
    """The adapter of a step whose shards hold tensors called `names` (plain); None for a step without one.

    BadInput for a kind of adapter whose sum is not scaling x B A, and where shards and folder do not belong together.
    """
    folder = actor / "lora_adapter"
    own = {name for name in names if is_adapter(name)}
    if not own:
        if folder.exists():
            raise BadInput(
                f"{folder} is there, but no shard holds LoRA weights: the step is of two runs; copy one run's files."
            )
        return None
    path = folder / "adapter_config.json"
    config = files.read_json(path)
    odd = [
        key
        for key, usual in (("use_dora", False), ("rank_pattern", {}), ("alpha_pattern", {}), ("fan_in_fan_out", False))
        if config.get(key) not in (usual, None)
    ]
    if odd or config.get("peft_type") != "LORA" or config.get("bias", "none") != "none":
        what = ", ".join(odd) or f"{config.get('peft_type')} with bias {config.get('bias')}"
        raise BadInput(f"{path} describes an adapter that is not plain LoRA ({what}): merge it with peft.")
    try:
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
        scaling = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        raise BadInput(f"{path} does not say the adapter's r and lora_alpha: copy it again.") from None
    suffixes = {part: f".{part}.default.weight" for part in PARTS}
    matrices = {f"{name.removesuffix(s)}.weight" for s in suffixes.values() for name in own if name.endswith(s)}
    complete = {part_of(matrix, part) for matrix in matrices for part in PARTS}
    if unpaired := sorted(own ^ complete):
        raise BadInput(f"{actor}: tensor {unpaired[0]} has no counterpart in the adapter; the step was not saved whole.")
    return Adapter(folder, scaling, frozenset(matrices))
