"""The node that this process is a job of: what it was told when it began, and what is left when it ends.

`in_env` tells a job's command in an environment variable what its node reads and makes. When the command has written its
manifest, two things are put beside it, neither an output of the graph: hard links of the outputs in the hidden folder `.kept`
of the study (no space, as long as the outputs are there), for workflow_scripts.recall, and X.provenance.json, the record of
what made them, for workflow_scripts.provenance. Outside the graph nothing is told and nothing is left.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from workflow_scripts import files

ROOT = Path(__file__).resolve().parent.parent
TOLD = "TRACKGRAPH_NODE"  # the environment variable
KEPT = ".kept"
KEY = "node.json"  # in a node's folder of KEPT: what its outputs were made of
SUFFIX = ".provenance.json"
SNAKEMAKES_OWN = ".snakemake_timestamp"  # put into every folder that a rule declares, after the manifest was written


def tell(**said: Any) -> None:
    """Tell the command that this process becomes which node it is a job of: key, makes, reads, command, code and lock."""
    os.environ[TOLD] = json.dumps(said | {"commit": commit(), "began": time.time()})


def told() -> dict[str, Any] | None:
    """What this process was told; None outside the graph."""
    said = os.environ.get(TOLD)
    return json.loads(said) if said else None


def finish(manifest_path: str | Path) -> None:
    """The manifest of this process's node was just written: keep its outputs and record what made them."""
    node = told()
    if node is None or Path(manifest_path) not in map(Path, node["makes"]):
        return
    _keep(node, manifest_path)
    _record(node, manifest_path)


def place(makes: list[str]) -> Path:
    """Where a node's outputs are kept: in the first two folders of its first output, and so on the same file system."""
    first = Path(makes[0])
    depth = min(2, len(first.parts) - 1)
    return Path(*first.parts[:depth], KEPT, "+".join(first.parts[depth:]) + ".node")


def link(source: Path, target: Path) -> None:
    """Hard links of a file, or of all files below a folder. OSError on a file system that has none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not source.is_dir():
        os.link(source, target)
        return
    target.mkdir()
    for entry in os.scandir(source):
        if entry.is_dir(follow_symlinks=False):
            link(Path(entry.path), target / entry.name)
        elif entry.name != SNAKEMAKES_OWN:
            os.link(entry.path, target / entry.name, follow_symlinks=False)


def commit() -> str:
    """The clone's commit, with a + where tracked files were changed; "unknown" outside a clone."""
    head = _git("rev-parse", "--short=12", "HEAD")
    return (head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")) if head else "unknown"


def device() -> str:
    """The GPU that this process computed on, else its CPU."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def _keep(node: dict[str, Any], manifest_path: str | Path) -> None:
    makes = node["makes"]
    folder = place(makes)
    try:
        with files.atomic_folder(folder) as temporary:
            for number, output in enumerate(makes):
                link(Path(output), temporary / str(number))
            files.write_json(temporary / KEY, {"key": node["key"], "makes": makes, "manifest": str(manifest_path)})
    except OSError:  # a file system without hard links: the node will be made again instead
        shutil.rmtree(folder, ignore_errors=True)


def _record(node: dict[str, Any], manifest_path: str | Path) -> None:
    value = {
        "makes": node["makes"],
        "manifest": str(manifest_path),
        "command": node["command"],
        "commit": node["commit"],
        "environment": os.environ.get("TRACKGRAPH_ENV", ""),
        "lock": node["lock"],
        "code": node["code"],
        "reads": node["reads"],
        "device": device(),
        "job": os.environ.get("SLURM_JOB_ID", ""),
        "began": time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(node["began"])),
        "seconds": round(time.time() - node["began"], 1),
    }
    files.write_json(Path(manifest_path).with_suffix(SUFFIX), value)
