"""Progress of bytes: a bar with rate and time left on a terminal, a line every few seconds in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from workflow_scripts.console import LINE_EVERY_SECONDS


@contextmanager
def meter(description: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with each further number of bytes; `done` of `total` bytes are there already."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(description, total=total, completed=done)
            yield lambda count: bar.advance(task, count)
        return
    state = {"done": done, "last": time.monotonic()}
    start = time.monotonic()

    def add(count: int) -> None:
        state["done"] += count
        now = time.monotonic()
        if now - state["last"] >= LINE_EVERY_SECONDS:
            state["last"] = now
            rate = (state["done"] - done) / (now - start)
            left = f" of {total / 1e6:.0f} MB, {(total - state['done']) / max(rate, 1):.0f} s left" if total else " MB"
            print(f"{description}: {state['done'] / 1e6:.0f}{left}, {rate / 1e6:.1f} MB/s", file=sys.stderr, flush=True)

    yield add
