"""Index and splits of the rendered sequences."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from workflow_scripts import manifest, sequences
from workflow_scripts.console import BadInput
from workflow_scripts.data import splits


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


def test_other_pixels_under_the_same_boxes_make_another_manifest_beside_the_same_index(copied, tmp_path):
    """Whoever reads frames watches the index's manifest, and so runs again."""
    made = []
    for number in range(3):
        frame = next((copied / "Mini_test_00_LANG" / "imgs").iterdir())
        frame.write_bytes(frame.read_bytes() + b" " * (number == 2))
        manifest.write(tmp_path / "data.json", [copied])
        out, seal = tmp_path / "tnllt.npz", tmp_path / "tnllt.json"
        flags = ("--input", tmp_path / "data.json", "--output", out, "--manifest", seal)
        done = run("index", "--benchmark", "tnllt", "--root", copied, *flags)
        assert done.returncode == 0, done.stderr
        made.append((out.read_bytes(), seal.read_bytes()))
    assert made[0] == made[1] and made[2][0] == made[0][0] and made[2][1] != made[0][1]


def test_a_sequence_in_two_splits_is_refused():
    with pytest.raises(BadInput, match="a is in the train and in the test split"):
        splits.splits([{"name": "a", "split": "train"}, {"name": "a", "split": "test"}])
