"""How long Snakemake plans the full study, and how long it takes to see that nothing is to be done, by number of jobs.

    python benchmarks/planning.py [--jobs 10 100 1000 5000]

Trackers, benchmarks and shards set the number of jobs, not sequences; `full` is the whole table: 21 trackers (18 run here, 3
published), 9 benchmarks, 8 shards. For the second figure every output is put there as an empty stand-in and blessed
(`snakemake --touch`) in a throw-away clone. CPU seconds beside wall seconds: other load hurts the latter.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
NETWORKS = [
    *(f"dutrack_{size}_{data}" for size in (256, 384) for data in ("full", "got")),
    *(f"seqtrack_{size}{data}" for size in ("b256", "b384", "l256", "l384") for data in ("", "_got")),
]
TRACKERS = [*NETWORKS, "reasoningtrack", "r1track", "static", "kcf", "csrt", "mosse"]
FEW = ["dutrack_256_full", "reasoningtrack", "static"]
# about so many jobs: (trackers, whether on all benchmarks, shards, what is asked for)
SIZES: dict[str, tuple[list[str], bool, int, str]] = {
    "10": (FEW, False, 4, "results/full/track/raw/tnllt/static"),
    "100": (FEW, False, 16, "all"),
    "1000": (TRACKERS, True, 4, "all"),
    "full": (TRACKERS, True, 8, "all"),
    "5000": (TRACKERS, True, 29, "all"),
}


def resize(parameters: Path, trackers: list[str], everywhere: bool, shards: int) -> None:
    """Write another size of the full study into a clone's params.yaml."""
    tree: dict[str, Any] = yaml.safe_load(parameters.read_text(encoding="utf-8"))
    track, score = tree["track"]["full"], tree["score"]["full"]
    track["trackers"] = trackers
    track["run"]["shards"] = shards
    track["checkpoints"] = {name: name.replace("_", "-") for name in NETWORKS if name in trackers}
    track["published"] |= {"third-published": "third"}
    track["describers"] = {}
    if not everywhere:
        track["benchmarks"] = tree["data"]["full"]["benchmarks"] = ["tnllt"]
        track["published"] = {}
        tree["grpo"]["full"]["pairs"]["guarded"] = ["tnllt"]
        score["protocols"], score["submissions"] = {"tnllt": "tnllt"}, []
    parameters.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")


def call(folder: Path, target: str, *flags: str) -> tuple[float, float, str]:
    """Wall and CPU seconds of `snakemake TARGET`, and what it printed."""
    before, begin = os.times(), time.perf_counter()
    command = [str(SNAKEMAKE), "--config", "study=full", "--cores", "2", *flags, "--", target]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    wall, after = time.perf_counter() - begin, os.times()
    text = ended.stdout + ended.stderr
    if ended.returncode:
        raise SystemExit(text[-2000:])
    return wall, after.children_user + after.children_system - before.children_user - before.children_system, text


def stand_ins(folder: Path) -> None:
    """An empty output for every job of the full study."""
    command = [sys.executable, "-m", "workflow_scripts.graph", "plan", "--study", "full"]
    plan = json.loads(subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    for node in plan.values():
        for output, is_folder in node["outputs"].items():
            path = folder / output
            (path if is_folder else path.parent).mkdir(parents=True, exist_ok=True)
            if not is_folder:
                path.touch()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Planning time against the number of jobs.")
    parser.add_argument("--jobs", nargs="+", default=list(SIZES), choices=SIZES, help="about how many jobs")
    arguments = parser.parse_args()
    print(f"{'asked':>6}{'shards':>7}{'jobs':>7}{'plan, s':>10}{'CPU':>7}{'no-op, s':>10}{'CPU':>7}")
    for size in arguments.jobs:
        trackers, everywhere, shards, target = SIZES[size]
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "clone"
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
            resize(folder / "params.yaml", trackers, everywhere, shards)
            wall, processor, text = call(folder, target, "--dry-run", "--quiet", "rules")
            jobs = int(re.findall(r"^total\s+(\d+)", text, re.M)[-1])
            print(f"{size:>6}{shards:>7}{jobs:>7}{wall:>10.1f}{processor:>7.1f}", end="", flush=True)
            stand_ins(folder)
            call(folder, target, "--touch", "--forceall", "--quiet", "all", "--cores", "1000")  # as many at once
            idle = call(folder, target, "--quiet", "rules")
            if "Nothing to be done" not in idle[2]:
                raise SystemExit(f"something was to be done:\n{idle[2][-2000:]}")
            print(f"{idle[0]:>10.1f}{idle[1]:>7.1f}", flush=True)


if __name__ == "__main__":
    main()
