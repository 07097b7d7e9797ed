"""Processes of a session, read from /proc: who belongs to a server, what they hold in memory, and ending them all.

Standard library only: the guard imports it before anything else runs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Process:
    """One line of the process table. `resident` in bytes; `state` Z is a process that has ended but was not waited for."""

    pid: int
    name: str
    state: str
    parent: int
    group: int
    session: int
    resident: int


def table() -> list[Process]:
    """All processes that can be read now."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):  # it ended while we were reading
                found.append(_parse(Path("/proc", entry, "stat").read_text(errors="replace")))
    return found


def _parse(stat: str) -> Process:
    # the name stands in parentheses and may hold spaces and parentheses itself
    head, tail = stat.rsplit(")", 1)
    pid, name = head.split(" (", 1)
    fields = tail.split()
    return Process(
        pid=int(pid),
        name=name,
        state=fields[0],
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        resident=int(fields[21]) * PAGE_BYTES,
    )


def of_session(session: int) -> list[Process]:
    """Living processes of a session (zombies hold nothing and are left out)."""
    return [p for p in table() if p.state != "Z" and session in (p.session, p.group)]


def descendants(root: int) -> list[Process]:
    """Living children of `root`, their children, and so on."""
    children: dict[int, list[Process]] = {}
    for process in table():
        children.setdefault(process.parent, []).append(process)
    found, waiting = [], [root]
    while waiting:
        for child in children.get(waiting.pop(), []):
            waiting.append(child.pid)
            if child.state != "Z":
                found.append(child)
    return found


def send(pid: int, number: int) -> None:
    """Send a signal to one process; nothing if it has ended already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def kill_session(session: int, patience: float = 10.0) -> None:
    """Kill what is left of a session until nothing is. RuntimeError if something survives `patience` seconds."""
    deadline = time.monotonic() + patience
    while left := of_session(session):
        for process in left:
            send(process.pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            names = ", ".join(f"{p.name} ({p.pid})" for p in left)
            raise RuntimeError(f"processes survive SIGKILL: {names}.")
        time.sleep(0.02)
