"""The fault campaign: break the smallest study at random moments, run the same command again, compare the table.

    python benchmarks/faults.py [--faults 60] [--seed 0] [--output faults.csv] [--clone FOLDER]

For every fault a node's outputs are deleted, the study is asked for again, and, at a random moment of that node's job, the
fault strikes. Then the same command runs again, at most three times, and must finish with the same table, the same boxes,
no partial file and no process left. Nodes and faults take turns, so that each meets each; the seed fixes the moments.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import itertools
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
CONFIG = "tests/graph/smallest.yaml"
MINI = "results/mini"
# node: what is deleted to have it made again, and the command line of its job
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
    "run_tracker csrt": ([f"{MINI}/track/shards/tnllt/csrt/0", f"{MINI}/track/shards/tnllt/csrt/0.json"], "track.run"),
    "run_tracker reasoningtrack": (
        [f"{MINI}/track/shards/tnllt/reasoningtrack/0", f"{MINI}/track/shards/tnllt/reasoningtrack/0.json"],
        "track.run",
    ),
    "score_trackers": ([f"{MINI}/score/tnllt", f"{MINI}/score/tnllt.json"], "score.run"),
    "plot_scores": ([f"{MINI}/report/tnllt.json"], "report.figures"),
}


def start(folder: Path, *command: str, limit: int | None = None) -> subprocess.Popen[bytes]:
    """One of the base environment's programs in the clone, its output in a log; `limit` bytes a file, like a full disk."""
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": str(BIN.parent)}

    def prepare() -> None:
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    with open(folder / "campaign.log", "ab") as log:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=prepare
        )


def ask(folder: Path, limit: int | None = None) -> subprocess.Popen[bytes]:
    """`snakemake all` on the smallest study."""
    return start(folder, "snakemake", "all", "--configfile", CONFIG, "--cores", "2", limit=limit)


def processes(folder: Path) -> list[tuple[int, str]]:
    """(process, command line) of all that work in the clone: named there, or with their working directory there."""
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


def job(folder: Path, module: str) -> list[int]:
    """Processes of a node's job, without the Snakemake above it."""
    return [
        pid
        for pid, line in processes(folder)
        if f"workflow_scripts.{module} " in line and "snakemake" not in line.split(" ")[1]
    ]


def kill_job(folder: Path, module: str, run: subprocess.Popen[bytes]) -> None:
    for pid in job(folder, module):
        os.kill(pid, signal.SIGKILL)


def terminate_job(folder: Path, module: str, run: subprocess.Popen[bytes]) -> None:
    for pid in job(folder, module):
        os.kill(pid, signal.SIGTERM)


def kill_snakemake(folder: Path, module: str, run: subprocess.Popen[bytes]) -> None:
    os.kill(run.pid, signal.SIGKILL)


def interrupt_snakemake(folder: Path, module: str, run: subprocess.Popen[bytes]) -> None:
    os.kill(run.pid, signal.SIGINT)


def kill_all(folder: Path, module: str, run: subprocess.Popen[bytes]) -> None:
    """A power cut, as far as processes see it."""
    for pid, _ in processes(folder):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def kill_server(folder: Path, module: str, run: subprocess.Popen[bytes]) -> None:
    """The language model's server, where the node has one; else the job."""
    servers = [pid for pid, line in processes(folder) if "vllm serve" in line or "transformers_server" in line]
    for pid in servers or job(folder, module):
        os.kill(pid, signal.SIGKILL)


Fault = Callable[[Path, str, subprocess.Popen[bytes]], None]
FAULTS: dict[str, Fault | None] = {
    "kill -9 of the job": kill_job,
    "kill -9 of Snakemake": kill_snakemake,
    "kill -9 of everything": kill_all,
    "SIGTERM to the job": terminate_job,
    "Ctrl-C": interrupt_snakemake,
    "kill -9 of the server": kill_server,
    "full disk": None,  # from the start, not at a moment
}


def fingerprint(folder: Path) -> str:
    """Hash of the table's scores and of every box."""
    with open(folder / "results" / "tnllt_table.csv", newline="") as handle:
        rows = sorted((r["tracker"], r["SR"], r["PR"], r["NPR"]) for r in csv.DictReader(handle))
    boxes = sorted((folder / MINI / "track" / "raw").rglob("*.txt"))
    boxes = [p for p in boxes if not p.name.endswith((".time.txt", ".confidence.txt"))]
    return hashlib.sha256(repr([rows, *(p.read_bytes() for p in boxes)]).encode()).hexdigest()


def partial(folder: Path) -> list[str]:
    """Temporary files and folders that a finished study should not have."""
    found = [p for top in ("data/mini", "results") for p in (folder / top).rglob(".*") if ".kept" not in p.parts]
    return [str(p.relative_to(folder)) for p in found if p.name != ".snakemake_timestamp"]


def strike(folder: Path, node: str, fault: str, chance: random.Random, usual: float) -> str:
    """Delete the node's outputs, ask again, and let the fault happen; says when it did."""
    outputs, module = NODES[node]
    for output in outputs:
        path = folder / output
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if FAULTS[fault] is None:
        limit = chance.choice([1 << 10, 1 << 14, 1 << 17])
        run = ask(folder, limit)
        run.wait(900)
        return f"no file over {limit} bytes"
    run = ask(folder)
    end = time.monotonic() + 120
    while not job(folder, module) and run.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    moment = chance.uniform(0, usual)
    stop = time.monotonic() + moment
    while run.poll() is None and time.monotonic() < stop:
        time.sleep(0.02)
    missed = run.poll() is not None
    if not missed:
        FAULTS[fault](folder, module, run)
    run.wait(900)
    return "had ended already" if missed else f"{moment:.1f} s into the job"


def recover(folder: Path, reference: str) -> tuple[bool, int, str]:
    """Whether the same command, at most three times, gives the same study; how often it was needed; what is wrong."""
    end = time.monotonic() + 15
    while processes(folder) and time.monotonic() < end:
        time.sleep(0.1)
    if left := processes(folder):
        return False, 0, f"left running: {left[0][1][:120]}"
    attempts = next((n for n in range(1, 4) if ask(folder).wait(900) == 0), 0)
    if not attempts:
        return False, 3, "did not finish"
    if fingerprint(folder) != reference:
        return False, attempts, "another table"
    if remains := partial(folder):
        return False, attempts, f"left behind: {remains[0]}"
    return True, attempts, ""


def durations(folder: Path) -> dict[str, float]:
    """Seconds that each node's job took, as Snakemake's benchmarks say."""
    found = {}
    for node in NODES:
        rule, _, tracker = node.partition(" ")
        place = folder / "benchmarks" / "mini"
        tables = [p for p in [*place.glob(f"{rule}.tsv"), *place.glob(f"{rule}/**/*.tsv")] if tracker in p.as_posix()]
        seconds = [float(p.read_text().splitlines()[1].split("\t")[0]) for p in tables]
        found[node] = max(seconds, default=2.0)
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Break the smallest study at random moments, and see whether it recovers.")
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("faults.csv"))
    parser.add_argument("--clone", type=Path, help="a clone in which the smallest study was made already")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    folder = arguments.clone or Path(tempfile.mkdtemp()) / "clone"
    if not folder.exists():
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    if ask(folder).wait():
        raise SystemExit(f"the study does not run without any fault: see {folder}/campaign.log")
    reference, usual = fingerprint(folder), durations(folder)
    # every node meets every fault before a pair comes again
    pairs = list(itertools.product(NODES, FAULTS))
    chance.shuffle(pairs)
    good = 0
    with open(arguments.output, "w", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["number", "node", "fault", "moment", "recovered", "commands", "seconds", "what was wrong"])
        for number, (node, fault) in enumerate(itertools.islice(itertools.cycle(pairs), arguments.faults), start=1):
            begin = time.monotonic()
            moment = strike(folder, node, fault, chance, usual[node])
            recovered, commands, wrong = recover(folder, reference)
            good += recovered
            row = [
                number,
                node,
                fault,
                moment,
                "yes" if recovered else "no",
                commands,
                f"{time.monotonic() - begin:.0f}",
                wrong,
            ]
            table.writerow(row)
            handle.flush()
            print(*row, sep=", ", flush=True)
    print(f"{good} of {arguments.faults} recovered by the same command, the table identical")
    raise SystemExit(good != arguments.faults)


if __name__ == "__main__":
    main()
