"""Environments: locks are read with what they include, and only a CPU build of torch is left to pip."""

import subprocess
import sys

import pytest

from workflow_scripts import in_env


def test_every_lock_pins_every_requirement_with_a_hash():
    for path in sorted(in_env.LOCKS.glob("*.lock")):
        torch, rest = in_env.split_requirements(in_env.read_lock(path.stem))
        requirements = [line for line in rest.splitlines() if line and not line[0].isspace() and line[0] != "#"]
        assert requirements, path
        assert all("==" in line and line.endswith("\\") for line in requirements), path
        assert len(torch) <= 1, path


def test_a_lock_that_includes_another_shares_its_environment():
    assert in_env.environment("grpo")[0] == in_env.environment("sft")[0]


def test_editing_a_lock_gives_another_environment(tmp_path, monkeypatch):
    for file in in_env.LOCKS.glob("*"):
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    before = in_env.environment("score")[0]
    monkeypatch.setattr(in_env, "LOCKS", tmp_path)
    assert in_env.environment("score")[0] == before
    (tmp_path / "score.lock").write_text((tmp_path / "score.lock").read_text() + "\n")
    assert in_env.environment("score")[0] != before


def test_the_cpu_build_of_torch_is_split_from_the_hashed_rest():
    torch, rest = in_env.split_requirements("a==1 \\\n    --hash=x\ntorch==2.0+cpu \\\n    --hash=y\nb==2 \\\n    --hash=z\n")
    assert torch == ["torch==2.0+cpu"]
    assert rest == "a==1 \\\n    --hash=x\nb==2 \\\n    --hash=z\n"


def test_a_gpu_build_of_torch_stays_with_its_hash():
    torch, rest = in_env.split_requirements("torch==2.0 \\\n    --hash=y\n")
    assert torch == [] and rest.startswith("torch==2.0 ")


def test_an_unknown_environment_is_refused_with_the_known_names():
    with pytest.raises(SystemExit, match=r"name one of the environments base, "):
        in_env.read_lock("nothing")


def test_a_build_that_was_killed_is_never_used(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKGRAPH_ENVS", str(tmp_path))
    folder, _ = in_env.environment("score")
    (folder / "bin").mkdir(parents=True)  # what a killed build leaves: no `complete` file
    builds = []

    def build(target, lock):
        assert not target.exists()
        target.mkdir()
        builds.append(target)

    monkeypatch.setattr(in_env, "build", build)
    assert in_env.ensure("score") == folder
    assert in_env.ensure("score") == folder
    assert builds == [folder]


def test_a_missing_program_is_one_sentence():
    command = [sys.executable, "-m", "workflow_scripts.in_env", "score", "--", "no-such-program"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "no-such-program is not a program of the score environment" in ended.stderr
