"""How long Snakemake plans the full study, and how long it takes to see that nothing is to be done, by number of jobs.

    python benchmarks/planning.py [--shards 1 8 16 75]

Shards a tracker and benchmark set the number of jobs, not sequences. For the second figure every output is put there as an
empty stand-in and blessed (`snakemake --touch`) in a throw-away clone. CPU seconds beside wall seconds: other load hurts the
latter.
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

ROOT = Path(__file__).resolve().parents[1]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")


def call(folder: Path, *flags: str) -> tuple[float, float, str]:
    """Wall and CPU seconds of `snakemake all`, and what it printed."""
    before, begin = os.times(), time.perf_counter()
    command = [str(SNAKEMAKE), "--config", "study=full", "--cores", "2", *flags, "--", "all"]
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
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 8, 16, 75], help="jobs a tracker and benchmark")
    arguments = parser.parse_args()
    print(f"{'shards':>7}{'jobs':>7}{'plan, s':>10}{'CPU':>7}{'no-op, s':>10}{'CPU':>7}")
    for shards in arguments.shards:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "clone"
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
            parameters = folder / "params.yaml"
            parameters.write_text(re.sub(r"shards: 8\b", f"shards: {shards}", parameters.read_text()))
            wall, processor, text = call(folder, "--dry-run", "--quiet", "rules")
            jobs = int(re.findall(r"^total\s+(\d+)", text, re.M)[-1])
            stand_ins(folder)
            call(folder, "--touch", "--forceall", "--quiet", "all")
            idle = call(folder, "--quiet", "rules")
            if "Nothing to be done" not in idle[2]:
                raise SystemExit(f"something was to be done:\n{idle[2][-2000:]}")
            print(f"{shards:>7}{jobs:>7}{wall:>10.1f}{processor:>7.1f}{idle[0]:>10.1f}{idle[1]:>7.1f}", flush=True)


if __name__ == "__main__":
    main()
