"""Where and how a network runs: its device, less than float32, compiled; the same choices for all.

Weights stay float32 and products are computed in the chosen type (autocast); what decides between boxes is compared in
float32. Compiled code gives the same boxes up to rounding; on a GPU it is replayed as CUDA graphs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from workflow_scripts.console import BadInput

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def device_of(name: str) -> torch.device:
    """The device called `name`; BadInput where this machine has none such."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BadInput(f"{name!r} is no device: give cpu, or cuda.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BadInput(f"There is no device {name} here: run on a machine with a GPU, or give cpu.")
    return device


def dtype_of(precision: str) -> torch.dtype:
    """The type that `precision` names; BadInput for other names."""
    if precision not in PRECISIONS:
        raise BadInput(f"There is no precision {precision}: name one of {', '.join(PRECISIONS)}.")
    return PRECISIONS[precision]


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Products in `dtype`; float32 leaves a caller's own autocast as it is."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def compile_for(device: torch.device, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` through torch.compile, made anew for each shape of its arguments. BadInput where no compiler is found."""
    if not any(map(shutil.which, filter(None, (os.environ.get("CXX"), os.environ.get("CC"), "g++", "gcc", "clang")))):
        raise BadInput("Compiled networks need a C++ compiler: install g++, or set track.run.compiled to false.")
    # small networks wait for their launches: a GPU replays a whole pass as one
    return torch.compile(function, mode="default" if device.type == "cpu" else "reduce-overhead")
