"""The stages of restoring, each an iterator of byte blocks: parts -> gzip bytes -> tar bytes -> something tarfile can read.

`ahead` runs a stage in a thread: reading, hashing and inflating release the interpreter lock, so that they overlap.
"""

from __future__ import annotations

import hashlib
import io
import queue
import threading
import zlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

from workflow_scripts.console import BadInput
from workflow_scripts.data.checksums import Digest

BLOCK = 1 << 20
MAX_RATIO = 200  # of tar bytes to gzip bytes: frames do not shrink like this, bombs do
RATIO_SLACK = 64 << 20
Block = tuple[str, bytes]  # name of the part it came from, content


def ahead(blocks: Iterator[Any], depth: int = 8) -> Generator[Any, None, None]:
    """The same items, produced by a thread up to `depth` items early; its exception is raised here."""
    waiting: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: tuple[str, Any]) -> bool:
        while not stop.is_set():
            try:
                waiting.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for block in blocks:
                if not put(("item", block)):
                    return
            put(("end", None))
        except BaseException as error:  # handed over to the consumer, who raises it
            put(("error", error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            kind, value = waiting.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stop.set()
        thread.join()


def concatenated(parts: list[Path], published: dict[str, Digest], whole: Any, passed: Callable[[int], None]) -> Iterator[Block]:
    """Blocks of all parts in order. Each part is checked against its published digest, if there is one; `whole` hashes all."""
    for path in parts:
        expected = published.get(path.name)
        own = hashlib.new(expected.algorithm) if expected else None
        with open(path, "rb") as handle:
            while block := handle.read(BLOCK):
                whole.update(block)
                if own:
                    own.update(block)
                passed(len(block))
                yield path.name, block
        if expected and own and own.hexdigest() != expected.value:
            raise BadInput(
                f"{path} has {expected.algorithm} {own.hexdigest()}, not {expected.value}: delete it and fetch it again."
            )


def inflated(blocks: Iterator[Block], whole: Any) -> Iterator[bytes]:
    """Decompress a gzip stream of one or more members; `whole` hashes what comes out. BadInput where it is broken or a bomb."""
    machine, taken, given, name, started = zlib.decompressobj(31), 0, 0, "", False
    for name, block in blocks:
        taken += len(block)
        if not started:
            if block[:2] != b"\x1f\x8b":
                raise BadInput(f"{name} does not begin a gzip archive: is the first part missing, or a web page saved instead?")
            started = True
        data = block
        while data:
            if machine.eof:  # a further member, or the zeros some tools append
                data = data.lstrip(b"\0")
                if not data:
                    break
                machine = zlib.decompressobj(31)
            try:
                out = machine.decompress(data, 4 * BLOCK)
            except zlib.error as error:
                raise BadInput(f"{name} is damaged ({error}): delete it and fetch it again.") from None
            given += len(out)
            if given > MAX_RATIO * taken + RATIO_SLACK:
                raise BadInput(
                    f"{name} unpacks to over {MAX_RATIO} times its size, which is no set of frames: do not trust it."
                )
            whole.update(out)
            if out:
                yield out
            data = machine.unused_data if machine.eof else machine.unconsumed_tail
    if not machine.eof:
        raise BadInput(
            f"the archive ends in the middle of {name or 'nothing'}: a part is missing or cut short; fetch it again."
        )


class Reader(io.RawIOBase):
    """Blocks as a file that can only be read forward."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        super().__init__()
        self.blocks, self.rest = blocks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.rest:
            block = next(self.blocks, None)
            if block is None:
                return 0
            self.rest = memoryview(block)
        count = min(len(buffer), len(self.rest))
        buffer[:count] = self.rest[:count]
        self.rest = self.rest[count:]
        return count

    def drain(self) -> None:
        """Read to the end, for the hashes."""
        self.rest = memoryview(b"")
        for _ in self.blocks:
            pass
