"""A job's own GPUs on a workstation: one lock a device, held for as long as any process of the job lives.

Snakemake counts `gpu` but does not say which; a scheduler does (it sets CUDA_VISIBLE_DEVICES), and is left alone. The locks
are the machine's, not the clone's, so that two studies share its devices too. The kernel drops a lock when its job dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

VISIBLE = "CUDA_VISIBLE_DEVICES"
CHOICE = "TRACKGRAPH_GPUS"  # the devices that may be used, e.g. "0,2"; all of nvidia-smi's otherwise
POLL_SECONDS = 0.5


def driver() -> bool:
    """Whether a GPU's driver can be asked here."""
    return shutil.which("nvidia-smi") is not None


def devices() -> list[str]:
    """Indices of the machine's GPUs, as strings. SystemExit if the driver does not answer."""
    if chosen := os.environ.get(CHOICE):
        return [d.strip() for d in chosen.split(",") if d.strip()]
    if not driver():
        raise SystemExit("this job needs a GPU, and nvidia-smi is not here: run the mini study, or run this on a GPU machine.")
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    found = subprocess.run(query, capture_output=True, text=True)
    if found.returncode or not found.stdout.split():
        raise SystemExit(f"nvidia-smi names no GPU ({(found.stderr or found.stdout).strip()}): mend the driver first.")
    return found.stdout.split()


class Device(NamedTuple):
    """What the driver says of a device: its compute capability, and its memory in bytes."""

    index: str
    name: str
    capability: tuple[int, ...]
    total: int
    free: int


def visible() -> list[Device]:
    """The devices that this process sees, in their order. SystemExit if the driver does not answer.

    CUDA would keep a context on each device that it is asked about, hundreds of megabytes, as long as this process lives.
    """
    devices()
    asked = "index,uuid,name,compute_cap,memory.total,memory.free"
    query = ["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader,nounits"]
    lines = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()
    found = {}
    for line in lines:
        index, uuid, name, capability, total, free = (part.strip() for part in line.split(","))
        known = Device(index, name, tuple(map(int, capability.split("."))), int(total) << 20, int(free) << 20)
        found[index] = found[uuid] = known
    every = dict.fromkeys(one.index for one in found.values())
    seen = os.environ[VISIBLE].split(",") if VISIBLE in os.environ else list(every)
    return [found[name.strip()] for name in seen if name.strip() in found]


def scheduled() -> bool:
    """Whether somebody else has dealt the devices out: a Slurm job, or a user who set CUDA_VISIBLE_DEVICES."""
    return "SLURM_JOB_ID" in os.environ or VISIBLE in os.environ


def lease(count: int) -> None:
    """Lock `count` free devices and make only them visible, waiting for them if need be; nothing if they were dealt out.

    The locks live in file descriptors that an exec and all its children inherit.
    """
    if count < 1 or scheduled():
        return
    known = devices()
    if count > len(known):
        raise SystemExit(f"this job needs {count} GPUs and the machine has {len(known)}: run it on a larger one.")
    folder = Path(tempfile.gettempdir()) / "trackgraph-gpus"
    with contextlib.suppress(PermissionError):  # another user made it, for all
        folder.mkdir(exist_ok=True)
        folder.chmod(0o777)
    turn = _open(folder / "turn.lock")
    try:
        # one job chooses at a time: two that each hold half of what they need would wait for each other for ever
        fcntl.flock(turn, fcntl.LOCK_EX)
        held: dict[str, int] = {}
        said = False
        while True:
            for device in known:
                if len(held) < count and device not in held and (lock := _try(folder / f"{device}.lock")) is not None:
                    held[device] = lock
            if len(held) == count:
                break
            if not said:
                print(f"waiting for {count} of the GPUs {', '.join(known)} to be free", file=sys.stderr, flush=True)
                said = True
            time.sleep(POLL_SECONDS)
    finally:
        os.close(turn)
    os.environ[VISIBLE] = ",".join(held)


def _open(path: Path) -> int:
    """A descriptor of a lock file, for reading only: it may be another user's."""
    return os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)


def _try(path: Path) -> int | None:
    """A descriptor that holds the lock of `path` and survives exec, or None if another job holds it."""
    lock = _open(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    os.set_inheritable(lock, True)
    return lock
