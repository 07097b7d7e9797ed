"""One reader a layout. A layout module offers

    find(root, benchmark, lists) -> list[Entry]     the sequences there are, in the benchmark's order, nothing read yet
    read(entry, benchmark) -> Sequence              one of them; BadInput for what cannot be read

Two steps, so that a check can go on after a sequence that cannot be read. Readers open no image, and leave a count of images
that differs from the count of boxes as it is: `index` refuses it, `check` reports it.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from workflow_scripts.console import BadInput
from workflow_scripts.data.benchmarks import Benchmark
from workflow_scripts.data.layouts.common import Entry
from workflow_scripts.sequences import Sequence

NAMES = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in ("__init__", "common"))


def module(benchmark: Benchmark) -> ModuleType:
    """The layout's module."""
    if benchmark.layout not in NAMES:
        raise BadInput(f"{benchmark.title}: there is no layout {benchmark.layout}; there are {', '.join(NAMES)}.")
    return importlib.import_module(f"{__name__}.{benchmark.layout}")


def find(root: str | Path, benchmark: Benchmark, lists: str | Path | None = None) -> list[Entry]:
    """Entries of a dataset folder. `lists`: folder of the split lists, if it is not the dataset's."""
    root = Path(root)
    if not root.is_dir():
        raise BadInput(f"{root} does not exist: restore or fetch {benchmark.title} first, or name its folder.")
    entries = module(benchmark).find(root, benchmark, Path(lists) if lists else root)
    if not entries:
        raise BadInput(
            f"{root} holds no sequence in the layout of {benchmark.title}: name the folder that holds the sequences."
        )
    return entries


def read(entry: Entry, benchmark: Benchmark) -> Sequence:
    """One sequence."""
    return module(benchmark).read(entry, benchmark)
