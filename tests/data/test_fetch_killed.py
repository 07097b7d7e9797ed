"""kill -9 at random moments of a fetch, then the same command again: the same bytes, and none fetched twice beyond a chunk."""

import hashlib
import os
import random
import subprocess
import sys
import time

import pytest
from faulty_server import Server

from workflow_scripts.data import transfer

BODY = random.Random(1).randbytes(5_000_000)
MD5 = hashlib.md5(BODY).hexdigest()
MOMENTS = 10


def killed_fetch(command: list[str], server: Server, goal: int) -> None:
    """Start the command and kill it when the server has sent `goal` bytes more."""
    before = server.sent
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while child.poll() is None and server.sent - before < goal and time.monotonic() < deadline:
        time.sleep(0.002)
    child.kill()
    child.wait()


@pytest.mark.parametrize("versioned", [True, False], ids=["with-etag", "hash-alone"])
def test_a_fetch_killed_at_random_moments_ends_with_the_same_bytes_and_fetches_none_twice(server, tmp_path, versioned):
    server.body, server.versioned, server.pause = BODY, versioned, 0.01  # 6 MB/s: a busy machine keeps up
    target = tmp_path / "f"
    command = [sys.executable, "-m", "workflow_scripts.data.fetch", "--url", server.url(), "--md5", MD5]
    command += ["--output", str(target)]
    moments, kills = random.Random(2 + versioned), 0
    for _ in range(MOMENTS // 2):
        killed_fetch(command, server, moments.randrange(0, len(BODY) // 4))
        kills += not target.exists()
        assert not target.exists() or target.read_bytes() == BODY
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert target.read_bytes() == BODY and os.listdir(tmp_path) == ["f"]
    assert kills >= 3
    # what was on its way when the process died is all that may come twice
    assert server.sent <= len(BODY) + kills * transfer.CHUNK
    starts = [request.start for request in server.requests]
    assert starts == sorted(starts) and starts[-1] > 0
