"""The stages of restoring, each an iterator of byte blocks: parts -> gzip bytes -> tar bytes -> a file that is read forward.

`ahead` runs a stage in a thread: reading, hashing, inflating and writing all release the interpreter lock, so that they
overlap. Inflating is zlib-ng's: decoders that work on several places at once gain nothing where MD5, which cannot, is slower.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from zlib_ng import gzip_ng, zlib_ng

from workflow_scripts.console import BadInput
from workflow_scripts.data.checksums import Digest

BLOCK = 1 << 20
MAX_RATIO = 200  # of tar bytes to gzip bytes: frames do not shrink like this, bombs do
RATIO_SLACK = 64 << 20
HEADER_BYTES = 1 << 20
GZIP = b"\x1f\x8b"
REMEDY = "compare the parts' sizes and md5 with the publisher's, and fetch again what differs"
Item = TypeVar("Item")
Block = tuple[str, bytes]  # name of the part it came from, content


class Damaged(BadInput):
    """What the parts hold is broken, so one of them is."""


@contextmanager
def ahead(blocks: Iterable[Item], depth: int = 8) -> Iterator[Iterator[Item]]:
    """The same items, produced by a thread up to `depth` items early; its exception is raised where they are consumed."""
    waiting: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    stop = threading.Event()

    def put(kind: str, value: Any = None) -> None:
        while not stop.is_set():
            try:
                waiting.put((kind, value), timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for block in blocks:
                put("item", block)
                if stop.is_set():
                    return
            put("end")
        except BaseException as error:  # handed over to the consumer, who raises it
            put("error", error)

    def items() -> Iterator[Item]:
        while True:
            kind, value = waiting.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield items()
    finally:
        stop.set()
        thread.join()


def concatenated(parts: list[Path], published: dict[str, Digest], whole: Any, passed: Callable[[int], None]) -> Iterator[Block]:
    """Blocks of all parts in order. Each part is checked against its published digest, if there is one; `whole` hashes all."""
    for path in parts:
        expected = published.get(path.name)
        own = hashlib.new(expected.algorithm) if expected else None
        for block in _content(path):
            whole.update(block)
            if own:
                own.update(block)
            passed(len(block))
            yield path.name, block
        if expected and own and own.hexdigest() != expected.value:
            raise BadInput(
                f"{path} has {expected.algorithm} {own.hexdigest()}, not {expected.value}: delete it and fetch it again."
            )


def _content(path: Path) -> Iterator[bytes]:
    try:
        with open(path, "rb", buffering=0) as handle:
            while block := handle.read(BLOCK):
                yield block
    except OSError as error:
        raise BadInput(f"{path} could not be read ({error.strerror}): see to the disk, or fetch it again.") from None


def inflated(blocks: Iterable[Block]) -> Iterator[bytes]:
    """Decompress a gzip stream of one or more members. BadInput where it is broken, or swells as only a bomb does."""
    name, credit = "", RATIO_SLACK  # bytes that may come out before more goes in

    def contents() -> Iterator[bytes]:
        nonlocal name, credit
        for part, block in blocks:
            if not name and block[:2] != GZIP:
                raise BadInput(f"{part} does not begin a gzip archive: is a part missing before it, or is it another file?")
            name = part
            credit = min(credit, RATIO_SLACK) + MAX_RATIO * len(block)
            yield block

    try:
        with gzip_ng.GzipFile(fileobj=Forward(contents()), mode="rb") as plain:
            while block := plain.read(BLOCK):
                credit -= len(block)
                if credit < 0:
                    raise BadInput(
                        f"{name} unpacks to over {MAX_RATIO} times its size, which is no set of frames: do not trust it."
                    )
                yield block
    except EOFError:
        raise Damaged(f"the archive ends in the middle of {name}: a part is missing or cut short; fetch it again.") from None
    except (gzip.BadGzipFile, zlib_ng.error) as error:
        raise Damaged(f"the archive is damaged in {name} or before it ({error}): {REMEDY}.") from None


def hashed(blocks: Iterable[bytes], whole: Any) -> Iterator[bytes]:
    """The same blocks; `whole` hashes them."""
    for block in blocks:
        whole.update(block)
        yield block


class Forward(io.RawIOBase):
    """Blocks as a file that is read forward only, as far as gzip and tarfile need one."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        super().__init__()
        self.blocks, self.rest, self.position = blocks, memoryview(b""), 0

    def take(self, size: int) -> Iterator[memoryview]:
        """The next `size` bytes, in pieces and without copying; fewer where the stream ends."""
        while size > 0:
            while not self.rest:
                block = next(self.blocks, None)
                if block is None:
                    return
                self.rest = memoryview(block)
            piece, self.rest = self.rest[:size], self.rest[size:]
            self.position += len(piece)
            size -= len(piece)
            yield piece

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """One piece of at most the buffer's size."""
        piece = next(self.take(len(buffer)), b"")
        buffer[: len(piece)] = piece
        return len(piece)

    def read(self, size: int = -1) -> bytes:
        """Exactly `size` bytes unless the stream ends. Only headers are read so: BadInput for one of over a megabyte."""
        if not 0 <= size <= HEADER_BYTES:
            raise BadInput(f"the archive holds a header of {size} bytes: do not trust this archive.")
        return b"".join(self.take(size))

    def tell(self) -> int:
        return self.position

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        """Forward only."""
        if whence != io.SEEK_SET or position < self.position:
            raise io.UnsupportedOperation("this stream is read forward only")
        for _ in self.take(position - self.position):
            pass
        return self.position
