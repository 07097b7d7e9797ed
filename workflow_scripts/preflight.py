"""What is missing here before `snakemake --profile slurm all` can run: seconds now instead of a failed job tomorrow.

    python -m workflow_scripts.preflight        # or: make preflight

Run it on the login node, from the project's root. Nodes are asked through `srun --immediate`: where none is free within a few
seconds, what only a node knows is said to be not checked.
"""

from __future__ import annotations

import argparse
import fcntl
import getpass
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from workflow_scripts import console, graph, in_env
from workflow_scripts.console import BadInput

PROFILE = Path("slurm/config.yaml")
PROGRAMS = ("sbatch", "srun", "squeue", "scancel", "sinfo")
PLUGIN = "snakemake-executor-plugin-slurm"
LOCAL = {"ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs"}  # file systems that other machines do not see
NODE_SECONDS = 8
FULL_GIGABYTES = 1000  # the nine benchmarks, models and results; README.md has the parts
GLIBC = (2, 28)  # what the environments' packages are built for (their manylinux tag)
DRIVERS = {12: 525, 13: 580}  # major version of CUDA -> the oldest driver that runs it, from NVIDIA's compatibility table
FREE_LATER = ("immediate execution impossible", "requested nodes are busy", "job/step already completing")  # said by srun


class Finding(NamedTuple):
    """One thing that was looked at. `ok` None: could not be checked here."""

    what: str
    ok: bool | None
    said: str


class Asked(NamedTuple):
    """What the profile and the rules ask of a partition, at most."""

    gpu: int = 0
    mem_mb: int = 0
    runtime: int = 0  # minutes
    model: str = ""  # of the GPUs; empty: any


def answer(*command: str, seconds: float = 20.0) -> tuple[int, str]:
    """Exit status and output of a program; 127 where it is not installed, 124 where it does not end."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except FileNotFoundError:
        return 127, f"{command[0]} not found"
    except subprocess.TimeoutExpired:
        return 124, f"{command[0]} did not answer within {seconds:.0f} s"
    return ended.returncode, (ended.stdout or ended.stderr).strip()


def read_profile(path: Path = PROFILE) -> dict[str, Any]:
    """The profile, its default-resources as a dictionary. BadInput where it is missing or no YAML."""
    try:
        profile = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist: run this from the project's root.") from None
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        raise BadInput(f"{path}, line {line}: not valid YAML; correct it.") from None
    defaults = dict(entry.split("=", 1) for entry in profile.get("default-resources", []))
    return profile | {"default-resources": defaults}


def demands(profile: dict[str, Any], rules: dict[str, dict[str, Any]]) -> dict[str, Asked]:
    """Partition -> the most that any rule placed there asks for."""
    found: dict[str, Asked] = {}
    for rule, node in rules.items():
        special = profile.get("set-resources", {}).get(rule, {})
        asked = {**node["resources"], **special}
        partition = special.get("slurm_partition", profile["default-resources"].get("slurm_partition", ""))
        before = found.get(partition, Asked())
        most = (max(getattr(before, name), int(asked.get(name, 0))) for name in ("gpu", "mem_mb", "runtime"))
        found[partition] = Asked(*most, special.get("gpu_model", before.model))
    return found


def software() -> Iterator[Finding]:
    """Snakemake's plugin and Slurm's programs."""
    try:
        yield Finding("executor plugin", True, f"{PLUGIN} {metadata.version(PLUGIN)}")
    except metadata.PackageNotFoundError:
        yield Finding("executor plugin", False, f"{PLUGIN} is not installed: run `make setup`")
    absent = [p for p in PROGRAMS if shutil.which(p) is None]
    code, said = answer("sinfo", "--noheader", "--format", "%R")
    if absent:
        yield Finding("Slurm's programs", False, f"{', '.join(absent)} not found: run this on a login node of the cluster")
    elif code:
        reason = said.splitlines()[-1] if said else f"sinfo ended with {code}"
        yield Finding("Slurm's programs", False, f"no controller answers ({reason}): run this on a login node of the cluster")
    else:
        yield Finding("Slurm's programs", True, answer("sbatch", "--version")[1])


def accounting(profile: dict[str, Any]) -> Iterator[Finding]:
    """How finished jobs are noticed, and who pays."""
    status = profile.get("slurm-status-command", "sacct")
    code, said = answer(status, "--noheader" if status == "sacct" else "-h")
    remedy = "add `slurm-status-command: squeue` and `slurm-no-account: true` to slurm/config.yaml"
    yield Finding("job states", code == 0, f"{status} answers" if code == 0 else f"{status}: {said}; {remedy}")
    account = profile["default-resources"].get("slurm_account")
    if profile.get("slurm-no-account"):
        yield Finding("account", True, "none is used")
        return
    user = getpass.getuser()
    code, said = answer("sacctmgr", "--noheader", "--parsable2", "show", "association", f"user={user}", "format=account")
    known = sorted(set(said.split())) if code == 0 else []
    if not known:
        yield Finding("account", None, "the accounting database does not list yours: set slurm_account if your site needs one")
    elif account and account not in known:
        yield Finding("account", False, f"{account} is none of yours ({', '.join(known)}): correct slurm_account")
    else:
        yield Finding("account", True, account or f"your default of {', '.join(known)}")


def partition(name: str, asked: Asked) -> Iterator[Finding]:
    """Whether a partition exists, and its nodes are as large as the jobs that the profile sends there."""
    # per node type: time limit, GPUs, memory in MB (a trailing + where nodes differ)
    code, said = answer("sinfo", "--noheader", "--partition", name, "--format", "%l|%G|%m")
    rows = [line.split("|") for line in said.splitlines()] if code == 0 else []
    if not rows:
        everything = ", ".join(sorted(set(answer("sinfo", "--noheader", "--format", "%R")[1].split())))
        yield Finding(f"partition {name}", False, f"does not exist (there are {everything}): correct it in slurm/config.yaml")
        return
    limit = max(minutes(row[0]) for row in rows)
    memory = max(int(row[2].rstrip("+")) for row in rows)
    gpus = max(count_gpus(row[1]) for row in rows)
    short = []
    if limit < asked.runtime:
        short.append(f"jobs ask for {asked.runtime} minutes and its limit is {limit:.0f}")
    if memory < asked.mem_mb:
        short.append(f"jobs ask for {asked.mem_mb} MB and its largest node has {memory}")
    if gpus < asked.gpu:
        short.append(f"jobs ask for {asked.gpu} GPUs of one node and its nodes have {gpus}")
    if asked.model and not any(f"gpu:{asked.model}:" in row[1] for row in rows):
        short.append(f"jobs ask for GPUs of type {asked.model} and its nodes have {', '.join(sorted({r[1] for r in rows}))}")
    said = (
        "; ".join(short) + ": choose another partition, or lower it in set-resources"
        if short
        else f"fits {asked.gpu} GPUs, {asked.mem_mb} MB, {asked.runtime} min"
    )
    yield Finding(f"partition {name}", not short, said)


def minutes(limit: str) -> float:
    """Slurm's time limit ([days-]hours:minutes:seconds, minutes:seconds or infinite) in minutes."""
    if limit in ("infinite", "n/a", "UNLIMITED"):
        return float("inf")
    days, _, clock = limit.rpartition("-")
    parts = [int(p) for p in clock.split(":")]
    seconds = sum(value * 60**place for place, value in enumerate(reversed(parts)))
    return int(days or 0) * 1440 + seconds / 60


def count_gpus(gres: str) -> int:
    """GPUs in a node's list of generic resources, e.g. "gpu:a100:4(S:0-1),tmp:1"."""
    total = 0
    for entry in gres.split(","):
        fields = entry.partition("(")[0].split(":")
        if fields[0] == "gpu":
            total += int(fields[-1]) if fields[-1].isdigit() else 1
    return total


def storage() -> Iterator[Finding]:
    """Room for the study: on the disk, and in your quota of it; whether other nodes may see it, and whether it has locks."""
    free = shutil.disk_usage(".").free / 1e9
    said = f"{free:.0f} GB free here; the whole full study needs about {FULL_GIGABYTES}: fewer benchmarks need less"
    yield Finding("disk", free >= FULL_GIGABYTES, said)
    place, kind = (answer("findmnt", "--noheadings", "--output", column, "--target", ".")[1] for column in ("TARGET", "FSTYPE"))
    lustre = ("lfs", "quota", "-q", "-u", getpass.getuser(), place)
    yield quota(answer(*lustre if kind == "lustre" else ("quota", "--no-wrap", "--filesystem", place))[1])
    local = f"{kind}: local, as far as this machine can tell; the nodes below say whether they see it"
    yield Finding("file system", None if kind in LOCAL else True, local if kind in LOCAL else f"{kind}: shared")
    for folder in (Path(), in_env.cache_root()):
        yield locks(folder)


def quota(said: str) -> Finding:
    """What is left of a quota. `quota` and `lfs quota` say: file system, kB used (with a * if too many), quota, limit."""
    row = re.search(r"^\s*(\S+)\s+(\d+)\*?\s+(\d+)\s+(\d+)\s", said, re.MULTILINE)
    if row is None:
        return Finding("quota", None, "quota names none for this file system: ask your site if it has other means")
    used, soft, hard = (int(row[n]) * 1024 / 1e9 for n in (2, 3, 4))
    limit = min(soft or hard, hard or soft)
    if not limit:
        return Finding("quota", True, f"none on {row[1]}")
    enough = limit - used >= FULL_GIGABYTES
    said = f"{max(limit - used, 0):.0f} GB of {limit:.0f} left on {row[1]}"
    return Finding(
        "quota", enough, said if enough else f"{said}; the whole full study needs about {FULL_GIGABYTES}: ask for more"
    )


def locks(folder: Path) -> Finding:
    """Whether files can be locked there: one run a folder, one build an environment and one job a GPU rely on it."""
    what = f"locks in {folder}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return Finding(
            what, False, f"{error.strerror}: use a file system that can be written and has locks (mount option flock)"
        )
    return Finding(what, True, "work")


def needed_driver() -> int:
    """The oldest GPU driver for the newest CUDA that the GPU environments bring."""
    text = "".join(p.read_text() for p in in_env.LOCKS.glob("*-gpu.lock"))
    return DRIVERS[max(int(major) for major in re.findall(r"^nvidia-cuda-runtime(?:-cu\d+)?==(\d+)\.", text, re.MULTILINE))]


def questions(marker: Path, cache: Path, gpu: bool) -> str:
    """A script for a node that prints one line, `<word> <value>`, for each thing that it knows."""
    python = shlex.quote(sys.executable)
    header = "import sysconfig, pathlib; print(pathlib.Path(sysconfig.get_path('include'), 'Python.h').exists())"
    lines = [
        f"test -e {shlex.quote(str(marker.absolute()))} && echo folder yes",
        f"{python} -c '' && echo python yes",
        f"test -d {shlex.quote(str(cache))} && echo cache yes",
        "echo glibc $(getconf GNU_LIBC_VERSION)",
    ]
    if gpu:
        lines += [
            "echo driver $(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1)",
            "command -v gcc cc > /dev/null && echo compiler yes",
            f"echo headers $({python} -c {shlex.quote(header)})",
        ]
    return "\n".join([*(f"{line} 2> /dev/null" for line in lines), "true"])


def lacking(said: str, cache: Path, gpu: bool) -> Iterator[str]:
    """What a node's answers lack, each with its remedy."""
    told = {word: value for word, _, value in (line.partition(" ") for line in said.splitlines())}
    if "folder" not in told:
        yield f"it does not see {Path.cwd()}: put the project on the shared file system"
    if "python" not in told:
        yield f"{sys.executable} does not start there: use a Python that all nodes have, or load its module before Snakemake"
    if "cache" not in told:
        yield f"it does not see {cache}: set TRACKGRAPH_ENVS to a shared folder"
    version = re.search(r"(\d+)\.(\d+)", told.get("glibc", ""))
    if version is None or (int(version[1]), int(version[2])) < GLIBC:
        had, needed = told.get("glibc") or "no glibc", ".".join(map(str, GLIBC))
        yield f"its {had} is older than {needed}, which the packages need: run Snakemake and its jobs in a newer container"
    if not gpu:
        return
    driver = re.match(r"\d+", told.get("driver", ""))
    if driver is None:
        yield "nvidia-smi finds no GPU or driver there: ask your site, or choose another partition"
    elif int(driver[0]) < needed_driver():
        yield f"its driver {told['driver']} is older than {needed_driver()}, which the environments' CUDA needs: ask your site"
    if "compiler" not in told or told.get("headers") != "True":
        part = "C compiler" if "compiler" not in told else "Python.h"
        yield f"it has no {part}, which vLLM compiles its kernels with: load the module that has it before Snakemake"


def nodes(name: str, most: Asked, account: str) -> Finding:
    """What only a node knows: does it see this folder, Python and the environments; its libraries, and its GPU and driver."""
    gpu, cache = most.gpu > 0, in_env.cache_root()
    asked = [f"--account={account}"] if account else []
    asked += [f"--gpus={most.model}:1" if most.model else "--gpus=1"] if gpu else []
    marker = Path(f".preflight-{uuid.uuid4().hex[:8]}")
    marker.touch()
    try:
        call = ["srun", f"--immediate={NODE_SECONDS}", f"--partition={name}", "-n1", "-t1", "--mem=500", *asked]
        code, said = answer(*call, "bash", "-c", questions(marker, cache, gpu), seconds=3 * NODE_SECONDS)
    finally:
        marker.unlink()
    what = f"a node of {name}"
    if code:
        last = said.splitlines()[-1] if said else f"srun ended with {code}"
        if code == 124 or any(words in said.lower() for words in FREE_LATER):
            return Finding(what, None, f"none was free within {NODE_SECONDS} s: run this again when one is")
        return Finding(what, False, f"{last}: mend the account, partition or GPU type in {PROFILE}")
    found = list(lacking(said, cache, gpu))
    return Finding(what, not found, "; ".join(found) or f"sees the project and has what it needs{', and a GPU' if gpu else ''}")


def findings() -> Iterator[Finding]:
    """Everything, cheapest first; the partitions' nodes are asked at the same time."""
    profile = read_profile()
    programs = list(software())
    yield from programs
    yield from storage()
    if not programs[-1].ok:
        return
    yield from accounting(profile)
    if "gpu_model" in profile["default-resources"]:
        said = f"among default-resources it has jobs without a GPU ask for one: move it to set-resources in {PROFILE}"
        yield Finding("gpu_model", False, said)
    asked = sorted(demands(profile, graph.plan("full")).items())
    fits = {name: list(partition(name, most)) for name, most in asked}
    account = profile["default-resources"].get("slurm_account", "")
    with ThreadPoolExecutor() as pool:
        there = [(name, most) for name, most in asked if "does not exist" not in fits[name][0].said]
        told = pool.map(lambda pair: nodes(*pair, account), there)
        for name, _ in asked:
            yield from fits[name]
        yield from told


def main() -> None:
    """Command line."""
    argparse.ArgumentParser(description="What is missing here before the full study can run on the cluster.").parse_args()
    from rich.console import Console
    from rich.table import Table

    table = Table("", "what", "", show_edge=False)
    missing = 0
    for finding in findings():
        sign = {True: "[green]ok[/]", False: "[red]missing[/]", None: "[yellow]not checked[/]"}[finding.ok]
        table.add_row(sign, finding.what, finding.said)
        missing += finding.ok is False
    Console(highlight=False).print(table)
    if missing:
        raise BadInput(f"{missing} of these are missing: mend them in the order above, then run this again.")


if __name__ == "__main__":
    console.run(main)
