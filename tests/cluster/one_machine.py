"""A real Slurm on one machine, for the tests and for trying: two nodes with two GPUs each, which are null devices.

    python -m tests.cluster.one_machine up      # as root, with slurm-wlm and munge installed
    python -m tests.cluster.one_machine down

No systemd, no cgroups, no accounting. The configuration must be /etc/slurm/slurm.conf, because the executor plugin strips
every SLURM_ variable from its jobs; one that somebody else wrote is never touched. Each node claims all of the machine's
processors: its jobs share them, as on a cluster that oversubscribes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HOME = Path("/run/one_machine_slurm")
CONFIG = Path("/etc/slurm/slurm.conf")
GRES = CONFIG.with_name("gres.conf")
MARK = "# written by tests/cluster/one_machine.py"
NODES, GPUS, PORT = 2, 2, 16817
# What a cluster without accounting adds to the profile (the first two flags), and a small and quick one.
SITE = ["--slurm-no-account", "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1"]
SITE += ["--seconds-between-status-checks", "2", "--latency-wait", "20"]
PROGRAMS = ("munged", "munge", "slurmctld", "slurmd", "sbatch", "squeue", "sinfo", "scancel", "scontrol")


def missing() -> str:
    """Why Slurm cannot be brought up here, in one sentence; empty if it can."""
    if os.geteuid() != 0:
        return "a Slurm of one's own needs root: run this in a container or a virtual machine."
    absent = [p for p in PROGRAMS if shutil.which(p) is None]
    if absent:
        return f"{', '.join(absent)} not found: install the packages slurm-wlm and munge."
    if CONFIG.exists() and not CONFIG.read_text().startswith(MARK):
        return f"{CONFIG} is somebody else's: run this where no Slurm is configured."
    return ""


def configuration() -> str:
    """Text of slurm.conf."""
    host, processors = socket.gethostname().split(".")[0], os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 * 9 // 10
    settings = {
        "ClusterName": "one",
        "SlurmctldHost": f"{host}(127.0.0.1)",
        "SlurmUser": "root",
        "SlurmdUser": "root",
        "AuthType": "auth/munge",
        "CredType": "cred/munge",
        "AuthInfo": f"socket={HOME}/munge/socket",
        "SlurmctldPort": PORT,
        "StateSaveLocation": f"{HOME}/state",
        "SlurmdSpoolDir": f"{HOME}/spool/%n",
        "SlurmctldPidFile": f"{HOME}/slurmctld.pid",
        "SlurmdPidFile": f"{HOME}/slurmd.%n.pid",
        "SlurmctldLogFile": f"{HOME}/log/slurmctld",
        "SlurmdLogFile": f"{HOME}/log/slurmd.%n",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "SwitchType": "switch/none",
        "MpiDefault": "none",
        "ReturnToService": 2,
        "SlurmdParameters": "config_overrides",
        "KillWait": 5,
        "MinJobAge": 3600,  # squeue is asked for finished jobs, because there is no accounting
        "SchedulerType": "sched/backfill",
        "SchedulerParameters": "sched_interval=1,sched_min_interval=0,bf_interval=1",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core_Memory",
        "JobAcctGatherType": "jobacct_gather/none",
        "AccountingStorageType": "accounting_storage/none",
        "GresTypes": "gpu",
    }
    lines = [MARK, *(f"{key}={value}" for key, value in settings.items())]
    for n in range(1, NODES + 1):
        where = f"NodeName=n{n} NodeHostname={host} NodeAddr=127.0.0.1 Port={PORT + n}"
        lines.append(f"{where} CPUs={processors} RealMemory={memory // NODES} Gres=gpu:{GPUS} State=UNKNOWN")
    lines += [f"PartitionName={name} Nodes=ALL DefaultTime=60 MaxTime=7-0 State=UP" for name in ("gpu", "cpu")]
    return "\n".join(lines) + "\n"


def up() -> None:
    """Start everything and wait until all nodes are idle. SystemExit says why it cannot."""
    if why := missing():
        raise SystemExit(f"Slurm cannot be brought up: {why}")
    down()
    for name in ("state", "spool", "log", "devices", "munge"):
        (HOME / name).mkdir(parents=True, exist_ok=True)
    HOME.chmod(0o755)
    secret = HOME / "munge" / "key"
    secret.write_bytes(os.urandom(128))
    secret.chmod(0o600)
    names = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    call("munged", "--force", *(f"--{flag}={HOME / 'munge' / name}" for flag, name in names.items()))
    wait("munge", lambda: answers("munge", "-S", str(HOME / "munge" / "socket"), "-n"))
    for n in range(GPUS):
        os.mknod(HOME / "devices" / f"nvidia{n}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))  # /dev/null
    CONFIG.parent.mkdir(parents=True, exist_ok=True)
    CONFIG.write_text(configuration())
    GRES.write_text(f"{MARK}\nNodeName=n[1-{NODES}] Name=gpu File={HOME}/devices/nvidia[0-{GPUS - 1}]\n")
    call("slurmctld", "-c")
    for n in range(1, NODES + 1):
        (HOME / "spool" / f"n{n}").mkdir(exist_ok=True)
        call("slurmd", "-N", f"n{n}")
    wait("the nodes", lambda: answer("sinfo", "-h", "-N", "-p", "gpu", "-t", "idle").count("\n") == NODES)


def down() -> None:
    """Cancel all jobs, stop the daemons, remove what `up` wrote. Does nothing where nothing is up."""
    if CONFIG.exists() and not CONFIG.read_text().startswith(MARK):
        return
    if CONFIG.exists() and (HOME / "slurmctld.pid").exists():
        call("scancel", "--full", "--me", check=False)
        wait("jobs to end", lambda: not answer("squeue", "-h"), patient=False)
    pids = [int(text) for p in HOME.glob("**/*pid") if (text := p.read_text().strip()).isdigit()]
    for pid in pids:
        stop(pid)
    for path in (CONFIG, GRES):
        path.unlink(missing_ok=True)
    shutil.rmtree(HOME, ignore_errors=True)


def stop(pid: int) -> None:
    """SIGTERM, and SIGKILL after five seconds; a process that is none of ours is left alone."""
    try:
        if Path(f"/proc/{pid}/comm").read_text().strip() not in PROGRAMS:
            return
        os.kill(pid, 15)
        for _ in range(100):
            time.sleep(0.05)
            os.kill(pid, 0)
        os.kill(pid, 9)
    except (OSError, ProcessLookupError):
        return


def call(*command: str, check: bool = True) -> None:
    """Run a program of Slurm's; SystemExit with what it said if it fails."""
    ended = subprocess.run(command, capture_output=True, text=True)
    if check and ended.returncode:
        raise SystemExit(f"Slurm cannot be brought up: {' '.join(command)}: {(ended.stderr or ended.stdout).strip()}")


def answer(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout


def answers(*command: str) -> bool:
    return subprocess.run(command, capture_output=True).returncode == 0


def wait(what: str, ready: Callable[[], bool], seconds: float = 20.0, patient: bool = True) -> None:
    """Until `ready()`; SystemExit with the controller's last lines if it never is (nothing if not `patient`)."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if ready():
            return
        time.sleep(0.1)
    log = HOME / "log" / "slurmctld"
    tail = "\n".join(log.read_text().splitlines()[-5:]) if log.exists() else ""
    if patient:
        raise SystemExit(f"Slurm cannot be brought up: waited {seconds:.0f} s for {what}.\n{tail}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="A real Slurm on one machine.")
    parser.add_argument("what", choices=("up", "down"))
    {"up": up, "down": down}[parser.parse_args().what]()


if __name__ == "__main__":
    sys.exit(main())
