"""The hand-over matrix: a model written by any stage is the same model in the environment of every stage that reads it.

Real hand-overs, each in its own environment: the base that is built, LLaMA-Factory's full fine-tuning, its adapter exported,
TRL's rank shards merged; read by the transformers of sft and grpo, by that of serve (another major version), and by vLLM. What
breaks here breaks silently in a study: a tied head that another version takes for a new, random one gives fluent nonsense.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from workflow_scripts import in_env

HERE = Path(__file__).parent / "handover"
WRITTEN = ("base", "full", "exported", "merged")  # by build_base_model, train_sft, export_sft, merge_grpo
READERS = ("sft", "grpo", "serve")


def run(environment: str, *command: object) -> None:
    line = [sys.executable, "-m", "workflow_scripts.in_env", environment, "--", "python", *map(str, command)]
    package = {**os.environ, "PYTHONPATH": str(in_env.ROOT)}
    done = subprocess.run(line, env=package, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The model folders."""
    folder = tmp_path_factory.mktemp("chain")
    run("sft", HERE / "write.py", "sft", folder)
    run("grpo", HERE / "write.py", "grpo", folder)
    return [folder / name for name in WRITTEN]


@pytest.fixture(scope="module")
def seen(written: list[Path]) -> dict[str, Mapping[str, np.ndarray]]:
    """What each environment reads; stages that share one share the reading."""
    by_lock: dict[Path, Path] = {}
    for name in READERS:
        place = in_env.environment(name)[0]
        if place not in by_lock:
            by_lock[place] = written[0].parent / f"{name}.npz"
            run(name, HERE / "read.py", by_lock[place], *written)
    return {name: np.load(by_lock[in_env.environment(name)[0]]) for name in READERS}


def test_the_four_models_differ_so_that_their_comparison_says_something(seen: dict) -> None:
    logits = [seen["sft"][f"{name} logits"] for name in WRITTEN]
    for i, one in enumerate(logits):
        assert all(np.abs(one - other).max() > 0.05 for other in logits[:i])


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("model", WRITTEN)
def test_a_model_has_the_same_logits_wherever_it_is_read(seen: dict, model: str, reader: str) -> None:
    mine, its = seen["sft"], seen[reader]
    assert np.array_equal(mine[f"{model} ids"], its[f"{model} ids"])  # tokenizer, chat template and picture processor agree
    np.testing.assert_allclose(its[f"{model} logits"], mine[f"{model} logits"], atol=2e-5, rtol=0)
    assert np.array_equal(mine[f"{model} greedy"], its[f"{model} greedy"])


@pytest.mark.slow_server
def test_vllm_answers_as_transformers_does_with_every_model(written: list[Path], seen: dict) -> None:
    output = written[0].parent / "vllm.npz"
    run("serve", HERE / "read_vllm.py", output, *written)
    its, mine = np.load(output), seen["serve"]
    for model in WRITTEN:
        assert np.array_equal(its[f"{model} ids"], mine[f"{model} ids"]), model
        assert np.array_equal(its[f"{model} greedy"], mine[f"{model} greedy"]), model
        logits = mine[f"{model} logits"].astype(np.float64)
        right = (logits - np.logaddexp.reduce(logits))[its[f"{model} tokens"]]
        np.testing.assert_allclose(its[f"{model} logprobs"], right, atol=1e-3, rtol=0, err_msg=model)
