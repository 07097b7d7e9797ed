"""Who lives and dies with whom: one run of Snakemake in a folder, and no job that outlives its run.

Snakemake's own lock files stay behind when it is killed and want to be removed by hand. A lock that the kernel holds for a
process is gone with it, and so are the jobs that asked to die with their parent.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
from pathlib import Path

PR_SET_PDEATHSIG = 1
LOCK = Path(".snakemake", "run.lock")
_held: list[int] = []  # descriptors that live as long as this process


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent (the thread that started it) ends. The setting survives exec."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended just now
        raise SystemExit(128 + signal.SIGKILL)


def begin() -> str:
    """Hold this folder's lock until the process ends. Returns why not, in one sentence, where another run holds it."""
    LOCK.parent.mkdir(exist_ok=True)
    handle = os.open(LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(handle, 100).decode().strip()
        os.close(handle)
        return f"another run of Snakemake (process {holder}) works in this folder: wait until it ends, or stop it first."
    os.ftruncate(handle, 0)
    os.write(handle, f"{os.getpid()}\n".encode())
    _held.append(handle)
    return ""
