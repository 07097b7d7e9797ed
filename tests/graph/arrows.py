"""What must run, read off a plan's arrows alone: the expectation that Snakemake's answers are held against."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tests.graph.planner import Job


def followers(jobs: Iterable[Job], made: Collection[str]) -> set[Job]:
    """The jobs that watch one of the files `made`, and those that watch what these make, and so on."""
    jobs, run, new = list(jobs), set(), set(made)
    while more := {job for job in jobs if job not in run and new & set(job.watched)}:
        run |= more
        new = {output for job in more for output in job.outputs}
    return {job for job in run if job.rule != "all"}


def needed(jobs: Iterable[Job], targets: Collection[str], lost: Collection[str]) -> set[Job]:
    """The jobs that make `targets` again where the files `lost` are gone, with what follows among `jobs`.

    A lost file counts where it is asked for, or where a job that runs reads it; otherwise nobody misses it.
    """
    jobs, lost = list(jobs), set(lost)
    maker = {output: job for job in jobs for output in job.outputs}
    asked = {i for job in jobs if job.rule == "all" and "all" in targets for i in job.watched} | set(targets)
    run = {maker[path] for path in asked & lost}
    while True:
        made = {output for job in run for output in job.outputs}
        more = {maker[path] for job in run for path in (*job.watched, *job.ancient) if path in lost and path in maker}
        more |= followers(jobs, made) | {job for job in jobs if made & lost & set(job.ancient)}
        if more <= run:
            return run
        run |= more


def names(jobs: Iterable[Job]) -> list[str]:
    """Jobs in readable form, for the difference that a failing test shows."""
    return sorted(f"{job.rule} {job.outputs[0]}" for job in jobs)
