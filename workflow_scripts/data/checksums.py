"""Hashes that know their algorithm, published checksum files, and what a file or folder on disk measures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from workflow_scripts import files, manifest
from workflow_scripts.console import BadInput

LENGTHS = {"md5": 32, "sha1": 40, "sha256": 64, "tree": 64}  # tree: a folder's hash, as manifests have it
BY_LENGTH = {32: "md5", 40: "sha1", 64: "sha256"}
_GNU = re.compile(r"^\\?([0-9a-fA-F]{32,64})\s+[ *]?(.+)$")  # md5sum: <hex>  name, <hex> *name
_BSD = re.compile(r"^(?:MD5|SHA1|SHA256) ?\((.+)\) ?= ?([0-9a-fA-F]{32,64})$")


@dataclass(frozen=True)
class Digest:
    """A hash."""

    algorithm: str
    value: str  # lower-case hexadecimal

    def __str__(self) -> str:
        return f"{self.algorithm} {self.value}"


def digest(value: str, algorithm: str | None = None) -> Digest:
    """A digest from its hexadecimal text; without a name the algorithm follows from the length. BadInput if it is none."""
    text = value.strip().lower()
    found = algorithm or BY_LENGTH.get(len(text), "")
    if not re.fullmatch(r"[0-9a-f]+", text) or LENGTHS.get(found) != len(text):
        wanted = algorithm or "md5, sha1 or sha256"
        raise BadInput(f"{value!r} is no {wanted} in hexadecimal: copy it again from the publisher's page.")
    return Digest(found, text)


def measure(path: Path, algorithm: str | None = None) -> tuple[int, Digest]:
    """Size and hash of a file (SHA-256 unless told otherwise), or of a folder: of its one file, else its tree hash."""
    members = manifest.members(path)
    if path.is_dir() and (len(members) != 1 or algorithm == "tree"):
        whole = manifest.summary(path)
        return whole["bytes"], Digest("tree", whole["sha256"])
    algorithm = algorithm or "sha256"
    return members[0].stat().st_size, Digest(algorithm, files.digest(members[0], algorithm))


def verify(path: Path, size: int | None, expected: Digest | None) -> None:
    """BadInput unless a file or folder has the size and hash expected of it; what is None is not known."""
    held = sum(member.stat().st_size for member in manifest.members(path))
    if size not in (None, held):
        raise BadInput(f"{path} has {held} bytes, not {size}: fetch it again.")
    if expected and (found := measure(path, expected.algorithm)[1]) != expected:
        raise BadInput(f"{path} has {found}, not {expected}: fetch it again.")


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
