"""DVC on the smallest study: it recomputes nothing that is there, carries the study elsewhere, and restores any node of it."""

import json
import shutil

import pytest
import yaml

from tests.graph.arrows import names
from tests.graph.disturb import remove
from tests.graph.planner import Planner
from tests.graph.smallest import BIN, CONFIG, ROOT, ask, call, planned
from workflow_scripts.node import SUFFIX

NODES = sorted(set(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]) - {"pack_provenance"})
GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")


@pytest.fixture(scope="module")
def versioned(study):
    """The study after `dvc repro`, which found every node made already."""
    with open(study / "profiles" / "default" / "config.yaml", "a") as handle:
        handle.write(f"configfile: {CONFIG}\n")
    logs = {p: p.stat().st_mtime_ns for p in (study / "logs" / "mini").rglob("*.log")}
    boxes = {p: p.read_bytes() for p in (study / "results" / "mini" / "track" / "raw").rglob("*.txt")}
    ended = call(study, "dvc", "repro")
    assert ended.returncode == 0, (ended.stdout + ended.stderr)[-4000:]
    assert {p for p in logs if logs[p] != p.stat().st_mtime_ns} == set()
    assert all(p.read_bytes() == content for p, content in boxes.items())
    return study


@pytest.fixture(scope="module")
def other(versioned, tmp_path_factory):
    """Another clone that pulled the study from a folder and restored it by `make restore`."""
    place = tmp_path_factory.mktemp("elsewhere")
    for command in (
        ("dvc", "remote", "add", "--default", "store", str(place / "store")),
        ("dvc", "push", "--quiet"),
        (*GIT, "add", "--all"),
        (*GIT, "commit", "--quiet", "--message", "made"),
        ("git", "clone", "--quiet", str(versioned), str(place / "another clone")),
    ):
        ended = call(versioned, *command)
        assert ended.returncode == 0, (command, ended.stdout, ended.stderr)
    folder = place / "another clone"
    (folder / ".venv").symlink_to(BIN.parent)
    for command in (("dvc", "pull", "--quiet"), ("make", "--old-file", ".venv/complete", "restore")):
        ended = call(folder, *command)
        assert ended.returncode == 0, (command, ended.stdout, ended.stderr)
    assert "Nothing to be done" in ended.stdout + ended.stderr and "Data and pipelines are up to date" in ended.stdout
    return folder


@pytest.fixture(scope="module")
def elsewhere(other):
    """Answers what would run in the other clone."""
    with Planner(other) as planner:
        yield planner


def test_dvc_recomputes_nothing_after_a_finished_run_and_shows_metrics(versioned):
    again = call(versioned, "dvc", "repro")
    assert again.returncode == 0 and "Running stage" not in again.stdout
    shown = call(versioned, "dvc", "metrics", "show", "--json")
    assert shown.returncode == 0 and json.loads(shown.stdout)
    assert call(versioned, "dvc", "plots", "show", "--out", "plots").returncode == 0
    shutil.rmtree(versioned / "plots")


def test_another_clone_pulls_and_restores_and_has_nothing_left_to_do(other):
    assert planned(other, "all") == []
    assert json.loads(call(other, "dvc", "status", "--json").stdout) == {}
    changed = ask(other, "all", flags=("--dry-run", "--config", "report={mini: {figures: {dots: 90}}}"))
    assert "rule plot_scores:" in changed.stdout + changed.stderr  # parameters are known here too


@pytest.mark.parametrize("node", NODES)
def test_a_deleted_node_comes_back_from_dvc_and_nothing_is_left_to_do(other, elsewhere, node):
    outputs = [output for job in elsewhere.jobs(["all"]) if job.rule == node for output in job.outputs]
    for output in outputs:
        remove(other / output)
    ended = call(other, "dvc", "checkout", "--quiet", node)
    assert ended.returncode == 0, ended.stderr
    assert names(elsewhere.runs(["all", *outputs])) == []


@pytest.mark.parametrize("node", ["verify_parts", "write_splits", "rewrite_annotations", "score_trackers", "publish_table"])
def test_dvc_repro_of_one_stage_makes_its_deleted_outputs_again_and_nothing_else(other, elsewhere, node):
    jobs = [job for job in elsewhere.jobs(["all"]) if job.rule == node]
    records = {p: p.stat().st_mtime_ns for top in ("data", "results") for p in (other / top).rglob(f"*{SUFFIX}")}
    for output in (output for job in jobs for output in job.outputs):
        remove(other / output)
    ended = call(other, "dvc", "repro", "--single-item", node)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    made = [p for p, clock in records.items() if p.stat().st_mtime_ns != clock]
    assert len(made) == len(jobs)
    assert {json.loads(p.read_text())["makes"][0] for p in made} <= {output for job in jobs for output in job.outputs}
    assert names(elsewhere.runs(["all"])) == []
    assert call(other, "git", "status", "--porcelain", "dvc.lock").stdout == ""  # the same bytes as before
