"""The edge between a command and its user: one clear sentence on bad input, a progress bar on long work."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")
LINE_EVERY_SECONDS = 10.0  # in a log file a bar would be noise: one line now and then instead


class BadInput(ValueError):
    """Something the user can mend. The message is one sentence that names the file (and line) and the remedy."""


def run(main: Callable[[], None]) -> None:
    """Call a command's `main`; BadInput becomes ``error: ...`` on stderr and exit status 1."""
    try:
        main()
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("interrupted; running the same command again continues from here", file=sys.stderr)
        raise SystemExit(130) from None


def progress(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Yield `items` under a bar with count, rate and time left (a plain line every few seconds where stderr is a file)."""
    if total is None:
        total = len(items) if hasattr(items, "__len__") else None  # type: ignore[arg-type]
    if sys.stderr.isatty():
        yield from _bar(items, description, total)
    else:
        yield from _lines(items, description, total)


def _bar(items: Iterable[Item], description: str, total: int | None) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    class Rate(ProgressColumn):
        def render(self, task: Any) -> str:
            speed = task.finished_speed or task.speed
            return f"{speed:.3g}/s" if speed else ""

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield from bar.track(items, total=total, description=description)


def _lines(items: Iterable[Item], description: str, total: int | None) -> Iterator[Item]:
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= LINE_EVERY_SECONDS or done == total:
            last = now
            rate = done / max(now - start, 1e-9)
            left = f", {(total - done) / rate:.0f} s left" if total else ""
            print(f"{description}: {done}{f'/{total}' if total else ''}, {rate:.3g}/s{left}", file=sys.stderr, flush=True)
