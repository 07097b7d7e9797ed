"""The mini study at its smallest, as a folder: how it is made, and how it is asked from outside."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
CONFIG = "tests/graph/smallest.yaml"


def call(folder, *command, **options):
    """Run one of the base environment's programs in the clone, as from an activated shell."""
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": str(BIN.parent)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, **options)


def ask(folder, *targets, flags=()):
    """Snakemake on the smallest study. Options before the targets: a target after --configfile would be taken for a file."""
    return call(folder, "snakemake", *targets, "--configfile", CONFIG, "--cores", "2", *flags)


def started(text):
    """Names of the rules whose jobs Snakemake says it starts, or would start, one a job, sorted."""
    return sorted(re.findall(r"^(?:local)?rule (\w+):", text, re.M))


def planned(folder, *targets):
    """Names of the rules that a dry run would start."""
    ended = ask(folder, *targets, flags=("--dry-run",))
    assert ended.returncode == 0, ended.stderr
    return started(ended.stdout)


def clone(folder):
    """A clone of this repository, with what is changed but not committed yet."""
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    for name in subprocess.run(["git", "diff", "--name-only", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.split():
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, folder / name)


def is_manifest(path):
    """Whether a JSON file has a manifest's keys."""
    value = json.loads(path.read_text())
    return isinstance(value, dict) and {"outputs", "inputs", "parameters", "versions"} <= set(value)


def manifests(folder):
    """Every manifest of the study, sorted."""
    made = (p for top in ("data", "results") for p in (folder / top).rglob("*.json") if ".kept" not in p.parts)
    return sorted(p for p in made if is_manifest(p))
