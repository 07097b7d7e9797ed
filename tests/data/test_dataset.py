"""Index, splits and check on the rendered sequences; the register of sources."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from workflow_scripts import manifest, sequences
from workflow_scripts.console import BadInput
from workflow_scripts.data import check, hubs, register, splits
from workflow_scripts.params.data import Checking


@pytest.fixture
def copied(dataset, tmp_path) -> Path:
    shutil.copytree(dataset, tmp_path / "data set")
    return tmp_path / "data set"


def run(module: str, *flags: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"workflow_scripts.data.{module}", *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_index_gives_back_what_was_rendered(copied, tmp_path):
    out, seal = tmp_path / "tnllt.npz", tmp_path / "tnllt.json"
    done = run("index", "--benchmark", "tnllt", "--root", copied, "--output", out, "--manifest", seal)
    assert done.returncode == 0, done.stderr
    manifest.verify(seal)
    found = sequences.read_index(out)
    assert [s.name for s in found] == ["Mini_train_00_LANG", "Mini_test_00_LANG", "Mini_test_01_SV_CM"]
    for s in found:
        folder = copied / s.name
        assert len(s.frames) == len(list((folder / "imgs").iterdir())) and s.frames[0].is_file()
        assert (s.present == (np.loadtxt(folder / "absent_label.txt") == 1)).all() and s.present[0]
        assert s.sentence == (folder / "language.txt").read_text().strip()
    assert "CM" in found[2].attributes and "BC" in found[0].attributes
    assert [s.name for s in sequences.read_index(out, split="test")] == ["Mini_test_00_LANG", "Mini_test_01_SV_CM"]
    assert run("splits", "--index", out, "--output", tmp_path / "s.json").returncode == 0
    assert json.loads((tmp_path / "s.json").read_text())["train"] == ["Mini_train_00_LANG"]


def test_a_sequence_in_two_splits_is_refused():
    with pytest.raises(BadInput, match="a is in the train and in the test split"):
        splits.splits([{"name": "a", "split": "train"}, {"name": "a", "split": "test"}])


def kinds(root: Path, images: str = "all") -> set[tuple[str, str]]:
    report = check.check("tnllt", root, Checking(images=images))
    return {(p.sequence, p.kind) for p in report.problems if p.level == "error"}


def test_a_sound_dataset_has_no_error_and_its_command_ends_well(copied, tmp_path):
    flags = ["--output", tmp_path / "c.json", "--csv", tmp_path / "c.csv", "--manifest", tmp_path / "c.m.json"]
    done = run("check", "--benchmark", "tnllt", "--root", copied, "--images", "all", *flags)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "c.json").read_text())
    assert report["errors"] == 0 and report["sequences"] == 3 and report["splits"] == {"test": 2, "train": 1}
    assert (tmp_path / "c.csv").read_text() == "sequence,level,kind,text\n"


def test_every_fault_of_a_dataset_is_reported_at_once(copied, tmp_path):
    one, two, three = (copied / n for n in ("Mini_train_00_LANG", "Mini_test_00_LANG", "Mini_test_01_SV_CM"))
    sorted((one / "imgs").iterdir())[-1].unlink()
    frame = two / "imgs" / "00001.png"
    frame.write_bytes(frame.read_bytes()[:2000])
    shutil.copy(one / "imgs" / "00001.png", three / "imgs" / "00001.png")
    lines = (three / "groundtruth.txt").read_text().splitlines()
    lines[1], lines[2], lines[3] = "1,1,0,5", "nan,1,2,3", "900,900,5,5"
    (three / "groundtruth.txt").write_text("\n".join(lines) + "\n")
    assert kinds(copied) == {
        (one.name, "counts"),
        (two.name, "unreadable frame"),
        (three.name, "leakage"),
        (three.name, "box without size"),
        (three.name, "NaN box"),
        (three.name, "box outside"),
    }
    done = run(
        "check", "--benchmark", "tnllt", "--root", copied, "--csv", tmp_path / "c.csv", "--manifest", tmp_path / "m.json"
    )
    assert done.returncode == 1 and "errors, the first:" in done.stderr and "Traceback" not in done.stderr
    assert "counts" in (tmp_path / "c.csv").read_text() and not (tmp_path / "m.json").exists()


def test_flags_of_the_wrong_polarity_are_noticed(copied):
    for path in copied.glob("*/absent_label.txt"):
        path.write_text("".join(f"{1 - int(line)}\n" for line in path.read_text().split()))
    found = {kind for _, kind in kinds(copied, "none")}
    assert {"absent first frame", "absent share", "polarity"} <= found


def test_an_unreadable_annotation_does_not_hide_the_other_sequences(copied):
    (copied / "Mini_test_00_LANG" / "groundtruth.txt").unlink()
    report = check.check("tnllt", copied, Checking(images="none"))
    assert report.sequences == 2
    assert [p.kind for p in report.problems] == ["unreadable annotation"]


def test_the_register_is_sorted_and_invents_no_hash():
    known = register.load()
    assert list(known) == sorted(known)
    for source in known.values():
        for piece in (source, *source.files):
            assert piece.hash == "unknown" or piece.digest is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("hash: unknown", "hash: sha256:1234"),
        ("used_for: x", "used_four: x"),
        ("bytes: unknown", "bytes: many"),
        ("kind: page", "kind: pages"),
        ("b:\n", "0:\n"),
    ],
)
def test_a_faulty_register_is_refused_in_one_sentence(tmp_path, change, message):
    entry = "what: x\n    used_for: x\n    licence: x\n    bytes: unknown\n    hash: unknown\n    mirrors:\n"
    entry += "      - {kind: page, url: x}\n    by_hand: x\n"
    text = f"sources:\n  a:\n    {entry}  b:\n    {entry}"
    path = tmp_path / "sources.yaml"
    path.write_text(text)
    assert set(register.load(path)) == {"a", "b"}
    path.write_text(text.replace(change, message))
    with pytest.raises(BadInput, match=r"sources\.yaml"):
        register.load(path)
    with pytest.raises(BadInput, match="does not exist"):
        register.load(tmp_path / "none.yaml")


def entry(tmp_path: Path, **changes: object) -> register.Source:
    fields = {"what": "x", "used_for": "x", "licence": "x", "bytes": "unknown", "hash": "unknown", "by_hand": "ask for it"}
    baidu = {"kind": "baidu", "url": "https://pan.baidu.com/s/1", "code": "abcd"}
    return register.Source.model_validate(fields | {"mirrors": [baidu]} | changes)


def test_what_no_command_can_fetch_is_explained_step_by_step_then_adopted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source, settings = entry(tmp_path, files=[{"name": "part_*", "bytes": "unknown", "hash": "unknown"}]), hubs.Fetching()
    arguments = ("thing", source, Path("out/part_aa"), "part_aa", Path("inbox"), None, settings)
    with pytest.raises(BadInput) as told:
        hubs.fetch(*arguments)
    assert "code abcd" in str(told.value) and "inbox/part_aa" in str(told.value) and "ask for it" in str(told.value)
    Path("inbox").mkdir()
    Path("inbox/part_aa").write_text("content")
    hubs.fetch(*arguments)
    assert Path("out/part_aa").is_symlink() and Path("out/part_aa").read_text() == "content"
    assert Path("inbox/part_aa").read_text() == "content"


def test_an_adopted_file_must_have_the_registered_hash_and_a_folder_the_registered_files(tmp_path):
    (tmp_path / "f").write_text("content")
    wrong = entry(tmp_path, hash="md5:" + "0" * 32)
    with pytest.raises(BadInput, match="has not md5"):
        hubs.link(tmp_path / "f", tmp_path / "out", wrong)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("a")
    with pytest.raises(BadInput, match=r"holds nothing called b\*"):
        files = [{"name": "b*", "bytes": "unknown", "hash": "unknown"}]
        hubs.link(tmp_path / "folder", tmp_path / "out", entry(tmp_path, files=files))
    hubs.link(tmp_path / "folder", tmp_path / "out", entry(tmp_path))
    assert os.listdir(tmp_path / "out") == ["a.txt"] and (tmp_path / "out" / "a.txt").read_text() == "a"


def test_a_hugging_face_source_wants_a_full_commit(tmp_path):
    mirror = register.HuggingFace(kind="huggingface", repository="a/b", type="model", revision="unknown")
    with pytest.raises(BadInput, match="--revision"):
        hubs.hugging_face(mirror, tmp_path / "out", None, None)
    with pytest.raises(BadInput, match="no full commit"):
        hubs.hugging_face(mirror, tmp_path / "out", None, "main")


def test_a_registered_folder_of_files_is_fetched_file_by_file_with_each_hash(tmp_path):
    import hashlib

    (tmp_path / "up").mkdir()
    pieces = []
    for name in ("a", "b"):
        (tmp_path / "up" / name).write_text(name)
        digest = hashlib.sha256(name.encode()).hexdigest()
        pieces.append({"name": name, "bytes": 1, "hash": f"sha256:{digest}"})
    source = entry(tmp_path, files=pieces, mirrors=[{"kind": "url", "url": f"file:{tmp_path}/up"}])
    hubs.fetch("thing", source, tmp_path / "out", None, tmp_path / "inbox", None, hubs.Fetching())
    assert sorted(os.listdir(tmp_path / "out")) == ["a", "b"]
    (tmp_path / "up" / "b").write_text("c")
    with pytest.raises(BadInput, match="cannot be fetched"):
        hubs.fetch("thing", source, tmp_path / "other", None, tmp_path / "inbox", None, hubs.Fetching())
