"""The index gives back what was put in, and refuses what is no index."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from workflow_scripts import sequences
from workflow_scripts.console import BadInput
from workflow_scripts.sequences import Sequence


@pytest.fixture
def two(tmp_path):
    root = tmp_path / "a dataset"
    return root, [
        Sequence(
            name=name,
            split=split,
            frames=[root / name / f"{i:05d}.png" for i in range(n)],
            boxes=np.arange(4 * n, dtype=float).reshape(n, 4) / 3,
            present=np.arange(n) % 2 == 0,
            sentence="the größte ship",
            attributes=("CM", "OV"),
            fps=None if n == 3 else 25.0,
        )
        for name, split, n in (("one", "train", 3), ("two", "test", 5))
    ]


def test_an_index_gives_back_every_sequence_exactly(tmp_path, two):
    root, original = two
    sequences.write_index(tmp_path / "i.npz", original, root, "tnllt")
    for before, after in zip(original, sequences.read_index(tmp_path / "i.npz"), strict=True):
        assert (before.name, before.split, before.frames, before.sentence) == (
            after.name,
            after.split,
            after.frames,
            after.sentence,
        )
        assert (before.attributes, before.fps) == (after.attributes, after.fps)
        np.testing.assert_array_equal(before.boxes, after.boxes)
        np.testing.assert_array_equal(before.present, after.present)
    assert sequences.attribute_names(tmp_path / "i.npz") == ["CM", "OV"]


def test_a_split_and_another_root_can_be_asked_for(tmp_path, two):
    root, original = two
    sequences.write_index(tmp_path / "i.npz", original, root, "tnllt")
    (only,) = sequences.read_index(tmp_path / "i.npz", root="elsewhere", split="test")
    assert only.name == "two"
    assert only.frames[0] == Path("elsewhere/two/00000.png")
    np.testing.assert_array_equal(only.boxes, original[1].boxes)


def test_an_unknown_name_is_refused(tmp_path, two):
    root, original = two
    sequences.write_index(tmp_path / "i.npz", original, root, "tnllt")
    with pytest.raises(BadInput, match="no sequence called three"):
        sequences.read_index(tmp_path / "i.npz", names=["three"])


def test_a_truncated_index_is_refused_by_name(tmp_path, two):
    root, original = two
    sequences.write_index(tmp_path / "i.npz", original, root, "tnllt")
    data = (tmp_path / "i.npz").read_bytes()
    (tmp_path / "i.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(BadInput, match=r"i\.npz is not an index"):
        sequences.read_index(tmp_path / "i.npz")


def test_an_index_of_another_version_is_refused_by_name(tmp_path, two, monkeypatch):
    root, original = two
    monkeypatch.setattr(sequences, "INDEX_VERSION", sequences.INDEX_VERSION - 1)
    sequences.write_index(tmp_path / "i.npz", original, root, "tnllt")
    monkeypatch.undo()
    for read in (sequences.read_index, sequences.read_header):
        with pytest.raises(BadInput, match=r"i\.npz was written by another version .*: index the benchmark again"):
            read(tmp_path / "i.npz")


def test_frames_of_several_folders_and_none_are_given_back(tmp_path, two):
    root, (one, other) = two
    both = [replace(one, frames=[*one.frames, *other.frames]), replace(other, frames=[])]
    sequences.write_index(tmp_path / "i.npz", both, root, "tnllt")
    assert [list(s.frames) for s in sequences.read_index(tmp_path / "i.npz")] == [[*one.frames, *other.frames], []]


def test_a_long_sequence_takes_little_room(tmp_path, two):
    root, (one, _) = two
    long = replace(
        one, frames=[root / "one" / f"{n:08d}.jpg" for n in range(1, 5001)], boxes=one.boxes[:1], present=one.present[:1]
    )
    sequences.write_index(tmp_path / "i.npz", [long], root, "tnllt")
    assert (tmp_path / "i.npz").stat().st_size < 2000
    assert sequences.read_index(tmp_path / "i.npz")[0].frames[4999] == root / "one" / "00005000.jpg"


def test_frames_outside_the_root_are_refused(tmp_path, two):
    _, original = two
    with pytest.raises(BadInput, match="not under"):
        sequences.write_index(tmp_path / "i.npz", original, tmp_path / "other", "tnllt")
