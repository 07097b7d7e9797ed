"""Whether files are whole where nobody published a hash: no web page saved in their place, every archive passes its own check.

A zip, a PyTorch checkpoint (a zip too) and a gzip carry checksums, a tar and a safetensors file their lengths. Parts of a split
archive (``NAME_part_*``) are checked as the one archive that they are.
"""

from __future__ import annotations

import json
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from workflow_scripts.console import BadInput

BLOCK = 1 << 20
PAGE_STARTS = (b"<!doctype html", b"<html")
TEXT = (".html", ".htm", ".md", ".svg", ".xml")  # may begin like a page
ZIP, GZIP = b"PK\x03\x04", b"\x1f\x8b"
PART = re.compile(r"(.+)_part_\w+$")


def is_page(name: str, head: bytes) -> bool:
    """Whether a file's first bytes are those of a web page, which its name does not announce."""
    return head.lstrip()[:16].lower().startswith(PAGE_STARTS) and not name.endswith(TEXT)


def check(paths: Iterable[Path]) -> None:
    """Read every archive among `paths` to its end. BadInput names the first file that is a web page, damaged or cut short."""
    split: dict[str, list[Path]] = {}
    for path in sorted(paths):
        part = PART.match(path.name)
        if part:
            split.setdefault(part[1], []).append(path)
        else:
            _check_file(path)
    for parts in split.values():
        _check_gzip(parts)


def refuse_page(path: Path) -> None:
    """BadInput if a file is a web page."""
    with open(path, "rb") as handle:
        if is_page(path.name, handle.read(512)):
            raise BadInput(f"{path} is a web page (a login, a quota or a preview), not the file: fetch it again.")


def _check_file(path: Path) -> None:
    refuse_page(path)
    with open(path, "rb") as handle:
        head = handle.read(4)
    try:
        if head == ZIP or path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
            if damaged:
                raise BadInput(f"{path} is damaged (its member {damaged}): fetch it again.")
        elif head[:2] == GZIP or path.suffix in (".gz", ".tgz"):
            _check_gzip([path])
        elif path.suffix == ".tar":
            with tarfile.open(path, "r:") as archive:
                for _ in archive:
                    pass
        elif path.suffix == ".safetensors":
            _check_safetensors(path)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error) as error:
        raise BadInput(f"{path} is no whole archive ({error}): fetch it again.") from None


def _check_gzip(paths: list[Path]) -> None:
    """One gzip stream, of one or more members, over one or more files."""
    machine = zlib.decompressobj(31)
    for path, block in _blocks(paths):
        while block:
            if machine.eof:
                block = block.lstrip(b"\0")  # some tools pad the end
                if not block:
                    break
                machine = zlib.decompressobj(31)
            try:
                machine.decompress(block, 4 * BLOCK)
            except zlib.error as error:
                raise BadInput(f"{path} is damaged ({error}): fetch it again.") from None
            block = machine.unused_data if machine.eof else machine.unconsumed_tail
    if not machine.eof:
        raise BadInput(f"{paths[-1]} ends in the middle of its archive: fetch what is missing, or this file again.")


def _blocks(paths: list[Path]) -> Iterator[tuple[Path, bytes]]:
    for path in paths:
        with open(path, "rb") as handle:
            while block := handle.read(BLOCK):
                yield path, block


def _check_safetensors(path: Path) -> None:
    """Eight bytes of header length, a JSON header with each tensor's offsets, the tensors."""
    try:
        with open(path, "rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            header = json.loads(handle.read(min(length, 100 << 20)))
        ends = [value["data_offsets"][1] for name, value in header.items() if name != "__metadata__"]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise BadInput(f"{path} is no safetensors file: fetch it again.") from None
    if path.stat().st_size != 8 + length + max(ends, default=0):
        raise BadInput(f"{path} is cut short: fetch it again.")
