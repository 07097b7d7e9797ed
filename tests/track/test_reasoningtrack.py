"""ReasoningTrack asks when the paper's rule says so, shows what it says, and does with the answer what it says."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_scripts.asking import Question, Reply
from workflow_scripts.console import BadInput
from workflow_scripts.track.trackers.base import Output
from workflow_scripts.track.trackers.reasoningtrack import ReasoningTracker, Rule, must_ask

WIDTH, HEIGHT = 320, 240
FIRST = "the red circle"


@dataclass(frozen=True)
class Still:
    frame: int
    box: np.ndarray
    sentence: str


class Scripted:
    """Stands for DUTrack: frame i's box is what the script says."""

    lockstep = True

    def __init__(self, boxes: Sequence[Sequence[float]]) -> None:
        self.boxes = [np.array(b, np.float64) for b in boxes]

    def start(self, frames, boxes, sentences):
        return [Still(0, self.boxes[0], s) for s in sentences]

    def step(self, states, frames):
        new = [replace(s, frame=s.frame + 1, box=self.boxes[s.frame + 1]) for s in states]
        return new, [Output(s.box, 1.0, s.sentence) for s in new]


def frame(i: int) -> np.ndarray:
    """A frame that tells its number."""
    return np.full((HEIGHT, WIDTH, 3), i, np.uint8)


def yes(sentence: str) -> str:
    return f"<think>t</think><d>yes</d><answer>{sentence}</answer>"


NO = "<think>t</think><d>no</d><answer>the green star</answer>"


def run(boxes, answers, rule=Rule(), sequences=1):  # noqa: B008 - frozen
    """Sentences by frame, questions (a list a call) and notes of a run whose answers are given in order."""
    calls: list[list[Question]] = []
    answers = iter(answers)

    def ask(questions):
        calls.append(questions)
        return [next(answers) for _ in questions]

    tracker = ReasoningTracker(Scripted(boxes), ask, rule=rule)
    states = tracker.start([frame(0)] * sequences, [np.array(boxes[0])] * sequences, [FIRST] * sequences)
    sentences, notes = [], []
    for i in range(1, len(boxes)):
        states, outputs = tracker.step(states, [frame(i)] * sequences)
        sentences.append(outputs[0].sentence)
        notes += [o.note for o in outputs if o.note]
    return sentences, calls, notes


def moving(frames: int, step: float = 1.0) -> list[list[float]]:
    return [[20 + step * i, 30, 40, 40] for i in range(frames)]


def test_a_still_target_raises_no_question() -> None:
    _, calls, _ = run([[20, 30, 40, 40]] * 45, [])
    assert calls == []


def test_the_question_comes_before_the_frame_after_every_tenth() -> None:
    sentences, calls, notes = run(moving(35), [yes("a"), yes("b"), yes("c")])
    assert [n["frame"] for n in notes] == [11, 21, 31]
    assert sentences == [FIRST] * 10 + ["a"] * 10 + ["b"] * 10 + ["c"] * 4
    assert len(calls) == 3


def test_movement_is_counted_from_the_last_question() -> None:
    # 0.4 pixels a frame: 4 after ten frames, 8 after twenty; the gate is 240/32 = 7.5
    _, _, notes = run(moving(45, 0.4), [NO] * 9)
    assert [n["frame"] for n in notes] == [21, 41]


def test_a_change_between_looks_that_has_gone_again_is_not_asked_about() -> None:
    boxes = [[20, 30, 40, 40]] * 5 + [[120, 30, 40, 40]] * 4 + [[20, 30, 40, 40]] * 10
    assert run(boxes, [])[1] == []


@pytest.mark.parametrize(
    ("now", "asked"),
    [
        ([20, 30, 40, 38.01], False),
        ([20, 30, 40, 37.9], True),
        ([20, 30, 40, 42.0], False),
        ([20, 30, 40, 42.2], True),
        ([27.4, 30, 40, 40], False),
        ([27.6, 30, 40, 40], True),
        ([20, 22.4, 40, 40], True),
        ([25.4, 35.4, 40, 40], True),
    ],
)
def test_the_gates_are_area_and_top_left_shift(now: list[float], asked: bool) -> None:
    assert must_ask(np.array([20.0, 30, 40, 40]), np.array(now), WIDTH, HEIGHT, Rule()) == asked


sides = st.floats(10, 200)


@given(sides, sides, sides, sides)
def test_the_area_gate_does_not_care_which_box_is_first(a: float, b: float, c: float, d: float) -> None:
    first, second = np.array([0, 0, a, b]), np.array([0, 0, c, d])
    assert must_ask(first, second, WIDTH, HEIGHT, Rule()) == must_ask(second, first, WIDTH, HEIGHT, Rule())


def test_no_brings_the_first_sentence_back() -> None:
    sentences, _, notes = run(moving(35), [yes("the blue star"), NO, yes("the blue star")])
    assert sentences[10:20] == ["the blue star"] * 10
    assert sentences[20:30] == [FIRST] * 10
    assert [n["decision"] for n in notes] == ["yes", "no", "yes"]


def test_yes_without_an_answer_keeps_the_first_sentence() -> None:
    sentences, _, _ = run(moving(25), [yes("tracking the object"), yes("the blue star")])
    assert sentences[10:20] == [FIRST] * 10
    assert sentences[20:] == ["the blue star"] * 4


def test_a_malformed_answer_counts_as_no_and_as_a_fall_back() -> None:
    sentences, _, notes = run(moving(35), [yes("a"), "I think <d>yes</d><answer>b</answer>", Reply(yes("c"))])
    assert sentences[20:30] == [FIRST] * 10
    assert [n["fall_back"] for n in notes] == [False, True, False]
    assert sentences[-1] == "c"


def test_the_model_is_always_asked_about_the_first_sentence() -> None:
    _, calls, _ = run(moving(35), [yes("a"), yes("b"), NO])
    assert [call[0].fields["sentence"] for call in calls] == [FIRST] * 3


def test_our_form_shows_the_coming_frame_and_the_frame_of_the_last_yes() -> None:
    _, calls, notes = run(moving(45), [yes("a"), NO, yes("b"), NO])
    assert [tuple(image[0, 0, 0] for image in c[0].images) for c in calls] == [(0, 11), (11, 21), (11, 31), (31, 41)]
    assert [(n["reference"], n["current"]) for n in notes] == [(0, 11), (11, 21), (11, 31), (31, 41)]


def test_the_papers_form_shows_the_frame_before_and_always_the_first_frame() -> None:
    _, calls, notes = run(moving(35), [yes("a"), NO, yes("b")], Rule(reproduce_paper=True))
    assert [tuple(image[0, 0, 0] for image in c[0].images) for c in calls] == [(0, 10), (0, 20), (0, 30)]
    assert [(n["reference"], n["current"]) for n in notes] == [(0, 10), (0, 20), (0, 30)]


def test_the_papers_form_reads_each_tag_alone() -> None:
    answers = ["blah <d>yes</d> blah <answer>a</answer>", "<d>yes</d>", "<d> yes</d><answer>b</answer>"]
    sentences, _, _ = run(moving(35), answers, Rule(reproduce_paper=True))
    assert sentences[10:20] == ["a"] * 10
    assert sentences[20:] == [FIRST] * 14


def test_all_sequences_of_a_batch_are_asked_in_one_call() -> None:
    _, calls, notes = run(moving(15), [yes("a"), NO, yes("c")], sequences=3)
    assert [len(call) for call in calls] == [3]
    assert [n["sentence"] for n in notes] == ["a", FIRST, "c"]


def test_a_plain_describer_is_asked_by_the_same_rule() -> None:
    seen = []

    def describer(frames, sentences):
        seen.append((frames[0][0, 0, 0], sentences[0]))
        return [f"caption {frames[0][0, 0, 0]}"]

    tracker = ReasoningTracker(Scripted(moving(25)), describer=describer)
    states = tracker.start([frame(0)], [np.array([20, 30, 40, 40])], [FIRST])
    for i in range(1, 25):
        states, outputs = tracker.step(states, [frame(i)])
    assert seen == [(11, FIRST), (21, "caption 11")]
    assert outputs[0].sentence == "caption 21"


def test_crops_are_centred_on_the_target_and_have_the_size_asked_for() -> None:
    rule = Rule(view="crop", view_factor=2.0, view_size=56)
    _, calls, _ = run(moving(15), [NO], rule)
    assert [image.shape for image in calls[0][0].images] == [(56, 56, 3)] * 2
    with pytest.raises(BadInput, match="view is frame or crop"):
        Rule(view="Crop")
