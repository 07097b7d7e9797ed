"""Outputs are whole or absent, and bad input is one sentence."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from workflow_scripts import console, files
from workflow_scripts.console import BadInput


def test_a_failed_write_leaves_the_old_file_and_no_remains(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(RuntimeError), files.atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_a_folder_appears_whole_and_replaces_the_old_one(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "stale").write_text("x")
    with files.atomic_folder(target) as temporary:
        (temporary / "weights").write_text("w")
        assert (target / "stale").exists()
    assert [p.name for p in target.iterdir()] == ["weights"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_what_killed_writers_left_is_swept_and_nothing_else(tmp_path):
    die = "import os, signal\nwith files.atomic_folder('model'): os.kill(os.getpid(), signal.SIGKILL)"
    code, place = f"from workflow_scripts import files\n{die}", {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=place).returncode == -signal.SIGKILL
    (tmp_path / ".model.7.tmp").write_text("half")
    left = (".model.json.8.tmp", ".model.provenance.json.8.tmp", "..model.unfinished.pt.9.tmp")
    others = {"model", ".model.unfinished.pt", ".models.9.tmp", ".a.model.9.tmp", "model.1.tmp"}
    for name in (*left, *others):
        (tmp_path / name).mkdir()
    files.sweep([tmp_path / "model.json", tmp_path / "absent" / "model"])
    assert {p.name for p in tmp_path.iterdir()} == others


def test_a_failed_folder_leaves_the_old_one(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "kept").write_text("x")
    with pytest.raises(RuntimeError), files.atomic_folder(target) as temporary:
        (temporary / "weights").write_text("w")
        raise RuntimeError
    assert [p.name for p in target.iterdir()] == ["kept"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_killed_writer_leaves_nothing_under_the_final_name(tmp_path):
    target = tmp_path / "result.txt"
    script = textwrap.dedent(
        f"""
        import os, signal
        from workflow_scripts import files
        with files.atomic_path({str(target)!r}) as temporary:
            temporary.write_text("half of it")
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=Path.cwd(), env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    assert ended.returncode == -signal.SIGKILL
    assert not target.exists()


def test_broken_json_is_refused_with_file_and_line(tmp_path):
    path = tmp_path / "broken.json"
    path.write_text('{"a": 1,\n "b": }')
    with pytest.raises(BadInput, match=r"broken\.json, line 2"):
        files.read_json(path)


def test_bad_input_ends_a_command_with_one_sentence_and_status_1(capsys):
    def main() -> None:
        raise BadInput("frames.txt, line 3: no such image; restore the dataset again.")

    with pytest.raises(SystemExit) as ended:
        console.run(main)
    assert ended.value.code == 1
    assert capsys.readouterr().err == "error: frames.txt, line 3: no such image; restore the dataset again.\n"


def test_progress_yields_everything_in_order():
    assert list(console.progress(range(5), "counting")) == [0, 1, 2, 3, 4]


def test_the_bar_of_a_terminal_shows_the_rate(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(console.progress((time.sleep(0.01) for _ in range(30)), "frames", 30)) == [None] * 30
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert re.search(r"30/30 +\d+(\.\d+)?/s", shown)
