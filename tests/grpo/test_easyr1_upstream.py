"""The pair dataset and the reward in EasyR1's own hands: its dataset reads the rows, its reward manager pays the answers.

Runs where EasyR1 can be imported: in the environment grpo-gpu, with the checkout that `grpo.easyr1.prepare` makes (or one named
by TRACKGRAPH_EASYR1). EasyR1's rollout and workers need a GPU; these parts do not.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from conftest import section

from workflow_scripts import in_env, pairs
from workflow_scripts.grpo import easyr1_config
from workflow_scripts.grpo.rewards import Truth


@pytest.fixture(scope="module")
def upstream():
    """EasyR1's package."""
    commit = section("full").easyr1.commit
    checkout = Path(os.environ.get("TRACKGRAPH_EASYR1") or in_env.cache_root().parent / "easyr1" / commit)
    sys.path.insert(0, str(checkout))
    try:
        yield pytest.importorskip("verl", reason="EasyR1 is not here", exc_type=ImportError)
    finally:
        sys.path.remove(str(checkout))


def test_easyr1s_reward_manager_pays_what_the_reward_says(upstream, start, dataset):
    import numpy as np
    import pyarrow.parquet as parquet
    import torch
    from transformers import AutoTokenizer
    from verl.protocol import DataProto
    from verl.workers.reward import AutoRewardManager, RewardConfig

    truths = [row["answer"] for row in parquet.read_table(dataset / "train.parquet").to_pylist()[:3]]
    before, after = (pairs.Target(**Truth.parse(truths[0]).attributes[name]) for name in ("before", "after"))
    texts = [pairs.answer(before, after), "no", pairs.answer(before, after) + " and so on"]
    tokenizer = AutoTokenizer.from_pretrained(start, padding_side="right")
    responses = tokenizer([f"{text}<|im_end|>" for text in texts], return_tensors="pt", padding=True)
    config = RewardConfig(
        reward_function=f"{easyr1_config.REWARD_FILE}:compute_score", reward_function_kwargs={"preset": "recipe"}
    )
    config.post_init()
    data = DataProto.from_dict(
        tensors={"responses": responses["input_ids"], "response_mask": responses["attention_mask"]},
        non_tensors={"ground_truth": np.array([truths[0]] * 3, dtype=object)},
    )
    paid, metrics = AutoRewardManager(config, tokenizer).compute_reward(data)
    assert metrics["overall"] == [3.0, 0.0, 0.0]
    assert metrics["decision"] == [1.0, 0.0, 0.0]
    # the reward lies on each answer's last token
    ends = responses["attention_mask"].sum(dim=1) - 1
    assert torch.equal(paid.gather(1, ends[:, None])[:, 0], torch.tensor([3.0, 0.0, 0.0]))
    assert paid.sum() == 3.0


def test_easyr1s_dataset_reads_the_rows_with_their_pictures_and_answers(upstream, start, dataset):
    from transformers import AutoProcessor, AutoTokenizer
    from verl.utils.dataset import RLHFDataset

    limits = section("mini").pairs
    tokenizer, processor = AutoTokenizer.from_pretrained(start), AutoProcessor.from_pretrained(start)
    read = RLHFDataset(
        data_path=str(dataset / "train.parquet"),
        tokenizer=tokenizer,
        processor=processor,
        prompt_key="problem",
        answer_key="answer",
        image_key="images",
        image_dir=str(dataset),
        max_prompt_length=128,
        min_pixels=limits.min_pixels,
        max_pixels=limits.max_pixels,
        filter_overlong_prompts=False,
    )
    assert len(read) == 24
    row = read[0]
    truth = Truth.parse(row["ground_truth"])
    text = tokenizer.decode(row["input_ids"][row["attention_mask"].bool()])
    assert f"{truth.description}<|im_end|>" in text
    picture = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    assert int((row["input_ids"] == picture).sum()) == 2 * 4  # two frames of 56 x 56


def test_every_key_of_the_table_is_easyr1s_with_its_default(upstream):
    """Those sections that can be imported without its rollout."""
    from dataclasses import fields

    from verl.workers.actor.config import ActorConfig
    from verl.workers.reward import RewardConfig

    table = easyr1_config.key_table()
    for prefix, config in (("worker.actor.", ActorConfig), ("worker.reward.", RewardConfig)):
        known = {key.removeprefix(prefix).split(".")[0] for key in table if key.startswith(prefix)}
        assert known == {f.name for f in fields(config) if f.init and not f.name.startswith("_")}, prefix
