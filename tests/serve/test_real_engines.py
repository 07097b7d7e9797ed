"""Real engines on a real, tiny, untrained Qwen2.5-VL: its answers are nonsense, but they are its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import questions, settings

from workflow_scripts import manifest
from workflow_scripts.params.serve import Serve
from workflow_scripts.serve import processes
from workflow_scripts.serve.client import Client
from workflow_scripts.serve.server import serving


def untrained(**changes: object) -> Serve:
    relaxed = {"questions": {"malformed_retries": 0, "fall_back_limit": 1.0, "timeout": 60.0}, "sampling": {"max_tokens": 24}}
    return settings(**{**relaxed, "life": {"probe": "answers", "start_seconds": 240.0, "stop_seconds": 10.0}, **changes})


def test_transformers_answers_alike_one_by_one_and_in_batches_and_the_check_command_leaves_nothing(
    model: Path, tmp_path: Path
) -> None:
    parameters = untrained(engine="transformers")
    asked = questions(12)
    with serving(parameters, model, tmp_path / "log") as endpoint:
        assert endpoint.identity == manifest.summary(model)["sha256"]
        with Client(endpoint, parameters) as client:
            together = client.ask(asked)
        one = parameters.model_copy(update={"questions": parameters.questions.model_copy(update={"in_flight": 1})})
        with Client(endpoint, one) as client:
            alone = client.ask(asked)
        assert [a.text for a in together] == [a.text for a in alone]
        assert len({a.text for a in together}) > 1  # it looks at what it is asked
        with Client(endpoint, parameters.model_copy(update={"name": "other"})) as client:
            with pytest.raises(Exception, match="does not exist"):
                client.ask(asked[:1])
            client.fall_backs = 0
    assert processes.of_session(endpoint.session) == []


@pytest.mark.slow_server
def test_vllm_starts_answers_a_pair_and_leaves_nothing(model: Path, tmp_path: Path) -> None:
    parameters = untrained(engine="vllm", name="reasoningtrack")
    out = tmp_path / "serve"
    command = [sys.executable, "-m", "workflow_scripts.serve.check", "--model", str(model)]
    command += ["--model-manifest", str(model.with_suffix(".json")), "--parameters", parameters.model_dump_json()]
    command += ["--pair", str(out / "pair"), "--output", str(out / "check.json"), "--server-log", str(tmp_path / "log")]
    done = subprocess.run([*command, "--manifest", str(out / "pair.json")], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    check = json.loads((out / "check.json").read_text())
    assert check["processes"] >= 3 and check["resident_mb"] < 6000
    manifest.verify(out / "pair.json")
    assert (out / "pair" / "answer.json").exists()
