"""Published checksum files, and hashes that know their algorithm."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from workflow_scripts.console import BadInput

LENGTHS = {32: "md5", 40: "sha1", 64: "sha256"}
_GNU = re.compile(r"^\\?([0-9a-fA-F]{32,64})\s+[ *]?(.+)$")  # md5sum: <hex>  name, <hex> *name
_BSD = re.compile(r"^(?:MD5|SHA1|SHA256) ?\((.+)\) ?= ?([0-9a-fA-F]{32,64})$")


@dataclass(frozen=True)
class Digest:
    """An expected hash."""

    algorithm: str
    value: str  # lower-case hexadecimal

    def __str__(self) -> str:
        return f"{self.algorithm} {self.value}"


def digest(value: str, algorithm: str | None = None) -> Digest:
    """A digest from its hexadecimal text; the algorithm follows from the length. BadInput if it is none."""
    text = value.strip().lower()
    found = LENGTHS.get(len(text))
    if not re.fullmatch(r"[0-9a-f]+", text) or found is None or algorithm not in (None, found):
        wanted = algorithm or "md5, sha1 or sha256"
        raise BadInput(f"{value!r} is no {wanted} in hexadecimal: copy it again from the publisher's page.")
    return Digest(found, text)


def read(path: str | Path) -> dict[str, Digest]:
    """Digest by file name of an ``md5sum`` file (GNU or BSD form). BadInput names the line that is neither."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist: fetch the publisher's checksum file first.") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not a text file of checksums: fetch it again.") from None
    result = {}
    for number, line in enumerate(lines, start=1):
        gnu, bsd = _GNU.match(line.strip()), _BSD.match(line.strip())
        if gnu:
            result[Path(gnu[2].strip()).name] = digest(gnu[1])
        elif bsd:
            result[Path(bsd[1]).name] = digest(bsd[2])
        elif line.strip() and not line.startswith("#"):
            raise BadInput(f"{path}, line {number}: not a checksum line (<hex>  <file name>); fetch the file again.")
    return result


def lookup(path: str | Path, name: str) -> Digest:
    """The digest of one file in a checksum file; BadInput when it is not listed."""
    known = read(path)
    if name not in known:
        raise BadInput(f"{path} lists no checksum of {name}; it lists {', '.join(sorted(known)) or 'nothing'}.")
    return known[name]
