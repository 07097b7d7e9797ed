"""Large tensors through little memory: a safetensors file written tensor by tensor, mapped pages given back when read.

safetensors' own `save_file` wants all tensors of a file at once, and the pages of a memory-mapped shard stay with the process
that has read them: either way a merge would hold its whole model. The bytes written here are those of `save_file`.
"""

from __future__ import annotations

import ctypes
import json
import math
import mmap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

CODES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class Entry:
    """A tensor to come: its name in the file, its type and its shape."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """As they lie in a file: wide types first, which keeps all aligned, then by name."""
    return sorted(entries, key=lambda entry: (-entry.dtype.itemsize, entry.name))


def write(path: Path, entries: Sequence[Entry], tensors: Iterable[torch.Tensor]) -> None:
    """Write the tensors of `entries`, both `in_order`; each is dropped before the next is asked for.

    ValueError if a tensor is not what its entry says.
    """
    header: dict[str, dict] = {"__metadata__": {"format": "pt"}}
    end = 0
    for entry in entries:
        start, end = end, end + entry.size
        header[entry.name] = {"dtype": CODES[entry.dtype], "shape": list(entry.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as handle:
        handle.write(len(text).to_bytes(8, "little") + text)
        for entry, tensor in zip(entries, tensors, strict=True):
            if (tensor.dtype, tuple(tensor.shape)) != (entry.dtype, entry.shape):
                raise ValueError(f"{entry} was announced, {tensor.dtype} {tuple(tensor.shape)} came")
            handle.write(tensor.contiguous().flatten().view(torch.uint8).numpy().data)


def forget(mapped: torch.Tensor) -> None:
    """Give back the pages of a tensor of a memory-mapped file; they are read again when they are needed again."""
    start = mapped.data_ptr()
    end = start + mapped.numel() * mapped.element_size()
    start, end = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
    if end > start and mapped.is_contiguous():
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)
