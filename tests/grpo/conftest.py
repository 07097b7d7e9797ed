"""Small real things for the tests: the section of params.yaml, a dataset of rendered pairs, a checkpoint of two ranks."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from workflow_scripts import files, params
from workflow_scripts.grpo import checkpoints, pairs
from workflow_scripts.params.grpo import Grpo

ROOT = Path(__file__).resolve().parents[2]


def section(study: str, **changes) -> Grpo:
    """The section grpo of one study, as params.yaml has it, with `changes` laid over."""
    tree = params.read_tree(ROOT / "params.yaml")["grpo"]
    common = {key: value for key, value in tree.items() if key not in params.STUDIES}
    return params.validate(Grpo, params.merge(params.merge(common, tree[study]), changes), "params.yaml")


@pytest.fixture(scope="session")
def start(tmp_path_factory) -> Path:
    """A tiny model with its tokenizer and processor, to start from."""
    from workflow_scripts.params.sft import TinyModel
    from workflow_scripts.sft import tiny_model

    folder = tmp_path_factory.mktemp("start") / "model"
    folder.mkdir()
    tiny_model.build(TinyModel(), folder)
    return folder


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    """24 training and 8 validation pairs."""
    folder = tmp_path_factory.mktemp("data") / "pairs"
    pairs.build(folder, {}, section("mini", pairs={"train": 24, "validation": 8}).pairs)
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A Qwen2.5-VL of random weights with a tied head, and the files of a tokenizer that nobody opens here."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    folder = tmp_path_factory.mktemp("model") / "tiny"
    text = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 99,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
    }
    vision = {
        "depth": 1,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "out_hidden_size": 32,
        "fullatt_block_indexes": [0],
    }
    config = Qwen2_5_VLConfig(**text, vision_config=vision, tie_word_embeddings=True)
    config.architectures = ["Qwen2_5_VLForConditionalGeneration"]
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(config).float()
    model.generation_config.temperature, model.generation_config.do_sample = 0.123, True
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        (folder / name).write_text("{}")
    return folder


def lay_out(root: Path, model: Path, write, step: int = 3, sealed: bool = True) -> Path:
    """A checkpoint folder around the shards that `write(actor, state)` makes; returns the actor folder."""
    import torch
    from transformers import AutoModelForImageTextToText

    state = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32).state_dict()
    actor = root / f"global_step_{step}" / "actor"
    actor.mkdir(parents=True)
    write(actor, state)
    ignored = shutil.ignore_patterns("*.safetensors")
    shutil.copytree(model, actor / "huggingface", ignore=ignored)
    files.write_json(root / checkpoints.TRACKER, {"last_global_step": step, "best_global_step": step})
    if sealed:
        checkpoints.seal_all(root)
    return actor


@pytest.fixture(scope="session")
def two_ranks(tiny, tmp_path_factory) -> Path:
    """A sealed checkpoint of `tiny`, written by two processes."""
    from workflow_scripts.grpo import shards

    root = tmp_path_factory.mktemp("run") / "checkpoints"
    lay_out(root, tiny, lambda actor, state: shards.write(state, actor, 2))
    return root


@pytest.fixture
def run(two_ranks, tmp_path) -> Path:
    """A copy of that checkpoint to spoil."""
    return Path(shutil.copytree(two_ranks, tmp_path / "checkpoints"))
