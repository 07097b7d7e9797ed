"""File systems as they are met: clocks that count whole seconds, and data that nobody here may write to."""

import ctypes
import os
from pathlib import Path

from tests.graph.arrows import names
from tests.graph.disturb import remove
from tests.graph.smallest import CONFIG, ask, call, started

CAPBSET_DROP, DAC_OVERRIDE = 24, 1


def truncate_clocks(study):
    """Every file and folder of the study is as old as a file system with a clock of one second would say."""
    for top in ("data", "results", "workflow_scripts", ".snakemake"):
        for folder, folders, members in os.walk(study / top):
            for path in (Path(folder, name) for name in (*folders, *members)):
                clock = int(path.lstat().st_mtime)
                os.utime(path, (clock, clock), follow_symlinks=False)


def as_anybody():
    """The process obeys the permissions of files, even where root runs these tests."""
    ctypes.CDLL(None).prctl(CAPBSET_DROP, DAC_OVERRIDE, 0, 0, 0)


def test_clocks_of_whole_seconds_rerun_nothing(study, planner):
    truncate_clocks(study)
    assert names(planner.runs(["all"])) == []


def test_a_study_made_step_by_step_under_such_clocks_is_finished_after_the_last(study, planner):
    steps = {
        "results/mini/track/raw/tnllt/csrt": ["collect_results"],
        "results/mini/score/tnllt": ["score_trackers"],
        "results/mini/report/tables/tnllt": ["write_tables"],
    }
    for made in steps:
        remove(study / made)
    for target, rules in steps.items():
        ended = ask(study, target)
        assert ended.returncode == 0, ended.stderr[-3000:]
        assert started(ended.stdout + ended.stderr) == rules
        truncate_clocks(study)
    assert names(planner.runs(["all", *steps])) == []


def test_data_that_may_only_be_read_is_enough_for_every_node_that_reads_it(study, planner):
    folders = [study / "data", *(p for p in (study / "data").rglob("*") if p.is_dir() and not p.is_symlink())]
    made = ("data/tnllt.npz", "data/tnllt.check.json", "sft/clean/dataset", "track/shards/tnllt/static/0")
    targets = [f"results/mini/{path}" for path in made]
    for target in targets:
        remove(study / target)
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert call(study, "touch", "data/mini/new", preexec_fn=as_anybody).returncode != 0
        ended = call(study, "snakemake", *targets, "--configfile", CONFIG, "--cores", "2", preexec_fn=as_anybody)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert set(started(ended.stdout + ended.stderr)) == {
        "index_benchmark",
        "check_benchmark",
        "rewrite_annotations",
        "run_tracker",
    }
    assert names(planner.runs(["all", *targets])) == []
