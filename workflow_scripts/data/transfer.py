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
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

import httpx

from workflow_scripts import files
from workflow_scripts.console import BadInput
from workflow_scripts.data.checksums import Digest
from workflow_scripts.data.meter import meter
from workflow_scripts.params.data import Fetching

CHUNK = 1 << 20
GAIN_THAT_COUNTS = 1 << 20  # an attempt that brought this much does not use up a try
MAX_REDIRECTS = 10
MAX_WAIT_SECONDS = 60.0
SPARE_BYTES = 64 << 20
TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}
PAGE_STARTS = (b"<!doctype html", b"<html")


class Refused(Exception):
    """This address will not give the file, however often it is asked."""


class Interrupted(Exception):
    """The transfer broke off; another try may go on."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait  # seconds the server asked for


@dataclass
class Partial:
    """The bytes that are there so far, and what they are of."""

    path: Path
    url: str = ""
    version: str = ""  # strong ETag, or Last-Modified, or size and time of a local file; "": unknown
    total: int | None = None

    @property
    def note(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

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
        self.path.write_bytes(b"")
        self.url, self.version, self.total = url, version, total
        files.write_json(self.note, {"url": url, "version": version, "total": total})

    def drop(self) -> None:
        """Forget everything (the file itself stays, empty: it carries the lock)."""
        if self.path.exists():
            os.truncate(self.path, 0)
        self.note.unlink(missing_ok=True)
        self.url, self.version, self.total = "", "", None


def fetch(
    urls: list[str],
    output: str | Path,
    expected: Digest | None = None,
    size: int | None = None,
    settings: Fetching | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Digest:
    """Bring one file to `output` from the first of `urls` that gives it; returns its digest (SHA-256 if none is expected).

    BadInput when no address gives the expected file, when the disk is too small, or when another file is at `output`.
    """
    settings, output = settings or Fetching(), Path(output)
    algorithm = expected.algorithm if expected else "sha256"
    if output.exists():
        return _already_there(output, expected)
    output.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    with _locked(output.with_name(f".{output.name}.partial")) as partial:
        partial.load()
        for url in urls:
            try:
                found = _from_mirror(url, partial, expected, size, algorithm, settings, sleep)
            except Refused as refusal:
                reasons.append(f"{url}: {refusal}")
                print(f"{url}: {refusal}", file=sys.stderr, flush=True)
                continue
            partial.note.unlink(missing_ok=True)
            os.replace(partial.path, output)
            return found
        kept = " what came so far is kept, the same command continues" if partial.size else ""
        if not partial.size:
            partial.path.unlink(missing_ok=True)
            partial.note.unlink(missing_ok=True)
        remedy = f";{kept}" if kept else "; check the addresses, or give another one with --url"
        raise BadInput(f"{output} could not be fetched ({' | '.join(reasons)}){remedy}.")


def _already_there(output: Path, expected: Digest | None) -> Digest:
    found = Digest(expected.algorithm if expected else "sha256", "")
    found = Digest(found.algorithm, files.digest(output, found.algorithm))
    if expected and found != expected:
        raise BadInput(f"{output} exists with {found}, not {expected}: move it away, then run this again.")
    return found


@contextmanager
def _locked(path: Path) -> Iterator[Partial]:
    """The partial file, held by this process alone."""
    with open(path, "ab") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(f"{path} is being written by another fetch: wait for it to end.") from None
        yield Partial(path)


def _from_mirror(
    url: str,
    partial: Partial,
    expected: Digest | None,
    size: int | None,
    algorithm: str,
    settings: Fetching,
    sleep: Callable[[float], None],
) -> Digest:
    """Try one address, again after interruptions, until the whole file is here with the right hash. Refused otherwise."""
    tries, wait, started_over = 0, settings.wait_seconds, False
    while True:
        before = partial.size
        try:
            found, resumed = _attempt(url, partial, expected, size, algorithm, settings)
        except Interrupted as reason:
            tries = 1 if partial.size - before >= GAIN_THAT_COUNTS else tries + 1
            if tries >= settings.attempts:
                raise Refused(f"{reason} ({settings.attempts} attempts)") from None
            pause = min(reason.wait if reason.wait is not None else wait, MAX_WAIT_SECONDS)
            print(f"{url}: {reason}; trying again in {pause:.0f} s", file=sys.stderr, flush=True)
            sleep(pause)
            wait *= 2
            continue
        if expected is None or found == expected:
            return found
        partial.drop()
        # Bytes of another run or mirror may be to blame: one clean try tells.
        if started_over or not resumed:
            raise Refused(f"what it serves has {found}, not {expected}")
        started_over = True


def _attempt(
    url: str, partial: Partial, expected: Digest | None, size: int | None, algorithm: str, settings: Fetching
) -> tuple[Digest, bool]:
    """One connection: append to the partial file until the body ends. Returns the digest and whether bytes were reused."""
    scheme = urlsplit(url).scheme
    if scheme == "file":
        return _receive_local(url, partial, size, algorithm)
    if scheme not in ("http", "https"):
        raise Refused(f"{scheme or 'this'} is no kind of address that can be fetched (http, https, file)")
    have = partial.size
    headers = {"Accept-Encoding": "identity", "User-Agent": "trackgraph"}
    if have and partial.url == url and partial.version:
        headers |= {"Range": f"bytes={have}-", "If-Range": partial.version}
    elif have and expected:
        headers |= {"Range": f"bytes={have}-"}
    timeout = httpx.Timeout(settings.timeout_seconds)
    try:
        with httpx.Client(timeout=timeout) as client, _open(client, url, headers) as response:
            return _receive(response, url, partial, size, algorithm)
    except httpx.TimeoutException:
        raise Interrupted(f"no byte for {settings.timeout_seconds:g} s") from None
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


def _receive(response: httpx.Response, url: str, partial: Partial, size: int | None, algorithm: str) -> tuple[Digest, bool]:
    status, have = response.status_code, partial.size
    if status == 416 and have:  # nothing beyond what we have: done, or a shorter file than before
        length = response.headers.get("content-range", "").rpartition("/")[2]
        if length == str(have):
            return Digest(algorithm, files.digest(partial.path, algorithm)), True
        partial.drop()
        raise Interrupted("the file became shorter; starting over", 0)
    if status in TRANSIENT_STATUS:
        after = response.headers.get("retry-after", "")
        raise Interrupted(f"the server answers {status}", float(after) if after.isdigit() else None)
    if status not in (200, 206):
        raise Refused(f"the server answers {status} {response.reason_phrase}".rstrip())
    if response.headers.get("content-encoding", "identity") != "identity":
        raise Refused("the server insists on compressing the transfer")
    if "text/html" in response.headers.get("content-type", "") and partial.path.suffix not in (".html", ".htm"):
        raise Refused("it gives a web page (a login, a quota or a preview), not the file")
    length = response.headers.get("content-length", "")
    rest = int(length) if length.isdigit() else None
    etag = response.headers.get("etag", "")
    version = etag if etag and not etag.startswith("W/") else response.headers.get("last-modified", "")
    if status == 206:
        start, total = _content_range(response.headers.get("content-range", ""))
        other = partial.url == url and version and partial.version not in ("", version)
        if start != have or other or (partial.total is not None and total not in (None, partial.total)):
            partial.drop()
            raise Interrupted("the file changed since the transfer began; starting over", 0)
    else:
        total, have = rest, 0
    if have == 0:
        partial.begin(url, version, total)
    total = total if total is not None else size
    if size is not None and total != size:
        partial.drop()
        raise Refused(f"it serves {total} bytes, the register says {size}")
    check_disk(partial.path, (total or 0) - have)
    digest = _append(partial, response.iter_raw(CHUNK), total, algorithm)
    if total is not None and partial.size != total:
        if partial.size > total:
            partial.drop()
        raise Interrupted(f"the body ended after {partial.size} of {total} bytes")
    return digest, have > 0


def _content_range(text: str) -> tuple[int, int | None]:
    """``bytes 5-9/10`` -> (5, 10)."""
    try:
        unit, _, rest = text.partition(" ")
        span, _, total = rest.partition("/")
        if unit != "bytes":
            raise ValueError
        return int(span.partition("-")[0]), int(total) if total.isdigit() else None
    except ValueError:
        raise Refused(f"it answers a range with Content-Range {text!r}") from None


def local_path(url: str) -> Path:
    """The path of a file: address; ``file:relative/path`` is allowed and means the current folder."""
    path = url.removeprefix("file://localhost").removeprefix("file://").removeprefix("file:")
    return Path(path) if Path(path).exists() else Path(unquote(path))


def _receive_local(url: str, partial: Partial, size: int | None, algorithm: str) -> tuple[Digest, bool]:
    path = local_path(url)
    if not path.is_file():
        raise Refused(f"{path} does not exist")
    status = path.stat()
    version = f"{status.st_size}-{status.st_mtime_ns}"
    if size is not None and status.st_size != size:
        raise Refused(f"it has {status.st_size} bytes, the register says {size}")
    if (partial.url, partial.version) != (url, version) or partial.size > status.st_size:
        partial.begin(url, version, status.st_size)
    have = partial.size
    check_disk(partial.path, status.st_size - have)
    with open(path, "rb") as source:
        source.seek(have)
        return _append(partial, iter(lambda: source.read(CHUNK), b""), status.st_size, algorithm), have > 0


def _append(partial: Partial, chunks: Iterator[bytes], total: int | None, algorithm: str) -> Digest:
    """Hash what is there, then write and hash what comes, chunk by chunk and unbuffered: a kill loses one chunk at most."""
    digest: Any = hashlib.new(algorithm)
    have = partial.size
    with open(partial.path, "rb") as old:
        while chunk := old.read(CHUNK):
            digest.update(chunk)
    name = partial.path.name.removeprefix(".").removesuffix(".partial")
    with open(partial.path, "ab", buffering=0) as sink, meter(name, total, have) as add:
        first = have == 0
        for chunk in chunks:
            if first and chunk.lstrip()[:16].lower().startswith(PAGE_STARTS) and not name.endswith((".html", ".htm")):
                os.truncate(partial.path, 0)
                raise Refused("it gives a web page (a login, a quota or a preview), not the file")
            first = False
            _write_all(sink, chunk)
            digest.update(chunk)
            add(len(chunk))
        os.fsync(sink.fileno())
    return Digest(algorithm, digest.hexdigest())


def _write_all(sink: BinaryIO, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[sink.write(view) :]


def check_disk(path: Path, needed: int) -> None:
    """BadInput unless the disk of `path` has room for `needed` bytes and a little more."""
    free = shutil.disk_usage(path.parent).free
    if needed + SPARE_BYTES > free:
        raise BadInput(
            f"{path.parent} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are to come: free some, or choose another disk."
        )
