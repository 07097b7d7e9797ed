"""The client: what it sends, which answers it takes, what it remembers."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import questions, settings, stub

from workflow_scripts import asking, images
from workflow_scripts.console import BadInput
from workflow_scripts.serve.client import Client


def recorded(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_answers_come_in_the_order_of_the_questions_with_many_in_flight(tmp_path: Path) -> None:
    parameters = settings(questions={"in_flight": 8})
    record = tmp_path / "record"
    flags = ("--record", str(record), "--seconds", "0.1")
    with stub(parameters, tmp_path / "log", *flags) as endpoint, Client(endpoint, parameters) as client:
        asked = questions(24)
        answers = client.ask(asked)
    assert [a.sentence for a in answers] == [f"{text} again" for _, _, text in asked]
    assert max(line["flying"] for line in recorded(record)) == 8
    assert (client.calls, client.retries, client.fall_backs) == (24, 0, 0)


def test_every_sampling_parameter_is_sent_and_images_follow_the_pixel_rule(tmp_path: Path) -> None:
    parameters = settings(sampling={"max_tokens": 48, "seed": 5})
    record = tmp_path / "record"
    with stub(parameters, tmp_path / "log", "--record", str(record)) as endpoint, Client(endpoint, parameters) as client:
        asked = questions(1)
        client.ask(asked)
    body = recorded(record)[0]["body"]
    assert (body["temperature"], body["top_p"], body["seed"], body["max_tokens"]) == (0.0, 1.0, 5, 48)
    # and those that an engine would else take from the model's generation_config.json
    neutral = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
    assert neutral.items() <= body.items()
    kinds = [part["type"] for part in body["messages"][-1]["content"]]
    assert kinds == ["image_url", "image_url", "text"]
    assert body["messages"][-1]["content"][2]["text"] == asked[0][2]
    for part, frame in zip(body["messages"][-1]["content"], asked[0][:2], strict=False):
        data = base64.b64decode(part["image_url"]["url"].split(",", 1)[1])
        sent = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        assert np.array_equal(sent, images.fit_pixels(frame, 3136, 4704))


def test_a_question_may_bring_its_own_prompt_and_its_own_form(tmp_path: Path) -> None:
    parameters = settings(questions={"malformed_retries": 1, "fall_back_limit": 1.0})
    record = tmp_path / "record"
    pictures = questions(1)[0][:2]
    asked = [asking.Question(pictures, {"box": "[1,2,3,4]"}, usable, "r1track") for usable in (lambda _: False, bool)]
    with stub(parameters, tmp_path / "log", "--record", str(record)) as endpoint, Client(endpoint, parameters) as client:
        replies = [client.complete([question])[0] for question in asked]
    assert [r.usable for r in replies] == [False, True] and all(r.text for r in replies)
    assert [r["body"]["messages"][-1]["content"][-1]["text"].count("[1,2,3,4]") for r in recorded(record)] == [1, 1, 1]
    assert (client.calls, client.retries, client.fall_backs) == (2, 1, 1)


def test_server_errors_are_sent_again_and_counted_apart_from_content(tmp_path: Path) -> None:
    parameters = settings()
    with stub(parameters, tmp_path / "log", "--errors", "5") as endpoint, Client(endpoint, parameters) as client:
        assert all(a.well_formed for a in client.ask(questions(8)))
    assert (client.retries, client.transport_retries, client.fall_backs) == (5, 5, 0)


def test_an_answer_that_the_server_broke_off_is_not_taken_for_one(tmp_path: Path) -> None:
    """A server that ends answers what is in flight with status 200 and half a text."""
    parameters, trace = settings(), tmp_path / "trace.jsonl"
    with stub(parameters, tmp_path / "log", "--aborts", "3") as endpoint, Client(endpoint, parameters, trace) as client:
        assert all(a.well_formed for a in client.ask(questions(6)))
    assert (client.retries, client.transport_retries, client.fall_backs) == (3, 3, 0)
    assert all(line["text"].endswith("</answer>") for line in recorded(trace))


def test_a_server_that_keeps_failing_fails_the_job_with_its_last_words(tmp_path: Path) -> None:
    parameters = settings(questions={"transport_retries": 2})
    with (
        stub(parameters, tmp_path / "log", "--errors", "99") as endpoint,
        pytest.raises(BadInput, match=r"3 times.*EngineCore"),
    ):
        Client(endpoint, parameters).ask(questions(1))


def test_a_refused_question_is_not_sent_again(tmp_path: Path) -> None:
    parameters = settings()
    with stub(parameters, tmp_path / "log", "--refuse") as endpoint, pytest.raises(BadInput, match=r"refuses.*maximum context"):
        Client(endpoint, parameters).ask(questions(1))


def test_an_answer_without_form_is_asked_again_with_another_seed_and_counted(tmp_path: Path) -> None:
    parameters, record, trace = settings(), tmp_path / "record", tmp_path / "trace.jsonl"
    flags = ("--malformed", "greedy", "--record", str(record))
    with stub(parameters, tmp_path / "log", *flags) as endpoint, Client(endpoint, parameters, trace) as client:
        assert client.ask(questions(1))[0].well_formed
    assert (client.calls, client.retries, client.fall_backs) == (1, 1, 0)
    first, second = (line["body"] for line in recorded(record))
    assert second["temperature"] > 0 and second["seed"] == first["seed"] + 1
    line = recorded(trace)[0]
    assert (line["retries"], line["fall_back"], line["decision"], line["tokens"]) == (1, False, "yes", 33)
    assert line["think"].startswith("seen ") and line["milliseconds"] > 0


@pytest.mark.parametrize("fault", [("--malformed", "all"), ("--cut",)])
def test_unusable_answers_over_the_limit_fail_the_job_and_are_never_made_up(tmp_path: Path, fault: tuple[str, ...]) -> None:
    parameters = settings(questions={"fall_back_limit": 0.5})
    with stub(parameters, tmp_path / "log", *fault) as endpoint:
        client = Client(endpoint, parameters)
        answers = client.ask(questions(3))
        assert [(a.well_formed, a.decision, a.sentence) for a in answers] == [(False, None, None)] * 3
        assert client.fall_backs == 3
        with pytest.raises(BadInput, match="3 of 3 answers have not the form"):
            client.close()


def test_a_rerun_asks_only_what_is_missing(tmp_path: Path) -> None:
    parameters, trace = settings(), tmp_path / "trace.jsonl"
    asked = questions(6)
    with stub(parameters, tmp_path / "log") as endpoint:
        with Client(endpoint, parameters, trace) as client:
            before = client.ask(asked[:4])
        with trace.open("a") as handle:
            handle.write('{"request": "cut off by a ki')
        with Client(endpoint, parameters, trace) as client:
            after = client.ask(asked)
            assert (client.calls, client.cached) == (2, 4)
        assert after[:4] == before
        with Client(endpoint, parameters, trace) as client:
            assert client.ask(asked) == after
            assert (client.calls, client.cached) == (0, 6)
        endpoint.identity = "model-2"
        with Client(endpoint, parameters, trace) as client:
            client.ask(asked)
            assert client.calls == 6  # another model's answers are not this one's


def test_unusable_answers_are_asked_for_again_by_a_rerun(tmp_path: Path) -> None:
    parameters, trace = settings(questions={"fall_back_limit": 1.0}), tmp_path / "trace.jsonl"
    with stub(parameters, tmp_path / "log", "--malformed", "all") as endpoint, Client(endpoint, parameters, trace) as client:
        client.ask(questions(2))
    with stub(parameters, tmp_path / "log") as endpoint, Client(endpoint, parameters, trace) as client:
        assert all(a.well_formed for a in client.ask(questions(2)))
        assert client.calls == 2


@pytest.mark.parametrize("changed", ["image", "sentence", "sampling", "pixels"])
def test_the_key_of_an_answer_covers_everything_that_decides_it(tmp_path: Path, changed: str) -> None:
    cache = tmp_path / "cache.jsonl"
    (first, second, text), parameters = questions(1)[0], settings()
    with stub(parameters, tmp_path / "log") as endpoint:
        with Client(endpoint, parameters, cache=cache) as client:
            client.ask([(first, second, text)])
        if changed == "image":
            second = second.copy()
            second[:30] = 255 - second[:30]
        elif changed == "sentence":
            text += "."
        elif changed == "sampling":
            parameters = settings(sampling={"max_tokens": 65})
        else:
            parameters = settings(pixels={"max_pixels": 3136})
        with Client(endpoint, parameters, cache=cache) as client:
            client.ask([(first, second, text)])
            assert (client.calls, client.cached) == (1, 0)
