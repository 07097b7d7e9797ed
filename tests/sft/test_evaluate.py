"""The check on held-out pairs: right answers score fully, the control hides only the second frame, metrics are written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import PIXELS

from workflow_scripts import files, manifest
from workflow_scripts.params.sft import Evaluate
from workflow_scripts.sft import evaluate, rows

FULL = {"format": 1.0, "decision": 1.0, "words": 1.0, "sentence": 1.0}


def test_every_right_answer_has_full_marks(dataset: Path) -> None:
    for row in files.read_json(dataset / "heldout.json"):
        assert evaluate.score(row, rows.response(row)) == FULL


def test_a_published_row_is_scored_by_its_own_answer() -> None:
    row = {"output": "<think>a</think><d>yes</d>\n<answer>Toy dog, shifted left</answer>"}
    assert evaluate.score(row, "<think>b</think><d>yes</d><answer>toy dog shifted left</answer>") == FULL
    partly = evaluate.score(row, "<think>b</think><d>no</d><answer>toy dog</answer>")
    assert partly == {"format": 1, "decision": 0, "words": 0.5, "sentence": 0}
    assert set(evaluate.score(row, "toy dog").values()) == {0.0}


def test_a_box_is_scored_by_its_overlap() -> None:
    row = {"messages": [{"role": "user", "content": "where"}, {"role": "assistant", "content": "[0,0,10,10]"}]}
    assert evaluate.score(row, "[0, 0, 10, 10]") == {"format": 1.0, "iou": 1.0}
    assert evaluate.score(row, "[5,0,15,10]")["iou"] == pytest.approx(1 / 3)
    assert evaluate.score(row, "over there") == {"format": 0.0, "iou": 0.0}


def test_the_control_hides_the_second_frame_and_only_that(base: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = evaluate.Decoder(base, PIXELS, Evaluate(batch=4, max_new_tokens=2))
    seen: list[list[np.ndarray]] = []
    processor = decoder.processor

    def spy(**inputs):
        seen.append(inputs["images"])
        return processor(**inputs)

    spy.apply_chat_template, spy.tokenizer = processor.apply_chat_template, processor.tokenizer
    monkeypatch.setattr(decoder, "processor", spy)
    batch = files.read_json(dataset / "heldout.json")[:2]
    decoder.answer(batch)
    decoder.answer(batch, blank_second=True)
    whole, blanked = seen
    assert all(np.array_equal(whole[at], blanked[at]) for at in (0, 2))
    assert all(np.ptp(blanked[at]) == 0 and np.ptp(whole[at]) > 0 for at in (1, 3))


def test_metrics_say_how_many_pairs_and_what_was_answered(
    base: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "metrics.json"
    values = ["--parameters", Evaluate(max_new_tokens=4).model_dump_json(), "--pixels", PIXELS.model_dump_json()]
    places = ["--model", str(base), "--dataset", str(dataset), "--output", str(output), "--manifest", f"{output}.manifest"]
    monkeypatch.setattr("sys.argv", ["", *places, *values])
    evaluate.main()
    metrics = files.read_json(output)
    assert metrics["pairs"] == 8 and len(metrics["examples"]) == 8
    assert metrics["views"]["pairs"] == 4 and metrics["views"].keys() == metrics.keys() - {"views"}
    assert set(metrics["heldout"]) == {"format", "decision", "words", "sentence"}
    assert manifest.read(f"{output}.manifest")["facts"]["heldout"] == metrics["heldout"]
    assert metrics["heldout"]["format"] == 0.0  # a model that learnt nothing says nothing well-formed in four tokens
