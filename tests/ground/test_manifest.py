"""A manifest says what a node made, holds no clock, and notices any change."""

import pytest

from workflow_scripts import manifest
from workflow_scripts.console import BadInput


@pytest.fixture
def made(tmp_path):
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("alpha")
    (folder / "deep" / "b.txt").write_text("beta")
    manifest.write(tmp_path / "model.json", [folder], parameters={"seed": 1}, facts={"rows": 2})
    return tmp_path


def test_the_same_content_gives_the_same_manifest(made):
    before = (made / "model.json").read_bytes()
    (made / "model" / "a.txt").write_text("alpha")
    manifest.write(made / "model.json", [made / "model"], parameters={"seed": 1}, facts={"rows": 2})
    assert (made / "model.json").read_bytes() == before


def test_a_manifest_counts_files_and_bytes(made):
    summary = manifest.read(made / "model.json")["outputs"]["model"]
    assert (summary["files"], summary["bytes"]) == (2, 9)


@pytest.mark.parametrize("change", ["edit", "delete", "add", "rename"])
def test_any_change_of_a_folder_is_noticed(made, change):
    manifest.verify(made / "model.json")
    file = made / "model" / "a.txt"
    if change == "edit":
        file.write_text("alphb")
    elif change == "delete":
        file.unlink()
    elif change == "add":
        (made / "model" / "c.txt").write_text("")
    else:
        file.rename(made / "model" / "z.txt")
    with pytest.raises(BadInput, match="is not what"):
        manifest.verify(made / "model.json")


def test_what_snakemake_puts_into_a_folder_is_no_change(made):
    (made / "model" / ".snakemake_timestamp").touch()
    manifest.verify(made / "model.json")


def test_a_missing_output_is_refused_by_name(tmp_path):
    with pytest.raises(BadInput, match="weights does not exist"):
        manifest.write(tmp_path / "m.json", [tmp_path / "weights"])
    assert not (tmp_path / "m.json").exists()


def test_a_json_that_is_no_manifest_is_refused(tmp_path):
    (tmp_path / "m.json").write_text("[]")
    with pytest.raises(BadInput, match="is not a manifest"):
        manifest.read(tmp_path / "m.json")
