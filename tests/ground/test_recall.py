"""Early cut-off: a node that would make the same again gives its outputs back, and nothing else ever."""

import json
import os

import pytest

from workflow_scripts import manifest, recall
from workflow_scripts.node import TOLD


@pytest.fixture
def node(tmp_path, monkeypatch):
    """A node that reads `input.json` and makes a folder and its manifest; `run()` runs its job and says how."""
    monkeypatch.chdir(tmp_path)
    makes = ["results/mini/track/x", "results/mini/track/x.json"]
    (tmp_path / "input.json").write_text("1")

    def run(command="train", code="c", text="made"):
        reads = recall.hashes(["input.json"])
        key = recall.key([command], "environment", code, reads)
        if recall.recall(key, makes):
            return "given back"
        told = {"command": [command], "commit": "", "lock": "", "code": code, "began": 0}
        monkeypatch.setenv(TOLD, json.dumps(told | {"key": key, "makes": makes, "reads": reads}))
        folder = tmp_path / makes[0] / "deep"
        folder.mkdir(parents=True)
        (folder / "weights").write_text(text)
        manifest.write(makes[1], [makes[0]])
        return "made"

    assert run() == "made"
    return run, tmp_path / makes[0], tmp_path / makes[1]


def snakemake_deletes(folder, its_manifest):
    """What Snakemake does to the outputs of a job that it starts."""
    recall._remove(folder)
    its_manifest.unlink(missing_ok=True)


def test_a_node_whose_inputs_are_the_same_gives_its_outputs_back(node):
    run, folder, its_manifest = node
    inode, text = (folder / "deep" / "weights").stat().st_ino, its_manifest.read_text()
    (folder / ".snakemake_timestamp").touch()
    snakemake_deletes(folder, its_manifest)
    assert run() == "given back"
    assert (folder / "deep" / "weights").stat().st_ino == inode and its_manifest.read_text() == text


def test_touched_inputs_change_nothing_and_edited_ones_do(node, tmp_path):
    run, folder, its_manifest = node
    os.utime(tmp_path / "input.json")
    snakemake_deletes(folder, its_manifest)
    assert run() == "given back"
    (tmp_path / "input.json").write_text("2")
    snakemake_deletes(folder, its_manifest)
    assert run() == "made"


@pytest.mark.parametrize("changed", [{"command": "train --seed 2"}, {"code": "d"}])
def test_another_command_or_code_makes_anew(node, changed):
    run, folder, its_manifest = node
    snakemake_deletes(folder, its_manifest)
    assert run(**changed) == "made"
    snakemake_deletes(folder, its_manifest)
    assert run() == "made"  # what was kept first is gone


@pytest.mark.parametrize("lost", ["folder", "manifest"])
def test_what_a_user_deletes_is_made_anew(node, lost):
    run, folder, its_manifest = node
    recall.forget(["results/mini"])
    if lost == "folder":
        recall._remove(folder)
    else:
        its_manifest.unlink()
    recall.forget(["results/mini"])
    snakemake_deletes(folder, its_manifest)
    assert run() == "made"


def test_what_is_forced_is_made_anew(node):
    run, folder, its_manifest = node
    recall.forget(["results/mini"], forced=["results/mini/track/x"])
    snakemake_deletes(folder, its_manifest)
    assert run() == "made"


def test_a_file_that_was_edited_in_place_is_not_given_back(node):
    run, folder, its_manifest = node
    with open(folder / "deep" / "weights", "a") as handle:
        handle.write("!")  # the kept link is the same file
    snakemake_deletes(folder, its_manifest)
    assert run() == "made"
    assert (folder / "deep" / "weights").read_text() == "made"


def test_a_command_outside_the_graph_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(TOLD, raising=False)
    (tmp_path / "a").write_text("a")
    manifest.write("a.json", ["a"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "a.json"]


def test_where_there_are_no_hard_links_the_node_is_made_again(node, monkeypatch):
    run, folder, its_manifest = node

    def refuse(*_, **__):
        raise OSError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    snakemake_deletes(folder, its_manifest)
    assert run() == "made"
    assert not list((folder.parents[1] / ".kept").glob("*"))
