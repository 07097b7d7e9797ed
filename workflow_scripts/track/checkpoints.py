"""Weights in and out: the authors' ``.pth.tar`` without running anything that is in it, and our own folders.

A ``.pth.tar`` is a zip of one pickle and one file a storage. Its pickle also holds settings and statistics of classes
that are not here, and could hold anything. So the pickle is read by an unpickler that knows a handful of harmless names;
every other one becomes an `Ignored` object, whatever is done to it. Storages are read only for the tensors asked for: the
optimiser's state, twice the size of the weights, stays in the file.

Our own format is a folder: weights.safetensors, config.json (the config dataclass) and, for networks that read,
vocabulary.txt. Loading is exact: every name and shape, or an error that lists the differences.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from workflow_scripts import files
from workflow_scripts.console import BadInput

WEIGHTS, CONFIG, VOCABULARY = "weights.safetensors", "config.json", "vocabulary.txt"

# Buffers that older versions of transformers registered; no network reads them.
DISREGARDED = ("descript_embedding.position_ids", "descript_embedding.token_type_ids")

_STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Ignored:
    """Stands for any object that the pickle names and we do not know: accepts everything, does nothing."""

    def __init__(self, *args: object, **kwargs: object) -> None: ...

    def __call__(self, *args: object, **kwargs: object) -> Ignored:
        return Ignored()

    def __setstate__(self, state: object) -> None: ...

    def __setitem__(self, key: object, value: object) -> None: ...

    def append(self, item: object) -> None: ...

    def extend(self, items: object) -> None: ...

    def add(self, item: object) -> None: ...


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: torch.dtype


@dataclass(frozen=True)
class _LazyTensor:
    """A tensor of the file, not read yet."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _Rebuild:
    """Callable of the pickle that describes a tensor; an object, as a function's code could be replaced by the pickle."""

    __slots__ = ()

    def __call__(self, storage: _Storage, offset: int, shape: Sequence[int], stride: Sequence[int], *_: object) -> Any:
        return _LazyTensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, stride)))


class _Parameter:
    __slots__ = ()

    def __call__(self, data: Any, *_: object) -> Any:
        return data


class _Unpickler(pickle.Unpickler):
    """Knows tensors, ordered dictionaries and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Rebuild()
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _Parameter()
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        return Ignored

    def persistent_load(self, pid: Any) -> Any:
        if isinstance(pid, tuple) and len(pid) >= 3 and pid[0] == "storage" and isinstance(pid[1], torch.dtype):
            return _Storage(str(pid[2]), pid[1])
        return Ignored()


def read_checkpoint(path: Path | str) -> dict[str, Tensor]:
    """The state dict of an authors' checkpoint, a safetensors file or one of our folders."""
    path = Path(path)
    if path.is_dir():
        path = path / WEIGHTS
    if not path.is_file():
        raise BadInput(f"{path}: no such checkpoint; fetch or train it first.")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise BadInput(f"{path}: not a readable safetensors file ({error}); make it again.") from error
    try:
        return _read_zip(path)
    except BadInput:
        raise
    # A damaged or hostile pickle can end in nearly any of these; none of them is a fault of this program.
    except (
        zipfile.BadZipFile, pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, KeyError, IndexError,
        ImportError, RecursionError, OverflowError, UnicodeDecodeError, MemoryError, OSError, RuntimeError,
    ) as error:  # fmt: skip
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise BadInput(f"{path}: not a readable PyTorch checkpoint ({reason}); fetch it again.") from error


def _read_zip(path: Path) -> dict[str, Tensor]:
    if not zipfile.is_zipfile(path):
        raise BadInput(
            f"{path}: not a zip of torch.save, so truncated, something else, or written before PyTorch 1.6; fetch it "
            "again, or save it again with a newer PyTorch."
        )
    with zipfile.ZipFile(path) as archive:
        pickles = [n for n in archive.namelist() if PurePosixPath(n).name == "data.pkl"]
        if len(pickles) != 1:
            raise BadInput(f"{path}: a zip, but not of torch.save (no data.pkl in it); give the tracker's checkpoint.")
        root = PurePosixPath(pickles[0]).parent
        if str(root / "byteorder") in archive.namelist() and archive.read(str(root / "byteorder")) != b"little":
            raise BadInput(f"{path}: written on a big-endian machine; save it again on a common one.")
        with archive.open(pickles[0]) as handle:
            content = _Unpickler(handle).load()
        state = content.get("net", content.get("model", content)) if isinstance(content, dict) else content
        if not isinstance(state, dict) or not any(isinstance(v, _LazyTensor) for v in state.values()):
            found = ", ".join(map(str, list(content)[:8])) if isinstance(content, dict) else type(content).__name__
            raise BadInput(f"{path}: holds no weights under 'net' (found: {found}); give the tracker's checkpoint.")
        tensors = {str(k).removeprefix("module."): v for k, v in state.items() if isinstance(v, _LazyTensor)}
        return {name: _read_tensor(archive, root, tensor) for name, tensor in tensors.items()}


def _read_tensor(archive: zipfile.ZipFile, root: PurePosixPath, tensor: _LazyTensor) -> Tensor:
    data = archive.read(str(root / "data" / tensor.storage.key))  # the zip's checksum is verified
    flat = torch.frombuffer(bytearray(data), dtype=tensor.storage.dtype) if data else torch.empty(0)
    reach = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride, strict=True)) + 1
    if math.prod(tensor.shape) == 0:
        return torch.empty(tensor.shape, dtype=tensor.storage.dtype)
    if min(tensor.offset, *tensor.stride, 0) < 0 or reach > flat.numel():
        raise ValueError(f"a tensor of shape {tensor.shape} reaches beyond its storage")
    return flat.as_strided(tensor.shape, tensor.stride, tensor.offset).clone()


def load_exactly(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict whose names and shapes all agree; BadInput with the exact differences otherwise."""
    state = {k: v for k, v in state.items() if not k.endswith(DISREGARDED)}
    expected = network.state_dict()
    shapes = {k for k in state.keys() & expected.keys() if state[k].shape != expected[k].shape}
    differences = {
        "missing": sorted(expected.keys() - state.keys()),
        "unexpected": sorted(state.keys() - expected.keys()),
        "of another shape": [f"{k} {list(state[k].shape)} instead of {list(expected[k].shape)}" for k in sorted(shapes)],
    }
    if any(differences.values()):
        _refuse(network, differences, source)
    network.load_state_dict(dict(state))


def _refuse(network: nn.Module, differences: Mapping[str, Sequence[str]], source: str) -> NoReturn:
    parts = []
    for what, names in differences.items():
        if names:
            more = f" and {len(names) - 6} more" if len(names) > 6 else ""
            parts.append(f"{len(names)} {what}: {', '.join(names[:6])}{more}")
    variant = getattr(getattr(network, "config", None), "variant", type(network).__name__)
    raise BadInput(
        f"{source} does not fit {variant}: {'; '.join(parts)}. Give this variant's checkpoint, or name the variant it is of."
    )


def make_network(config: Mapping[str, Any], source: str = "the configuration") -> nn.Module:
    """Fresh network of a config.json, whose ``variant`` names the family; in evaluation mode."""
    variant = str(config.get("variant", ""))
    try:
        if variant.startswith("dutrack"):
            from workflow_scripts.track.networks.dutrack import DUTrack, DUTrackConfig

            return DUTrack(DUTrackConfig.from_dict(dict(config))).eval()
        if variant.startswith("seqtrack"):
            from workflow_scripts.track.networks.seqtrack import SeqTrack, SeqTrackConfig

            return SeqTrack(SeqTrackConfig.from_dict({k: v for k, v in config.items() if k != "variant"})).eval()
    except TypeError as error:
        raise BadInput(f"{source} has a field that {variant} does not know ({error}); make the folder again.") from error
    raise BadInput(f"{source} names no network of ours (variant {variant!r}); its variant is dutrack_... or seqtrack_...")


def save(folder: Path, network: nn.Module, vocabulary: Sequence[str] | None = None) -> None:
    """Write weights, config and vocabulary into an existing folder (files.atomic_folder gives one)."""
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in network.state_dict().items()}, folder / WEIGHTS)
    family = type(network).__name__.lower()  # a config without a variant's name says its family only
    files.write_json(folder / CONFIG, {"variant": family, **asdict(network.config)})
    if vocabulary:
        files.write_text(folder / VOCABULARY, "\n".join(vocabulary) + "\n")


def load(folder: Path | str) -> nn.Module:
    """The network of one of our folders, in evaluation mode on the CPU."""
    folder = Path(folder)
    network = make_network(files.read_json(folder / CONFIG), str(folder / CONFIG))
    load_exactly(network, read_checkpoint(folder), str(folder / WEIGHTS))
    return network
