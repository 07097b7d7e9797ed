"""Devices on a workstation: a job's own, never shared, free again when the job dies, and Slurm's business under Slurm."""

import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

LEASE = "import os, sys, time; from workflow_scripts import gpus; gpus.lease(int(sys.argv[1])); "
NOW = "print(time.monotonic(), flush=True); "
SHOW = "print(os.environ.get('CUDA_VISIBLE_DEVICES', 'none'), flush=True); "


@pytest.fixture
def job(tmp_path):
    """Starts a process that leases GPUs of a machine with devices 0 and 1, prints what it got, and sleeps."""
    started = []

    def start(count=1, seconds=30.0, **environment):
        settings = {k: v for k, v in os.environ.items() if k not in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID")}
        settings |= {"TRACKGRAPH_GPUS": "0,1", "TMPDIR": str(tmp_path), **environment}
        command = [sys.executable, "-c", f"{LEASE}{SHOW}{NOW}time.sleep({seconds}); {NOW}", str(count)]
        started.append(subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_two_jobs_get_two_devices_and_a_third_waits_until_one_dies(job):
    first, second = job(), job()
    got = {first.stdout.readline().strip(), second.stdout.readline().strip()}
    assert got == {"0", "1"}
    third = job()
    assert "waiting for 1" in third.stderr.readline()
    assert third.poll() is None
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert third.stdout.readline().strip() in got


def test_no_device_is_ever_held_twice(job):
    """Eight short jobs on two devices; each says when it had its own."""
    spans = {"0": [], "1": []}
    for process in [job(seconds=0.2) for _ in range(8)]:
        device, begin, end = process.communicate(timeout=60)[0].split()
        spans[device].append((float(begin), float(end)))
    assert len(spans["0"]) + len(spans["1"]) == 8
    for held in map(sorted, spans.values()):
        assert all(end <= begin for (_, end), (begin, _) in pairwise(held))


def test_a_job_of_two_takes_both(job):
    assert sorted(job(count=2).stdout.readline().strip().split(",")) == ["0", "1"]


def test_a_child_that_outlives_its_job_keeps_the_device(job, tmp_path):
    code = f"{LEASE}import subprocess; subprocess.Popen(['sleep', '2'], close_fds=False); {SHOW}"
    settings = {k: v for k, v in os.environ.items() if k not in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID")}
    settings |= {"TRACKGRAPH_GPUS": "0", "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code, "1"], env=settings, stdout=subprocess.DEVNULL, check=True)
    other = job(TRACKGRAPH_GPUS="0")
    assert "waiting" in other.stderr.readline()
    assert other.stdout.readline().strip() == "0"


WORKFLOW = """
rule all:
    input: expand("{n}.txt", n=range(6))
rule one:
    output: "{n}.txt"
    resources: gpu=1
    retries: 1
    shell: "exec python job.py {wildcards.n} {output}"
"""
# the first job is killed while it holds its device, the first time
JOB = """
import os, signal, sys, time
from pathlib import Path
from workflow_scripts import gpus
gpus.lease(1)
begin = time.monotonic()
device = os.environ["CUDA_VISIBLE_DEVICES"]
if sys.argv[1] == "0" and not Path("killed").exists():
    Path("killed").write_text(f"{device} {begin} {time.monotonic()}")
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(0.3)
Path(sys.argv[2]).write_text(f"{device} {begin} {time.monotonic()}")
"""


def test_snakemakes_jobs_on_a_workstation_share_no_device_also_where_one_is_killed(tmp_path):
    """Six jobs that Snakemake would start four at a time, on two devices."""
    (tmp_path / "Snakefile").write_text(WORKFLOW)
    (tmp_path / "job.py").write_text(JOB)
    settings = {k: v for k, v in os.environ.items() if k not in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID")}
    settings |= {"TRACKGRAPH_GPUS": "0,1", "TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    settings["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["snakemake", "all", "--cores", "4", "--resources", "gpu=4", "--default-resources", f"tmpdir='{tmp_path}'"]
    ended = subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]
    spans = {"0": [], "1": []}
    for told in [*tmp_path.glob("?.txt"), tmp_path / "killed"]:
        device, begin, end = told.read_text().split()
        spans[device].append((float(begin), float(end)))
    assert len(spans["0"]) + len(spans["1"]) == 7 and all(spans.values())
    for held in map(sorted, spans.values()):
        assert all(end <= begin for (_, end), (begin, _) in pairwise(held))


@pytest.mark.parametrize("dealt", [{"SLURM_JOB_ID": "7"}, {"CUDA_VISIBLE_DEVICES": "5"}])
def test_devices_that_were_dealt_out_are_left_alone(job, tmp_path, dealt):
    assert job(**dealt).stdout.readline().strip() == dealt.get("CUDA_VISIBLE_DEVICES", "none")
    assert not list(tmp_path.iterdir())


def test_more_than_the_machine_has_is_refused(job):
    process = job(count=3)
    assert process.wait(30) == 1
    assert "needs 3 GPUs and the machine has 2" in process.stderr.read()
