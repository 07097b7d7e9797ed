"""What is wrong with a model, its GPUs or its settings is said in one sentence before any engine starts."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

import pytest
from conftest import STUB, settings, stub
from pydantic import ValidationError

from workflow_scripts import files, manifest
from workflow_scripts.console import BadInput
from workflow_scripts.serve.beforehand import check_memory
from workflow_scripts.serve.engines import Command
from workflow_scripts.serve.server import owned, serving

FILES = {
    "config.json": {"architectures": ["Qwen2_5_VLForConditionalGeneration"]},
    "tokenizer.json": {},
    "tokenizer_config.json": {"chat_template": "{{ messages }}"},
    "model.safetensors": {},
    "preprocessor_config.json": {},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files of a model, that no engine was ever started on."""
    for name, value in FILES.items():
        files.write_json(tmp_path / "a model" / name, value)
    return tmp_path / "a model"


def refused(model: Path, match: str, **changes: object) -> None:
    started = time.monotonic()
    with pytest.raises(BadInput, match=match) as raised, serving(settings(**changes), model, model.parent / "log"):
        raise AssertionError("the block must not run")
    assert time.monotonic() - started < 1.5
    assert "\n" not in str(raised.value) and not (model.parent / "log").exists()


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors", "preprocessor_config.json"])
def test_a_model_folder_that_lacks_a_file_is_refused(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    refused(folder, f"a model has no .*{missing.split('.')[-1]}.*: merge or export the model again")


def test_a_weight_file_that_the_index_lists_and_nobody_copied_is_named(folder: Path) -> None:
    parts = {f"t{i}": f"model-0000{i}-of-00002.safetensors" for i in (1, 2)}
    files.write_json(folder / "model.safetensors.index.json", {"weight_map": parts})
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    refused(folder, r"model-00002-of-00002\.safetensors is missing")


@pytest.mark.parametrize("named", [None, [], ["Qwen2_5_VLModel"]])
def test_a_config_whose_top_level_names_no_class_that_writes_is_refused(folder: Path, named: list[str] | None) -> None:
    inside = {"text_config": {"architectures": ["Qwen2_5_VLForConditionalGeneration"]}}
    files.write_json(folder / "config.json", inside | ({} if named is None else {"architectures": named}))
    refused(folder, r"config\.json names (no class|Qwen2_5_VLModel) under `architectures`")


def test_a_model_without_chat_template_is_refused(folder: Path) -> None:
    files.write_json(folder / "tokenizer_config.json", {})
    refused(folder, "has no chat template")


def test_a_model_that_is_not_what_its_node_made_is_refused(folder: Path) -> None:
    manifest.write(folder.parent / "a model.json", [folder])
    (folder / "model.safetensors").write_text("other weights")
    refused(folder, r"is not the model that .*a model\.json tells of")


@pytest.mark.parametrize("limits", [{"sampling": {"max_tokens": 2048}}, {"pixels": {"max_pixels": 28**2 * 1100}}])
def test_pictures_that_leave_no_room_for_the_answer_are_refused(limits: dict) -> None:
    with pytest.raises(
        ValidationError, match=r"may take 2\d+ tokens, more than vllm\.max_model_len \(2048\): raise it, or lower"
    ):
        settings(engine="vllm", **limits)


def test_a_given_server_whose_context_is_too_short_is_refused(tmp_path: Path) -> None:
    with (
        stub(settings(), tmp_path / "own log", "--context", "90") as running,
        pytest.raises(BadInput, match=r"takes 90 tokens and a question with its answer may have 108"),
        serving(settings(engine="url", url=running.url), tmp_path, tmp_path / "log"),
    ):
        pass


def test_a_given_servers_model_is_part_of_its_identity(tmp_path: Path) -> None:
    known = []
    for root in ("/models/step 24", "/models/step 48"):
        with stub(settings(), tmp_path / "own log", "--root", root) as running:
            parameters = settings(engine="url", url=running.url)
            with serving(parameters, tmp_path, tmp_path / "log") as endpoint:
                known.append(endpoint.identity.removeprefix(running.url))
    assert known[0] != known[1]


# ---------------------------------------------------------------- the port, and GPUs


def test_a_port_that_somebody_takes_in_between_costs_one_start(tmp_path: Path) -> None:
    parameters, taken = settings(), []

    def command(port: int) -> Command:
        if not taken:
            taken.append(socket.create_server(("127.0.0.1", port)))
        return Command([sys.executable, str(STUB), "--port", str(port)])

    with owned(command, parameters, "model-1", tmp_path / "log") as endpoint:
        assert endpoint.url != f"http://127.0.0.1:{taken[0].getsockname()[1]}"
    taken[0].close()


def test_a_port_that_is_taken_again_and_again_is_said(tmp_path: Path) -> None:
    held: list[socket.socket] = []

    def command(port: int) -> Command:
        held.append(socket.create_server(("127.0.0.1", port)))
        return Command([sys.executable, str(STUB), "--port", str(port)])

    with (
        pytest.raises(BadInput, match=r"(?s)ended with status 1 before it was ready.*Address already in use"),
        owned(command, settings(), "model-1", tmp_path / "log"),
    ):
        pass
    for one in held:
        one.close()
    assert len(held) == 2


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts an nvidia-smi in the path that knows devices of 80 GiB with so many GiB free."""

    def install(*free: float) -> None:
        lines = [f"{i}, GPU-{i}{i}, NVIDIA H100, 9.0, 81920, {round(gib * 1024)}" for i, gib in enumerate(free)]
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir()
        table = "\\n".join(lines)
        program.write_text(f"#!/bin/sh\nprintf '{table}\\n'\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("TRACKGRAPH_GPUS", raising=False)
    return install


ON_GPU = {"engine": "vllm", "device": "cuda", "dtype": "bfloat16"}


def test_a_gpu_that_is_used_already_is_named_with_what_is_free(folder: Path, driver) -> None:
    driver(79.5, 30.0)
    refused(
        folder, r"GPU 1 has 30\.0 of its 80\.0 GiB free and vLLM would take 72\.0", **ON_GPU, vllm={"tensor_parallel_size": 2}
    )


def test_the_gpus_that_are_visible_count(folder: Path, driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(79.5, 10.0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-11")
    refused(folder, r"GPU 1 has 10\.0 of its 80\.0 GiB free", **ON_GPU)
    refused(folder, r"tensor_parallel_size is 2 and 1 GPUs are visible", **ON_GPU, vllm={"tensor_parallel_size": 2})


def test_weights_that_are_larger_than_the_gpu_are_said(folder: Path, driver) -> None:
    driver(80.0)
    with (folder / "model.safetensors").open("wb") as handle:
        handle.truncate(90 * 2**30)  # takes no room on the disk
    with pytest.raises(BadInput, match=r"the weights of .* take 90\.0 GiB of each GPU and vLLM may take 72\.0 of GPU 0"):
        check_memory(settings(**ON_GPU), folder)
