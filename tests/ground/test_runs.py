"""One run in a folder, by a lock that dies with its process; jobs that die with their run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HOLD = "import time; from workflow_scripts import runs; print(runs.begin() or 'held', flush=True); time.sleep({})"


def start(folder, seconds):
    command = [sys.executable, "-c", HOLD.format(seconds)]
    here = str(Path(__file__).parents[2])
    return subprocess.Popen(command, cwd=folder, env={**os.environ, "PYTHONPATH": here}, stdout=subprocess.PIPE, text=True)


def test_a_second_run_in_the_folder_is_refused_and_told_whom_to_wait_for(tmp_path):
    first = start(tmp_path, 30)
    assert first.stdout.readline().strip() == "held"
    second = start(tmp_path, 0)
    assert f"process {first.pid}" in second.communicate(timeout=20)[0]
    first.kill()
    first.wait()


def test_a_killed_run_leaves_no_lock(tmp_path):
    first = start(tmp_path, 30)
    assert first.stdout.readline().strip() == "held"
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert start(tmp_path, 0).communicate(timeout=20)[0].strip() == "held"


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
