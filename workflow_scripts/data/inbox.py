"""What a person fetched, or a lab has already: the exact steps to get it, the folder that is watched for it, and its adoption.

Adopted data are linked, never copied or moved, and checked first: by size and hash where the register knows them, else that
they are no web page and that what must be there is there. What is still being written is not taken.
"""

from __future__ import annotations

import fnmatch
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from workflow_scripts import files
from workflow_scripts.console import LINE_EVERY_SECONDS, BadInput
from workflow_scripts.data import checksums, integrity
from workflow_scripts.data.register import Baidu, GoogleDrive, HuggingFace, Mirror, Sized, Source

INBOX = Path("data/inbox")
QUIET_SECONDS = 10.0  # nothing changed for so long: a copy or download has ended
LOOK_SECONDS = 2.0
UNFINISHED = (".crdownload", ".part", ".partial", ".download", ".downloading", ".tmp", ".aria2")


def place(name: str, member: str | None, inbox: Path) -> Path:
    """Where a person puts a source, or one file of it."""
    return inbox / name / member if member else inbox / name


def steps(name: str, source: Source, output: Path, member: str | None, inbox: Path, reasons: list[str]) -> str:
    """What to do by hand, line by line."""
    why = f" ({'; '.join(reasons)})" if reasons else ""
    todo = [("or " if number else "") + f"open {_address(mirror)}" for number, mirror in enumerate(source.mirrors)]
    todo += [
        source.by_hand,
        f"when it is complete, move it to {place(name, member, inbox)}; the same command then adopts it as {output}",
    ]
    return f"{name} cannot be fetched by this command{why}. By hand:\n" + "\n".join(f"  - {line}" for line in todo)


def _address(mirror: Mirror) -> str:
    """Where a browser finds a mirror, and what it asks for."""
    if isinstance(mirror, Baidu):
        return mirror.url + (f" (code {mirror.code})" if mirror.code else "") + " with a Baidu account"
    if isinstance(mirror, HuggingFace):
        return f"https://huggingface.co/{'datasets/' if mirror.type == 'dataset' else ''}{mirror.repository}"
    if isinstance(mirror, GoogleDrive):
        return f"https://drive.google.com/{'drive/folders' if mirror.folder else 'file/d'}/{mirror.id}"
    return mirror.url


def adopt(name: str, source: Source, output: Path, member: str | None, inbox: Path) -> bool:
    """Link what lies in the inbox (``<name>/<member>`` or ``<member>``, else ``<name>``); False if nothing does.

    BadInput where it is being written, or is not what the register says.
    """
    places = [place(name, member, inbox)] + ([inbox / member] if member else [])
    found = next((spot for spot in places if spot.exists()), None)
    if found is None:
        return False
    if growing(found):
        raise BadInput(f"{found} is still being written: run this again when it is complete.")
    link(found, output, source, member)
    print(f"{output}: adopted from {found}", flush=True)
    return True


def watch(
    name: str,
    source: Source,
    output: Path,
    member: str | None,
    inbox: Path,
    seconds: float,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Look into the inbox until what is awaited can be adopted. BadInput when it did not come within `seconds`."""
    spot = place(name, member, inbox)
    spot.parent.mkdir(parents=True, exist_ok=True)
    end, said, told = time.monotonic() + seconds, -LINE_EVERY_SECONDS, ""
    while True:
        try:
            if adopt(name, source, output, member, inbox):
                return
            news = f"waiting for {spot} (Ctrl-C ends it; the same command looks again)"
        except BadInput as problem:
            news = str(problem).partition(": ")[0]
        now = time.monotonic()
        if news != told or now - said >= LINE_EVERY_SECONDS:
            held = f"; {_state(spot)[1] / 1e6:.1f} MB so far" if spot.exists() else ""
            print(news + held, file=sys.stderr, flush=True)
            said, told = now, news
        if now >= end:
            raise BadInput(f"{spot} did not come within {seconds:.0f} s ({news}).")
        sleep(LOOK_SECONDS)


def growing(path: Path) -> bool:
    """Whether something is still being written: a browser's unfinished file, or a change in the last seconds."""
    newest, _, unfinished = _state(path)
    return unfinished or time.time() - newest < QUIET_SECONDS


def _state(path: Path) -> tuple[float, int, bool]:
    """Time of the last change (of content, name or times: they cannot be set back), bytes, and whether a name is unfinished."""
    newest, size, unfinished = path.stat().st_ctime, 0, False
    entries = [path]
    if path.is_dir():
        entries += [Path(folder, name) for folder, folders, names in os.walk(path) for name in [*folders, *names]]
    for entry in entries:
        try:
            status = entry.stat()
        except FileNotFoundError:  # renamed while we look
            return time.time(), size, True
        newest, size = max(newest, status.st_ctime), size + (status.st_size if entry.is_file() else 0)
        unfinished |= entry.name.endswith(UNFINISHED)
    return newest, size, unfinished


def link(found: Path, output: Path, source: Source, member: str | None = None) -> None:
    """Link a file, or every entry of a folder, once it is found to be what the register says. BadInput otherwise."""
    if output.is_symlink() and output.resolve() == found.resolve():
        return
    if found.is_file():
        if os.path.lexists(output):
            raise BadInput(f"{output} exists: move it away, then run this again.")
        verify(found, source.piece(member) if member else source.whole)
        with files.atomic_path(output) as temporary:
            temporary.symlink_to(_target(found, output.parent))
        return
    entries = sorted(entry for entry in found.iterdir() if not entry.name.startswith("."))
    verify_folder(found, entries, source)
    output.mkdir(parents=True, exist_ok=True)
    for entry in entries:
        spot = output / entry.name
        if spot.is_symlink() and spot.resolve() == entry.resolve():
            continue
        if os.path.lexists(spot):
            raise BadInput(f"{spot} exists: move it away, then run this again.")
        spot.symlink_to(_target(entry, output))


def verify(found: Path, expected: Sized | None) -> None:
    """BadInput unless a file has the size and hash that the register knows, or, where it knows no hash, is no web page."""
    checksums.verify(found, expected.size if expected else None, expected.digest if expected else None)
    if expected is None or expected.digest is None:
        integrity.refuse_page(found)


def verify_folder(found: Path, entries: list[Path], source: Source) -> None:
    """BadInput unless a folder holds what the register says it must."""
    if not entries:
        raise BadInput(f"{found} is empty: put the artifact there.")
    if source.whole:
        checksums.verify(found, source.whole.size, source.whole.digest)
    for piece in source.files:
        if not any(fnmatch.fnmatch(entry.name, piece.name) for entry in entries):
            raise BadInput(f"{found} holds nothing called {piece.name}: put the whole of the artifact there.")
    for entry in entries:
        if entry.is_file():
            verify(entry, source.piece(entry.name))


def _target(found: Path, folder: Path) -> Path:
    """What a link in `folder` says: relative within this repository, which may be moved; absolute to a place outside."""
    found, here = found.resolve(), Path.cwd().resolve()
    inside = found.is_relative_to(here) and folder.resolve().is_relative_to(here)
    return Path(os.path.relpath(found, folder.resolve())) if inside else found
