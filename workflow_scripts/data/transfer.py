"""One file from one of several addresses, by http, https or file:, whole and verified or not at all.

Bytes go to ``.<name>.partial`` beside the target, with a note (``.partial.json``) of which address and version of the file
they are from. A killed or broken transfer continues there: by Range with If-Range where the server named a version, by Range
alone where the final hash will tell, else from the start. A server that ignores Range, or whose file changed, restarts it.
The hash is computed while the bytes pass. Only a file with the right hash and length gets the target's name.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote

import httpx

from workflow_scripts import files
from workflow_scripts.console import BadInput
from workflow_scripts.data.checksums import Digest
from workflow_scripts.data.disk import check_disk
from workflow_scripts.data.integrity import is_page
from workflow_scripts.data.meter import meter
from workflow_scripts.params.data import Fetching

CHUNK = 1 << 20
GAIN_THAT_COUNTS = 1 << 20  # an attempt that brought this much more than any before does not use up a try
MAX_REDIRECTS = 10
MAX_WAIT_SECONDS = 60.0
TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}
A_PAGE = "it gives a web page (a login, a quota or a preview), not the file"


class Unavailable(BadInput):
    """No address gives the file. Other sources, if there are any, may."""


class Refused(Exception):
    """This address will not give the file, however often it is asked."""


class Interrupted(Exception):
    """The transfer broke off; another try may go on."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait  # seconds the server asked for


@dataclass(frozen=True)
class Wanted:
    """What the file must be, and how hard to try for it."""

    expected: Digest | None
    size: int | None
    settings: Fetching

    @property
    def algorithm(self) -> str:
        return self.expected.algorithm if self.expected else "sha256"


@dataclass
class Partial:
    """The bytes that are there so far, and what they are of."""

    path: Path
    url: str = ""
    version: str = ""  # strong ETag, or Last-Modified, or size and time of a local file; "": unknown
    total: int | None = None
    hashed: int = 0  # bytes that went into `running`
    running: Any = field(default=None, repr=False)

    @property
    def note(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    @property
    def name(self) -> str:
        return self.path.name.removeprefix(".").removesuffix(".partial")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def load(self) -> None:
        """Read the note; without a readable one the bytes are of unknown origin and are dropped."""
        try:
            value = json.loads(self.note.read_text())
            self.url, self.version, self.total = value["url"], value["version"], value["total"]
        except (OSError, ValueError, KeyError, TypeError):
            self.drop()

    def begin(self, url: str, version: str, total: int | None) -> None:
        """Start from nothing. The bytes go before the note changes: a kill in between leaves no false claim."""
        self.drop()
        self.url, self.version, self.total = url, version, total
        draft = self.note.with_suffix(".tmp")  # one name, held by the lock: a kill leaves nothing that stays
        draft.write_text(json.dumps({"url": url, "version": version, "total": total}))
        os.replace(draft, self.note)

    def drop(self) -> None:
        """Forget everything (the file itself stays, empty: it carries the lock)."""
        if self.path.exists():
            os.truncate(self.path, 0)
        self.note.unlink(missing_ok=True)
        self.url, self.version, self.total = "", "", None
        self.hashed, self.running = 0, None

    def digest(self, algorithm: str) -> Digest:
        """The hash of the bytes that are there; each byte is read once, those that pass through `append` not at all."""
        if self.running is None:
            self.hashed, self.running = 0, hashlib.new(algorithm)
        if self.hashed < self.size:
            with open(self.path, "rb") as handle:
                handle.seek(self.hashed)
                while chunk := handle.read(CHUNK):
                    self.running.update(chunk)
                    self.hashed += len(chunk)
        return Digest(algorithm, self.running.hexdigest())

    def append(self, chunks: Iterator[bytes], algorithm: str) -> None:
        """Write and hash what comes, chunk by chunk and unbuffered: a kill loses one chunk at most."""
        self.digest(algorithm)
        with open(self.path, "ab", buffering=0) as sink, meter(self.name, self.total, self.size) as add:
            for chunk in chunks:
                _write_all(sink, chunk)
                self.running.update(chunk)
                self.hashed += len(chunk)
                add(len(chunk))
            os.fsync(sink.fileno())


def fetch(
    urls: list[str],
    output: str | Path,
    expected: Digest | None = None,
    size: int | None = None,
    settings: Fetching | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Digest:
    """Bring one file to `output` from the first of `urls` that gives it; returns its digest (SHA-256 if none is expected).

    Unavailable when no address gives the expected file; BadInput when the disk is too small, or another file is at `output`.
    """
    output, wanted = Path(output), Wanted(expected, size, settings or Fetching())
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with _locked(output.with_name(f".{output.name}.partial")) as partial:
            if output.exists():
                return _already_there(output, wanted)
            partial.load()
            found = _from_mirrors(urls, partial, wanted, sleep)
            os.replace(partial.path, output)  # then the note goes: without it the bytes would not be trusted
            return found
    except OSError as error:  # a full disk, a quota, a folder that cannot be written
        raise BadInput(
            f"{output} cannot be written ({error.strerror or error}): free some room, or choose another place; "
            "what came so far is kept, the same command continues."
        ) from None


def _already_there(output: Path, wanted: Wanted) -> Digest:
    found = Digest(wanted.algorithm, files.digest(output, wanted.algorithm))
    if wanted.expected not in (None, found):
        raise BadInput(f"{output} exists with {found}, not {wanted.expected}: move it away, then run this again.")
    return found


@contextmanager
def _locked(path: Path) -> Iterator[Partial]:
    """The partial file, held by this process alone; nothing of it stays where no byte came."""
    with open(path, "ab") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(f"{path} is being written by another fetch: wait for it to end.") from None
        partial = Partial(path)
        try:
            yield partial
        finally:
            if not partial.size:
                partial.path.unlink(missing_ok=True)
                partial.note.unlink(missing_ok=True)


def _from_mirrors(urls: list[str], partial: Partial, wanted: Wanted, sleep: Callable[[float], None]) -> Digest:
    reasons = []
    with httpx.Client(timeout=wanted.settings.timeout_seconds) as client:
        for url in urls:
            try:
                return _from_mirror(client, url, partial, wanted, sleep)
            except Refused as refusal:
                reasons.append(f"{url}: {refusal}")
                print(reasons[-1], file=sys.stderr, flush=True)
    kept = "what came so far is kept, the same command continues" if partial.size else ""
    remedy = kept or "check the addresses, or give another one with --url"
    raise Unavailable(f"{partial.name} could not be fetched ({' | '.join(reasons)}); {remedy}.")


def _from_mirror(client: httpx.Client, url: str, partial: Partial, wanted: Wanted, sleep: Callable[[float], None]) -> Digest:
    """Try one address, again after interruptions, until the whole file is here with the right hash. Refused otherwise."""
    tries, wait, furthest, started_over = 0, wanted.settings.wait_seconds, partial.size, False
    while True:
        try:
            resumed = _attempt(client, url, partial, wanted)
        except Interrupted as reason:
            gained = partial.size - furthest
            furthest += max(0, gained)
            tries = 1 if gained >= GAIN_THAT_COUNTS else tries + 1
            if tries >= wanted.settings.attempts:
                raise Refused(f"{reason} ({wanted.settings.attempts} attempts)") from None
            pause = min(reason.wait if reason.wait is not None else wait, MAX_WAIT_SECONDS)
            print(f"{url}: {reason}; trying again in {pause:.0f} s", file=sys.stderr, flush=True)
            sleep(pause)
            wait *= 2
            continue
        found, size = partial.digest(wanted.algorithm), partial.size
        if wanted.expected in (None, found) and wanted.size in (None, size):
            return found
        partial.drop()
        # Bytes of another run or mirror may be to blame: one clean try tells.
        if started_over or not resumed:
            if wanted.expected in (None, found):
                raise Refused(f"it serves {size} bytes, {wanted.size} are expected")
            raise Refused(f"what it serves has {found}, not {wanted.expected}")
        started_over = True


def _attempt(client: httpx.Client, url: str, partial: Partial, wanted: Wanted) -> bool:
    """One connection: append to the partial file until the body ends. Returns whether bytes were reused."""
    scheme, have = url.partition(":")[0], partial.size
    if have and have == partial.total:  # killed between the last byte and the rename
        return True
    if scheme == "file":
        return _receive_local(url, partial, wanted)
    if scheme not in ("http", "https"):
        raise Refused("no kind of address that can be fetched (http, https, file)")
    headers = {"Accept-Encoding": "identity", "User-Agent": "trackgraph"}
    if have and partial.url == url and partial.version:
        headers |= {"Range": f"bytes={have}-", "If-Range": partial.version}
    elif have and wanted.expected:
        headers |= {"Range": f"bytes={have}-"}
    if "Range" in headers:
        partial.digest(wanted.algorithm)  # now: a server that waits for a reader may hang up
    try:
        with _open(client, url, headers) as response:
            return _receive(response, url, partial, wanted)
    except httpx.TimeoutException:
        raise Interrupted(f"no byte for {wanted.settings.timeout_seconds:g} s") from None
    except (httpx.NetworkError, httpx.ProtocolError) as error:
        raise Interrupted(str(error) or type(error).__name__) from None
    except httpx.HTTPError as error:
        raise Refused(str(error) or type(error).__name__) from None
    except httpx.InvalidURL as error:
        raise Refused(f"not an address: {error}") from None


@contextmanager
def _open(client: httpx.Client, url: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
    """The response after redirects; never from https to http, never around in circles."""
    request = client.build_request("GET", url, headers=headers)
    for _ in range(MAX_REDIRECTS + 1):
        response = client.send(request, stream=True)
        try:
            if response.next_request is None:
                yield response
                return
            following = response.next_request
            if request.url.scheme == "https" and following.url.scheme != "https":
                raise Refused(f"it redirects from https to {following.url.scheme}, which is not followed")
            for name, value in headers.items():
                following.headers[name] = value
            request = following
        finally:
            response.close()
    raise Refused(f"it redirects more than {MAX_REDIRECTS} times")


def _receive(response: httpx.Response, url: str, partial: Partial, wanted: Wanted) -> bool:
    """Check what the server answers before anything we have is given up for it; then append the body."""
    status, have = response.status_code, partial.size
    if status in TRANSIENT_STATUS:
        after = response.headers.get("retry-after", "")
        raise Interrupted(f"the server answers {status}", float(after) if after.isdigit() else None)
    if status == 416 and have:  # nothing beyond what we have: all of it, or more than there is now
        if response.headers.get("content-range", "").rpartition("/")[2] == str(have):
            return True
        partial.drop()
        raise Interrupted("the file is no longer than what is here; starting over", 0)
    if status not in (200, 206):
        raise Refused(f"the server answers {status} {response.reason_phrase}".rstrip())
    if response.headers.get("content-encoding", "identity") != "identity":
        raise Refused("the server insists on compressing the transfer")
    if "text/html" in response.headers.get("content-type", "") and not partial.name.endswith((".html", ".htm")):
        raise Refused(A_PAGE)
    length = response.headers.get("content-length", "")
    total = int(length) if length.isdigit() else None
    etag = response.headers.get("etag", "")
    version = etag if etag and not etag.startswith("W/") else response.headers.get("last-modified", "")
    if status == 206:
        start, total = _content_range(response.headers.get("content-range", ""))
        other = partial.url == url and version and partial.version not in ("", version)
        if start != have or other or (partial.total is not None and total not in (None, partial.total)):
            partial.drop()
            raise Interrupted("what it continues with is not the rest of what is here; starting over", 0)
    if wanted.size is not None and total not in (None, wanted.size):
        raise Refused(f"it serves {total} bytes, {wanted.size} are expected")
    check_disk(partial.path, (total or wanted.size or 0) - (have if status == 206 else 0))
    chunks = response.iter_raw()  # as it comes from the network, so that little is lost when it breaks
    first = next(chunks, b"")
    if status == 200:
        if is_page(partial.name, first):
            raise Refused(A_PAGE)
        partial.begin(url, version, total)
    partial.append(chain([first], chunks), wanted.algorithm)
    whole = total if total is not None else wanted.size
    if whole is not None and partial.size != whole:
        if partial.size > whole:
            partial.drop()
        raise Interrupted(f"the body ended after {partial.size} of {whole} bytes")
    return status == 206


def _content_range(text: str) -> tuple[int, int | None]:
    """First byte and total: ``bytes 5-9/10`` -> (5, 10), what cannot be read -> (-1, None)."""
    try:
        unit, _, rest = text.partition(" ")
        span, _, total = rest.partition("/")
        if unit != "bytes":
            raise ValueError
        return int(span.partition("-")[0]), int(total) if total.isdigit() else None
    except ValueError:
        return -1, None


def local_path(url: str) -> Path:
    """The path of a file: address; ``file:relative/path`` is allowed and means the current folder."""
    path = url.removeprefix("file://localhost").removeprefix("file://").removeprefix("file:")
    return Path(path) if Path(path).exists() else Path(unquote(path))


def _receive_local(url: str, partial: Partial, wanted: Wanted) -> bool:
    path = local_path(url)
    if not path.is_file() or not os.access(path, os.R_OK):
        raise Refused(f"{path} {'cannot be read' if path.is_file() else 'does not exist'}")
    status = path.stat()
    version = f"{status.st_size}-{status.st_mtime_ns}"
    if wanted.size not in (None, status.st_size):
        raise Refused(f"it has {status.st_size} bytes, {wanted.size} are expected")
    if (partial.url, partial.version) != (url, version) or partial.size > status.st_size:
        partial.begin(url, version, status.st_size)
    have = partial.size
    check_disk(partial.path, status.st_size - have)
    with open(path, "rb") as source:
        source.seek(have)
        partial.append(iter(lambda: source.read(CHUNK), b""), wanted.algorithm)
    if partial.size != status.st_size:
        partial.drop()
        raise Interrupted("the file changed while it was read")
    return have > 0


def _write_all(sink: BinaryIO, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[sink.write(view) :]
