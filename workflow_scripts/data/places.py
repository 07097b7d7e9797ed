"""Where the register's sources are on disk, told without reading them: by the manifests that fetching wrote beside them.

A manifest names its source and holds the hashes that were measured when it came, so that nothing of 100 GB is hashed to say
whether it is what the register says.
"""

from __future__ import annotations

import fnmatch
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workflow_scripts import manifest
from workflow_scripts.data.register import Sized, Source

# below data/<study>: where rules put what they fetch
FOLDERS = (".", "parts", "checkpoints", "published", "sft-sources")


@dataclass(frozen=True)
class Place:
    """One fetched or adopted source, or one member file of it."""

    path: Path
    member: str | None = None
    measured: dict[str, Any] | None = None  # files, bytes and sha256 of the manifest, where there is one
    revision: str | None = None
    source: str | None = None

    @property
    def adopted_from(self) -> Path | None:
        """Where it is linked to: the file or folder itself, or what holds a linked folder's entries."""
        if self.path.is_symlink():
            return self.path.resolve()
        entry = next(self.path.iterdir(), self.path) if self.path.is_dir() else self.path
        return entry.resolve().parent if entry.is_symlink() else None


def at(path: Path, member: str | None = None) -> Place:
    """What is known of a path by the manifest beside it, if there is one."""
    seal = path.with_name(path.name + ".json")
    try:
        value = json.loads(seal.read_text(encoding="utf-8"))
        facts = value["facts"]
        return Place(path, facts.get("member", member), value["outputs"][path.name], facts.get("revision"), facts.get("source"))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return Place(path, member)


def find(name: str, base: Path) -> list[Place]:
    """The places of one source below `base` (``data/<study>``), its members in order of their names."""
    found = []
    for folder in FOLDERS:
        sealed = (at(seal.with_suffix("")) for seal in sorted((base / folder).glob("*.json")))
        found += [place for place in sealed if place.source == name and os.path.lexists(place.path)]
        bare = at(base / folder / name)
        if bare.source is None and bare.path.exists():
            found.append(bare)
    return found


def partial(name: str, source: Source, base: Path) -> tuple[int, int | None] | None:
    """Bytes here and in all (if known) of a transfer of this source that broke off, or None."""
    for folder in FOLDERS:
        for path in (base / folder).glob(".*"):
            target = path.stem.removeprefix(".")
            if path.suffix not in (".partial", ".packed"):
                continue
            if target != name and not any(fnmatch.fnmatch(target, piece.name) for piece in source.files):
                continue
            if path.is_dir():
                return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()), source.size
            try:
                total = json.loads(path.with_name(path.name + ".json").read_text())["total"]
            except (OSError, ValueError, LookupError):
                total = None
            return path.stat().st_size, total
    return None


def verified(place: Place, expected: Sized | None) -> bool | None:
    """Whether the measured hash is the register's; None where they cannot be compared (one is unknown, or of another kind)."""
    digest = expected.digest if expected else None
    if place.measured is None or digest is None or digest.algorithm not in ("sha256", "tree"):
        return None
    wanted = digest.value
    if digest.algorithm == "sha256" and place.path.is_dir():  # the hash of its one file; manifests have the folder's
        (member, *others) = manifest.members(place.path) or [place.path]
        wanted = "" if others else manifest.tree({member.relative_to(place.path).as_posix(): wanted})
    return bool(place.measured["sha256"] == wanted)
