"""The whole mini study on a real Slurm: its executor plugin, its queue, its GPUs, and what happens when it takes a job away."""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster import one_machine
from tests.graph import smallest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def cluster():
    """Slurm, up for this file's tests. Where it cannot be brought up the tests fail and say why. Nothing of it stays."""
    before = daemons()
    try:
        one_machine.up()
    except SystemExit as error:
        pytest.fail(str(error))
    yield
    one_machine.down()
    assert daemons() <= before
    assert not [place for place in (one_machine.CONFIG, one_machine.GRES, one_machine.HOME) if place.exists()]


def daemons():
    """Processes of Slurm and munge."""
    listed = subprocess.run(["ps", "-eo", "pid,comm"], capture_output=True, text=True).stdout
    return {line for line in listed.splitlines() if line.split()[1].startswith(("slurm", "munge"))}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone with what is changed here but not committed yet."""
    folder = tmp_path_factory.mktemp("cluster") / "study"
    smallest.clone(folder)
    return folder


def environment():
    return {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": str(BIN.parent)}


def command(*targets, config=("study=mini",), flags=()):
    return ["snakemake", "--profile", "slurm", *targets, "--config", *config, *one_machine.SITE, *flags]


def ask(folder, *targets, **options):
    """`snakemake --profile slurm` to its end; what it printed."""
    asked = command(*targets, **options)
    ended = subprocess.run(asked, cwd=folder, env=environment(), capture_output=True, text=True, timeout=2400)
    text = ended.stdout + ended.stderr
    assert ended.returncode == 0, text[-6000:]
    return text


@pytest.fixture(scope="module")
def study(cluster, clone):
    """The clone after the mini study has run on the cluster once, with what Snakemake printed."""
    return clone, ask(clone, "all")


def rates(folder):
    with open(folder / "results" / "tnllt_table.csv", newline="") as handle:
        return {row["tracker"]: (row["SR"], row["PR"], row["NPR"]) for row in csv.DictReader(handle)}


def test_the_whole_mini_study_runs_through_the_queue(study):
    folder, text = study
    assert {"static", "kcf", "csrt", "dutrack", "reasoningtrack"} <= set(rates(folder))
    jobs = set(re.findall(r"SLURM jobid (\d+)", text))
    assert len(jobs) > 40
    states = subprocess.run(["squeue", "-h", "-t", "all", "-o", "%T"], capture_output=True, text=True).stdout.split()
    assert states.count("COMPLETED") >= len(jobs)


def test_cpu_stages_stay_off_the_gpu_partition(study):
    shown = subprocess.run(["squeue", "-h", "-t", "all", "-o", "%P %k"], capture_output=True, text=True).stdout
    gpu = {"train_sft", "evaluate_sft", "train_grpo", "check_merge", "check_server", "train_tracker", "run_tracker"}
    gpu |= {"build_pairs", "probe_language"}  # the former asks a tracker in the full study
    placed = {tuple(line.split(maxsplit=1)) for line in shown.splitlines() if len(line.split()) > 1}
    assert placed
    for partition, comment in placed:
        rule = re.match(r"(?:rule_)?([a-z_]+?)(?:_wildcards.*)?$", comment).group(1)
        assert (partition == "gpu") == (rule in gpu), (partition, comment)


def test_asking_again_sends_no_job_and_warns_of_nothing(study):
    text = ask(study[0], "all")
    assert "Nothing to be done" in text
    assert "warning" not in text.lower(), text


def begun(folder, sealed=2):
    """Snakemake asked for CSRT's shard again, as soon as its job has sealed some sequences."""
    shard = folder / "results" / "mini" / "track" / "shards" / "tnllt" / "csrt"
    shutil.rmtree(shard)
    asked = command("results/mini/track/shards/tnllt/csrt/0", "all")
    child = subprocess.Popen(
        asked,
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    end = time.monotonic() + 300
    while len(list((shard / ".0.unfinished").glob("*.time.txt"))) < sealed:
        assert time.monotonic() < end and child.poll() is None
        time.sleep(0.05)
    return child


def working(folder, named=""):
    """Processes that work in the clone, by their working directory, and have `named` in their command line."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if (place / "cwd").readlink().is_relative_to(folder) and named.encode() in (place / "cmdline").read_bytes():
                yield int(place.name)
        except OSError:  # it ended
            continue


def queued(state):
    return subprocess.run(["squeue", "-h", "-t", state, "-o", "%i"], capture_output=True, text=True).stdout.split()


def test_a_cancelled_job_is_sent_again_and_the_table_is_the_same(study):
    folder, _ = study
    before = rates(folder)
    child = begun(folder)
    running = queued("running")
    assert running
    subprocess.run(["scancel", *running], check=True)
    text = child.communicate(timeout=600)[0]
    assert child.returncode == 0, text[-4000:]
    assert "sealed already" in (folder / "logs/mini/run_tracker/tnllt/csrt/0.log").read_text()
    assert rates(folder) == before


def test_a_killed_runs_jobs_are_cancelled_by_the_next_which_goes_on_where_they_were(study):
    folder, _ = study
    before = rates(folder)
    child = begun(folder)
    for pid in working(folder, "workflow_scripts.track.run"):  # a job that would not end in time by itself
        os.kill(pid, signal.SIGSTOP)
    child.kill()
    child.wait()
    left = queued("running")
    assert left
    text = ask(folder, "results/mini/track/shards/tnllt/csrt/0", "all")
    assert f"process {child.pid}" in text and "was killed; its lock went with it" in text
    assert f"cancelled what a killed run had left in the queue: {left[0]}" in text
    assert "sealed already" in (folder / "logs/mini/run_tracker/tnllt/csrt/0.log").read_text()
    assert rates(folder) == before


def test_a_drained_node_is_worked_around(study):
    folder, _ = study
    before = rates(folder)
    subprocess.run(["scontrol", "update", "nodename=n1", "state=drain", "reason=test"], check=True)
    try:
        ask(folder, "all", flags=("--forcerun", "score_trackers"))
    finally:
        subprocess.run(["scontrol", "update", "nodename=n1", "state=resume"], check=True)
    assert rates(folder) == before


def test_every_gpu_job_has_its_own_device_and_several_come_from_one_node(cluster, tmp_path):
    """Two jobs of one device and one of two, on two nodes of two; the lease of a workstation leaves Slurm's choice alone."""
    (tmp_path / "Snakefile").write_text(
        "rule all:\n    input: expand('{n}.txt', n=range(3))\n"
        "rule one:\n    output: '{n}.txt'\n    resources: gpu=lambda w: 2 if w.n == '2' else 1, runtime=5, mem_mb=100\n"
        '    shell: \'python -c "from workflow_scripts import gpus; gpus.lease(1)" && '
        "echo $SLURM_JOB_NODELIST $CUDA_VISIBLE_DEVICES > {output} && sleep 15'\n"
    )
    shutil.copytree(ROOT / "slurm", tmp_path / "slurm")
    place = {**environment(), "PYTHONPATH": str(ROOT)}
    asked = [*command("all"), "--set-resources", "one:slurm_partition=gpu", "--jobs", "3"]
    ended = subprocess.run(asked, cwd=tmp_path, env=place, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-3000:]
    one, other, two = ((tmp_path / f"{n}.txt").read_text().split() for n in range(3))
    assert one != other and {one[0], other[0]} <= {"n1", "n2"} and {one[1], other[1]} <= {"0", "1"}
    assert two[0] in ("n1", "n2") and two[1] == "0,1"


def test_preflight_says_in_seconds_what_this_cluster_lacks_for_the_full_study(study):
    ended = subprocess.run(
        [sys.executable, "-m", "workflow_scripts.preflight"],
        cwd=study[0],
        env=environment() | {"COLUMNS": "300"},
        capture_output=True,
        text=True,
    )
    said = " ".join(ended.stdout.replace("│", " ").split())
    assert ended.returncode == 1 and "are missing" in ended.stderr
    assert "slurm-status-command: squeue" in said  # there is no accounting
    assert "jobs ask for 4 GPUs of one node and its nodes have 2" in said
    assert "ok a node of cpu sees the project" in said
    assert "nvidia-smi finds no GPU or driver" in said  # the devices are null devices


def test_nothing_of_the_study_is_left_running(study):
    folder, _ = study
    assert not queued("running,pending")
    time.sleep(1)
    assert not list(working(folder))
