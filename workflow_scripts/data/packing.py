"""Publishing an archive in parts: one tar.gz, written as a stream and cut into files, with the md5 of everything.

The md5 file names each part, the tar.gz and the tar within it: publishers give either of the last two, and say which seldom.
The inventory lists every file in it with its size.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import string
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from workflow_scripts.data import inventory

GZIP_LEVEL = 1  # frames are compressed already


def part_names(name: str, count: int) -> list[str]:
    """``<name>_part_aa``, ``<name>_part_ab``, ... as `split` numbers its files."""
    return [f"{name}_part_{suffix}" for suffix in itertools.islice(suffixes(), count)]


def suffixes() -> Iterator[str]:
    """aa, ab, ..., yz, zaaa, zaab, ..., zyzz, zzaaaa, ...: `split` never runs out, and the names stay sorted."""
    for extra in itertools.count():
        for letters in itertools.product(string.ascii_lowercase[:-1], *[string.ascii_lowercase] * (extra + 1)):
            yield "z" * extra + "".join(letters)


class _Parts(io.RawIOBase):
    """A write-only stream that hashes all it gets and continues in another file after each `next_part`."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        super().__init__()
        self.folder, self.names = folder, names
        self.whole = hashlib.md5()
        self.digests: list[str] = []
        self.used = 0
        self.next_part()

    def next_part(self) -> None:
        if self.used:
            self._finish()
        self.file = open(self.folder / self.names[self.used], "wb")  # noqa: SIM115 - closed in _finish
        self.part = hashlib.md5()
        self.used += 1

    def _finish(self) -> None:
        self.file.close()
        self.digests.append(self.part.hexdigest())

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:  # type: ignore[no-untyped-def, override]
        self.whole.update(data)
        self.part.update(data)
        return self.file.write(data)

    def close(self) -> None:
        if not self.closed:
            self._finish()
        super().close()


class _Tee(io.RawIOBase):
    """A write-only stream that hashes what passes through it."""

    def __init__(self, sink: gzip.GzipFile) -> None:
        super().__init__()
        self.sink, self.whole = sink, hashlib.md5()

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:  # type: ignore[no-untyped-def, override]
        self.whole.update(data)
        return self.sink.write(data)


class PartedArchive:
    """A tar.gz in exactly `count` parts. No clock, user or path of this machine goes into it: same files, same bytes."""

    def __init__(self, folder: str | Path, name: str, count: int) -> None:
        self.folder, self.name, self.count = Path(folder), name, count
        self.parts = _Parts(self.folder, part_names(name, count))
        self.zip = gzip.GzipFile(filename="", mode="wb", compresslevel=GZIP_LEVEL, fileobj=self.parts, mtime=0)
        self.tee = _Tee(self.zip)
        self.tar = tarfile.open(fileobj=self.tee, mode="w|", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 - closed in __exit__
        self.sizes: dict[str, int] = {}

    def add(self, path: str, content: bytes) -> None:
        """Append one file."""
        member = tarfile.TarInfo(path)
        member.size, member.mode = len(content), 0o644
        self.tar.addfile(member, io.BytesIO(content))
        self.sizes[path] = len(content)

    def cut(self, done: float) -> None:
        """Begin further parts so that, at a share `done` of the content, the same share of the parts is used."""
        while self.parts.used < self.count and done * self.count >= self.parts.used:
            self.parts.next_part()

    def __enter__(self) -> PartedArchive:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            self.parts.file.close()
            return
        self.tar.close()
        self.zip.close()
        self.parts.close()
        if self.parts.used < self.count:
            raise ValueError(f"{self.name} was cut into {self.parts.used} parts only, not {self.count}")
        lines = [f"{d}  {n}\n" for d, n in zip(self.parts.digests, self.parts.names, strict=True)]
        lines += [f"{self.parts.whole.hexdigest()}  {self.name}.tar.gz\n", f"{self.tee.whole.hexdigest()}  {self.name}.tar\n"]
        (self.folder / f"{self.name}_parts.md5").write_text("".join(lines))
        inventory.write(self.folder / f"{self.name}_inventory.txt", self.sizes)
