"""The list of a dataset's files: ``<bytes>  <path>`` a line, as ``find * -type f -printf '%s  %p\\n'`` prints it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from workflow_scripts import files
from workflow_scripts.console import BadInput


def read(path: str | Path) -> dict[str, int]:
    """Bytes by path. BadInput names the line that is no entry, or lists a file again."""
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist: fetch the publisher's inventory, or leave --inventory out.") from None
    listed: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        size, _, name = line.partition("  ")
        if not (size.isascii() and size.isdigit() and name):
            raise BadInput(f"{path}, line {number}: not an entry (<bytes>  <path>); fetch the file again.")
        if listed.setdefault(name, int(size)) != int(size):
            raise BadInput(f"{path}, line {number}: {name} is listed with two sizes; fetch the file again.")
    return listed


def write(path: str | Path, listed: Mapping[str, int]) -> None:
    """Write an inventory, sorted by path."""
    files.write_text(path, "".join(f"{size}  {name}\n" for name, size in sorted(listed.items())))
