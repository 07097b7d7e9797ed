"""Training by TRL, for real: a few steps of a tiny model, killed and continued, into EasyR1's layout."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, section

from workflow_scripts import files
from workflow_scripts.console import BadInput
from workflow_scripts.grpo import checkpoints, configure, merge, train, trl_engine
from workflow_scripts.params.grpo import Merge


@pytest.fixture(scope="module")
def config(dataset, tmp_path_factory) -> dict:
    """Two steps of two prompts with two answers each, from an untrained model."""
    from workflow_scripts.params.sft import TinyModel
    from workflow_scripts.sft import tiny_model

    model = tmp_path_factory.mktemp("start") / "base"
    model.mkdir()
    tiny_model.build(TinyModel(), model)
    small = {"steps": 2, "save_every": 1, "prompts_per_step": 2, "generations": 2, "max_completion_length": 8}
    small |= {"warmup_steps": 0, "learning_rate": 1e-2}
    return configure.configure(section("mini", trl=small), str(model), str(dataset), ROOT, "grpo")


def pay_for_letters(inputs, **_):
    """A reward that differs between any two answers."""
    return [{"overall": (sum(i["response"].encode()) % 101) / 101} for i in inputs]


def test_a_killed_run_continues_to_the_same_weights_in_easyr1s_layout(config, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    save = trl_engine.Run.save
    # an untrained model would earn zero for everything and learn nothing
    monkeypatch.setattr(trl_engine.rewards, "compute_score", pay_for_letters)

    def killed_at_two(self, model, step, value):
        if step == 2:
            raise KeyboardInterrupt
        save(self, model, step, value)

    monkeypatch.setattr(trl_engine.Run, "save", killed_at_two)
    with pytest.raises(KeyboardInterrupt):
        train.train(config, folder)
    assert checkpoints.select(folder).number == 1
    monkeypatch.setattr(trl_engine.Run, "save", save)
    train.train(config, folder)

    log = train.read_log(folder / trl_engine.LOG)
    assert [line["step"] for line in log if "reward" in line] == [1, 2]
    assert [line["step"] for line in log if "val" in line] == [0, 1, 2]
    step = checkpoints.select(folder)
    checkpoints.check_seal(step)
    assert (step.number, len(step.shards)) == (2, 2)
    assert not (folder / "trainer").exists()
    assert merge.merge(step, tmp_path / "model", Merge())["dtype"] == "float32"
    assert train.metrics(log, "noised")["steps"] == 2

    # the same as if nobody had killed it, bit by bit (one rank: quicker)
    train.train({**config, "shards": 1}, tmp_path / "uninterrupted")
    merge.merge(checkpoints.select(tmp_path / "uninterrupted"), tmp_path / "other", Merge())
    start, one, other = (
        files.sha256(f / "model.safetensors") for f in (Path(config["model"]), tmp_path / "model", tmp_path / "other")
    )
    assert one == other != start


def test_a_run_with_another_configuration_does_not_continue_this_one(tmp_path):
    a = train.run_folder(tmp_path / "checkpoints", "steps: 2", [])
    assert a == train.run_folder(tmp_path / "checkpoints", "steps: 2", [])
    assert a != train.run_folder(tmp_path / "checkpoints", "steps: 3", [])
    assert a.parent == tmp_path


def test_a_prompt_whose_pictures_are_not_in_front_is_refused():
    assert trl_engine.text_of("<image><image>the cat", 2) == "the cat"
    for problem in ("think. <image><image>the cat", "<image>the <image>cat", "the cat"):
        with pytest.raises(BadInput, match="as the trl engine needs"):
            trl_engine.text_of(problem, 2)


def test_the_rise_is_the_last_steps_against_the_first(tmp_path):
    log = tmp_path / trl_engine.LOG
    lines = [{"step": s, "reward": {"overall": 2.0 + 0.1 * (s > 10), "decision": 0.5}} for s in range(1, 21)]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    facts = train.metrics(train.read_log(log), "noised")
    assert (facts["reward_first"], facts["reward_last"], facts["reward_rise"]) == (2.0, 2.1, 0.1)
    assert train.curve(train.read_log(log))[-1]["running"] == pytest.approx(2.1)


def test_an_unreadable_picture_of_the_dataset_is_named(dataset, tmp_path):
    import shutil

    copy = Path(shutil.copytree(dataset, tmp_path / "pairs"))
    next((copy / "images" / "val").iterdir()).unlink()
    with pytest.raises(BadInput, match=r"images/val/.* is missing: build the pairs again"):
        trl_engine.read_rows(copy / "val.parquet")


def test_a_log_without_rewards_is_refused(tmp_path):
    files.write_text(tmp_path / trl_engine.LOG, '{"step": 0, "val": {}}\n')
    with pytest.raises(BadInput, match="logged no reward"):
        train.metrics(train.read_log(tmp_path / trl_engine.LOG), "noised")


@pytest.mark.parametrize(
    "started",
    [
        "easyr1.command = lambda config: [sys.executable]; easyr1.start(Path(), Path(), Path())",
        "tracker_client.running('dutrack', None).__enter__()",
    ],
    ids=["EasyR1", "the reward's tracker"],
)
def test_a_killed_training_takes_what_it_started_along(tmp_path, started):
    program = tmp_path / "program"  # stands in for a training or a service of hours
    program.write_text(f"#!/bin/sh\necho $$ > '{tmp_path}/pid'\nexec sleep 60\n")
    program.chmod(0o755)
    lines = "import sys; from pathlib import Path; from workflow_scripts.grpo import easyr1, tracker_client; "
    lines += f"sys.executable = {str(program)!r}; {started}"
    job = subprocess.Popen([sys.executable, "-c", lines])
    end = time.monotonic() + 40
    while not (text := (tmp_path / "pid").read_text() if (tmp_path / "pid").exists() else ""):
        assert job.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    job.kill()
    job.wait()
    while Path("/proc", text.strip()).exists():
        assert time.monotonic() < end, "it outlived its job"
        time.sleep(0.02)
