"""One run in a folder, by a lock that dies with its process; jobs that die with their run."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workflow_scripts import runs

HOLD = "import time; from workflow_scripts import runs; print(*runs.begin(), 'held', flush=True); time.sleep({})"


def start(folder, seconds):
    command = [sys.executable, "-c", HOLD.format(seconds)]
    here = str(Path(__file__).parents[2])
    return subprocess.Popen(command, cwd=folder, env={**os.environ, "PYTHONPATH": here}, stdout=subprocess.PIPE, text=True)


def test_a_second_run_in_the_folder_is_refused_and_told_whom_to_wait_for(tmp_path):
    first = start(tmp_path, 30)
    assert first.stdout.readline().strip() == "held"
    second = start(tmp_path, 0)
    said = second.communicate(timeout=20)[0]
    assert f"another run of Snakemake (process {first.pid} on {socket.gethostname()})" in said and "wait until it ends" in said
    first.kill()
    first.wait()


def test_a_killed_run_leaves_no_lock_and_the_next_says_that_it_was_killed(tmp_path):
    first = start(tmp_path, 30)
    assert first.stdout.readline().strip() == "held"
    first.send_signal(signal.SIGKILL)
    first.wait()
    said = start(tmp_path, 0).communicate(timeout=20)[0].strip()
    assert f"the last run here (process {first.pid} on" in said and "was killed; its lock went with it" in said
    assert said.endswith("held")


def test_after_a_run_that_ended_there_is_nothing_to_say(tmp_path):
    assert start(tmp_path, 0).communicate(timeout=20)[0].strip() == "held"
    assert start(tmp_path, 0).communicate(timeout=20)[0].strip() == "held"


def test_a_file_system_without_locks_is_told_instead_of_run_on(tmp_path, monkeypatch):
    def refuse(handle, how):
        raise OSError(38, "Function not implemented")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fcntl, "flock", refuse)
    refused, _ = runs.begin()
    assert "cannot be locked (Function not implemented)" in refused and "mount it with `flock`" in refused


def queue(folder, monkeypatch, *rows):
    """A Slurm whose queue holds these jobs until they are cancelled: small scripts instead of its programs."""
    programs = folder / "programs"
    programs.mkdir()
    (folder / "rows").write_text("".join(f"{row}\n" for row in rows))
    for name, body in {
        "squeue": f"cat {folder}/rows",
        "scancel": f'for job in "$@"; do echo $job >> {folder}/cancelled; sed -i "/^$job|/d" {folder}/rows; done',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")


def test_jobs_that_a_killed_run_left_in_the_queue_are_cancelled_and_no_others(tmp_path, monkeypatch):
    here, there = tmp_path / "my | stüdy", tmp_path / "another"
    here.mkdir()
    rows = (f"1|rule_train_sft|{here}", f"2|rule_train_sft|{there}", f"3|(null)|{here}", f"4|rule_score_x|{here}/")
    queue(tmp_path, monkeypatch, *rows)
    monkeypatch.chdir(here)
    assert runs.cancel_orphans() == ["1", "4"]
    assert (tmp_path / "cancelled").read_text().split() == ["1", "4"]
    assert runs.cancel_orphans() == []


def test_jobs_that_do_not_end_are_named_instead_of_run_beside(tmp_path, monkeypatch):
    queue(tmp_path, monkeypatch, f"7|rule_train_sft|{tmp_path}")
    (tmp_path / "programs" / "scancel").write_text("#!/bin/sh\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "SLURM_SECONDS", 1)
    with pytest.raises(SystemExit, match="jobs 7 of a killed run do not end: cancel them"):
        runs.cancel_orphans()


def test_a_job_dies_with_the_process_that_started_it(tmp_path):
    here = str(Path(__file__).parents[2])
    job = "import os, time; from workflow_scripts import runs; runs.die_with_parent(); print(os.getpid(), flush=True); "
    job += "os.execvp('sleep', ['sleep', '60'])"
    starter = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {job!r}])"
    parent = subprocess.Popen(
        [sys.executable, "-c", starter], env={**os.environ, "PYTHONPATH": here}, stdout=subprocess.PIPE, text=True
    )
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    end = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()
