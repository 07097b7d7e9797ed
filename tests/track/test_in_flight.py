"""Questions in flight: nobody waits for another's answer, and when answers come changes no box."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import recipe
import torch

from workflow_scripts.asking import Question, Reply
from workflow_scripts.console import BadInput
from workflow_scripts.track import runner
from workflow_scripts.track.networks import dutrack as networks
from workflow_scripts.track.texts import Tokenizer, small_vocabulary
from workflow_scripts.track.trackers.base import ModelDescriber, Output, ask_all
from workflow_scripts.track.trackers.dutrack import DUTracker
from workflow_scripts.track.trackers.reasoningtrack import ReasoningTracker, Rule

pytestmark = pytest.mark.usefixtures("one_thread")


class Asking:
    """Moves by one pixel a frame and asks before every one; the sentence is the question."""

    lockstep = True

    def __init__(self, ask):
        self.ask = ask
        self.steps = []  # sentences of each step

    def start(self, frames, boxes, sentences):
        return [(np.asarray(b), s) for b, s in zip(boxes, sentences, strict=True)]

    def questions(self, states, frames):
        asked = zip(states, frames, strict=True)
        return [Question((frame,), {"sentence": sentence}, bool) for (_, sentence), frame in asked]

    def step(self, states, frames, answers=None):
        answers = ask_all(self, states, frames) if answers is None else answers
        self.steps.append([sentence for _, sentence in states])
        new = [(box + np.array([1.0, 0, 0, 0]), sentence) for box, sentence in states]
        noted = zip(new, answers, strict=True)
        return new, [Output(b, 0.5, s, {"asked": s, "text": a.text, "fall_back": not a.usable}) for (b, s), a in noted]


def sentences(questions):
    return [q.fields["sentence"] for q in questions]


def named(draw, *names: str, frames: int = 6):
    return [replace(draw(name, frames=frames), sentence=name) for name in names]


def test_a_slow_answer_holds_up_no_other_sequence(draw, tmp_path):
    others_are_done, was_set = threading.Event(), []

    def ask(questions):
        if sentences(questions) == ["slow"]:
            was_set.append(others_are_done.wait(20))
        return ["yes"] * len(questions)

    tracker = Asking(ask)
    step = tracker.step

    def counting(*arguments, **options):
        result = step(*arguments, **options)
        if sum(len([s for s in names if s != "slow"]) for names in tracker.steps) == 3 * 5:
            others_are_done.set()
        return result

    tracker.step = counting
    chosen = named(draw, "slow", "a", "b", "c")
    assert runner.run_sequences(tracker, chosen, tmp_path / "out", batch=2, in_flight=2) == {}
    # all steps of the others, also of those that had no place at first, were made before its first answer came
    assert was_set == [True] * 5
    assert all(runner.is_sealed(tmp_path / "out", s) for s in chosen)


def test_as_many_questions_fly_as_may(draw, tmp_path):
    """The first four wait for each other; after that nobody waits, and never are there more."""
    lock, full, flying = threading.Lock(), threading.Event(), []
    peak = 0

    def ask(questions):
        nonlocal peak
        with lock:
            flying.append(None)
            peak = max(peak, len(flying))
            if len(flying) == 4:
                full.set()
        assert full.wait(60)
        with lock:
            flying.pop()
        return ["yes"] * len(questions)

    chosen = named(draw, *"abcdefgh", frames=3)
    assert runner.run_sequences(Asking(ask), chosen, tmp_path / "out", batch=2, in_flight=4) == {}
    assert peak == 4


def test_an_answer_that_cannot_be_had_costs_its_sequence_only(draw, tmp_path):
    def ask(questions):
        if sentences(questions) == ["b"]:
            raise RuntimeError("no words for it")
        return [Reply("?", False)] * len(questions)

    chosen = named(draw, "a", "b", "c")
    failures = runner.run_sequences(Asking(ask), chosen, tmp_path / "out", batch=2)
    assert failures == {"b": "frame 1: RuntimeError: no words for it"}
    assert runner.summarise(tmp_path / "out", [chosen[0], chosen[2]])["fall_backs"] == 10


def test_a_server_that_is_gone_ends_the_run(draw, tmp_path):
    def ask(questions):
        raise runner.Fatal("the server is gone")

    with pytest.raises(BadInput, match="the server is gone"):
        runner.run_sequences(Asking(ask), named(draw, "a", "b"), tmp_path / "out")


@pytest.fixture(scope="module")
def small() -> DUTracker:
    network = networks.build(networks.VARIANTS["dutrack_small"])
    recipe.fill(network, "dutrack")
    with torch.no_grad():
        network.box_head.conv3_ctr.weight *= 3
    return DUTracker(network, Tokenizer(small_vocabulary()), rows=3)


def answer(question: Question) -> str:
    """A sentence that the pictures and the words of the question decide."""
    colour = small_vocabulary()[5 + int(sum(image.sum(dtype=np.int64) for image in question.images)) % 20]
    return f"<think>t</think><d>yes</d><answer>the {colour} thing</answer>"


def prompt_answer(questions):
    return [answer(q) for q in questions]


def late_answer(seed: int):
    """The same answers after random times."""
    random = np.random.default_rng(seed)

    def ask(questions):
        time.sleep(random.choice([0, 0.001, 0.01, 0.03]))
        return prompt_answer(questions)

    return ask


def sealed(folder: Path, chosen) -> list[bytes]:
    return [(folder / f"{s.name}{kind}").read_bytes() for s in chosen for kind in (".txt", ".trace.jsonl")]


def reasoning(tracker: DUTracker, ask) -> ReasoningTracker:
    return ReasoningTracker(tracker, ask, rule=Rule(every=2, area=1.0, shift=0.0))


def captioned(tracker: DUTracker, ask) -> DUTracker:
    describer = ModelDescriber(ask, lambda f, s: Question((f,), {"sentence": s}, bool), lambda reply, _: reply.text[-20:])
    return DUTracker(tracker.network, tracker.tokenizer, describer, rows=3)


@pytest.mark.parametrize("make", [reasoning, captioned])
def test_when_answers_come_changes_no_box(draw, tmp_path, small, make):
    chosen = [draw(f"s{n}", frames=7 + n % 2, seed=n) for n in range(6)]
    runs = {
        "prompt": (make(small, prompt_answer), chosen),
        "late": (make(small, late_answer(0)), chosen),
        "other company": (make(small, late_answer(1)), chosen[::-1]),
    }
    for name, (tracker, order) in runs.items():
        assert runner.run_sequences(tracker, order, tmp_path / name, batch=3, in_flight=2) == {}
    assert sealed(tmp_path / "prompt", chosen) == sealed(tmp_path / "late", chosen)
    assert sealed(tmp_path / "prompt", chosen) == sealed(tmp_path / "other company", chosen)
    assert runner.run_sequences(DUTracker(small.network, small.tokenizer, rows=3), chosen, tmp_path / "mute") == {}
    assert all(
        (tmp_path / "mute" / f"{s.name}.txt").read_bytes() != (tmp_path / "late" / f"{s.name}.txt").read_bytes() for s in chosen
    )


@pytest.mark.parametrize("make", [reasoning, captioned])
def test_a_step_that_asks_by_itself_gives_what_given_answers_give(small, make):
    tracker = make(small, prompt_answer)
    states = tracker.start([recipe.render(i)[0] for i in (0, 3)], [np.array(recipe.render(i)[1]) for i in (0, 3)], ["", "a"])
    asked = 0
    for step in range(1, 5):
        frames = [recipe.render(step)[0], recipe.render(step + 3)[0]]
        questions = tracker.questions(states, frames)
        asked += sum(q is not None for q in questions)
        given = [None if q is None else Reply(answer(q)) for q in questions]
        _, with_answers = tracker.step(states, frames, given)
        states, alone = tracker.step(states, frames)
        for one, other in zip(alone, with_answers, strict=True):
            assert (one.box == other.box).all() and one.sentence == other.sentence and one.note == other.note
    assert asked >= 2
