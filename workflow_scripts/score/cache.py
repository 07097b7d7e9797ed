"""What was scored before: a content-addressed cache, so that unchanged files are not scored again.

A record is found by what it depends on and by nothing else: the bytes of a result file, the ground truth, the protocol's rules
and this code. One file of the cache holds all trackers' records of a sequence under a protocol. Its name is the hash of all but
the result files; each record starts with the hash of its result file and ends with a checksum, so that what is damaged is
computed again. A folder that cannot be written is no cache, and deleting it is always safe; it is kept below `LIMIT` bytes.

An unchanged result file is not even read: its hash is kept with its size, its inode and its times of change. That takes a file
that had come to rest `SETTLED` seconds before it was hashed, as a younger one may change again within one tick of a clock.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np

from workflow_scripts import files
from workflow_scripts.score.results import read_bytes

LIMIT = 512 << 20
SETTLED = 5.0
MOST = 200  # records of one sequence under one protocol
_HASH, _CHECK = 32, 8
_STAMP = struct.Struct("<5Q")  # size, times of change of content and of inode, inode, device


def content(*parts: bytes) -> bytes:
    """Hash of some bytes, each with its length."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.digest()


@cache
def code() -> bytes:
    """Hash of what computes a record: this package's sources and the NumPy beneath them."""
    folder = Path(__file__).parent
    sources = sorted([*folder.glob("*.py"), *folder.glob("*.c")])
    return content(np.__version__.encode(), *(s.read_bytes() for s in sources))


class Cache:
    """Records by what they depend on, in one folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = files.cache_folder("scores") if folder is None else folder
        self._stamps: dict[str, dict[bytes, bytes]] = {}  # folder of results -> hash of a name -> stamp, hash of the content
        self._stale: set[str] = set()  # folders whose stamps are to be written
        self._grown = False

    def read(self, key: bytes, width: int) -> dict[bytes, bytes]:
        """Hash of a result file -> its record of `width` bytes, of those that are there and whole."""
        try:
            raw = self._path(key).read_bytes()
        except OSError:
            return {}
        found = {}
        size = _HASH + width
        for start in range(0, len(raw) - size - _CHECK + 1, size + _CHECK):
            body = raw[start : start + size]
            if _check(body) == raw[start + size : start + size + _CHECK]:
                found[body[:_HASH]] = body[_HASH:]
        return found

    def write(self, key: bytes, records: Mapping[bytes, bytes], most: int = MOST) -> None:
        """Replace the records of `key`; of more than `most`, the last stay."""
        bodies = [digest + record for digest, record in list(records.items())[-most:]]
        with contextlib.suppress(OSError), files.atomic_path(self._path(key)) as temporary:
            temporary.write_bytes(b"".join(body + _check(body) for body in bodies))
        self._grown = True

    def digest(self, path: Path) -> bytes | None:
        """Hash of a result file that has not changed since it was read; None where it has, or was never read."""
        folder, _, name = str(path).rpartition("/")
        known = self._known(folder).get(_name(name), b"")
        return known[_STAMP.size :] if known and known[: _STAMP.size] == _stamp(path) else None

    def load(self, path: Path) -> tuple[bytes | None, bytes | None]:
        """A result file's bytes and their hash, which is kept; None, None where there is no file."""
        stamp = _stamp(path)  # before reading: a change meanwhile is a change to come
        raw = read_bytes(path)
        if raw is None:
            return None, None
        digest = content(raw)
        if stamp and time.time_ns() - max(_STAMP.unpack(stamp)[1:3]) > SETTLED * 1e9:
            folder, _, name = str(path).rpartition("/")
            self._known(folder)[_name(name)] = stamp + digest
            self._stale.add(folder)
        return raw, digest

    def save(self) -> None:
        """Keep the hashes for the next run; remove the oldest files where the folder has grown beyond its limit."""
        for folder in self._stale:
            self.write(_stamps_of(folder), self._stamps[folder], most=1 << 20)
        with contextlib.suppress(OSError):
            members = [(s.st_mtime, s.st_size, p) for p in self.folder.glob("*/*") for s in [p.stat()]] if self._grown else []
            total = sum(size for _, size, _ in members)
            for _, size, path in sorted(members):
                if total > LIMIT:
                    path.unlink(missing_ok=True)
                    total -= size

    def _path(self, key: bytes) -> Path:
        return self.folder / key.hex()[:2] / key.hex()[2:]

    def _known(self, folder: str) -> dict[bytes, bytes]:
        if folder not in self._stamps:
            self._stamps[folder] = self.read(_stamps_of(folder), _STAMP.size + _HASH)
        return self._stamps[folder]


def _check(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_CHECK).digest()


def _name(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=_HASH).digest()


def _stamps_of(folder: str) -> bytes:
    return content(b"files of", str(Path(folder).absolute()).encode())


def _stamp(path: Path) -> bytes | None:
    try:
        s = path.stat()
        return _STAMP.pack(s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_dev)
    except (OSError, struct.error):  # not there, or dated before 1970
        return None
