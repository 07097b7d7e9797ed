"""The arrows between modules: stages stand on the ground floor and beside nobody, with the two exceptions that are meant."""

import subprocess
import sys
from pathlib import Path

import pytest

from workflow_scripts import graph
from workflow_scripts.console import BadInput

ROOT = Path(__file__).parents[2]


def test_stages_import_the_ground_floor_and_nothing_beside_it():
    linter = Path(sys.executable).with_name("lint-imports")
    ended = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout


def test_the_snakefile_is_a_table_of_contents():
    assert len((ROOT / "Snakefile").read_text().splitlines()) < 80


def test_one_word_a_stage_in_five_places():
    tree = (ROOT / "params.yaml").read_text()
    for stage in graph.STAGES:
        assert f"\n{stage}:" in tree
        assert (ROOT / "rules" / f"{stage}.smk").is_file()
        assert (ROOT / "workflow_scripts" / stage / "__init__.py").is_file()
        assert list((ROOT / "envs").glob(f"{stage}*.lock"))
        assert list((ROOT / "tests" / stage).glob("test_*.py"))


def test_a_commands_sources_hold_what_it_imports_and_no_plumbing():
    found = graph.sources(["data.render"])
    assert "workflow_scripts/data/render.py" in found
    assert not any(Path(f).stem in {"console", "files", "manifest"} for f in found)


def test_what_is_remembered_of_a_module_is_what_parsing_it_says(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKGRAPH_CACHE", str(tmp_path / "cache"))
    module = tmp_path / "module.py"

    def meaning(text):
        module.write_text(text)
        graph._module.cache_clear()
        return graph._module(module)["meaning"]

    first = meaning("a = 1")
    assert meaning("a = 2") != first == meaning('"""Said."""\n# commented\na = 1')
    kept = list((tmp_path / "cache" / "code").iterdir())
    assert len(kept) == 3
    for remembered in kept:
        remembered.write_text('{"mean')
    assert meaning("a = 1") == first
    graph._module.cache_clear()


def test_a_module_that_does_not_exist_is_refused():
    with pytest.raises(BadInput, match="not a module"):
        graph.sources(["data.nothing"])


def test_no_file_is_longer_than_one_thing_needs():
    long = {p: n for p in ROOT.glob("workflow_scripts/**/*.py") if (n := len(p.read_text().splitlines())) > 450}
    assert not long
