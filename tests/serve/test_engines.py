"""Command lines: what a CPU and a GPU get, and that the choice of engine is a parameter and nothing else."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import settings
from pydantic import ValidationError

from workflow_scripts.serve import engines


def test_vllm_on_a_cpu_gets_flags_that_it_needs_to_answer_two_images() -> None:
    parameters = settings(engine="vllm")
    flags = engines.vllm_flags(parameters, Path("/a model"), 1234)
    assert flags[:3] == ["vllm", "serve", "/a model"]
    value = dict(itertools.pairwise(flags))
    assert value["--runner"] == "generate" and value["--generation-config"] == "vllm"
    assert value["--served-model-name"] == "stub" and value["--port"] == "1234" and value["--host"] == "127.0.0.1"
    assert json.loads(value["--limit-mm-per-prompt"]) == {"image": 2, "video": 0}
    assert json.loads(value["--mm-processor-kwargs"]) == {"min_pixels": 784, "max_pixels": 4704}
    assert value["--kv-cache-memory-bytes"] == str(2**30)
    assert "--enforce-eager" in flags and "--gpu-memory-utilization" not in flags


def test_vllm_on_a_gpu_gets_the_gpu_flags_from_the_gpu_lock() -> None:
    parameters = settings(engine="vllm", device="cuda", dtype="bfloat16", vllm={"enforce_eager": False})
    flags = engines.vllm_flags(parameters, Path("model"), 1)
    assert "--gpu-memory-utilization" in flags and "--tensor-parallel-size" in flags
    assert "--enforce-eager" not in flags and "--kv-cache-memory-bytes" not in flags
    assert engines.environment(parameters) == "serve-gpu"
    assert engines.environment(settings(engine="vllm")) == "serve"


def test_an_unknown_engine_and_half_an_address_are_refused() -> None:
    with pytest.raises(ValidationError):
        settings(engine="sglang")
    with pytest.raises(ValidationError, match="belong together"):
        settings(engine="url")
    with pytest.raises(ValidationError, match="belong together"):
        settings(engine="vllm", url="http://127.0.0.1:1")


def test_vllms_own_parser_takes_every_command_line_and_reads_it_as_meant() -> None:
    on_gpus = {"device": "cuda", "dtype": "bfloat16", "vllm": {"enforce_eager": False, "tensor_parallel_size": 2}}
    lines = [engines.vllm_flags(settings(engine="vllm", **change), Path("/a model"), 1234) for change in ({}, on_gpus)]
    script = Path(__file__).parent / "parse_flags.py"
    done = subprocess.run([sys.executable, str(script)], input=json.dumps(lines), text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    common = {
        "model_tag": "/a model",
        "served_model_name": ["stub"],
        "host": "127.0.0.1",
        "port": 1234,
        "runner": "generate",
        "limit_mm_per_prompt": {"image": 2, "video": 0},
        "mm_processor_kwargs": {"min_pixels": 784, "max_pixels": 4704},
        "generation_config": "vllm",
    }
    for read, eager, gpus in zip(json.loads(done.stdout.splitlines()[-1]), (True, False), (1, 2), strict=True):
        expected = common | {"enforce_eager": eager, "tensor_parallel_size": gpus}
        assert {name: read[name] for name in expected} == expected
