"""The register as a table: each source's size, hash, mirrors and terms, and what of it is here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from workflow_scripts.data import places
from workflow_scripts.data.places import Place
from workflow_scripts.data.register import Source


def rows(sources: dict[str, Source], base: Path, drop: Path) -> list[dict[str, str]]:
    """One row a source; `base` is the study's data folder, `drop` the inbox. Nothing is read but manifests."""
    return [
        {
            "source": name,
            "here": state(name, source, base, drop),
            "size": _size(source.size),
            "hash": hash_state(source),
            "mirrors": ", ".join(mirror.kind for mirror in source.mirrors),
            "licence or terms": source.licence,
            "what": source.what,
        }
        for name, source in sources.items()
    ]


def show(table: list[dict[str, str]]) -> None:
    """Print the rows; as wide as they need where no terminal sets the width."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    printed = Table(*table[0], box=box.SIMPLE)
    for row in table:
        printed.add_row(*row.values())
    Console(width=None if sys.stdout.isatty() else 1000).print(printed)


def hash_state(source: Source) -> str:
    """How its content is known: by which hash, of how many of its files, or not."""
    if source.whole:
        return source.whole.hash.partition(":")[0]
    known = sum(piece.digest is not None for piece in source.files)
    return f"{known} of {len(source.files)} files" if known < len(source.files) else "each file"


def state(name: str, source: Source, base: Path, drop: Path) -> str:
    """Present or adopted (where, and whether it is what the register says), partial (how much), in the inbox, or missing."""
    found = places.find(name, base)
    if found:
        return _present(source, found)
    begun = places.partial(name, source, base)
    if begun:
        held, total = begun
        return f"partial, {_size(held)}" + (f" of {_size(total)} ({held / total:.0%})" if total else "")
    waiting = [drop / name, *(path for piece in source.files for path in sorted(drop.glob(piece.name)))]
    if any(path.exists() for path in waiting):
        return f"in the inbox ({next(path for path in waiting if path.exists())})"
    return "missing"


def _present(source: Source, found: list[Place]) -> str:
    first, members = found[0], [place for place in found if place.member]
    broken = [place for place in found if not place.path.exists()]
    if broken:
        return f"lost: {broken[0].path} leads nowhere"
    linked, here = first.adopted_from, Path.cwd()
    if linked and linked.is_relative_to(here):
        linked = linked.relative_to(here)
    word = f"adopted from {linked}" if linked else "present"
    where = os.path.commonpath([place.path for place in found]) if members else str(first.path)
    if members:
        literal = [piece for piece in source.files if not piece.is_pattern]
        count = f" of {len(literal)}" if len(literal) == len(source.files) else ""
        word += f", {len(members)}{count} files"
    return f"{word} ({where}; {_checked(source, found)})"


def _checked(source: Source, found: list[Place]) -> str:
    """Whether what is here is what the register says, as far as manifests and register tell."""
    whole_known = source.whole.digest if source.whole else None
    expected = [source.piece(place.member) if place.member else source.whole for place in found]
    verdicts = [places.verified(place, sized) for place, sized in zip(found, expected, strict=True)]
    if False in verdicts:
        return "NOT what the register says"
    if any(place.measured is None for place in found):
        return "no manifest"
    if all(verdicts):
        return "verified"
    if whole_known or (source.files and all(piece.digest for piece in source.files)):
        return "checked when it came"
    return "hash not in the register yet"


def _size(size: int | None) -> str:
    if size is None:
        return "unknown"
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} B"
