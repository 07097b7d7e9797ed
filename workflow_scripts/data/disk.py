"""Whether a disk has room, asked before the first byte is written."""

from __future__ import annotations

import shutil
from pathlib import Path

from workflow_scripts.console import BadInput

SPARE_BYTES = 64 << 20


def check_disk(path: Path, needed: int) -> None:
    """BadInput unless the disk of `path` has room for `needed` bytes and a little more."""
    free = shutil.disk_usage(path.parent).free
    if needed + SPARE_BYTES > free:
        raise BadInput(
            f"{path.parent} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are to come: free some, or choose another disk."
        )
