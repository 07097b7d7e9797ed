"""Write what was measured on a verified artifact into the register: sizes, hashes and commits that it calls unknown.

Only those words of the file change; comments, order and layout stay, so that a reviewer sees one line for each new fact. What
the register knows already is compared, and refused if it differs.

Verified means, where no hash is known: the transfer was complete (its length; every archive passes its own check; no web page),
and the content is still what the manifest measured when it came.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from workflow_scripts import files, manifest
from workflow_scripts.console import BadInput
from workflow_scripts.data import checksums, integrity, register
from workflow_scripts.data.places import Place
from workflow_scripts.data.register import HuggingFace, Piece, Sized, Source

Step = tuple[str | int, ...]  # where a value stands: ("sources", name, "hash")


def record(name: str, source: Source, found: list[Place], path: Path) -> list[str]:
    """Record `found` (places of the source `name`) in the register at `path`; returns what was changed, a line each.

    BadInput, with nothing changed, where something is not whole or is not what the register says.
    """
    integrity.check(file for place in found for file in manifest.members(place.path))
    for place in found:
        _same_as_measured(place)
    facts, pieces = _facts(name, source, found)
    return _write(path, facts, name, pieces)


def _same_as_measured(place: Place) -> None:
    if place.measured and manifest.summary(place.path) != place.measured:
        raise BadInput(f"{place.path} is not what its manifest measured: delete both and fetch it again.")


def _facts(name: str, source: Source, found: list[Place]) -> tuple[dict[Step, Any], list[Piece]]:
    """Values for what is unknown, and pieces that only a pattern names so far. BadInput where a known value differs."""
    facts: dict[Step, Any] = {}
    pieces = []
    for place in found:
        for index, mirror in enumerate(source.mirrors):
            if isinstance(mirror, HuggingFace) and mirror.revision == "unknown" and place.revision:
                facts["sources", name, "mirrors", index, "revision"] = place.revision
        if source.whole:
            facts |= _measured(("sources", name), source.whole, place.path)
            continue
        for file in manifest.members(place.path):
            piece = source.piece(place.member or file.relative_to(place.path).as_posix())
            if piece and piece.is_pattern:
                size, digest = checksums.measure(file)
                pieces.append(Piece(name=place.member or file.name, bytes=size, hash=f"{digest.algorithm}:{digest.value}"))
            elif piece:
                facts |= _measured(("sources", name, "files", source.files.index(piece)), piece, file)
    return facts, pieces


def _measured(step: Step, known: Sized, path: Path) -> dict[Step, Any]:
    """Size and hash of a path, as values for those that are unknown."""
    size, digest = checksums.measure(path, known.digest.algorithm if known.digest else None)
    if known.size not in (None, size) or known.digest not in (None, digest):
        raise BadInput(
            f"the register says {known.bytes} bytes, {known.hash} of {path}, which has {size} bytes, {digest}: fetch it again, "
            "or, if the publisher changed it, change the register by hand."
        )
    values = {"bytes": (known.size, size), "hash": (known.digest, f"{digest.algorithm}:{digest.value}")}
    return {(*step, key): value for key, (old, value) in values.items() if old is None}


def _write(path: Path, facts: dict[Step, Any], name: str, pieces: list[Piece]) -> list[str]:
    text = register.read(path)
    node, tree = yaml.compose(text), yaml.safe_load(text)
    spans, told = [], []
    for step, value in facts.items():
        spot = register.locate(node, step)
        spans.append((spot.start_mark.index, spot.end_mark.index, f'"{value}"' if spot.style == '"' else str(value)))
        told.append(f"{path}, line {spot.start_mark.line + 1}: {'.'.join(map(str, step[1:]))} is {value}")
        *above, key = step
        inner = tree
        for part in above:
            inner = inner[part]
        inner[key] = value
    if pieces:  # before the first pattern, which goes on to stand for files that are not here
        listed = tree["sources"][name]["files"]
        first = next(i for i, piece in enumerate(listed) if Piece(**piece).is_pattern)
        spot = register.locate(node, ("sources", name, "files", first))
        start = text.rindex("\n", 0, spot.start_mark.index) + 1
        lead = text[start : spot.start_mark.index]
        new = [f'{{name: "{p.name}", bytes: {p.bytes}, hash: "{p.hash}"}}' for p in pieces]
        spans.append((start, start, "".join(f"{lead}{line}\n" for line in new)))
        told += [f"{path}, line {spot.start_mark.line + 1}: {name}.files gets {line}" for line in new]
        listed[first:first] = [piece.model_dump() for piece in pieces]
    for start, end, value in sorted(spans, reverse=True):
        text = text[:start] + value + text[end:]
    try:
        right = yaml.safe_load(text) == tree
    except yaml.YAMLError:
        right = False
    if not right:  # an unusual layout: better not written than written wrong
        raise BadInput(f"{path} cannot be edited in place; write by hand: {'; '.join(told)}.")
    register.parse(text, path)
    if told:
        files.write_text(path, text)
    return told
