"""What is kept of a dataset gives the same as reading it, whatever has changed since, and never lies inside of it."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from trees import TREES, lasot, write

from workflow_scripts.console import BadInput
from workflow_scripts.data import cache, index, layouts
from workflow_scripts.sequences import Sequence

LONG_AGO = 10**9


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TRACKGRAPH_INDICES", str(tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.fixture
def readings(monkeypatch) -> list[str]:
    """Names of the sequences that a reader was asked for."""
    asked: list[str] = []
    read = layouts.read
    monkeypatch.setattr(layouts, "read", lambda entry, benchmark: asked.append(entry.name) or read(entry, benchmark))
    return asked


def settle(root: Path) -> None:
    """Give everything the time of long ago, as a dataset that lies there has."""
    for path in (root, *root.rglob("*")):
        os.utime(path, (LONG_AGO, LONG_AGO))


def described(found: list[tuple[object, Sequence | BadInput]]) -> list[object]:
    """All that was read, in a form that == compares."""
    return [
        str(s)
        if isinstance(s, BadInput)
        else {k: v.tobytes() if isinstance(v, np.ndarray) else v for k, v in vars(s).items()} | {"frames": list(s.frames)}
        for _, s in found
    ]


def outcome(name: str, root: Path) -> object:
    """What reading gives, or what it is refused for."""
    try:
        return described(index.read_all(name, root))
    except BadInput as error:
        return str(error)


def altered(root: Path) -> Iterator[str]:
    """Change the dataset in one way after the other, and put it back each time; an empty name after what may be kept."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    pictures = {path.parent: path for path in files if path.suffix in (".jpg", ".png")}
    for path in [path for path in files if path.suffix not in (".jpg", ".png")] + list(pictures.values()):
        before = path.read_bytes()
        path.unlink()
        yield f"{path} gone"
        os.utime(path.parent, (LONG_AGO, LONG_AGO))
        yield ""
        path.write_bytes(before)
        yield f"{path} back"
        if path.suffix not in (".jpg", ".png", ".xlsx"):
            path.write_bytes(before.replace(b"1", b"2").replace(b"a", b"e"))
            yield f"{path} other"
        path.write_bytes(before)
        for changed in (path, path.parent):
            os.utime(changed, (LONG_AGO, LONG_AGO))
        yield ""


@pytest.mark.parametrize("name", sorted(TREES))
def test_whatever_changes_in_a_dataset_the_cache_gives_what_reading_gives(name, tmp_path, readings):
    root = tmp_path / "set"
    TREES[name](root)
    settle(root)
    first, file = outcome(name, root), cache.place(root, name)
    asked = len(readings)
    assert outcome(name, root) == first and len(readings) == asked  # nothing was read again
    different = 0
    for what in altered(root):
        cached = outcome(name, root)
        if not what:  # as it was, and kept so
            continue
        file.unlink(missing_ok=True)
        assert cached == outcome(name, root), what
        different += cached != first
        file.unlink(missing_ok=True)
    assert different > 2 and outcome(name, root) == first


def test_a_changed_sequence_alone_is_read_again(tmp_path, readings):
    lasot(tmp_path / "set")
    settle(tmp_path / "set")
    index.read_all("lasot", tmp_path / "set")
    (tmp_path / "set" / "t-shirt" / "t-shirt-1" / "img" / "00000005.jpg").unlink()
    readings.clear()
    index.read_all("lasot", tmp_path / "set")
    assert readings == ["t-shirt-1"]
    write(tmp_path / "set" / "testing_set.txt", "t-shirt-1\n")
    readings.clear()
    found = {entry.name: s for entry, s in index.read_all("lasot", tmp_path / "set")}
    assert readings == ["t-shirt-1", "air plane-10"] and found["t-shirt-1"].split == "test"


def test_a_file_replaced_by_one_as_old_and_as_large_is_read_again(tmp_path):
    lasot(tmp_path / "set")
    settle(tmp_path / "set")
    before = outcome("lasot", tmp_path / "set")
    nlp = tmp_path / "set" / "t-shirt" / "t-shirt-1" / "nlp.txt"
    nlp.write_text(nlp.read_text().replace("white", "black"))
    settle(tmp_path / "set")
    assert outcome("lasot", tmp_path / "set") != before


def test_what_is_younger_than_two_seconds_is_read_again(tmp_path, readings):
    lasot(tmp_path / "set")
    for _ in range(2):
        index.read_all("lasot", tmp_path / "set", splits=["test"])
    assert readings == ["air plane-10"] * 2


def test_a_split_that_is_read_alone_leaves_the_others_kept(tmp_path, readings):
    lasot(tmp_path / "set")
    settle(tmp_path / "set")
    index.read_all("lasot", tmp_path / "set", splits=["train"])
    index.read_all("lasot", tmp_path / "set", splits=["test"])
    readings.clear()
    index.read_all("lasot", tmp_path / "set")
    assert readings == []


def test_nothing_is_written_into_the_dataset(tmp_path, own):
    lasot(tmp_path / "set")
    settle(tmp_path / "set")
    index.read_all("lasot", tmp_path / "set")
    assert {path.stat().st_mtime for path in (tmp_path / "set").rglob("*")} == {LONG_AGO} and list(own.glob("lasot-*.npz"))


def test_a_damaged_cache_or_one_of_another_reader_is_read_over(tmp_path, own, readings, monkeypatch):
    lasot(tmp_path / "set")
    settle(tmp_path / "set")
    first = outcome("lasot", tmp_path / "set")
    (file,) = own.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert outcome("lasot", tmp_path / "set") == first and len(readings) == 6
    monkeypatch.setattr(cache, "reader_digest", lambda benchmark: "another")
    assert outcome("lasot", tmp_path / "set") == first and len(readings) == 9


def test_a_cache_that_cannot_be_written_is_said_and_fails_nothing(tmp_path, own, capsys):
    lasot(tmp_path / "set")
    own.write_text("a file where the folder should be")
    assert len(index.read_all("lasot", tmp_path / "set")) == 3
    assert "will be read again next time" in capsys.readouterr().err and own.read_text().startswith("a file")


def test_what_was_not_used_for_three_months_goes(tmp_path, own):
    for name in ("one", "two"):
        lasot(tmp_path / name)
        settle(tmp_path / name)
    index.read_all("lasot", tmp_path / "one")
    (old,) = own.iterdir()
    os.utime(old, (LONG_AGO, LONG_AGO))
    index.read_all("lasot", tmp_path / "two")
    assert not old.exists() and len(list(own.iterdir())) == 1
