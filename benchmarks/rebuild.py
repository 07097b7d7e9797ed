"""Every node of the smallest study deleted and made again for real: which jobs ran, for how long, and whether it is the same.

    python -m benchmarks.rebuild STUDY [--nodes run_tracker train_sft ...]

STUDY is a clone in which `snakemake all --configfile tests/graph/smallest.yaml` has run. One line a job: its node alone must
run; where its manifest is the same again nothing may be left to do, and where it is not (times are part of some results)
exactly what follows it. The command ends with status 1 where that is not so. tests/graph/test_rebuild.py asks the same of
every node's plan.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from tests.graph.arrows import followers, names
from tests.graph.disturb import manifest_of, remove
from tests.graph.planner import Planner
from tests.graph.smallest import ask, started


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Every node of the smallest study, deleted and made again.")
    parser.add_argument("study", type=Path, help="a clone in which the smallest study has run")
    parser.add_argument("--nodes", nargs="+", default=[], help="only these (default: all)")
    arguments = parser.parse_args()
    wrong = 0
    print(f"{'node':<20}{'seconds':>8}  {'ran':<8}{'bytes':<10}{'left to do':<12}output")
    with Planner(arguments.study.absolute()) as planner:
        jobs = planner.jobs(["all"])
        chosen = [job for job in jobs if job.rule != "all" and (not arguments.nodes or job.rule in arguments.nodes)]
        for job in chosen:
            manifest = arguments.study / manifest_of(arguments.study, job)
            before = manifest.read_bytes()
            for output in job.outputs:
                remove(arguments.study / output)
            begin = time.perf_counter()
            ended = ask(arguments.study, *job.outputs)
            seconds = time.perf_counter() - begin
            if ended.returncode:
                raise SystemExit(ended.stderr[-3000:])
            ran = started(ended.stdout + ended.stderr)
            same = manifest.read_bytes() == before
            left = names(planner.runs(["all", *job.outputs]))
            expected = [] if same else names(followers(jobs, job.outputs))
            right = ran == [job.rule] and left == expected
            wrong += not right
            verdict = f"{len(left)} jobs" if right else f"{len(left)}, not {len(expected)}"
            alone = "alone" if ran == [job.rule] else f"{len(ran)} jobs"
            told = "the same" if same else "others"
            print(f"{job.rule:<20}{seconds:>8.1f}  {alone:<8}{told:<10}{verdict:<12}{job.outputs[0]}", flush=True)
            if left:
                ended = ask(arguments.study, "all")
                if ended.returncode:
                    raise SystemExit(ended.stderr[-3000:])
    print(f"{len(chosen)} jobs, {wrong} otherwise than the graph's arrows say")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
