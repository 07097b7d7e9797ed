"""What the fault campaign breaks, and how: the nodes, the three ways to ask for one, and the faults.

A fault is a function of the clone, the node that is being made, the process that asked for it, and a source of chance. It is
called at a random moment of the node's job. `mend` undoes what outlasts the moment: a drained node, a full disk.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
sys.path.insert(0, str(ROOT))
from tests.cluster import one_machine  # noqa: E402

MINI = "results/mini"
SHARDS = f"{MINI}/track/shards/tnllt"
# node: what is deleted to have it made again, and the module of its job
NODES = {
    "render_archive": (["data/mini/upstream", "data/mini/upstream.json"], "data.render"),
    "fetch_part": (["data/mini/parts/TNLLT_part_aa", "data/mini/parts/TNLLT_part_aa.json"], "data.fetch"),
    "restore_archive": (["data/mini/tnllt", "data/mini/tnllt.json"], "data.restore"),
    "index_benchmark": ([f"{MINI}/data/tnllt.npz", f"{MINI}/data/tnllt.json"], "data.index"),
    "make_annotations": (["data/mini/sft", "data/mini/sft.json"], "sft.annotations"),
    "train_sft": ([f"{MINI}/sft/noised/model", f"{MINI}/sft/noised/model.json"], "sft.train"),
    "build_pairs": ([f"{MINI}/grpo/pairs", f"{MINI}/grpo/pairs.json"], "grpo.pairs"),
    "train_grpo": ([f"{MINI}/grpo/checkpoints", f"{MINI}/grpo/checkpoints.json"], "grpo.train"),
    "merge_grpo": ([f"{MINI}/grpo/model", f"{MINI}/grpo/model.json"], "grpo.merge"),
    "check_server": ([f"{MINI}/serve/pair", f"{MINI}/serve/pair.json"], "serve.check"),
    "train_tracker": ([f"{MINI}/track/weights/dutrack", f"{MINI}/track/weights/dutrack.json"], "track.train"),
    "run_tracker csrt": ([f"{SHARDS}/csrt/0", f"{SHARDS}/csrt/0.json"], "track.run"),
    "run_tracker reasoningtrack": ([f"{SHARDS}/reasoningtrack/0", f"{SHARDS}/reasoningtrack/0.json"], "track.run"),
    "run_tracker r1track": ([f"{SHARDS}/r1track/0", f"{SHARDS}/r1track/0.json"], "track.run"),
    "score_trackers": ([f"{MINI}/score/tnllt", f"{MINI}/score/tnllt.json"], "score.run"),
    "plot_scores": ([f"{MINI}/report/tnllt.json"], "report.figures"),
}
BALLAST = "ballast"  # beside the clone
LONG = ("train_sft", "train_grpo", "check_server", "run_tracker reasoningtrack", "run_tracker r1track")  # to compute
SERVED = ("check_server", "run_tracker reasoningtrack", "run_tracker r1track")  # jobs that own a language model's server


def command(way: str, node: str) -> list[str]:
    """What the user types, before the fault and after it."""
    if way == "dvc":
        return ["dvc", "repro", "--single-item", node.partition(" ")[0]]
    site = ["--profile", "slurm", "--config", "study=mini", *one_machine.SITE] if way == "slurm" else ["--cores", "2"]
    return ["snakemake", *NODES[node][0], *site]


def start(folder: Path, *words: str, limit: int | None = None) -> subprocess.Popen[bytes]:
    """One of the base environment's programs in the clone, its output in a log; no file longer than `limit` bytes."""
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": str(BIN.parent)}

    def prepare() -> None:
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    with open(folder.parent / "campaign.log", "ab") as log:
        return subprocess.Popen(
            words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=prepare
        )


def processes(folder: Path) -> list[tuple[int, str]]:
    """(process, command line) of all that work in the clone: with their working directory there."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if line and (entry / "cwd").readlink().is_relative_to(folder):
                    found.append((int(entry.name), line))
            except OSError:  # it ended, or is not ours
                continue
    return found


def job(folder: Path, node: str) -> list[int]:
    """Processes of a node's job, without the Snakemake above it."""
    module = f"workflow_scripts.{NODES[node][1]} "
    return [pid for pid, line in processes(folder) if module in line and "snakemake" not in line.split(" ")[1]]


def send(number: int, pids: list[int]) -> None:
    """A signal to processes, some of which may have ended."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


class Moment(NamedTuple):
    """Where a fault strikes."""

    folder: Path
    node: str
    run: subprocess.Popen[bytes]
    chance: random.Random


def kill_job(at: Moment) -> None:
    send(signal.SIGKILL, job(at.folder, at.node))


def terminate_job(at: Moment) -> None:
    send(signal.SIGTERM, job(at.folder, at.node))


def kill_run(at: Moment) -> None:
    """Snakemake or DVC, whichever was asked, alone."""
    send(signal.SIGKILL, [at.run.pid])


def interrupt_run(at: Moment) -> None:
    send(signal.SIGINT, [at.run.pid])


def kill_all(at: Moment) -> None:
    """A power cut, as far as processes see it."""
    send(signal.SIGKILL, [pid for pid, _ in processes(at.folder)])


def kill_server(at: Moment) -> None:
    """The language model's server; the job, while it has none yet."""
    servers = [pid for pid, line in processes(at.folder) if "vllm serve" in line or "transformers_server" in line]
    send(signal.SIGKILL, servers or job(at.folder, at.node))


def fill_disk(at: Moment) -> None:
    """Nothing but a few bytes is left on the clone's file system, which is small and its own."""
    left = at.chance.choice([0, 1 << 12, 1 << 16, 1 << 20])
    with open(at.folder.parent / BALLAST, "wb") as handle:
        while (room := os.fstatvfs(handle.fileno())).f_bavail * room.f_frsize > left:
            try:
                os.posix_fallocate(handle.fileno(), os.fstat(handle.fileno()).st_size, room.f_bavail * room.f_frsize - left)
            except OSError:  # somebody else was quicker
                continue


def queued(what: str) -> list[str]:
    """A column of squeue's, of the jobs that run."""
    return one_machine.answer("squeue", "-h", "-t", "running", "-o", what).split()


def cancel(at: Moment) -> None:
    one_machine.call("scancel", *queued("%A"), check=False)


def set_nodes(state: str) -> None:
    """The state of the nodes that the jobs run on."""
    for name in queued("%N"):
        one_machine.call("scontrol", "update", f"nodename={name}", f"state={state}", "reason=fault", check=False)


def drain(at: Moment) -> None:
    """The node that the job runs on takes no other, and its job is cancelled."""
    set_nodes("drain")
    cancel(at)


def lose_node(at: Moment) -> None:
    """The node that the job runs on loses its power; Slurm queues its job again, for soon instead of in two minutes."""
    jobs = queued("%A")
    send(signal.SIGKILL, [pid for pid, _ in processes(at.folder) if pid != at.run.pid])
    set_nodes("down")
    time.sleep(10)  # until its daemon, which lives on here, has forgotten the job
    for number in jobs:
        one_machine.call("scontrol", "update", f"jobid={number}", "starttime=now", check=False)


def end_time(at: Moment) -> None:
    """The job hangs until its time-limit, which comes within half a minute."""
    send(signal.SIGSTOP, job(at.folder, at.node))
    for number in queued("%A"):
        one_machine.call("scontrol", "update", f"jobid={number}", "endtime=now+1", check=False)


def resume() -> None:
    """All nodes of the cluster take jobs again."""
    for n in range(1, one_machine.NODES + 1):
        one_machine.call("scontrol", "update", f"nodename=n{n}", "state=resume", check=False)


Fault = Callable[[Moment], None]
# fault: how the node is asked for, and what happens; None: from the start, by a limit on the size of files
FAULTS: dict[str, tuple[str, Fault | None]] = {
    "kill -9 of the job": ("snakemake", kill_job),
    "kill -9 of Snakemake": ("snakemake", kill_run),
    "kill -9 of everything": ("snakemake", kill_all),
    "SIGTERM to the job": ("snakemake", terminate_job),
    "Ctrl-C": ("snakemake", interrupt_run),
    "kill -9 of the server": ("snakemake", kill_server),
    "full disk": ("snakemake", fill_disk),
    "file-size limit": ("snakemake", None),
    "kill -9 of DVC": ("dvc", kill_run),
    "kill -9 of the job under DVC": ("dvc", kill_job),
    "scancel": ("slurm", cancel),
    "node drained": ("slurm", drain),
    "node down": ("slurm", lose_node),
    "time-limit": ("slurm", end_time),
    "kill -9 of the job on its node": ("slurm", kill_job),
    "kill -9 of Snakemake, its jobs in the queue": ("slurm", kill_run),
}
