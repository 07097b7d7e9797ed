"""A register entry from where it is kept: the inbox, addresses, Hugging Face, Google Drive, folders shared on Dropbox.

Mirrors are asked in order. Where no command can fetch (an account, a browser or a form is needed), the steps are told, and
the inbox is watched for what a person puts there.
"""

from __future__ import annotations

import fcntl
import fnmatch
import hashlib
import os
import shutil
import zipfile
from pathlib import Path

from workflow_scripts.console import BadInput
from workflow_scripts.data import checksums, inbox, integrity, transfer, unpack
from workflow_scripts.data.disk import check_disk
from workflow_scripts.data.register import Dropbox, GoogleDrive, HuggingFace, Mirror, Source, Url
from workflow_scripts.data.transfer import Unavailable
from workflow_scripts.params.data import Fetching


def fetch(
    name: str,
    source: Source,
    output: Path,
    settings: Fetching,
    member: str | None = None,
    revision: str | None = None,
    drop: Path = inbox.INBOX,
    wait: float = 0.0,
) -> dict[str, str]:
    """Bring a register entry (or one `member` file of it) to `output`: from the inbox `drop`, else from its mirrors in order.

    Returns facts for its manifest. BadInput with the steps to do by hand where no mirror gives it and nothing appears in the
    inbox for `wait` seconds.
    """
    if already_there(source, output, member):
        print(f"{output} is there already" + ("" if source.size else ", and the register knows nothing to check it by"))
        return {}
    if inbox.adopt(name, source, output, member, drop):
        return {}
    reasons = []
    for mirror in source.mirrors:
        try:
            facts = from_mirror(mirror, name, source, output, member, revision, settings)
        except Unavailable as error:
            reasons.append(str(error).rstrip("."))
            continue
        if facts is not None:
            return facts
    steps = inbox.steps(name, source, output, member, drop, reasons)
    if not wait:
        raise BadInput(steps)
    print(steps, flush=True)
    inbox.watch(name, source, output, member, drop, wait)
    return {}


def already_there(source: Source, output: Path, member: str | None) -> bool:
    """Whether `output` is what the register says. BadInput where it is something else; an empty folder is removed."""
    if output.is_dir() and not any(output.iterdir()):
        output.rmdir()
    if not output.exists():
        return False
    pieces = [p for p in source.files if not p.is_pattern] if output.is_dir() and not member else []
    if any(not (output / piece.name).exists() for piece in pieces):
        return False
    try:
        expected = source.piece(member) if member else source.whole
        if expected:
            checksums.verify(output, expected.size, expected.digest)
        for piece in pieces:
            checksums.verify(output / piece.name, piece.size, piece.digest)
    except BadInput as error:
        raise BadInput(f"{output} exists, but {str(error).split(':')[0]}: move it away, then run this again.") from None
    return True


def from_mirror(
    mirror: Mirror, name: str, source: Source, output: Path, member: str | None, revision: str | None, settings: Fetching
) -> dict[str, str] | None:
    """Fetch from one mirror; facts of what came, or None if it is of a kind that no command can fetch."""
    if isinstance(mirror, Url):
        by_address(mirror, source, output, member, settings)
        return {}
    if isinstance(mirror, HuggingFace):
        return {"revision": hugging_face(mirror, source, output, member, revision)}
    if isinstance(mirror, GoogleDrive):
        google_drive(mirror, source, output, settings)
        return {}
    if isinstance(mirror, Dropbox):
        dropbox(mirror, name, source, output, member, settings)
        return {}
    return None


def by_address(mirror: Url, source: Source, output: Path, member: str | None, settings: Fetching) -> None:
    """A file; one member of a folder; or a folder file by file: each is whole or absent, what is there stays."""
    names = [member] if member else [piece.name for piece in source.files if not piece.is_pattern]
    if not names:
        whole = source.whole
        transfer.fetch([mirror.url], output, whole.digest if whole else None, whole.size if whole else None, settings)
    for name in names:
        piece = source.piece(name)
        place = output if member else output / name
        digest, size = (piece.digest, piece.size) if piece else (None, None)
        transfer.fetch([f"{mirror.url.rstrip('/')}/{name}"], place, digest, size, settings)


def hugging_face(mirror: HuggingFace, source: Source, output: Path, member: str | None, revision: str | None) -> str:
    """A snapshot at a full commit (HF_ENDPOINT is respected), each file checked against the hub's own hash of it.

    Returns the commit. A killed download continues; the folder `output` appears when all is there.
    """
    commit = revision or mirror.revision
    if commit == "unknown":
        raise Unavailable(
            f"the register knows no commit of {mirror.repository}: choose one of https://huggingface.co/"
            f"{'datasets/' if mirror.type == 'dataset' else ''}{mirror.repository}/commits/main and give it with --revision"
        )
    if len(commit) != 40:
        raise BadInput(f"{commit} is no full commit (40 hexadecimal digits): a branch may change under you")
    partial = output.with_name(f".{output.name}.partial")  # huggingface_hub resumes in it
    packed = output.with_name(f".{output.name}.packed")  # all is here, archives are being unpacked
    if not packed.exists():
        _snapshot(mirror, commit, [member] if member else mirror.patterns, partial)
        os.replace(partial, packed)
    if mirror.unpack:
        unpack.unpack(packed)
    if source.whole and not member:
        checksums.verify(packed, source.whole.size, source.whole.digest)
    os.replace(packed / member if member else packed, output)
    shutil.rmtree(packed, ignore_errors=True)
    return commit


def _snapshot(mirror: HuggingFace, commit: str, patterns: list[str], folder: Path) -> None:
    """Download into `folder` what the hub's tree lists at `commit`; Unavailable unless every file is the hub's."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    from huggingface_hub.utils import filter_repo_objects

    about = {"repo_type": mirror.type, "revision": commit}
    try:
        listed = huggingface_hub.HfApi().list_repo_tree(mirror.repository, recursive=True, **about)
        tree = [entry for entry in listed if isinstance(entry, huggingface_hub.RepoFile)]
        tree = list(filter_repo_objects(tree, allow_patterns=patterns or None, key=lambda file: file.path))
        folder.mkdir(parents=True, exist_ok=True)
        held = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        check_disk(folder, max(0, sum(file.size for file in tree) - held))
        huggingface_hub.snapshot_download(mirror.repository, allow_patterns=patterns or None, local_dir=folder, **about)
    except BadInput:
        raise
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, *_http_errors()) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise Unavailable(f"Hugging Face did not give {mirror.repository}@{commit[:7]} ({reason[0]})") from None
    if not tree:
        raise Unavailable(f"{mirror.repository}@{commit[:7]} holds nothing like {', '.join(patterns)}")
    for file in tree:
        place = folder / file.path
        size = place.stat().st_size
        if file.lfs:
            fits = checksums.measure(place)[1].value == file.lfs.sha256
        else:  # small files are known by git's hash
            fits = hashlib.sha1(f"blob {size}\0".encode() + place.read_bytes()).hexdigest() == file.blob_id
        if size != file.size or not fits:
            place.unlink()
            raise Unavailable(f"{file.path} of {mirror.repository}@{commit[:7]} arrived damaged: run this again")
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # huggingface_hub's notes, with times of download


def _http_errors() -> tuple[type[Exception], ...]:
    """What huggingface_hub's own HTTP library raises where nobody answers."""
    import httpx2

    return (httpx2.HTTPError,)


def google_drive(mirror: GoogleDrive, source: Source, output: Path, settings: Fetching) -> None:
    """A file or folder of Google Drive by gdown, checked where the register knows its hash, else to be no web page."""
    import gdown

    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.partial")
    check_disk(partial, source.size or 0)
    manners = {"resume": True, "retries": settings.attempts - 1, "timeout": settings.timeout_seconds}
    try:
        if mirror.folder:
            listed = gdown.download_folder(id=mirror.id, skip_download=True, quiet=True)
            wanted = [f for f in listed if not mirror.patterns or any(fnmatch.fnmatch(f.path, p) for p in mirror.patterns)]
            got = [partial / file.path for file in wanted]
            for file, place in zip(wanted, got, strict=True):
                place.parent.mkdir(parents=True, exist_ok=True)
                gdown.download(id=file.id, output=str(place), **manners)
        else:
            got = [partial]
            gdown.download(id=mirror.id, output=str(partial), **manners)
    except Exception as error:  # gdown raises its own, requests' and bare ones: all mean that Drive did not give it
        reason = str(error).strip().splitlines() or [repr(error)]
        raise Unavailable(f"Google Drive did not give {mirror.id} ({reason[0]})") from None
    if not got or not partial.exists():
        like = f" anything like {', '.join(mirror.patterns)}" if mirror.patterns else ""
        raise Unavailable(f"Google Drive did not give{like} {mirror.id}")
    try:
        for place in got:
            integrity.refuse_page(place)
        if source.whole:
            checksums.verify(partial, source.whole.size, source.whole.digest)
    except BadInput as error:
        (shutil.rmtree if partial.is_dir() else os.unlink)(partial)
        raise Unavailable(f"what Google Drive gives for {mirror.id} is not the artifact ({error})") from None
    os.replace(partial, output)


def dropbox(mirror: Dropbox, name: str, source: Source, output: Path, member: str | None, settings: Fetching) -> None:
    """A shared folder, which comes as one zip: its files, or one `member` of it.

    The zip is fetched once for all members, however many jobs ask for one each: the files wait in a hidden folder beside the
    outputs until each was handed out.
    """
    store = output.parent / f".{name}.dropbox"
    archive = store.with_name(f"{store.name}.zip")
    output.parent.mkdir(parents=True, exist_ok=True)
    lock = store.with_name(f"{store.name}.lock")
    with open(lock, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not store.is_dir():
            transfer.fetch([mirror.url.replace("dl=0", "dl=1")], archive, settings=settings)
            _take_apart(archive, source, store)
            archive.unlink()
        if not member:
            os.replace(store, output)
            lock.unlink()
            return
        if not (store / member).is_file():
            raise Unavailable(f"the shared folder holds no {member}; it holds {', '.join(sorted(os.listdir(store)))}")
        piece = source.piece(member)
        checksums.verify(store / member, piece.size if piece else None, piece.digest if piece else None)
        os.link(store / member, output)
        if all(file.stat().st_nlink > 1 for file in store.iterdir()):
            shutil.rmtree(store)
            lock.unlink()


def _take_apart(archive: Path, source: Source, store: Path) -> None:
    """The registered files of a zip into the new folder `store`, without the zip's folders, checked by the zip's own CRC."""
    partial = store.with_name(f"{store.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [m for m in opened.infolist() if not m.is_dir() and source.piece(Path(m.filename).name)]
            check_disk(partial, sum(m.file_size for m in members))
            for entry in members:
                with opened.open(entry) as held, open(partial / Path(entry.filename).name, "xb") as sink:
                    shutil.copyfileobj(held, sink, transfer.CHUNK)
    except (zipfile.BadZipFile, FileExistsError) as error:
        archive.unlink()
        raise Unavailable(f"the zip of the shared folder is damaged ({error})") from None
    os.replace(partial, store)
