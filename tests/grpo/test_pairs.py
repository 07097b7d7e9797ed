"""The pair dataset: EasyR1's columns, the same again by seed, and nothing of a test split."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from conftest import ROOT, section

from workflow_scripts import answers, images, manifest, params, sequences
from workflow_scripts.console import BadInput
from workflow_scripts.grpo import pairs
from workflow_scripts.grpo import sampling as sampling_of_frames
from workflow_scripts.grpo.rewards import Truth, compute_score
from workflow_scripts.pairs import Target, answer
from workflow_scripts.params.grpo import Crops

ANSWER = "<think>it moved</think><d>yes</d><answer>the red bus</answer>"


def make_benchmark(
    root: Path, names: dict[str, str], seed: int = 0, frames: int = 12, speeds=(1.0,), sides=((20, 10),)
) -> Path:
    """An index of tiny sequences (name -> split); the target is absent in the middle third.

    Sequences take turns in `speeds` (pixels a frame) and `sides` (width, height).
    """
    generator = np.random.default_rng(seed)
    made = []
    for number, (name, split) in enumerate(names.items()):
        speed, (w, h) = speeds[number % len(speeds)], sides[number % len(sides)]
        paths = [root / name / f"{i:05d}.png" for i in range(frames)]
        for path in paths:
            images.write_image(path, generator.integers(0, 255, (60, 80, 3), dtype=np.uint8))
        present = np.array([not frames // 3 <= i < 2 * frames // 3 for i in range(frames)])
        boxes = np.tile([5.0, 6.0, w, h], (frames, 1)) + np.arange(frames)[:, None] * [speed, 0.0, 0.0, 0.0]
        made.append(sequences.Sequence(name, split, paths, boxes, present, f"the {name}"))
    sequences.write_index(root / "index.npz", made, root, "made")
    return root / "index.npz"


def sampling(**changes):
    settings = {"train": 12, "validation": 4, "min_pixels": 784, "max_pixels": 3136, "longest_gap": 0, "guarded": []} | changes
    return section("full", pairs=settings).pairs


def rows(folder: Path, name: str = "train") -> list[tuple[dict, Truth]]:
    return [(row, Truth.parse(row["answer"])) for row in parquet.read_table(folder / f"{name}.parquet").to_pylist()]


def test_rendered_pairs_have_easyr1s_columns_and_can_be_answered_rightly(dataset):
    assert len(rows(dataset)) == 24
    for row, truth in rows(dataset):
        assert list(row) == ["problem", "images", "answer"]
        assert row["problem"] == f"<image><image>{truth.description}"
        assert all((dataset / path).is_file() for path in row["images"])
        before, after = (Target(**truth.attributes[k]) for k in ("before", "after"))
        right = answer(before, after)
        assert answers.parse(right).well_formed
        scored = compute_score([{"response": right, "response_length": 30, "ground_truth": row["answer"]}])
        assert scored[0]["overall"] == 3.0


def test_the_same_seed_gives_the_same_bytes_and_validation_differs(dataset, tmp_path):
    parameters = section("mini", pairs={"train": 24, "validation": 8}).pairs
    pairs.build(tmp_path / "again", {}, parameters)
    assert manifest.summary(tmp_path / "again") == manifest.summary(dataset)
    assert not {t.dump() for _, t in rows(dataset)} & {t.dump() for _, t in rows(dataset, "val")}


def test_sampled_pairs_show_the_target_in_both_frames_the_later_one_second(tmp_path):
    index = make_benchmark(tmp_path / "d", {f"s{i}": "train" for i in range(6)} | {"t": "test"})
    pairs.build(tmp_path / "out", {"tnllt": index}, sampling())
    for row, truth in rows(tmp_path / "out"):
        first, second = (int(Path(f).stem) for f in truth.frames)
        assert first < second
        assert not {first, second} & {4, 5, 6, 7}
        assert truth.boxes[:, 0].tolist() == [5.0 + first, 5.0 + second]
        assert truth.description in row["problem"]
        for path in row["images"]:
            height, width = images.read_rgb(tmp_path / "out" / path).shape[:2]
            assert height % 28 == width % 28 == 0
            assert 784 <= height * width <= 3136


def test_training_and_validation_pairs_are_of_different_sequences(tmp_path):
    index = make_benchmark(tmp_path / "d", {f"s{i}": "train" for i in range(6)})
    pairs.build(tmp_path / "out", {"tnllt": index}, sampling())
    training, validating = ({t.description for _, t in rows(tmp_path / "out", n)} for n in ("train", "val"))
    assert training.isdisjoint(validating)


def test_the_gap_between_frames_is_kept(tmp_path):
    index = make_benchmark(tmp_path / "d", {f"s{i}": "train" for i in range(3)})
    pairs.build(tmp_path / "out", {"tnllt": index}, sampling(longest_gap=2))
    gaps = [int(Path(t.frames[1]).stem) - int(Path(t.frames[0]).stem) for _, t in rows(tmp_path / "out")]
    assert set(gaps) <= {1, 2}


def test_a_sequence_that_is_also_a_test_sequence_is_refused_by_name_and_by_picture(tmp_path):
    train = make_benchmark(tmp_path / "a", {"Bird": "train", "car": "train"})
    named = make_benchmark(tmp_path / "b", {"bird": "test"}, seed=5)
    with pytest.raises(BadInput, match="Bird is in the test split of other"):
        pairs.build(tmp_path / "out", {"tnllt": train, "other": named}, sampling(guarded=["other"]))
    twin = make_benchmark(tmp_path / "c", {"fowl": "test"}, seed=0)
    with pytest.raises(BadInput, match="Bird begins with the same frame as the test sequence other/fowl"):
        pairs.build(tmp_path / "out", {"tnllt": train, "other": twin}, sampling(guarded=["other"]))
    assert not (tmp_path / "out").exists()
    more = make_benchmark(tmp_path / "e", {"Bird": "train", "car": "train", "bus": "train"}, seed=3)
    pairs.build(tmp_path / "out", {"tnllt": more, "other": named}, sampling(guarded=["other"], without=["Bird"]))
    assert "the Bird" not in {truth.description for _, truth in rows(tmp_path / "out")}


def test_the_full_study_guards_every_benchmark_that_it_tests_on():
    assert set(params.load(ROOT / "params.yaml", "full").data.benchmarks) <= set(section("full").pairs.guarded)


def test_a_benchmark_without_index_or_training_split_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no index of tnllt was given"):
        pairs.build(tmp_path / "out", {}, sampling())
    index = make_benchmark(tmp_path / "d", {"s": "test"})
    with pytest.raises(BadInput, match="hold 0 described sequences"):
        pairs.build(tmp_path / "out", {"tnllt": index}, sampling(guarded=[]))


def test_a_prompt_that_the_rows_cannot_hold_is_refused(tmp_path):
    parameters = section("mini", pairs={"train": 4, "validation": 2, "prompt": "reasoningtrack-paper-eval"}).pairs
    with pytest.raises(BadInput, match="has a system text"):
        pairs.build(tmp_path / "out", {}, parameters)


def test_the_trackers_iou_under_the_description_is_stored_and_not_asked_again(tmp_path):
    asked = []

    def tracker(questions):
        asked.extend(questions)
        return [None if q.sentence == "the s1" else len(asked) / 1000 for q in questions]

    index = make_benchmark(tmp_path / "d", {f"s{i}": "train" for i in range(4)})
    facts = pairs.build(tmp_path / "out", {"tnllt": index}, sampling(), tracker)
    stored = [truth for _, truth in rows(tmp_path / "out")]
    assert [q.sentence for q in asked[:12]] == [t.description for t in stored]
    assert [q.frames for q in asked[:12]] == [t.frames for t in stored]
    assert {t.iou_before for t in stored} <= {0.012, None} and facts["train_pairs_with_iou"] == sum(
        t.iou_before is not None for t in stored
    )
    known = next(row for row, truth in rows(tmp_path / "out") if truth.iou_before is not None)
    answered = [{"response": ANSWER, "response_length": 9, "ground_truth": known["answer"]}]
    assert compute_score(answered, "reasoningtrack-paper", tracker=lambda q: [0.5] * len(q))[0]["gain"] == 1.0
    with pytest.raises(BadInput, match="cannot be asked about rendered pairs"):
        pairs.build(tmp_path / "no", {}, section("mini", pairs={"train": 4, "validation": 2}).pairs, tracker)


# ---------------------------------------------------------------- R1-Track's crops


def crops(**changes):
    return sampling(source="crops", prompt="r1track", train=40, **{"crops": {"size": 112}} | changes)


def test_crops_show_the_target_where_prompt_and_answer_say(tmp_path):
    index = make_benchmark(tmp_path / "d", {f"s{i}": "train" for i in range(6)}, sides=((20, 10), (40, 4), (6, 30)))
    pairs.build(tmp_path / "out", {"tnllt": index}, crops())
    orders = set()
    for row, truth in rows(tmp_path / "out"):
        box = truth.boxes[0]
        said = [int(v) for v in re.search(r"\[(\d+),(\d+),(\d+),(\d+)\]", row["problem"]).groups()]
        assert said == [box[0], box[1], box[0] + box[2], box[1] + box[3]]
        assert row["problem"].count("<image>") == 2
        for path, (x, y, w, h) in zip(row["images"], truth.boxes, strict=True):
            assert images.read_rgb(tmp_path / "out" / path).shape == (112, 112, 3)
            assert x >= 0 and y >= 0 and x + w <= 112 and y + h <= 112 and w > 0 and h > 0
        right = [truth.boxes[1][0], truth.boxes[1][1], *(truth.boxes[1][:2] + truth.boxes[1][2:])]
        answered = [{"response": json.dumps(right), "response_length": 9, "ground_truth": row["answer"]}]
        assert compute_score(answered, preset="r1track-nothink")[0]["overall"] == 1.5
        first, second = (int(Path(f).stem) for f in truth.attributes["cut_from"])
        orders.add(first < second)
    assert orders == {True, False}


def long_target(reproduce_paper: bool) -> list[tuple[np.ndarray, list[int]]]:
    """Fifty crops of a grey frame around a target of aspect 16, which is white."""
    frame = np.full((400, 600, 3), 90, np.uint8)
    frame[195:205, 220:380] = 255
    rule = Crops(reproduce_paper=reproduce_paper)
    generator = np.random.default_rng(0)
    return [sampling_of_frames.cut(frame, np.array([220.0, 195, 160, 10]), rule, generator) for _ in range(50)]


def test_a_long_target_stays_in_its_crop_unless_the_published_flaw_is_wanted():
    for picture, (x1, y1, x2, y2) in long_target(reproduce_paper=False):
        white = np.argwhere(picture[..., 0] > 180)
        (top, left), (bottom, right) = white.min(axis=0), white.max(axis=0) + 1
        assert np.abs(np.array([left, top, right, bottom]) - [x1, y1, x2, y2]).max() <= 2
        assert abs((x2 - x1) / max(1, y2 - y1) / 16 - 1) < 0.5
    leaving = [min(corners) < 0 or max(corners) > 336 for _, corners in long_target(reproduce_paper=True)]
    assert 15 <= sum(leaving) <= 40  # one in two, as measured on the published code


def test_crops_are_the_same_again_by_seed(tmp_path):
    index = make_benchmark(tmp_path / "d", {f"s{i}": "train" for i in range(3)})
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        pairs.build(tmp_path / name, {"tnllt": index}, crops(seed=seed))
    assert manifest.summary(tmp_path / "a") == manifest.summary(tmp_path / "b") != manifest.summary(tmp_path / "c")


def test_balanced_pairs_are_of_all_kinds_alike(tmp_path):
    """One sequence in six is long, one in six fast; balanced, each kind has its share."""
    names = {f"s{i}": "train" for i in range(12)}
    sides = ((10, 10), (40, 5), (10, 10), (10, 10), (10, 10), (10, 10))
    index = make_benchmark(tmp_path / "d", names, frames=8, speeds=(0.01, 0.01, 6.0, 0.01, 0.01, 0.01), sides=sides)
    chosen = sequences.read_index(index, split="train")

    def share(**changes) -> tuple[float, float]:
        made = [row.truth.boxes for row in sampling_of_frames.sampled(chosen, 60, sampling(**changes), "train")]
        long = np.mean([box[0, 2] / box[0, 3] > 4 for box in made])
        return long, float(np.mean([box[1, 0] - box[0, 0] > 3 for box in made]))

    assert share() == (pytest.approx(1 / 6, abs=0.02), pytest.approx(1 / 6, abs=0.02))
    assert share(balance=["aspect"])[0] == pytest.approx(1 / 2, abs=0.02)
    assert share(balance=["motion"])[1] >= 1 / 2 - 0.02
    assert share(balance=["motion"]) == share(balance=["motion"])


def test_a_prompt_that_asks_for_what_the_pairs_do_not_have_is_refused(tmp_path):
    index = make_benchmark(tmp_path / "d", {f"s{i}": "train" for i in range(3)})
    with pytest.raises(BadInput, match="prompt r1track asks for a box, which these pairs do not have"):
        pairs.build(tmp_path / "out", {"tnllt": index}, sampling(prompt="r1track"))
