"""A node that would make the same again gives its outputs back instead: early cut-off, which Snakemake does not have.

Snakemake deletes a job's outputs before it starts, and reruns whatever lies below a node that ran, even where that node made
the very same bytes. So a finished node keeps hard links of its outputs (no space, as long as the outputs are there) in the
hidden folder `.kept` of its study, with the key of what they were made from: its command, its code, the lock of its
environment and the content of its inputs. The node's next job compares the keys; where they are equal it puts the outputs
back, checked against their manifest, and ends. What a user deletes or forces is forgotten first (`forget`), and made anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from workflow_scripts import files, manifest, node
from workflow_scripts.console import BadInput

LARGE = 1 << 26  # bytes


def hashes(reads: Iterable[str]) -> dict[str, str]:
    """Path -> SHA-256 of a node's inputs; empty for a folder, for which its manifest stands."""
    return {path: _hash(Path(path)) for path in sorted(reads)}


def _hash(path: Path) -> str:
    if not path.is_file():
        return ""
    beside = path.with_name(f"{path.name}.json")  # the manifest of an archive's part spares reading the part again
    if path.stat().st_size > LARGE and beside.is_file():
        known = files.read_json(beside).get("outputs", {}).get(path.name, {})
        if known.get("bytes") == path.stat().st_size:
            return known["sha256"]
    return files.sha256(path)


def key(command: list[str], environment: str, code: str, reads: Mapping[str, str]) -> str:
    """SHA-256 of all that decides a node's outputs."""
    return hashlib.sha256(json.dumps([command, environment, code, sorted(reads.items())]).encode()).hexdigest()


def recall(wanted: str, makes: list[str]) -> bool:
    """Put the outputs back and return True, if they are kept under the key `wanted` and still what their manifest says."""
    folder = node.place(makes)
    try:
        record = json.loads((folder / node.KEY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if record["key"] != wanted or record["makes"] != makes:
        shutil.rmtree(folder)  # of other inputs: its space is needed
        return False
    try:
        for number, output in enumerate(makes):
            _remove(Path(output))
            node.link(folder / str(number), Path(output))
        manifest.verify(record["manifest"])
    except (OSError, BadInput):
        for output in makes:
            _remove(Path(output))
        shutil.rmtree(folder, ignore_errors=True)
        return False
    return True


def forget(roots: Iterable[str | Path], forced: Iterable[str] = ()) -> None:
    """Drop what is kept of outputs that were deleted by hand, or are among `forced`, so that asking for them makes them."""
    again = set(forced)
    for record in (r for root in roots for r in Path(root).glob(f"{node.KEPT}/*/{node.KEY}")):
        try:
            makes = json.loads(record.read_text(encoding="utf-8"))["makes"]
        except (OSError, ValueError, KeyError):
            makes = []
        if not makes or again & set(makes) or not all(os.path.lexists(m) for m in makes):
            shutil.rmtree(record.parent, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
