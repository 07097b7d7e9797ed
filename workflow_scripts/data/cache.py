"""What was read of a dataset before, kept outside of it: a sequence that has not changed since is not read again.

One index a dataset folder and benchmark, in the user's cache (TRACKGRAPH_INDICES overrides the place). Each sequence's record
also says which files and folders it was read from, with their times and sizes; a folder's time changes when a file in it comes,
goes or is renamed, and the time of the last change of state, which cannot be set, tells of a file that was replaced by one as
old and as large. A sequence is taken from here only if all of these are as they were. Nothing younger than two seconds is kept,
for a file may change twice within a tick of the file system's clock. Deleting the cache costs a reading; what was not used for
three months goes by itself.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from workflow_scripts import sequences
from workflow_scripts.console import BadInput
from workflow_scripts.data.benchmarks import Benchmark
from workflow_scripts.data.layouts.common import Entry
from workflow_scripts.sequences import Sequence

Stamp = list[int] | None  # [modified, changed (nanoseconds), size]; None for what is not there
Stamps = dict[str, Stamp]  # by absolute path; empty: not to be kept
Reading = tuple[Sequence, Stamps]
Kept = dict[tuple[str, str], Reading]  # by name and folder
SETTLED_NS = 2 * 10**9
UNUSED_SECONDS = 90 * 24 * 3600


def place(root: Path, benchmark: str) -> Path:
    """The cache file of a dataset folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trackgraph" / "indices"
    folder = Path(os.environ.get("TRACKGRAPH_INDICES") or default).absolute()
    return folder / f"{benchmark}-{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]}.npz"


def reader_digest(benchmark: Benchmark) -> str:
    """Hash of the code and the description that a benchmark is read by."""
    digest = hashlib.sha256(benchmark.model_dump_json().encode())
    here = Path(__file__).parent
    for path in (*sorted((here / "layouts").glob("*.py")), here.parent / "frames.py", here.parent / "sequences.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def stamp(path: str) -> Stamp:
    """A file's or folder's times and size."""
    try:
        found = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return [found.st_mtime_ns, found.st_ctime_ns, found.st_size]


def stamps(touched: Iterable[Path]) -> Stamps:
    """Stamps of what a sequence was read from; none at all if something may still be changing."""
    found = {str(path.absolute()): stamp(str(path)) for path in touched}
    newest = max((s[0] for s in found.values() if s), default=0)
    return found if newest < time.time_ns() - SETTLED_NS else {}


def key(entry: Entry) -> tuple[str, str]:
    """What a sequence is kept under."""
    return entry.name, str(entry.folder.absolute())


def load(path: Path, root: Path, reader: str) -> Kept:
    """What is kept of a dataset folder; nothing if there is no such file, or another reader wrote it."""
    try:
        records, found = sequences.read_header(path)["sequences"], sequences.read_index(path, root)
        os.utime(path)
        return {(r["name"], r["place"]): (s, r["stamps"]) for r, s in zip(records, found, strict=True) if r["reader"] == reader}
    except (BadInput, KeyError, OSError):
        return {}


def take(kept: Kept, entry: Entry) -> Reading | None:
    """The sequence as it was read before, if nothing that it was read from has changed."""
    found = kept.get(key(entry))
    if found is None or found[0].split != entry.split or not found[1]:
        return None
    return found if all(stamp(path) == before for path, before in found[1].items()) else None


def save(path: Path, kept: Kept, root: Path, benchmark: str, reader: str) -> None:
    """Keep what was read. A cache that cannot be written is no reason to fail: it is said on stderr."""
    records = [{"place": folder, "stamps": found, "reader": reader} for (_, folder), (_, found) in kept.items()]
    try:
        sequences.write_index(path, [s for s, _ in kept.values()], root, benchmark, records)
        for other in path.parent.glob("*.npz"):
            if other.stat().st_mtime < time.time() - UNUSED_SECONDS:
                other.unlink(missing_ok=True)
    except OSError as error:
        print(f"{path} cannot be written ({error.strerror}): all will be read again next time.", file=sys.stderr)
