"""The trainers' configuration: complete, known to the trainer, and refused before anything expensive starts."""

from __future__ import annotations

import json
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from conftest import ROOT, section

from workflow_scripts import files
from workflow_scripts.console import BadInput
from workflow_scripts.gpus import Device
from workflow_scripts.grpo import checkpoints, configure, easyr1, easyr1_config, preflight, train

RECIPES = ("reasoningtrack", "r1track-think", "r1track-nothink")
CROPS = {"reward": {"preset": "r1track-nothink"}, "pairs": {"source": "crops", "prompt": "r1track"}}


@pytest.fixture
def root(tmp_path, start) -> Path:
    """A working directory with everything that the full study's configuration names."""
    for name in ("train", "val"):
        (tmp_path / "pairs").mkdir(exist_ok=True)
        rows = {"problem": ["<image><image>the red bus"] * 1024}
        parquet.write_table(arrow.table(rows), tmp_path / "pairs" / f"{name}.parquet")
    (tmp_path / "model").symlink_to(start)
    reward = easyr1_config.REWARD_FILE.relative_to(ROOT)
    (tmp_path / reward).parent.mkdir(parents=True)
    (tmp_path / reward).write_text("")
    return tmp_path


def full(root: Path, **changes) -> dict:
    return configure.configure(section("full", **changes), "model", "pairs", root, "grpo")


def refused(root: Path, match: str, **overrides) -> None:
    with pytest.raises(BadInput, match=match):
        full(root, easyr1={"overrides": overrides})


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_full_studys_configuration_is_known_to_easyr1_key_by_key(root, recipe):
    own = {} if recipe == "reasoningtrack" else CROPS | {"reward": {"preset": recipe}}
    config = full(root, **own, easyr1={"recipe": recipe})
    flat = dict(easyr1_config.flatten(config["trainer"]))
    assert set(flat) <= set(easyr1_config.key_table())
    assert flat["worker.reward.reward_function"].endswith("grpo/easyr1_reward.py:compute_score")
    assert flat["worker.reward.reward_function_kwargs"]["preset"] == (recipe if own else "reasoningtrack-paper")
    assert flat["data.max_pixels"] == section("full").pairs.max_pixels
    assert config["easyr1"]["commit"] == "b44b311b669bf1fd1aa2fc36f2251482ba33cb16"


def test_a_key_that_easyr1_does_not_know_is_refused_with_the_nearest(root):
    refused(root, "no key worker.actor.ulysses_sequence_parallel_size", **{"worker.actor.ulysses_sequence_parallel_size": 1})
    refused(root, "no key worker.reward.reward_type", **{"worker.reward.reward_type": "batch"})
    refused(root, "no key trainer.total_epoch; did you mean trainer.total_epochs", **{"trainer.total_epoch": 3})


def test_a_value_of_the_wrong_kind_is_refused(root):
    refused(root, "data.max_pixels is 'abc'; EasyR1 wants int or null", **{"data.max_pixels": "abc"})
    refused(root, "worker.rollout.n is True; EasyR1 wants int", **{"worker.rollout.n": True})


@pytest.mark.parametrize(
    ("match", "overrides"),
    [
        ("rollout_batch_size by worker.actor.global_batch_size", {"data.rollout_batch_size": 200}),
        ("the GPUs by worker.rollout.tensor_parallel_size", {"worker.rollout.tensor_parallel_size": 3}),
        ("micro_batch_size_per_device_for_experience", {"worker.actor.micro_batch_size_per_device_for_experience": 7}),
        ("micro_batch_size_per_device_for_update", {"worker.actor.micro_batch_size_per_device_for_update": 3}),
        ("groups of two or more", {"worker.rollout.n": 1}),
        ("less than max_prompt_length", {"worker.rollout.max_num_batched_tokens": 4000}),
    ],
)
def test_batches_that_do_not_divide_are_refused(root, match, overrides):
    refused(root, match, **overrides)


@pytest.mark.parametrize(
    "key", ["data.format_prompt", "data.override_chat_template", "trainer.load_checkpoint_path", "data.image_dir"]
)
def test_a_path_that_easyr1_would_turn_into_null_is_refused(root, key):
    refused(root, f"{key} is nope, which does not exist", **{key: "nope"})


def test_a_path_that_easyr1_would_cut_is_refused(root):
    refused(root, "cuts a path at its @", **{"data.train_files": "pairs/train.parquet@train"})


def test_fewer_pairs_than_one_batch_are_refused(root):
    refused(root, "has 1024 rows, less than data.rollout_batch_size", **{"data.rollout_batch_size": 2048})


def test_a_reward_that_needs_a_tracker_without_one_is_refused(root):
    with pytest.raises(BadInput, match=r"set grpo\.easyr1\.tracker"):
        full(root, easyr1={"tracker": None})
    with pytest.raises(BadInput, match="the trl engine does not start"):
        changes = {"reward": {"preset": "reasoningtrack-iou"}, "pairs": {"source": "sequences"}}
        configure.configure(section("mini", **changes), "model", "pairs", root, "grpo")


@pytest.mark.parametrize(("preset", "wanted"), [("r1track-think", "crops"), ("recipe", "rendered")])
def test_a_reward_of_other_pairs_is_refused(root, preset, wanted):
    with pytest.raises(BadInput, match=f"preset {preset} scores .* grpo.pairs.source is sequences: set it to {wanted}"):
        full(root, reward={"preset": preset})


def test_a_reward_that_asks_no_tracker_starts_none(root):
    assert full(root)["easyr1"]["tracker"] == "dutrack_256_full"
    assert full(root, **CROPS)["easyr1"]["tracker"] is None


def test_a_prompt_that_is_too_long_with_its_pictures_is_named(root):
    long = ["<image><image>the red bus", "<image><image>" + "the red bus " * 1500]
    parquet.write_table(arrow.table({"problem": long}), root / "pairs" / "val.parquet")
    with pytest.raises(BadInput, match=r"val\.parquet, row 2: up to 668 tokens of pictures, \d+ of text .* \(4096\): lower"):
        full(root)
    with pytest.raises(BadInput, match=r"train\.parquet, row 1: up to 668 tokens of pictures, \d+ of text .* \(512\): lower"):
        full(root, easyr1={"overrides": {"data.max_prompt_length": 512}})


def test_launching_makes_every_path_absolute(root):
    trainer = easyr1_config.resolve(full(root)["trainer"], root)
    assert trainer["data"]["train_files"] == str(root / "pairs/train.parquet")
    assert trainer["worker"]["reward"]["reward_function"] == f"{easyr1_config_file(root)}:compute_score"


def easyr1_config_file(root: Path) -> Path:
    return root / easyr1_config.REWARD_FILE.relative_to(ROOT)


def test_the_mini_studys_configuration_is_known_to_trl(root):
    config = configure.configure(section("mini"), "model", "pairs", root, "grpo")
    assert (config["engine"], config["start_from"]) == ("trl", "noised")
    assert config["trainer"]["temperature"] == 0.7


def test_a_field_that_trl_does_not_know_is_refused_with_the_nearest():
    with pytest.raises(BadInput, match="no field num_generation; did you mean num_generations"):
        configure.check_trl({"num_generation": 8}, "grpo")
    with pytest.raises(BadInput, match="refuses these values"):
        configure.check_trl(configure.trl_arguments(section("mini").trl) | {"num_generations": 7}, "grpo")


def test_a_temperature_that_the_models_own_would_replace_is_refused():
    with pytest.raises(BadInput, match=r"library's default"):
        section("mini", trl={"temperature": 1.0})


# ---------------------------------------------------------------- EasyR1's run


def test_the_last_step_counts_whole_batches(root):
    trainer = full(root)["trainer"]
    assert easyr1.last_step(trainer, root) == 1024 // 256 * 2
    trainer["trainer"]["max_steps"] = 7
    assert easyr1.last_step(trainer, root) == 7


def test_logs_are_set_aside_before_each_start_and_put_together_by_step(tmp_path):
    for attempt in ([(1, 0.1), (2, 0.2), (3, 0.3)], [(3, 0.35), (4, 0.4)]):
        easyr1.archive_logs(tmp_path)
        assert not (tmp_path / train.LOG).exists()
        lines = [json.dumps({"step": s, "reward": {"overall": r}}) for s, r in attempt]
        (tmp_path / train.LOG).write_text("\n".join(lines) + "\n")
    easyr1.archive_logs(tmp_path)
    easyr1.join_logs(tmp_path)
    log = train.read_log(tmp_path / train.LOG)
    assert [(line["step"], line["reward"]["overall"]) for line in log] == [(1, 0.1), (2, 0.2), (3, 0.35), (4, 0.4)]
    assert train.metrics(log, "clean")["reward_last"] == pytest.approx(0.2625)


def test_a_run_is_complete_only_with_its_tracker_file_and_every_ranks_file(run):
    assert easyr1.reached(run) == 3
    easyr1.check_world(run, 2)
    with pytest.raises(BadInput, match="written by 2 ranks and cannot be continued by 4"):
        easyr1.check_world(run, 4)
    (run / "global_step_3" / "actor" / checkpoints.shard_name(2, 1)).unlink()
    with pytest.raises(BadInput, match=r"rank_1\.pt is missing"):
        easyr1.reached(run)


GOOD = [Device(str(n), "H100", (9, 0), 80 * preflight.GIB, 79 * preflight.GIB) for n in range(4)]
NODE = preflight.Node(tuple(GOOD), frozenset(preflight.PACKAGES), 2000 * preflight.GIB, frozenset())
PARAMETERS = 3_750_000_000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"gpus": tuple(GOOD[:3])}, ["shows 3 GPUs and grpo.easyr1.gpus asks for 4"]),
        ({"gpus": (GOOD[0]._replace(name="V100", capability=(7, 0)), *GOOD[1:])}, ["GPU 0 (V100) has compute capability 7.0"]),
        (
            {"gpus": (*GOOD[:3], GOOD[3]._replace(free=30 * preflight.GIB))},
            ["GPU 3 (H100) has 30 of 80 GiB free, and the rollout takes 60%"],
        ),
        ({"packages": frozenset({"vllm", "ray"})}, ["flash_attn is not installed in this environment: pip install"]),
        ({"disk": 9 * preflight.GIB}, ["9 GiB of disk are free, and the kept checkpoints take 105"]),
        ({"ports": frozenset({8750})}, ["port 8750 is taken"]),
        (
            {"gpus": (), "packages": frozenset(), "disk": 0},
            ["shows 0 GPUs", "flash_attn is not", "vllm is not", "ray is not", "0 GiB of disk"],
        ),
    ],
    ids=["nothing", "GPUs", "capability", "memory", "flash-attn", "disk", "port", "much"],
)
def test_what_a_gpu_node_lacks_is_said_in_a_sentence_each(root, change, said):
    found = preflight.lacks(replace(NODE, **change), full(root), PARAMETERS)
    assert len(found) == len(said)
    assert all(part in sentence and sentence.endswith(".") for part, sentence in zip(said, found, strict=True))


def test_a_machine_without_gpus_is_refused_at_once_with_all_that_it_lacks(root, tmp_path, monkeypatch):
    monkeypatch.chdir(root)
    config = full(root)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config["easyr1"]["tracker_port"] = taken.getsockname()[1]
        with pytest.raises(BadInput, match=r"0 GPUs and .* asks for 4.*flash_attn is not installed.*port \d+ is taken"):
            easyr1.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


UPSTREAM = """
import json, os, sys, yaml
from pathlib import Path
config = yaml.safe_load(Path(sys.argv[1].removeprefix("config=")).read_text())
save = Path(config["trainer"]["save_checkpoint_path"])
assert Path(config["data"]["train_files"]).is_absolute() and os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] == "1"
from workflow_scripts.grpo.rewards import compute_score
tracker = save / "checkpoint_tracker.json"
done = json.loads(tracker.read_text())["last_global_step"] if tracker.exists() else 0
log = (save / "experiment_log.jsonl").open("w")
for step in range(done + 1, 5):
    log.write(json.dumps({"step": step, "reward": {"overall": step / 10}}) + "\\n")
    actor = save / f"global_step_{step}" / "actor"
    (actor / "huggingface").mkdir(parents=True, exist_ok=True)
    (actor / "huggingface" / "config.json").write_text("{}")
    for rank in range(4):
        (actor / f"model_world_size_4_rank_{rank}.pt").write_text(f"{step} {rank}")
        if done == 0 and (step, rank) == (3, 1):
            sys.exit(1)
    record = {"last_global_step": step, "best_global_step": 1, "last_actor_path": str(actor)}
    tracker.write_text(json.dumps(record))
"""


def test_a_run_of_easyr1_that_dies_is_continued_and_sealed_when_its_last_step_is_whole(root, tmp_path, monkeypatch):
    """The process is a stand-in that writes what EasyR1 writes; launching, archiving and judging are real."""
    checkout = tmp_path / "checkout"
    (checkout / "verl" / "trainer").mkdir(parents=True)
    (checkout / "verl" / "trainer" / "main.py").write_text(UPSTREAM)
    monkeypatch.setattr(easyr1.preflight, "check", lambda config, folder: None)
    monkeypatch.setattr(easyr1, "prepare", lambda repository, commit: checkout)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(root)
    overrides = {"trainer.max_steps": 4}
    changes = {**CROPS, "easyr1": {"overrides": overrides}}
    config, folder = full(root, **changes), tmp_path / "run"
    with pytest.raises(BadInput, match=r"EasyR1 ended with status 1: .* continues from its last step"):
        train.train(config, folder)
    assert easyr1.reached(folder) == 2
    train.train(config, folder)
    step = checkpoints.select(folder)
    checkpoints.check_seal(step)
    assert (step.number, len(step.shards)) == (4, 4)
    assert files.read_json(folder / checkpoints.TRACKER)["last_actor_path"] == "global_step_4/actor"
    assert [line["step"] for line in train.read_log(folder / train.LOG)] == [1, 2, 3, 4]


def test_the_checkout_is_pinned_and_a_changed_one_is_refused(tmp_path, monkeypatch):
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
        command = ["git", "-C", str(tmp_path / "upstream"), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    monkeypatch.setenv("TRACKGRAPH_ENVS", str(tmp_path / "cache" / "envs"))
    (tmp_path / "upstream").mkdir()
    git("init", "--quiet")
    git("config", "uploadpack.allowAnySHA1InWant", "true")
    (tmp_path / "upstream" / "main.py").write_text("one")
    git("add", ".")
    git("commit", "--quiet", "-m", "one")
    commit = git("rev-parse", "HEAD")
    (tmp_path / "upstream" / "main.py").write_text("two")
    git("commit", "--quiet", "-am", "two")
    checkout = easyr1.prepare(str(tmp_path / "upstream"), commit)
    assert (checkout / "main.py").read_text() == "one"
    (checkout / "main.py").write_text("mine")
    with pytest.raises(BadInput, match="it was changed"):
        easyr1.prepare(str(tmp_path / "upstream"), commit)
    with pytest.raises(BadInput, match=r"git fetch of .* failed"):
        easyr1.prepare(str(tmp_path / "nowhere"), "0" * 40)


def test_a_damaged_log_line_is_refused_and_named(tmp_path):
    files.write_text(tmp_path / train.LOG, '{"step": 1, "reward": {"overall": 1}}\n{"step": 2, "rew')
    with pytest.raises(BadInput, match="line 2"):
        train.read_log(tmp_path / train.LOG)
