"""The one process between a caller and its server: it ends with the caller, and the server's whole tree ends with it.

    python -m workflow_scripts.serve.guard --parent PID --scratch DIR --grace SECONDS -- COMMAND...

A server such as vLLM is a tree of processes, and a signal on the caller's death reaches its first one only. The guard leads
the session, adopts every orphan in it (PR_SET_CHILD_SUBREAPER), watches that its caller lives, and when the caller or the
server ends or it is told to stop, it asks the server to end, waits, and then kills whatever is left. The command itself dies
with the guard (PR_SET_PDEATHSIG). The caller's death is seen by polling, not by a signal: that signal is sent when the
*thread* that started a process ends. Standard library only; it starts in a few hundredths of a second.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time

from workflow_scripts.serve import processes

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
POLL_SECONDS = 0.05
LIBC = ctypes.CDLL(None, use_errno=True)  # looked up here: after a fork it would be too late


def _prctl(option: int, value: int) -> None:
    if LIBC.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl failed")


def _die_with_guard() -> None:
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def watch(command: list[str], parent: int, grace: float) -> int:
    """Run `command` until it ends, the parent dies or a signal comes; returns its exit status (128 + signal if killed)."""
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _: stopping.append(received))
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_guard)
    while server.poll() is None and not stopping and os.getppid() == parent:
        _reap_orphans(server.pid)
        time.sleep(POLL_SECONDS)
    if server.poll() is None:
        server.terminate()
    end_all(server, grace)
    code = server.returncode
    return 128 - code if code < 0 else code


def end_all(server: subprocess.Popen[bytes], grace: float) -> None:
    """Wait up to `grace` seconds until no descendant lives, then kill what is left."""
    deadline = time.monotonic() + grace
    while processes.descendants(os.getpid()) and time.monotonic() < deadline:
        server.poll()
        _reap_orphans(server.pid)
        if server.returncode is not None:  # its children have nobody to work for
            deadline = min(deadline, time.monotonic() + 1.0)
            for process in processes.descendants(os.getpid()):
                processes.send(process.pid, signal.SIGTERM)
        time.sleep(POLL_SECONDS)
    while left := processes.descendants(os.getpid()):
        for process in left:
            processes.send(process.pid, signal.SIGKILL)
        server.poll()
        _reap_orphans(server.pid)
        time.sleep(POLL_SECONDS)
    server.wait()


def _reap_orphans(server: int) -> None:
    """Wait for adopted children that have ended; the server's own status is left to its Popen."""
    with contextlib.suppress(ChildProcessError):
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid == server:
                return
            os.waitpid(ended.si_pid, os.WNOHANG)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Run a server that ends with its caller, with all of its processes.")
    parser.add_argument("--parent", type=int, required=True, help="process id of the caller")
    parser.add_argument("--scratch", required=True, help="the server's temporary folder, removed at the end")
    parser.add_argument("--grace", type=float, required=True, help="seconds between SIGTERM and SIGKILL")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and the server's command line")
    arguments = parser.parse_args()
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    try:
        code = watch(command, arguments.parent, arguments.grace)
    finally:
        shutil.rmtree(arguments.scratch, ignore_errors=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
