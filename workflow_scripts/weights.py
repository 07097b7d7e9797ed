"""What a model folder's safetensors hold, by their headers: no tensor is read."""

from __future__ import annotations

import json
import math
from pathlib import Path

from workflow_scripts.console import BadInput


def tensors(folder: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name -> (dtype, shape) of every tensor in the folder's safetensors, read from their headers."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with path.open("rb") as handle:
                length = int.from_bytes(handle.read(8), "little")
                if length > path.stat().st_size:
                    raise ValueError("its header is longer than the file")
                header = json.loads(handle.read(length))
            header.pop("__metadata__", None)
            end = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{path} is not a safetensors file ({error}): run its node again.") from error
        if path.stat().st_size < end:
            raise BadInput(f"{path} is cut off: run its node again.")
        found |= {name: (entry["dtype"], tuple(entry["shape"])) for name, entry in header.items()}
    if not found:
        raise BadInput(f"{folder} holds no safetensors: run its node again.")
    return found


def parameters(folder: Path) -> int:
    """Parameters of the model in a folder."""
    return sum(math.prod(shape) for _, shape in tensors(folder).values())
