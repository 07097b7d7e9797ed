"""TNL2K: ``{train,test}/[<subset>/]<seq>/imgs/*``, comma boxes, absent frames as boxes without size.

Image names are jpg or png, of any start and digits. The toolkit's flags (``annos/absent/<seq>.txt``, 1 = absent) are used
where they are there; one sequence has one more of them than boxes. ``revised_annotations`` is no sequence.
"""

from __future__ import annotations

from pathlib import Path

from workflow_scripts.data.benchmarks import Benchmark
from workflow_scripts.data.layouts import common, tnllt
from workflow_scripts.data.layouts.common import Entry
from workflow_scripts.sequences import Sequence

SKIP = ("revised_annotations", "annos")


def find(root: Path, benchmark: Benchmark, lists: Path) -> list[Entry]:
    """Sequences of both split folders; a split that is not there is left out."""
    return [
        Entry(folder.name, split, folder, root)
        for split, name in benchmark.splits.items()
        if (root / name).is_dir()
        for folder in common.holding(root / name, "imgs", skip=SKIP)
    ]


def read(entry: Entry, benchmark: Benchmark) -> Sequence:
    """One sequence."""
    return tnllt.read(entry, benchmark)
