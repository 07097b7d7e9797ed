"""Rewards: published numbers, and what must never be paid."""

from __future__ import annotations

import importlib.util
import json
import threading

import numpy as np
import pytest

from workflow_scripts import images, pairs
from workflow_scripts.console import BadInput
from workflow_scripts.grpo import easyr1_reward, reward_service, rewards, tracker_client
from workflow_scripts.grpo.rewards import Truth, compute_score

BOX = Truth("", np.array([[0, 0, 10, 10], [100, 100, 100, 100]]), ("a.jpg", "b.jpg"))
# R1-Track's own function, recorded: answer -> overall, giou
NO_THINK = [
    ("[100,100,200,200]", 1.5, 1.0),
    ("[100,100,195,200]", 1.45, 0.95),
    ("[100,100,190,200]", 1.1, 0.9),
    ("[100,100,175,200]", 0.75, 0.75),
    ("[100,100,150,200]", 0.5, 0.5),
    ("[150,150,250,250]", -0.07936507936507936, -0.07936507936507936),
    ("[250,250,300,300]", -0.6875, -0.6875),
    ("[100,100,100,100]", 0.0, 0.0),
    ("[100,100,200]", -1.0, -1.0),
    ("no", -1.0, 0.0),
    ("[100.0, 100, 200, 200]", 1.5, 1.0),
    ("```json\n[100,100,200,200]\n```", -1.0, 0.0),
]
FULL = "<think>xxxxxxxxxx</think><answer>[100,100,200,200]</answer>"
THINK = [
    (FULL, 100, -1.0, 0.0, 0.0, 0.0),
    (FULL, 128, 1.55, 1.0, 1.0, 0.0),
    (FULL, 300, 1.55, 1.0, 1.0, 0.0),
    (FULL, 448, 1.55, 1.0, 1.0, 0.0),
    (FULL, 480, 1.5, 1.0, 1.0, -0.5),
    (FULL, 512, 1.45, 1.0, 1.0, -1.0),
    (FULL + " ", 300, -1.0, 0.0, 0.0, 0.0),
    ("<answer>[1,2,3,4]</answer>", 300, -1.0, 0.0, 0.0, 0.0),
    ("<think>xxxxxxxxxx</think><answer>a</answer>", 300, -1.0, 0.0, 0.0, 0.0),
]


def one(response: str, truth: Truth = BOX, length: int = 300, **options) -> dict[str, float]:
    inputs = [{"response": response, "response_length": length, "ground_truth": truth.dump()}]
    return compute_score(inputs, **options)[0]


def rendered() -> tuple[pairs.Pair, Truth]:
    """A pair whose target changed."""
    pair = next(p for p in pairs.samples(1, 50) if p.decision == "yes")
    attributes = {"before": vars(pair.before), "after": vars(pair.after)}
    return pair, Truth(pair.before.sentence, pair.boxes, ("a", "b"), attributes)


def said(decision: str, sentence: str = "the red bus") -> str:
    return f"<think>it moved</think><d>{decision}</d><answer>{sentence}</answer>"


@pytest.mark.parametrize(("answer", "overall", "giou"), NO_THINK)
def test_r1track_without_thinking_is_paid_as_published(answer, overall, giou):
    scored = one(answer, preset="r1track-nothink")
    assert scored["overall"] == pytest.approx(overall, abs=1e-9)
    assert scored["giou"] == pytest.approx(giou, abs=1e-9)


@pytest.mark.parametrize(("answer", "length", "overall", "form", "giou", "penalty"), THINK)
def test_r1track_with_thinking_is_paid_as_published(answer, length, overall, form, giou, penalty):
    scored = one(answer, length=length, preset="r1track-think")
    got = [scored[name] for name in ("overall", "think_format", "giou", "length")]
    assert got == pytest.approx([overall, form, giou, penalty], abs=1e-9)


@pytest.mark.parametrize(("answer", "overall", "giou"), [*NO_THINK, ("[200,200,100,100]", 1.5, 1.0)])
def test_r1tracks_own_rewards_are_all_reproduced_swapped_corners_included(answer, overall, giou):
    scored = one(answer, preset="r1track-nothink-paper")
    assert [scored["overall"], scored["published_giou"]] == pytest.approx([overall, giou], abs=1e-9)
    if giou:  # what is a list of numbers earns the same inside the tags, and the form's share
        thought = one(f"<think>x</think><answer>{answer}</answer>", preset="r1track-think-paper")
        assert thought["overall"] == pytest.approx(overall + 0.05, abs=1e-9)


@pytest.mark.parametrize(("answer", "length", "overall", "form", "giou", "penalty"), THINK)
def test_r1tracks_own_rewards_with_thinking_are_reproduced(answer, length, overall, form, giou, penalty):
    scored = one(answer, length=length, preset="r1track-think-paper")
    got = [scored[name] for name in ("overall", "think_format", "published_giou", "length")]
    assert got == pytest.approx([overall, form, giou, penalty], abs=1e-9)


@pytest.mark.parametrize("corners", ["[200,200,100,100]", "[200,100,100,200]", "[100,200,200,100]"])
def test_swapped_corners_earn_nothing(corners):
    assert one(corners, preset="r1track-nothink")["overall"] == -1.0
    assert one(f"<think>x</think><answer>{corners}</answer>", preset="r1track-think")["overall"] < 0


def test_the_recipe_pays_form_decision_and_words():
    pair, truth = rendered()
    right = pairs.answer(pair.before, pair.after)
    assert one(right, truth, preset="recipe")["overall"] == 3.0
    assert one(right.replace("<d>yes", "<d>no"), truth, preset="recipe")["overall"] == 2.0
    assert one(right.replace(pair.after.colour, "mauve"), truth, preset="recipe")["words"] == 0.75
    assert one(right + " and so on", truth, preset="recipe")["overall"] == 0.0


def test_the_recipe_refuses_pairs_whose_attributes_nobody_knows():
    with pytest.raises(BadInput, match="rendered pairs"):
        one(said("yes"), preset="recipe")


@pytest.mark.parametrize(("ious", "paid"), [((0.5, 0.7), 1.0), ((0.7, 0.5), 0.0), ((0.5, 0.5), 0.0)])
def test_yes_is_paid_where_the_new_sentence_tracks_better(ious, paid):
    def tracker(questions):
        return [ious[q.sentence == "the red bus"] for q in questions]

    scored = one(said("yes"), preset="reasoningtrack-paper", tracker=tracker)
    assert (scored["gain"], scored["overall"]) == (paid, pytest.approx(0.2 + 0.15 * paid))
    assert one(said("no"), preset="reasoningtrack-paper", tracker=tracker)["gain"] == 1.0 - paid


@pytest.mark.parametrize(("iou", "term"), [(0.62, 0.62), (0.61, 0.305), (0.2, 0.1)])
def test_an_iou_up_to_the_papers_step_is_halved(iou, term):
    scored = one(said("yes"), preset="reasoningtrack-iou", tracker=lambda questions: [iou] * len(questions))
    assert scored["iou"] == pytest.approx(term)
    assert scored["overall"] == pytest.approx(0.2 + term)


def test_an_answer_without_the_form_earns_nothing_for_its_decision():
    scored = one("keep tracking", preset="reasoningtrack-paper", tracker=lambda questions: [0.5] * len(questions))
    assert scored["overall"] == 0.0


def test_a_failed_tracker_call_is_zero_for_all_terms_or_an_error():
    def down(questions):
        return [None] * len(questions)

    scored = one(said("no"), preset="reasoningtrack-paper", tracker=down)
    assert scored.pop("tracker_failed") == 1.0
    assert set(scored.values()) == {0.0}
    with pytest.raises(BadInput, match="failed on 1 of 1"):
        one(said("no"), preset="reasoningtrack-paper", tracker=down, on_tracker_failure="error")


def test_each_distinct_question_is_asked_once_and_a_known_one_not_at_all():
    asked = []

    def tracker(questions):
        asked.extend(questions)
        return [0.5] * len(questions)

    known = Truth("the bus", BOX.boxes, BOX.frames, iou_before=0.4)
    truths = [Truth("the bus", BOX.boxes, BOX.frames)] * 4 + [known]
    inputs = [{"response": said("yes"), "response_length": 9, "ground_truth": t.dump()} for t in truths]
    scores = compute_score(inputs, preset="reasoningtrack-paper", tracker=tracker)
    assert sorted(q.sentence for q in asked) == ["the bus", "the red bus"]
    assert [s["gain"] for s in scores] == [0.0, 0.0, 0.0, 0.0, 1.0]


def test_every_answer_of_a_batch_has_the_same_keys():
    inputs = [{"response": r, "response_length": 9, "ground_truth": BOX.dump()} for r in ("no", "[1,2,3,4]", FULL)]
    for preset in ("r1track-think", "r1track-nothink"):
        assert len({tuple(s) for s in compute_score(inputs, preset=preset)}) == 1


def test_easyr1_loads_the_reward_by_path_and_calls_it_by_batch():
    spec = importlib.util.spec_from_file_location("custom_reward_fn", easyr1_reward.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.REWARD_TYPE == "batch"
    scored = module.compute_score(
        [{"response": "[100,100,200,200]", "response_length": 20, "ground_truth": BOX.dump()}],
        preset="r1track-nothink",
        on_tracker_failure="zero",
    )
    assert scored[0]["overall"] == 1.5


def test_weights_are_laid_over_the_preset_and_unknown_names_refused():
    assert one(FULL, preset="r1track-think", weights={"length": 0.0}, length=512)["overall"] == pytest.approx(1.55)
    with pytest.raises(BadInput, match="term leng "):
        rewards.mix("recipe", {"leng": 1.0})
    with pytest.raises(BadInput, match="preset paper "):
        rewards.mix("paper")


def test_a_ground_truth_of_another_dataset_is_refused():
    with pytest.raises(BadInput, match="build the pairs again"):
        Truth.parse(json.dumps({"boxes": [[1, 2, 3, 4]], "frames": ["a", "b"], "description": "x"}))
    with pytest.raises(BadInput, match="build the pairs again"):
        Truth.parse("10,20,30,40")


class Shifting:
    """A tracker that moves its box by as many pixels as the sentence has letters, and takes no box without an area."""

    def compare(self, first, boxes, second, sentences):
        if any(box[2] <= 0 for box in boxes):
            raise BadInput("a box has no area to crop around.")
        return [[np.add(box, [len(s), 0, 0, 0]) for s in texts] for box, texts in zip(boxes, sentences, strict=True)]


def test_the_reward_asks_a_service_and_a_bad_pair_costs_only_its_own_questions(tmp_path):
    for name in ("a.png", "b.png"):
        images.write_image(tmp_path / name, np.zeros((40, 60, 3), np.uint8))
    server = reward_service.serve(Shifting(), "shifting", tmp_path, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        client = tracker_client.Client(f"http://127.0.0.1:{server.server_port}", timeout=20)
        sides = ((0.0, 0.0, 10.0, 10.0), (5.0, 0.0, 10.0, 10.0))
        good = rewards.Question(("a.png", "b.png"), sides, "a bus")
        other = rewards.Question(("a.png", "b.png"), sides, "a big red bus")
        lost = rewards.Question(("a.png", "gone.png"), sides, "a bus")
        flat = rewards.Question(("a.png", "b.png"), ((0.0, 0.0, 0.0, 0.0), sides[1]), "a bus")
        assert client([good, lost, other, flat, good]) == [1.0, None, pytest.approx(2 / 18), None, 1.0]
    finally:
        server.shutdown()
        server.server_close()
    assert client([good]) == [None]
