"""Extracting a tar stream that nobody vouches for: only plain files inside the target, each whole or absent.

Whatever else an archive holds (ways out, links, devices, sparse files, two files of one name) is refused, not left out: no
publisher of frames puts it there.
"""

from __future__ import annotations

import os
import sys
import tarfile
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from workflow_scripts.console import BadInput
from workflow_scripts.data import streams

DISTRUST = "do not trust this archive"
NAME_BYTES = 255  # of one file or folder, on all usual disks
PATH_BYTES = 1024


@dataclass(frozen=True)
class Extracted:
    """What an archive held."""

    files: int
    bytes: int
    skipped: int  # files that an earlier, killed run had finished


class Header(tarfile.TarInfo):
    """A member's header. A broken one in the middle is an error: tarfile would take it for the archive's end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Header:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None


def headers(stream: streams.Forward) -> Iterator[Header]:
    """Headers of all members; at each, the stream stands at its content. BadInput where this is no whole tar archive."""
    try:
        with tarfile.open(fileobj=stream, mode="r:", tarinfo=Header) as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # or millions of them pile up
                yield member
    except BadInput:
        raise
    except RecursionError:
        raise BadInput(f"the archive holds thousands of headers for one member: {DISTRUST}.") from None
    except (tarfile.TarError, ValueError, ArithmeticError) as error:
        raise streams.Damaged(f"what the parts hold is no whole tar archive ({error}): {streams.REMEDY}.") from None
    for piece in stream.take(sys.maxsize):
        if any(piece):
            raise BadInput("the archive goes on after its end: several were joined; restore them one by one.")


def safe_path(member: tarfile.TarInfo) -> PurePosixPath:
    """The member's path below the target. BadInput for anything that is not a plain file or folder inside it."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name:
        raise BadInput(f"the archive holds {member.name!r}, which leads out of its folder: {DISTRUST}.")
    if member.issym() or member.islnk():
        raise BadInput(f"the archive holds a link ({member.name!r}), and datasets need none: {DISTRUST}.")
    if not (member.isdir() or member.isreg()) or member.issparse() or member.size < 0:
        raise BadInput(f"the archive holds {member.name!r}, which is no plain file: {DISTRUST}.")
    if member.isreg() and not path.name:
        raise BadInput(f"the archive holds a file without a name ({member.name!r}): {DISTRUST}.")
    if len(os.fsencode(path)) > PATH_BYTES or any(len(os.fsencode(part)) > NAME_BYTES for part in path.parts):
        raise BadInput(f"the archive holds a name of {len(member.name)} letters ({member.name[:40]!r}...): {DISTRUST}.")
    return path


def same_name(path: PurePosixPath) -> str:
    """Equal for paths that some disks hold to be the same: they differ in case or in how accents are written."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path.as_posix()).casefold())


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of every file below a folder, by its path there."""
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def extract(
    stream: streams.Forward,
    target: Path,
    temporary: Path,
    finished: Mapping[str, int],
    inventory: Mapping[str, int] | None = None,
) -> Extracted:
    """Extract all members below `target`, each written to `temporary` and renamed, and read the stream to its end.

    Those that are there already, with the same size in `finished`, stay as they are. `inventory` has to fit exactly. Both are
    bytes by path.
    """
    seen: set[str] = set()
    folders: set[PurePosixPath] = set()
    size = skipped = 0
    for member in headers(stream):
        path = safe_path(member)
        folder = path if member.isdir() else path.parent
        if folder not in folders:
            with writable(target / folder):
                (target / folder).mkdir(parents=True, exist_ok=True)
            folders.add(folder)
        if member.isdir():
            continue
        name, key = str(path), same_name(path)
        if key in seen:
            raise BadInput(f"the archive holds {member.name!r} twice: {DISTRUST}.")
        seen.add(key)
        size += member.size
        listed = member.size if inventory is None else inventory.get(name, "no such file")
        if listed != member.size:
            raise BadInput(f"the archive holds {name} with {member.size} bytes, its inventory {listed}: fetch both again.")
        if finished.get(name) == member.size:
            skipped += 1
            continue
        with writable(target / path) as final:
            with open(temporary, "wb") as sink:
                written = sum(sink.write(piece) for piece in stream.take(member.size))
            if written == member.size:
                os.replace(temporary, final)
        if written < member.size:
            raise streams.Damaged(f"the tar archive ends in the middle of {name}: {streams.REMEDY}.")
    if not seen:
        raise BadInput("the archive holds no file: check which parts these are.")
    for name in inventory or ():
        if same_name(PurePosixPath(name)) not in seen:
            raise BadInput(f"the archive lacks {name}, which its inventory lists: fetch both again.")
    return Extracted(len(seen), size, skipped)


@contextmanager
def writable(path: Path) -> Iterator[Path]:
    """What goes wrong with writing `path`, in a sentence."""
    try:
        yield path
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise BadInput(f"the archive uses {path} or its folder as file and as folder: {DISTRUST}.") from None
    except OSError as error:
        raise BadInput(
            f"{path} could not be written ({error.strerror}): see to the disk, and the same command continues."
        ) from None
