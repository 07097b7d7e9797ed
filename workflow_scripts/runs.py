"""Who lives and dies with whom: one run of Snakemake in a folder, and no job that outlives its run.

Snakemake's own lock files stay behind when it is killed and want to be removed by hand. A lock that the kernel holds for a
process is gone with it, and so are the jobs that asked to die with their parent. Jobs on a cluster cannot: those of a run
that was killed are cancelled by the next one, before it makes the same files.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)  # looked up here: between a fork and an exec it would be too late
LOCK = Path(".snakemake", "run.lock")
SLURM_SECONDS = 60  # for the queue to answer, and for cancelled jobs to end
_held: list[int] = []  # descriptors that live as long as this process


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Let the kernel send this process a signal when its parent (the thread that started it) ends. Survives exec.

    SIGTERM for a program that has processes of its own to end.
    """
    parent = os.getppid()
    LIBC.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:  # it ended just now
        raise SystemExit(128 + number)


def begin() -> tuple[str, str]:
    """Hold this folder's lock until the process ends: (why not, what there is to say), each a sentence or empty.

    There is something to say where the last run was killed: its lock went with it, and nothing has to be removed.
    """
    LOCK.parent.mkdir(exist_ok=True)
    handle = os.open(LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(handle, 200).decode().strip()
        os.close(handle)
        return f"another run of Snakemake ({holder}) works in this folder: wait until it ends, or stop it first.", ""
    except OSError as error:
        os.close(handle)
        return f"{LOCK} cannot be locked ({error.strerror}): use a file system with locks (mount it with `flock`).", ""
    before = os.read(handle, 200).decode().strip()
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    _held.append(handle)
    atexit.register(os.ftruncate, handle, 0)  # what a killed run leaves is its name
    if not before:
        return "", ""
    return "", f"the last run here ({before}) was killed; its lock went with it, what it had not finished is made again."


def cancel_orphans() -> list[str]:
    """Cancel the Slurm jobs that a killed run left in this folder, and wait until they have ended; their numbers.

    To be called under the folder's lock: no living run has jobs here. Nothing where no Slurm is, or it does not answer.
    SystemExit where they do not end: they would write what the new run's jobs write.
    """
    if shutil.which("squeue") is None or not (jobs := orphans()):
        return []
    subprocess.run(["scancel", *jobs], check=False, capture_output=True, timeout=SLURM_SECONDS)
    end = time.monotonic() + SLURM_SECONDS
    while left := orphans():
        if time.monotonic() > end:
            raise SystemExit(f"error: jobs {', '.join(left)} of a killed run do not end: cancel them, then start again.")
        time.sleep(0.5)
    return jobs


def orphans() -> list[str]:
    """Numbers of the Slurm jobs that the executor plugin sent from this folder: it names the rule in the comment."""
    # %A number, %k comment, %Z working directory, which may hold any character and so comes last
    command = ["squeue", "--me", "--noheader", "--format", "%A|%k|%Z"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=SLURM_SECONDS).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    here = os.path.realpath(".")
    found = (line.split("|", 2) for line in listed.splitlines() if line.count("|") > 1)
    return [job for job, comment, place in found if comment.startswith("rule_") and os.path.realpath(place) == here]
