"""What made a result can be shown back to its sources, and hashed again."""

import json
from pathlib import Path

import pytest

from workflow_scripts import manifest, node, provenance, recall


def make(folder, monkeypatch, reads, text="made"):
    """A node's job that makes `folder` of `reads`."""
    told = {"key": "k", "makes": [folder, f"{folder}.json"], "reads": recall.hashes(reads), "code": "c", "lock": "l"}
    told |= {"command": ["python", "-m", "workflow_scripts.track.train"], "commit": "abc", "began": 0.0}
    monkeypatch.setenv(node.TOLD, json.dumps(told))
    Path(folder).mkdir(parents=True)
    (Path(folder) / "file").write_text(text)
    manifest.write(f"{folder}.json", [folder])
    monkeypatch.delenv(node.TOLD)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Two nodes: data/mini/x is made of a source, results/mini/track/y of data/mini/x."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "source.txt").write_text("source")
    make("data/mini/x", monkeypatch, ["source.txt"])
    make("results/mini/track/y", monkeypatch, ["data/mini/x.json", "data/mini/x"])
    return tmp_path


def test_the_chain_leads_from_a_file_of_a_result_to_the_source(study):
    names = [(depth, name) for depth, name, _ in provenance.chain("results/mini/track/y/file")]
    assert names == [(0, "results/mini/track/y/file"), (1, "data/mini/x"), (2, "source.txt")]


def test_a_record_says_commit_command_environment_device_and_times(study):
    record = provenance.find("results/mini/track/y")
    assert record["commit"] == "abc" and "workflow_scripts.track.train" in record["command"]
    assert record["reads"]["data/mini/x"] == "" and len(record["reads"]["data/mini/x.json"]) == 64
    assert record["device"] and record["began"].startswith("1970") and record["seconds"] > 0


def test_a_whole_chain_verifies(study):
    assert list(provenance.problems("results/mini/track/y")) == []


def test_an_edited_output_anywhere_in_the_chain_is_named(study):
    (study / "data" / "mini" / "x" / "file").write_text("edited")
    assert ["x is not what" in p for p in provenance.problems("results/mini/track/y")] == [True]


def test_an_input_that_changed_after_it_was_read_is_named(study):
    (study / "source.txt").write_text("another")
    assert list(provenance.problems("results/mini/track/y")) == [
        "data/mini/x.json was made from another source.txt than the one that is here: run the node again."
    ]


def test_a_source_that_is_gone_is_named(study):
    (study / "source.txt").unlink()
    assert any("source.txt is missing" in p for p in provenance.problems("results/mini/track/y"))


def test_a_file_that_no_node_made_is_refused(study, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["provenance", "show", "source.txt"])
    with pytest.raises(provenance.BadInput, match="made by no node"):
        provenance.main()
    monkeypatch.setattr("sys.argv", ["provenance", "show", "results/mini/track/y"])
    provenance.main()
    assert "data/mini/x" in capsys.readouterr().out
