"""The parts of an archive: which there are, in order, without a gap."""

from __future__ import annotations

import glob
from pathlib import Path

from workflow_scripts.console import BadInput


def find(pattern: str, checksums: Path | None = None) -> list[Path]:
    """Files of a glob pattern, sorted by name. BadInput if there is none, one is empty, or a letter is left out.

    `checksums` itself is left out where the pattern catches it.
    """
    matches = glob.glob(pattern)  # noqa: PTH207 - a pattern as the user gave it, absolute or not
    found = sorted(Path(p) for p in matches if not p.endswith((".md5", ".json")))
    found = [p for p in found if p.is_file() and (checksums is None or p.resolve() != checksums.resolve())]
    if not found:
        raise BadInput(f"{pattern} matches no file: fetch the parts first, and quote the pattern.")
    for path in found:
        if path.stat().st_size == 0:
            raise BadInput(f"{path} is empty: delete it and fetch it again.")
    check_order(found)
    return found


def check_order(found: list[Path]) -> None:
    """BadInput where ``_aa, _ac`` follow each other: gzip would only notice at the gap, hours later."""
    stems = {path.name[:-2] for path in found}
    suffixes = [path.name[-2:] for path in found]
    if len(stems) > 1 or not all(s.isalpha() and s.islower() for s in suffixes):
        return  # not numbered as `split` does: the names' order is all there is
    for index, (path, suffix) in enumerate(zip(found, suffixes, strict=True)):
        wanted = chr(ord("a") + index // 26) + chr(ord("a") + index % 26)
        if suffix != wanted:
            raise BadInput(f"{path.with_name(path.name[:-2] + wanted)} is missing before {path.name}: fetch it.")
