"""The server's life: ready means able to answer, death is noticed, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from threading import Timer

import httpx
import numpy as np
import pytest
from conftest import STUB, questions, servers, settings, stub

from workflow_scripts.console import BadInput
from workflow_scripts.serve import processes
from workflow_scripts.serve.client import Client
from workflow_scripts.serve.engines import Command
from workflow_scripts.serve.server import file_stamps, owned, serving


def test_a_server_is_ready_when_it_has_answered_and_gone_after_the_block(tmp_path: Path) -> None:
    with stub(settings(), tmp_path / "log") as endpoint:
        assert httpx.get(f"{endpoint.url}/health").status_code == 200
        assert processes.of_session(endpoint.session)
        assert 0 < endpoint.start_seconds < 20
    assert processes.of_session(endpoint.session) == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{endpoint.url}/health")


def test_a_server_that_never_gets_ready_is_stopped_and_the_sentence_names_its_log(tmp_path: Path) -> None:
    started = time.monotonic()
    with (
        pytest.raises(BadInput, match=r"was not ready after 1 s.*log says:\nthe stub starts"),
        stub(settings(life={"start_seconds": 1.0}), tmp_path / "log", "--unhealthy"),
    ):
        raise AssertionError("the block must not run")
    assert time.monotonic() - started < 6


def test_a_server_that_dies_before_it_is_ready_says_why_with_the_end_of_its_log(tmp_path: Path) -> None:
    with (
        pytest.raises(BadInput, match=r"ended with status 3 before it was ready(.|\n)*weights are of another model"),
        stub(settings(), tmp_path / "log", "--die-at-start"),
    ):
        pass


def test_a_healthy_server_that_cannot_answer_is_not_ready(tmp_path: Path) -> None:
    with (
        pytest.raises(BadInput, match=r"refused a question with two images \(404"),
        stub(settings(), tmp_path / "log", "--no-chat"),
    ):
        pass


def test_a_server_under_another_name_is_not_ready(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="serves other and not stub"), stub(settings(), tmp_path / "log", "--name", "other"):
        pass


@pytest.mark.parametrize("killed", ["server", "guard"])
def test_a_server_killed_ten_times_under_32_requests_is_started_again_and_every_answer_is_right(
    tmp_path: Path, killed: str
) -> None:
    """The moments are random with a seed: while requests wait, while answers go out, and while it starts again."""
    kills = 10
    parameters = settings(questions={"in_flight": 32}, life={"restarts": kills})
    moments, asked = np.random.default_rng(len(killed)), questions(64 * kills)
    left = 0
    with stub(parameters, tmp_path / "log", "--seconds", "0.05") as endpoint, Client(endpoint, parameters) as client:
        for life in range(kills):
            guard = endpoint.session
            victim = guard if killed == "guard" else next(p.pid for p in processes.of_session(guard) if p.pid != guard)
            Timer(moments.uniform(0.0, 0.15), os.kill, (victim, signal.SIGKILL)).start()
            part = asked[life * 64 : life * 64 + 64]
            answers = client.ask(part)
            assert [a.sentence for a in answers] == [f"{text} again" for _, _, text in part]
            deadline = time.monotonic() + 10
            while endpoint.restarts <= life and time.monotonic() < deadline:
                time.sleep(0.02)
            assert endpoint.restarts == life + 1
            endpoint.wait(10)
            left += len(processes.of_session(guard))
        assert left == 0  # of any life before
        assert client.calls == 64 * kills and client.fall_backs == 0
        assert client.transport_retries >= 32  # it was hit while it worked


def test_a_server_that_keeps_dying_fails_the_job_after_its_bound(tmp_path: Path) -> None:
    parameters = settings(life={"restarts": 2}, questions={"in_flight": 2})
    with stub(parameters, tmp_path / "log", "--die-after", "1") as endpoint:
        client = Client(endpoint, parameters)
        with pytest.raises(BadInput, match="after 2 restarts"):
            client.ask(questions(4))
        client.close(judge=False)
    assert endpoint.restarts == 2


def test_children_that_left_the_session_and_ignore_signals_are_ended_too(tmp_path: Path) -> None:
    with stub(settings(), tmp_path / "log", "--stubborn-child"):
        assert len(servers()) >= 3  # guard, server, child
    assert servers() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_when_the_caller_is_ended_by_a_signal(tmp_path: Path, number: int) -> None:
    program = f"""
        import signal, sys, time
        from pathlib import Path
        sys.path.insert(0, {str(STUB.parent)!r})
        from conftest import settings, stub
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
        with stub(settings(), Path({str(tmp_path / "log")!r}), "--stubborn-child"):
            print("ready", flush=True)
            time.sleep(60)
    """
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary files"), "PYTHONPATH": str(Path.cwd())}
    caller = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert caller.stdout and caller.stdout.readline() == b"ready\n"
    caller.send_signal(number)
    caller.wait(10)
    if number == signal.SIGTERM:
        assert caller.returncode == 128 + number
    deadline = time.monotonic() + 10
    while servers() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert servers() == []


def test_a_given_address_is_asked_and_never_stopped(tmp_path: Path) -> None:
    with stub(settings(), tmp_path / "log") as running:
        parameters = settings(engine="url", url=running.url + "/v1")
        with serving(parameters, Path("unused"), tmp_path / "unused") as endpoint, Client(endpoint, parameters) as client:
            assert client.ask(questions(1))[0].decision == "yes"
        assert httpx.get(f"{running.url}/health").status_code == 200


def test_an_address_where_nobody_listens_is_named_in_one_sentence(tmp_path: Path) -> None:
    parameters = settings(engine="url", url="http://127.0.0.1:9")
    with (
        pytest.raises(BadInput, match=r"server at http://127\.0\.0\.1:9 did not answer"),
        serving(parameters, tmp_path, tmp_path),
    ):
        pass


def test_a_server_is_not_started_again_on_a_model_that_has_changed(tmp_path: Path) -> None:
    parameters, starts = settings(questions={"in_flight": 2}), []

    def command(port: int) -> Command:
        starts.append(port)
        if len(starts) > 1:
            raise BadInput("the model was changed while it was served.")
        return Command([sys.executable, str(STUB), "--port", str(port), "--die-after", "1"])

    with owned(command, parameters, "model-1", tmp_path / "log") as endpoint:
        client = Client(endpoint, parameters)
        with pytest.raises(BadInput, match="changed while it was served"):
            client.ask(questions(2))
        client.close(judge=False)


def test_a_model_file_that_changes_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("weights")
    before = file_stamps(tmp_path)
    assert file_stamps(tmp_path) == before
    (tmp_path / "model.safetensors").write_text("other weights")
    assert file_stamps(tmp_path) != before
