"""Sources that are more than an address: Hugging Face, Google Drive, Dropbox folders; and those no command can fetch.

What needs an account, a browser or a form is not automated. The command then says exactly what to do, and adopts what the
user put into the inbox folder: verified where a hash is known, linked and never copied or moved.
"""

from __future__ import annotations

import fnmatch
import os
from pathlib import Path

from workflow_scripts import files
from workflow_scripts.console import BadInput
from workflow_scripts.data import transfer
from workflow_scripts.data.register import Baidu, Dropbox, GoogleDrive, HuggingFace, Mirror, Page, Sized, Source, Url
from workflow_scripts.params.data import Fetching

INBOX = Path("data/inbox")


def fetch(
    name: str, source: Source, output: Path, member: str | None, inbox: Path, revision: str | None, settings: Fetching
) -> None:
    """Bring a register entry (or one `member` file of it) to `output`: from the inbox, else from its mirrors in order."""
    clear_way(output)
    if adopt(name, source, output, member, inbox):
        return
    reasons = []
    for mirror in source.mirrors:
        try:
            if from_mirror(mirror, source, output, member, revision, settings):
                return
        except (BadInput, transfer.Refused) as error:
            reasons.append(str(error).rstrip("."))
    raise BadInput(by_hand(name, source, output, member, inbox, reasons))


def clear_way(output: Path) -> None:
    """BadInput if a file, or a folder that a whole snapshot would replace, is at `output`; an empty folder is removed."""
    if output.is_file():
        raise BadInput(f"{output} exists: move it away, then run this again.")
    if output.is_dir() and not any(output.iterdir()):
        output.rmdir()


def adopt(name: str, source: Source, output: Path, member: str | None, inbox: Path) -> bool:
    """Link what lies in the inbox (``<member>``, ``<name>/<member>`` or ``<name>``); False if nothing does."""
    places = [inbox / member, inbox / name / member] if member else [inbox / name]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        return False
    link(found, output, source, member)
    print(f"{output}: adopted from {found}")
    return True


def link(found: Path, output: Path, source: Source, member: str | None = None) -> None:
    """Link a file, or every entry of a folder, after checking size and hash (files) or expected names (folders)."""
    if found.is_file():
        if output.exists():
            raise BadInput(f"{output} exists: move it away, then run this again.")
        verify(found, (source.piece(member) if member else source) or source)
        with files.atomic_path(output) as temporary:
            temporary.symlink_to(os.path.relpath(found.resolve(), output.resolve().parent))
        return
    entries = sorted(entry for entry in found.iterdir() if not entry.name.startswith("."))
    for piece in source.files:
        matching = [entry for entry in entries if fnmatch.fnmatch(entry.name, piece.name)]
        if not matching:
            raise BadInput(f"{found} holds nothing called {piece.name}: put the whole of the artifact there.")
        if piece.digest:
            verify(matching[0], piece)
    output.mkdir(parents=True, exist_ok=True)
    for entry in entries:
        place = output / entry.name
        if place.is_symlink() and place.resolve() == entry.resolve():
            continue
        if place.exists() or place.is_symlink():
            raise BadInput(f"{place} exists: move it away, then run this again.")
        place.symlink_to(entry.resolve())


def verify(found: Path, expected: Sized) -> None:
    """BadInput unless a file has the size and hash that the register knows."""
    if expected.size not in (None, found.stat().st_size):
        raise BadInput(f"{found} has {found.stat().st_size} bytes, the register says {expected.bytes}: fetch it again.")
    if expected.digest and files.digest(found, expected.digest.algorithm) != expected.digest.value:
        raise BadInput(f"{found} has not {expected.digest}: fetch it again.")


def from_mirror(
    mirror: Mirror, source: Source, output: Path, member: str | None, revision: str | None, settings: Fetching
) -> bool:
    """Fetch from one mirror; False if it is of a kind that no command can fetch."""
    if isinstance(mirror, Url):
        if source.files and member is None:
            for piece in source.files:  # each whole or absent; what is there with the right hash stays
                address = f"{mirror.url.rstrip('/')}/{piece.name}"
                transfer.fetch([address], output / piece.name, piece.digest, piece.size, settings)
            return True
        expected = source.piece(member) if member else source
        url = f"{mirror.url.rstrip('/')}/{member}" if member else mirror.url
        transfer.fetch([url], output, expected.digest if expected else None, expected.size if expected else None, settings)
        return True
    if isinstance(mirror, HuggingFace):
        hugging_face(mirror, output, member, revision)
        return True
    if isinstance(mirror, GoogleDrive):
        google_drive(mirror, source, output)
        return True
    if isinstance(mirror, Dropbox) and member is None:
        url = mirror.url.replace("dl=0", "dl=1")  # the folder as one zip
        transfer.fetch([url], output, source.digest, source.size, settings)
        return True
    return False


def hugging_face(mirror: HuggingFace, output: Path, member: str | None, revision: str | None) -> None:
    """A snapshot at a full commit into the folder `output` (HF_ENDPOINT is respected)."""
    commit = revision or mirror.revision
    if output.exists():
        raise BadInput(f"{output} exists: move it away, then run this again")
    if commit == "unknown":
        raise BadInput(
            f"the register knows no commit of {mirror.repository}: choose one of https://huggingface.co/"
            f"{'datasets/' if mirror.type == 'dataset' else ''}{mirror.repository}/commits/main and give it with --revision"
        )
    if len(commit) != 40:
        raise BadInput(f"{commit} is no full commit (40 hexadecimal digits): a branch may change under you")
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    partial = output.with_name(f".{output.name}.partial")  # huggingface_hub resumes in it
    try:
        huggingface_hub.snapshot_download(
            mirror.repository,
            repo_type=mirror.type,
            revision=commit,
            allow_patterns=[member] if member else mirror.patterns or None,
            local_dir=partial,
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise BadInput(f"Hugging Face did not give {mirror.repository}@{commit[:7]} ({str(error).splitlines()[0]})") from None
    os.replace(partial, output)


def google_drive(mirror: GoogleDrive, source: Source, output: Path) -> None:
    """A file or folder of Google Drive by gdown, checked where the register knows its hash."""
    import gdown

    if output.exists():
        raise BadInput(f"{output} exists: move it away, then run this again")
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.partial")
    try:
        if mirror.folder:
            listed = gdown.download_folder(id=mirror.id, skip_download=True, quiet=True)
            wanted = [f for f in listed if not mirror.patterns or any(fnmatch.fnmatch(f.path, p) for p in mirror.patterns)]
            for file in wanted:
                place = partial / file.path
                place.parent.mkdir(parents=True, exist_ok=True)
                gdown.download(id=file.id, output=str(place), quiet=False, resume=True)
            got = [file.path for file in wanted]
        else:
            got = gdown.download(id=mirror.id, output=str(partial), quiet=False, resume=True)
    except Exception as error:  # gdown raises its own, requests' and bare ones: all mean that Drive did not give it
        raise BadInput(
            f"Google Drive did not give {mirror.id} ({str(error).splitlines()[0] if str(error) else error!r})"
        ) from None
    if not got:
        looked_for = f" anything like {', '.join(mirror.patterns)}" if mirror.folder and mirror.patterns else ""
        raise BadInput(f"Google Drive did not give{looked_for} {mirror.id}")
    if source.digest and partial.is_file() and files.digest(partial, source.digest.algorithm) != source.digest.value:
        partial.unlink()
        raise BadInput(f"what Google Drive gives for {mirror.id} has not {source.digest}")
    os.replace(partial, output)


def by_hand(name: str, source: Source, output: Path, member: str | None, inbox: Path, reasons: list[str]) -> str:
    """The exact steps, as one message."""
    lines = [f"{name} cannot be fetched by this command" + (f" ({'; '.join(reasons)})" if reasons else "") + ". By hand:"]
    for mirror in source.mirrors:
        if isinstance(mirror, Baidu):
            lines.append(f"  - open {mirror.url}" + (f" (code {mirror.code})" if mirror.code else "") + " with a Baidu account")
        elif isinstance(mirror, Dropbox | Page | Url):
            lines.append(f"  - or open {mirror.url}")
        elif isinstance(mirror, HuggingFace):
            lines.append(f"  - or Hugging Face: {mirror.repository} ({mirror.type})")
        elif isinstance(mirror, GoogleDrive):
            lines.append(f"  - or open https://drive.google.com/drive/folders/{mirror.id}")
    lines.append(f"  - {source.by_hand}")
    lines.append(f"  - put it at {inbox / member if member else inbox / name}; the same command then adopts it as {output}")
    return "\n".join(lines)
