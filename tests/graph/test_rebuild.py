"""Every node of the finished study, disturbed in every way: exactly the jobs that the graph's arrows demand, and no other.

What would run is asked of Snakemake; what must run is read off the arrows (tests/graph/arrows.py). Each test puts back what it
moved. Some nodes are made again for real at the end; benchmarks/rebuild.py does so with every one.
"""

import json
import os

import pytest
import yaml

from tests.graph.arrows import followers, names, needed
from tests.graph.disturb import clocks_kept, edited, manifest_of, moved_away, remove
from tests.graph.smallest import ROOT, ask, planned, started
from workflow_scripts.node import SUFFIX

NODES = sorted(set(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]) - {"pack_provenance"})


@pytest.fixture(params=NODES)
def job(request, jobs):
    """A job of each node: its last one, where it has several."""
    return [job for job in jobs if job.rule == request.param][-1]


def test_there_is_nothing_to_do_in_a_finished_study_and_the_planner_says_what_snakemake_says(study, planner, jobs):
    assert names(planner.runs(["all"])) == [] and planned(study, "all") == []
    lost = "results/mini/report/tables/tnllt"
    with moved_away(study, [lost]):
        assert planned(study, lost, "all") == sorted(job.rule for job in planner.jobs([lost, "all"]) if job.because)
    assert {job.rule for job in jobs} == {*NODES, "all"}


def test_outputs_that_are_deleted_and_asked_for_are_made_by_their_node_alone(study, planner, job):
    lost = [o for o in job.outputs if o != manifest_of(study, job)] or [manifest_of(study, job)]
    with moved_away(study, lost):
        assert names(planner.runs(lost)) == names([job])


def test_a_manifest_that_is_deleted_and_asked_for_is_made_by_its_node_alone(study, planner, job):
    lost = [manifest_of(study, job)]
    with moved_away(study, lost):
        assert names(planner.runs(lost)) == names([job])


def test_what_is_deleted_is_made_again_with_what_follows_it_where_everything_is_asked_for(study, planner, jobs, job):
    with moved_away(study, job.outputs):
        assert names(planner.runs(["all", *job.outputs])) == names({job} | followers(jobs, job.outputs))
        assert names(planner.runs(["all"])) == names(needed(jobs, ["all"], job.outputs))


def test_touched_outputs_rerun_nothing(study, planner, job):
    with clocks_kept(study, job.outputs):
        for path in job.outputs:
            os.utime(study / path)
        assert names(planner.runs(["all", *job.outputs])) == []


def test_another_content_reruns_what_reads_it_and_not_the_node_itself(study, planner, jobs, job):
    path = manifest_of(study, job)
    with edited(study, path, lambda text: json.dumps(json.loads(text) | {"facts": {"other": 1}})):
        assert names(planner.runs(["all", *job.outputs])) == names(followers(jobs, [path]))


@pytest.mark.parametrize("node", ["verify_parts", "check_benchmark", "rewrite_annotations", "merge_grpo", "collect_results"])
def test_a_node_that_is_deleted_and_asked_for_is_made_alone_byte_for_byte_and_leaves_nothing_to_do(study, planner, jobs, node):
    job = [job for job in jobs if job.rule == node][-1]
    path = manifest_of(study, job)
    before, record = (study / path).read_bytes(), (study / path).with_suffix(SUFFIX)
    recorded = record.stat().st_mtime_ns
    for output in job.outputs:
        remove(study / output)
    ended = ask(study, *job.outputs)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert started(ended.stdout + ended.stderr) == [node]
    assert (study / path).read_bytes() == before
    assert record.stat().st_mtime_ns > recorded  # it was made, not given back
    assert names(planner.runs(["all", *job.outputs])) == []
