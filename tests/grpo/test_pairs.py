"""The pair dataset: EasyR1's columns, the same again by seed, and nothing of a test split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from conftest import section

from workflow_scripts import answers, images, manifest, sequences
from workflow_scripts.console import BadInput
from workflow_scripts.grpo import pairs
from workflow_scripts.grpo.rewards import Truth, compute_score
from workflow_scripts.pairs import Target, answer


def make_benchmark(root: Path, names: dict[str, str], seed: int = 0, frames: int = 12) -> Path:
    """An index of tiny sequences (name -> split); the target is absent in the middle third."""
    generator = np.random.default_rng(seed)
    made = []
    for name, split in names.items():
        paths = [root / name / f"{i:05d}.png" for i in range(frames)]
        for path in paths:
            images.write_image(path, generator.integers(0, 255, (60, 80, 3), dtype=np.uint8))
        present = np.array([not frames // 3 <= i < 2 * frames // 3 for i in range(frames)])
        boxes = np.tile([5.0, 6.0, 20.0, 10.0], (frames, 1)) + np.arange(frames)[:, None] * [1, 0, 0, 0]
        made.append(sequences.Sequence(name, split, paths, boxes, present, f"the {name}"))
    sequences.write_index(root / "index.npz", made, root, "made")
    return root / "index.npz"


def sampling(**changes):
    settings = {"train": 12, "validation": 4, "min_pixels": 784, "max_pixels": 3136, "longest_gap": 0} | changes
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
