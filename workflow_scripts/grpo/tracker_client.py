"""The reward's side of the tracker service: asks it, waits for it. Knows nothing of trackers, so that rewards stay light."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from workflow_scripts import in_env, runs
from workflow_scripts.console import BadInput

if TYPE_CHECKING:
    from workflow_scripts.grpo.rewards import Question

ANSWER_SECONDS, START_SECONDS, STOP_SECONDS = 900.0, 600.0, 60.0


class Client:
    """Asks the service; a failed request gives None for every question, never a number."""

    def __init__(self, url: str, timeout: float = ANSWER_SECONDS) -> None:
        self.url, self.timeout = url.rstrip("/"), timeout

    def __call__(self, questions: Sequence[Question]) -> list[float | None]:
        body = {"questions": [{"frames": q.frames, "boxes": q.boxes, "sentence": q.sentence} for q in questions]}
        request = urllib.request.Request(f"{self.url}/iou", json.dumps(body).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                ious = json.loads(response.read())["ious"]
        except (urllib.error.URLError, TimeoutError, ConnectionError, ValueError, KeyError) as error:
            print(f"the reward's tracker at {self.url} did not answer: {error}", flush=True)
            return [None] * len(questions)
        return [None if iou is None else float(iou) for iou in ious]

    def wait_until_ready(self, process: subprocess.Popen, log: Path | None, seconds: float = START_SECONDS) -> None:
        """Return when the service answers. BadInput if its process ends before, or it takes too long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise BadInput(
                    f"the reward's tracker ended with status {process.returncode}: read {log or 'what it says above'}."
                )
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return
            except (urllib.error.URLError, TimeoutError, ConnectionError):
                time.sleep(0.5)
        raise BadInput(f"the reward's tracker was not ready after {seconds:.0f} s: read {log or 'what it says above'}.")


@contextlib.contextmanager
def running(
    network: str, weights: Path | str | None, log: Path | None = None, port: int = 0, device: str = "cuda"
) -> Iterator[Client]:
    """The service as a process of its own, in its own environment, until the block ends; port 0: a free one.

    It writes to the end of `log`, or to where this process does.
    """
    if not port:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
    arguments = [sys.executable, "-m", "workflow_scripts.in_env", environment_name(), "--"]
    arguments += ["python", "-m", "workflow_scripts.grpo.reward_service", "--network", network]
    arguments += ["--port", str(port), "--device", device, *(["--weights", str(weights)] if weights else [])]
    with log.open("a") if log else contextlib.nullcontext() as handle:
        process = subprocess.Popen(
            arguments,
            stdout=handle,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=partial(runs.die_with_parent, signal.SIGTERM),
        )
        try:
            client = Client(f"http://127.0.0.1:{port}")
            client.wait_until_ready(process, log)
            yield client
        finally:
            stop(process)


def stop(process: subprocess.Popen) -> None:
    """End a process group: asked first, killed after a minute."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
            return


def environment_name() -> str:
    """The track environment that fits this machine's: with CUDA where this process runs in a GPU environment."""
    name = "track-gpu" if "-gpu-" in os.environ.get("TRACKGRAPH_ENV", "") else "track"
    return name if (in_env.LOCKS / f"{name}.lock").is_file() else "track"
