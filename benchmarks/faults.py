"""The fault campaign: break the smallest study at random moments, run the same command again, compare the table.

    python benchmarks/faults.py [--faults 64] [--seed 0] [--place FOLDER] [--output faults.csv]     # as root, with slurm-wlm

For every fault a node's outputs are deleted, the node is asked for through Snakemake, DVC or Slurm, and, at a random moment
of its job, the fault strikes. Then the same command runs again, at most three times. All is well if the node's manifest, which
is all that the nodes after it depend on, is the same to the byte, no other node was made again, no partial file and no process
is left. After every eighth fault `snakemake all` runs, and the table and every box are compared. Nodes and faults take turns;
the seed fixes them and the moments. A second call goes on where the first one ended; a fault from which the study did not
recover ends the call, and is tried again by the next. docs/faults.csv is the list of seed 1.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import itertools
import json
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from breaking import (
    BALLAST,
    FAULTS,
    LONG,
    MINI,
    NODES,
    ROOT,
    SERVED,
    Moment,
    command,
    job,
    one_machine,
    processes,
    resume,
    start,
)

COLUMNS = ["number", "node", "fault", "moment", "recovered", "commands", "seconds", "what was wrong"]
GIGABYTES = 4  # of the file system that becomes full
PATIENCE = 300  # seconds for one command
WAYS = ("snakemake", "dvc", "slurm")  # to ask for a node
TABLE_EVERY = 8  # faults
ALL = ("snakemake", "all", "--cores", "2")


def campaign(seed: int, count: int) -> list[tuple[str, str]]:
    """(node, fault) of each number from 1: always the fault that was least used, at the node that was.

    Long nodes and Slurm, whose executor asks for news ever more rarely, count twice: they have half as many turns.
    """
    chance = random.Random(seed)
    left = [(n, f) for n, f in itertools.product(NODES, FAULTS) if n in SERVED or f != "kill -9 of the server"]
    turns = dict.fromkeys([*NODES, *FAULTS], 0)
    chosen: list[tuple[str, str]] = []
    while left and len(chosen) < count:
        node, fault = min(left, key=lambda pair: (turns[pair[1]], turns[pair[0]], chance.random()))
        turns[node] += 2 if node in LONG else 1
        turns[fault] += 2 if FAULTS[fault][0] == "slurm" else 1
        left.remove((node, fault))
        chosen.append((node, fault))
    return chosen


def prepare(place: Path, folder: Path) -> None:
    """Clone, on a small file system of its own, and make the smallest study."""
    if not folder.exists():
        place.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={GIGABYTES}g", "campaign", str(place)], check=True)
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
        with open(folder / "profiles" / "default" / "config.yaml", "a") as profile:
            profile.write("configfile: tests/graph/smallest.yaml\n")
    if start(folder, *ALL).wait():
        raise SystemExit(f"the study does not run without any fault: see {place}/campaign.log")


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


def remade(folder: Path, node: str, since: float) -> list[str]:
    """Logs of jobs of other nodes that ran since then and did not find their outputs unchanged."""
    rule, _, tracker = node.partition(" ")
    logs = [p for p in (folder / "logs" / "mini").rglob("*.log") if p.stat().st_mtime > since]
    others = [p for p in logs if rule not in p.as_posix() or tracker not in p.as_posix()]
    return [str(p.relative_to(folder)) for p in others if "given back" not in p.read_text(errors="replace")]


def strike(folder: Path, node: str, fault: str, chance: random.Random, usual: float) -> str:
    """Delete the node's outputs, ask for it, and let the fault happen; says when it did.

    usual: seconds that the job takes; where it had ended before the moment came, all is done again with half of them.
    """
    for output in NODES[node][0]:
        path = folder / output
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    way, happen = FAULTS[fault]
    if way == "dvc":  # nothing that it could take from its cache instead
        (folder / "dvc.lock").unlink(missing_ok=True)
        shutil.rmtree(folder / ".dvc" / "cache", ignore_errors=True)
    if happen is None:
        limit = chance.choice([1 << 10, 1 << 14, 1 << 17])
        ended(start(folder, *command(way, node), limit=limit))
        return f"no file over {limit} bytes"
    run = start(folder, *command(way, node))
    end = time.monotonic() + PATIENCE
    while not job(folder, node) and run.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    moment = chance.uniform(0, usual)
    stop = time.monotonic() + moment
    while job(folder, node) and time.monotonic() < stop:
        time.sleep(0.02)
    missed = not job(folder, node)
    if not missed:
        happen(Moment(folder, node, run, chance))
    ended(run)
    return strike(folder, node, fault, chance, usual / 2) if missed else f"{moment:.1f} s into the job"


def ended(run: subprocess.Popen[bytes]) -> int:
    """Exit status of a command; one that does not end is killed."""
    try:
        return run.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        run.kill()
        return run.wait()


def recover(folder: Path, node: str, fault: str, reference: str, since: float) -> tuple[bool, int, str]:
    """Whether the same command, at most three times, gives the same study; how often it was needed; what is wrong."""
    (folder.parent / BALLAST).unlink(missing_ok=True)
    way, _ = FAULTS[fault]
    if way != "slurm" and (left := lingering(folder)):
        return False, 0, left
    attempts = next((n for n in range(1, 4) if ended(start(folder, *command(way, node))) == 0), 0)
    if way == "slurm":
        resume()
    if not attempts:
        return False, 3, "did not finish"
    if manifest(folder, node) != reference:
        return False, attempts, "another manifest"
    if others := remade(folder, node, since):
        return False, attempts, f"made again: {', '.join(others)}"
    if remains := partial(folder):
        return False, attempts, f"left behind: {remains[0]}"
    return not (left := lingering(folder)), attempts, left


def another_table(folder: Path, reference: str) -> str:
    """What is wrong with the table after `snakemake all`, or nothing."""
    if ended(start(folder, *ALL)):
        return "the table was not made"
    return "" if fingerprint(folder) == reference else "another table"


def manifest(folder: Path, node: str) -> str:
    """Text of the node's manifest: the last of its outputs."""
    return (folder / NODES[node][0][-1]).read_text()


def lingering(folder: Path) -> str:
    """What still runs after 15 seconds, or nothing."""
    end = time.monotonic() + 15
    while (left := processes(folder)) and time.monotonic() < end:
        time.sleep(0.1)
    return f"left running: {left[0][1][:120]}" if left else ""


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


def undisturbed(place: Path) -> tuple[Path, dict[str, float], dict[str, str]]:
    """The clone, what its jobs take and what they give without any fault: made once, remembered for the next call."""
    folder, memory = place / "clone", place / "undisturbed.json"
    if not memory.exists():
        prepare(place, folder)
        given = {"table": fingerprint(folder), **{node: manifest(folder, node) for node in NODES}}
        memory.write_text(json.dumps([durations(folder), given]))
    usual, reference = json.loads(memory.read_text())
    return folder, usual, reference


def results(output: Path) -> dict[int, bool]:
    """Number -> whether the study recovered, of the faults in the list; the last row of a number counts."""
    if not output.exists():
        return {}
    with open(output, newline="") as handle:
        return {int(row["number"]): row["recovered"] == "yes" for row in csv.DictReader(handle)}


def strikes(place: Path, seed: int, due: list[tuple[int, str, str]]) -> Iterator[list[Any]]:
    """A row of the list for each fault, as soon as it is known."""
    folder, usual, reference = undisturbed(place)
    for number, node, fault in due:
        begin, since = time.monotonic(), time.time()
        moment = strike(folder, node, fault, random.Random(f"{seed} {number}"), usual[node])
        recovered, commands, wrong = recover(folder, node, fault, reference[node], since)
        if recovered and number % TABLE_EVERY == 0:
            wrong = another_table(folder, reference["table"])
            recovered = not wrong
        seconds = f"{time.monotonic() - begin:.0f}"
        yield [number, node, fault, moment, "yes" if recovered else "no", commands, seconds, wrong]


def write(output: Path, row: list[Any]) -> None:
    """Append to the list, and print."""
    with open(output, "a", newline="") as handle:
        table = csv.writer(handle, lineterminator="\n")
        if not handle.tell():
            table.writerow(COLUMNS)
        table.writerow(row)
    print(*row, sep=", ", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Break the smallest study at random moments, and see whether it recovers.")
    parser.add_argument("--faults", type=int, default=64, help="up to this number; what is in the list already is not repeated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("faults.csv"), help="the list, one row a fault")
    parser.add_argument("--place", type=Path, default=Path(tempfile.gettempdir()) / "fault-campaign", help="where the clone is")
    parser.add_argument(
        "--ways", nargs="+", default=list(WAYS), choices=WAYS, help="only the faults of these, e.g. without Slurm"
    )
    arguments = parser.parse_args()
    known = results(arguments.output)
    chosen = enumerate(campaign(arguments.seed, arguments.faults), start=1)
    due = [(n, *pair) for n, pair in chosen if FAULTS[pair[1]][0] in arguments.ways and not known.get(n)]
    cluster = any(FAULTS[fault][0] == "slurm" for _, _, fault in due)
    if cluster:
        one_machine.up()
    try:
        for row in strikes(arguments.place.absolute(), arguments.seed, due):
            write(arguments.output, row)
            if row[4] != "yes":
                raise SystemExit(f"the study did not recover: see {arguments.place}/clone and {arguments.place}/campaign.log")
    finally:
        if cluster:
            one_machine.down()
    known = results(arguments.output)
    print(f"{sum(known.values())} of {len(known)} recovered by the same command, the table identical")
    print(f"the clone stays for more: `umount {arguments.place}` removes it")


if __name__ == "__main__":
    main()
