"""Rank shards to whole tensors, one at a time, with every check that a silent merge lacks.

Upstream's merger reads shards in threads whose failures nobody looks at: with a missing or cut file it puts rank 0's half in
twice, says "Merge completed" and exits 0. Here every rank file must load (weights only, memory-mapped), hold the same keys, and
agree with the others and with the model's config on every shape; placements are undone dimension by dimension of the mesh.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from workflow_scripts.console import BadInput
from workflow_scripts.grpo import lora, streamed

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Model:
    """What a config says of its model: shapes by in-memory name, names tied to another, in-memory name -> name on disk."""

    shapes: Shapes
    tied: dict[str, str]  # e.g. lm_head.weight -> model.language_model.embed_tokens.weight
    stored_as: dict[str, str]
    architecture: str


def describe(folder: Path) -> Model:
    """Build the model of folder/config.json without memory and read its shapes off it. BadInput if there is no such class."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    names = config.architectures or []
    cls = getattr(transformers, names[0], None) if names else None
    if cls is None:
        raise BadInput(f"{folder / 'config.json'} names no architecture that transformers {transformers.__version__} knows.")
    with torch.device("meta"):
        model = cls._from_config(config)
    model.tie_weights()
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    first: dict[int, str] = {}
    tied = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owner = first.setdefault(id(parameter), name)
        if owner != name:
            tied[name] = owner
    return Model(shapes, tied, {name: disk_name(name, cls) for name in shapes}, names[0])


def disk_name(name: str, cls: type) -> str:
    """Name under which `save_pretrained` stores the in-memory tensor `name`: the published one, which every version reads."""
    import re

    for published, internal in getattr(cls, "_checkpoint_conversion_mapping", {}).items():
        prefix = internal
        if name.startswith(prefix + "."):
            return re.sub(r"\(.*\)", "", published.lstrip("^")) + name[len(prefix) :]
    return name


def load(path: Path) -> dict[str, torch.Tensor]:
    """One rank's state dict, memory-mapped, nothing executed. BadInput if the file is cut or holds anything but tensors."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # whatever is wrong with a foreign file, the user needs its name
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(f"{path} cannot be loaded ({reason[:150]}): copy it again from the node that wrote it.") from None
    if not isinstance(state, dict) or not all(isinstance(t, torch.Tensor) for t in state.values()) or not state:
        raise BadInput(f"{path} is not a state dict of tensors: it is not a rank file of the trainer.")
    return {lora.plain_name(name.replace("_fsdp_wrapped_module.", "")): tensor for name, tensor in state.items()}


class Assembly:
    """All ranks of one step, checked against each other and against the config; yields whole tensors by in-memory name.

    Where the step is one of LoRA, its adapter is added. One tensor at a time is in memory.
    """

    def __init__(self, paths: tuple[Path, ...], model: Model) -> None:
        self.paths, self.model = paths, model
        self.ranks = [load(path) for path in paths]
        self.adapter = lora.read(paths[0].parent, self.ranks[0])
        self.names = self._check_names()
        self._check_places()
        if self.adapter is not None:
            self.adapter.check(self._whole)

    def _check_names(self) -> dict[str, str]:
        """In-memory name -> name in the shards (older trainers saved the published names)."""
        for path, rank in zip(self.paths[1:], self.ranks[1:], strict=True):
            different = sorted(set(rank) ^ set(self.ranks[0]))
            if different:
                raise BadInput(
                    f"{path} and {self.paths[0].name} do not hold the same tensors (e.g. {different[0]}): "
                    "they are of different runs; copy one run's files."
                )
        given = {name for name in self.ranks[0] if self.adapter is None or not lora.is_adapter(name)}
        names = {}
        for name in self.model.shapes:
            present = [n for n in (name, self.model.stored_as[name]) if n in given]
            if present:
                names[name] = present[0]
            elif name not in self.model.tied:
                raise BadInput(
                    f"{self.paths[0].parent}: tensor {name} of {self.model.architecture} is in no shard; "
                    "the step is another model's."
                )
        surplus = sorted(given - set(names.values()))
        if surplus:
            raise BadInput(
                f"{self.paths[0].parent}: tensor {surplus[0]} does not belong to the {self.model.architecture} of "
                "huggingface/config.json; the step is another model's."
            )
        if self.adapter and (lost := sorted(self.adapter.matrices - set(names))):
            raise BadInput(f"{self.adapter.folder} adapts {lost[0]}, which no shard holds: copy the files of one step.")
        return names

    def _check_places(self) -> None:
        """Meshes, placements and ranks are what the file names say."""
        for rank, (path, state) in enumerate(zip(self.paths, self.ranks, strict=True)):
            for name, first in self.ranks[0].items():
                tensor = state[name]
                if type(tensor) is not type(first):
                    raise BadInput(f"{path}: tensor {name} is not sharded as in {self.paths[0].name}; copy one run's files.")
                if tensor.dtype != first.dtype:
                    raise BadInput(
                        f"{path}: tensor {name} is {tensor.dtype}, in {self.paths[0].name} {first.dtype}; copy one run's files."
                    )
                if not isinstance(tensor, DTensor):
                    continue
                mesh = tensor.device_mesh
                if math.prod(mesh.shape) != len(self.paths):
                    raise BadInput(
                        f"{path}: tensor {name} was split over {math.prod(mesh.shape)} ranks, {len(self.paths)} files are here."
                    )
                # the mesh remembers which rank pickled it: two exchanged files give themselves away
                owner = getattr(mesh, "_coordinate_on_dim", None)
                if owner is not None and tuple(owner) != _coordinate(rank, tuple(mesh.shape)):
                    raise BadInput(f"{path} was written by another rank (its place is {tuple(owner)}): rename it back.")
                if tensor.placements != first.placements or tensor.shape != first.shape:
                    raise BadInput(
                        f"{path}: tensor {name} is placed otherwise than in {self.paths[0].name}; copy one run's files."
                    )

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        """(in-memory name, whole tensor) of every owner."""
        for name in self.owners():
            yield name, self.tensor(name)

    def owners(self) -> list[str]:
        """In-memory names, tied ones left out after they were found equal to their owner."""
        for name in sorted(self.model.tied.keys() & self.names.keys()):
            self._check_tie(name)
        return sorted(self.names.keys() - self.model.tied.keys())

    def dtype(self, name: str) -> torch.dtype:
        """Type of the tensor of an in-memory name."""
        return self.ranks[0][self.names[name]].dtype

    def tensor(self, name: str) -> torch.Tensor:
        """The whole tensor of an in-memory name. BadInput if the parts do not make the shape of the config."""
        whole = self._whole(self.names[name], self.model.shapes[name])
        if tuple(whole.shape) != self.model.shapes[name]:
            raise BadInput(
                f"{self.paths[0].parent}: tensor {name} is {tuple(whole.shape)}, huggingface/config.json wants "
                f"{self.model.shapes[name]}; the shards are another model's."
            )
        if self.adapter and name in self.adapter.matrices:
            whole = self.adapter.added(name, whole, self._whole)
        return whole.contiguous()

    def _whole(self, stored: str, wanted: tuple[int, ...] | None = None) -> torch.Tensor:
        """The parts of a tensor of the shards put together; its pages of the files are given back."""
        parts = [rank[stored] for rank in self.ranks]
        whole = self._undo(parts, stored) if isinstance(parts[0], DTensor) else self._plain(parts, stored, wanted)
        for part in parts:
            streamed.forget(part._local_tensor if isinstance(part, DTensor) else part)
        return whole

    def _undo(self, parts: list[Any], name: str) -> torch.Tensor:
        """Undo the placements of the mesh, last dimension first; `parts` are in the order of ranks."""
        shape, placements, full = tuple(parts[0].device_mesh.shape), parts[0].placements, tuple(parts[0].shape)
        locals_ = [part._local_tensor for part in parts]
        for size, placement in zip(reversed(shape), reversed(placements), strict=True):
            groups = [locals_[at : at + size] for at in range(0, len(locals_), size)]
            if placement.is_shard():
                locals_ = [torch.cat(group, dim=placement.dim) for group in groups]
            elif placement.is_replicate():
                for group in groups:
                    if any(not torch.equal(group[0], other) for other in group[1:]):
                        raise BadInput(f"{self.paths[0].parent}: the copies of tensor {name} differ between ranks.")
                locals_ = [group[0] for group in groups]
            else:
                raise BadInput(
                    f"{self.paths[0]}: tensor {name} is {placement}, a sum that was never made; it cannot be merged."
                )
        if tuple(locals_[0].shape) != full:
            raise BadInput(
                f"{self.paths[0].parent}: the parts of tensor {name} make {tuple(locals_[0].shape)} instead of {full}."
            )
        return locals_[0]

    def _plain(self, parts: list[torch.Tensor], name: str, wanted: tuple[int, ...] | None) -> torch.Tensor:
        """Tensors that are no DTensors: whole (of shape `wanted`) and equal on every rank, or cut along dimension 0."""
        if all(tuple(part.shape) == wanted for part in parts):
            if any(not torch.equal(parts[0], other) for other in parts[1:]):
                raise BadInput(f"{self.paths[0].parent}: the copies of tensor {name} differ between ranks.")
            return parts[0]
        try:
            return torch.cat(parts, dim=0)
        except RuntimeError:
            raise BadInput(f"{self.paths[0].parent}: the parts of tensor {name} do not fit each other.") from None

    def _check_tie(self, name: str) -> None:
        owner = self.model.tied[name]
        if not torch.equal(self.tensor(name), self.tensor(owner)):
            raise BadInput(
                f"{self.paths[0].parent}: {name} differs from {owner}, to which the config ties it; the step is damaged."
            )


def _coordinate(rank: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Place of `rank` in a mesh of `shape`, row by row."""
    place = []
    for size in reversed(shape):
        place.append(rank % size)
        rank //= size
    return tuple(reversed(place))
