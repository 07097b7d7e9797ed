"""What is missing here before `snakemake --profile slurm all` can run: seconds now instead of a failed job tomorrow.

    python -m workflow_scripts.preflight        # or: make preflight

Run it on the login node, from the project's root. Nodes are asked through `srun --immediate`: where none is free within a few
seconds, what only a node knows is said to be not checked.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
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


class Finding(NamedTuple):
    """One thing that was looked at. `ok` None: could not be checked here."""

    what: str
    ok: bool | None
    said: str


class Asked(NamedTuple):
    """What the profile and the rules ask of a partition, at most."""

    gpu: int
    mem_mb: int
    runtime: int  # minutes


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
        before = found.get(partition, Asked(0, 0, 0))
        found[partition] = Asked(*(max(getattr(before, name), int(asked.get(name, 0))) for name in Asked._fields))
    return found


def software() -> Iterator[Finding]:
    """Snakemake's plugin and Slurm's programs."""
    try:
        yield Finding("executor plugin", True, f"{PLUGIN} {metadata.version(PLUGIN)}")
    except metadata.PackageNotFoundError:
        yield Finding("executor plugin", False, f"{PLUGIN} is not installed: run `make setup`")
    absent = [p for p in PROGRAMS if shutil.which(p) is None]
    said = (
        f"{', '.join(absent)} not found: run this on a login node of the cluster"
        if absent
        else answer("sbatch", "--version")[1]
    )
    yield Finding("Slurm's programs", not absent, said)


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
    user = os.environ.get("USER", "")
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
    """Room for the study, and quotas."""
    free = shutil.disk_usage(".").free / 1e9
    said = f"{free:.0f} GB free here; the whole full study needs about {FULL_GIGABYTES}: fewer benchmarks need less"
    yield Finding("disk", free >= FULL_GIGABYTES, said)
    code, said = answer("quota", "-s")
    yield Finding(
        "quota", None if code else "*" not in said, said.splitlines()[-1] if said and not code else "quota says nothing"
    )


def nodes(name: str, gpu: bool) -> Iterator[Finding]:
    """What only a node knows: it sees this folder, its Python and the environments' cache, and a GPU where one is asked for."""
    marker = Path(f".preflight-{uuid.uuid4().hex[:8]}")
    marker.touch()
    cache = in_env.cache_root()
    cache.mkdir(parents=True, exist_ok=True)
    checks = f"test -e '{marker.absolute()}' || echo no-folder; '{sys.executable}' -c '' 2>/dev/null || echo no-python; "
    checks += f"test -d '{cache}' || echo no-cache"
    checks += "; nvidia-smi -L 2>/dev/null || echo no-gpu" if gpu else ""
    asked = ["--gpus=1"] if gpu else []
    try:
        call = ["srun", f"--immediate={NODE_SECONDS}", "-p", name, "-n1", "-t1", "--mem=200", *asked, "bash", "-c", checks]
        code, said = answer(*call, seconds=3 * NODE_SECONDS)
    finally:
        marker.unlink()
    if code:
        yield Finding(
            f"a node of {name}", None, f"none was free within {NODE_SECONDS} s ({said.splitlines()[-1] if said else code})"
        )
        return
    remedies = {
        "no-folder": f"it does not see {Path.cwd()}: put the project on the shared file system",
        "no-python": f"{sys.executable} does not start there: use a Python that all nodes have, or load its module first",
        "no-cache": f"it does not see {cache}: set TRACKGRAPH_ENVS to a shared folder",
        "no-gpu": "nvidia-smi finds no GPU or driver there: ask your site, or choose another partition",
    }
    found = [text for word, text in remedies.items() if word in said.split()]
    yield Finding(
        f"a node of {name}",
        not found,
        "; ".join(found) or "sees the project, its Python and the environments" + (" and a GPU" if gpu else ""),
    )


def findings() -> Iterator[Finding]:
    """Everything, cheapest first."""
    profile = read_profile()
    programs = list(software())
    yield from programs
    yield from storage()
    kind = answer("findmnt", "--noheadings", "--output", "FSTYPE", "--target", ".")[1]
    yield Finding(
        "file system",
        None if kind in LOCAL else True,
        f"{kind}: " + ("local, as far as this machine can tell" if kind in LOCAL else "shared"),
    )
    if not programs[-1].ok:
        return
    yield from accounting(profile)
    for name, asked in sorted(demands(profile, graph.plan("full")).items()):
        exists = list(partition(name, asked))
        yield from exists
        if exists[0].ok is not False or "does not exist" not in exists[0].said:
            yield from nodes(name, asked.gpu > 0)


def main() -> None:
    """Command line."""
    argparse.ArgumentParser(description="What is missing here before the full study can run on the cluster.").parse_args()
    from rich.console import Console
    from rich.table import Table

    table = Table("", "what", "", show_edge=False)
    lacking = 0
    for finding in findings():
        sign = {True: "[green]ok[/]", False: "[red]missing[/]", None: "[yellow]not checked[/]"}[finding.ok]
        table.add_row(sign, finding.what, finding.said)
        lacking += finding.ok is False
    Console(highlight=False).print(table)
    if lacking:
        raise BadInput(f"{lacking} of these are missing: mend them in the order above, then run this again.")


if __name__ == "__main__":
    console.run(main)
