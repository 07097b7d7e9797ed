"""Archives made member by member, as no honest program would write them too."""

import gzip
import tarfile
from collections.abc import Iterator
from pathlib import Path

END = bytes(2 * tarfile.BLOCKSIZE)
Member = tuple[tarfile.TarInfo, bytes]


def plain(name: str, content: bytes = b"x", **fields: object) -> Member:
    """A file, or what `fields` of its header (type, linkname, pax_headers) make of it."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for field, value in fields.items():
        setattr(member, field, value)
    return member, content


def tar(*members: Member, end: bytes = END) -> bytes:
    """The members one after the other, whatever they are called."""
    return b"".join(_blocks(*members)) + end


def _blocks(*members: Member) -> Iterator[bytes]:
    for member, content in members:
        yield member.tobuf(tarfile.PAX_FORMAT if member.pax_headers else tarfile.GNU_FORMAT)
        yield content + bytes(-len(content) % tarfile.BLOCKSIZE)


def part(path: Path, *contents: bytes) -> list[Path]:
    """All parts (one) of an archive of one gzip member a content."""
    path.write_bytes(b"".join(gzip.compress(content, 1, mtime=0) for content in contents))
    return [path]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def listing(folder: Path) -> list[str]:
    """Every path below a folder."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))
