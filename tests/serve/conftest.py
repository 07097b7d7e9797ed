"""What the serve tests share: small parameters, the stub server, rendered questions, and an eye on the process table."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from workflow_scripts.params.serve import Serve
from workflow_scripts.serve import processes
from workflow_scripts.serve.engines import Command
from workflow_scripts.serve.server import Endpoint, owned

STUB = Path(__file__).parent / "stub_server.py"
MARK = f"TRACKGRAPH_TEST={os.getpid()}"  # inherited by every process that a test starts


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow_server: starts a real vLLM server (half a minute)")


def settings(**changes: object) -> Serve:
    """Parameters with short waits; `questions={...}` and so on replace single values."""
    value: dict = {
        "engine": "transformers",
        "name": "stub",
        "pixels": {"min_pixels": 3136, "max_pixels": 4704},
        "questions": {"timeout": 5.0, "backoff": 0.02, "in_flight": 8},
        "life": {"start_seconds": 20.0, "stop_seconds": 1.0, "restarts": 3},
    }
    for name, change in changes.items():
        value[name] = {**value.get(name, {}), **change} if isinstance(change, dict) else change
    return Serve.model_validate(value)


def stub(parameters: Serve, log: Path, *flags: str) -> AbstractContextManager[Endpoint]:
    """Own a stub server with these flags."""
    return owned(lambda port: Command([sys.executable, str(STUB), "--port", str(port), *flags]), parameters, "model-1", log)


def questions(count: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """Questions that all differ: random frames of 90x120 and numbered sentences."""
    generator = np.random.default_rng(seed)
    frames = generator.integers(0, 256, (count, 2, 90, 120, 3), dtype=np.uint8)
    return [(first, second, f"the target {seed}-{i}") for i, (first, second) in enumerate(frames)]


def servers() -> list[str]:
    """Living processes that were started, by whatever way, from this run of the tests."""
    found = []
    for process in processes.table():
        if process.state == "Z" or process.pid == os.getpid():
            continue
        try:
            if MARK in Path(f"/proc/{process.pid}/environ").read_text(errors="replace"):
                found.append(f"{process.name} ({process.pid})")
        except OSError:  # it has ended
            continue
    return found


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of the mini study's size, its manifest beside it."""
    folder = tmp_path_factory.mktemp("base") / "tiny model"
    command = [sys.executable, "-m", "workflow_scripts.in_env", "sft", "--", "python", "-m", "workflow_scripts.sft.base_model"]
    command += ["--output", str(folder), "--parameters", '{"tiny": {}}', "--manifest", str(folder.with_suffix(".json"))]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test leaves the process table and the temporary folder as they were."""
    scratch = tmp_path / "temporary files"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    monkeypatch.setenv(*MARK.split("="))
    yield
    assert servers() == []
    assert list(scratch.iterdir()) == []
