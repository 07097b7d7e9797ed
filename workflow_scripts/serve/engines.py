"""The engines' command lines, each one flag list: vLLM on a CPU or a GPU, and our own small server around transformers.

An engine runs in its own environment through `workflow_scripts.in_env`, while the caller stays in its own: their packages
clash. Which engine runs is a parameter and nothing else decides it.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from workflow_scripts import images, in_env
from workflow_scripts.params.serve import Serve

ENVIRONMENTS = {"vllm": "serve", "transformers": "sft"}


@dataclass(frozen=True)
class Command:
    """What starts a server: its command line and the variables that are added to the caller's environment."""

    line: list[str]
    variables: dict[str, str] = field(default_factory=dict)


def environment(parameters: Serve) -> str:
    """Name of the lock the engine runs from: on a GPU the one for GPUs, where there is one."""
    name = ENVIRONMENTS[parameters.engine]
    gpu = f"{name}-gpu"
    return gpu if parameters.device == "cuda" and (in_env.LOCKS / f"{gpu}.lock").exists() else name


def command(parameters: Serve, model: Path, port: int) -> Command:
    """Start the engine on the model folder, listening on 127.0.0.1:`port`. The environment is built first if need be."""
    name = environment(parameters)
    folder = in_env.ensure(name)  # not within the time the server has to start
    flags = {"vllm": vllm_flags, "transformers": transformers_flags}[parameters.engine](parameters, model.absolute(), port)
    variables = {"OMP_NUM_THREADS": str(parameters.threads), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    if parameters.engine == "vllm":
        variables |= vllm_variables(parameters, folder)
    return Command([sys.executable, "-m", "workflow_scripts.in_env", name, "--", *flags], variables)


def vllm_flags(parameters: Serve, model: Path, port: int) -> list[str]:
    """`vllm serve` for questions with two images."""
    vllm = parameters.vllm
    flags = [
        *("vllm", "serve", str(model)),
        *("--host", "127.0.0.1", "--port", str(port)),
        # else a config.json without top-level `architectures` starts as a pooling server: healthy, and 404 to every question
        *("--runner", "generate"),
        *("--served-model-name", parameters.name),
        *("--dtype", parameters.dtype),
        *("--max-model-len", str(vllm.max_model_len)),
        *("--max-num-seqs", str(vllm.max_num_seqs)),
        *("--seed", str(parameters.sampling.seed)),
        *("--limit-mm-per-prompt", json.dumps({"image": 2, "video": 0})),
        # the client has resized already: within these limits the processor's own resize changes nothing
        *("--mm-processor-kwargs", json.dumps({"min_pixels": images.LEAST_PIXELS, "max_pixels": parameters.pixels.max_pixels})),
        # the model's generation_config.json would change what the client does not send
        *("--generation-config", "vllm"),
        "--disable-uvicorn-access-log",
    ]
    if vllm.enforce_eager:
        flags.append("--enforce-eager")
    if parameters.device == "cuda":
        flags += ["--gpu-memory-utilization", str(vllm.gpu_memory_utilization)]
        flags += ["--tensor-parallel-size", str(vllm.tensor_parallel_size)]
    else:
        flags += ["--kv-cache-memory-bytes", str(round(vllm.kv_cache_gib * 2**30))]
        # the worker lives in the engine's process: one process and a quarter of the start-up less
        flags += ["--distributed-executor-backend", "uni"]
    return flags


def vllm_variables(parameters: Serve, folder: Path) -> dict[str, str]:
    """Variables of vLLM. `folder` is its environment."""
    variables = {
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        # kept beside the environment: what vLLM finds out about a model class in a process of its own, 13 s a start
        "VLLM_CACHE_ROOT": str(folder / "vllm-cache"),
        "VLLM_CONFIG_ROOT": str(folder / "vllm-cache"),
    }
    if parameters.device == "cpu":
        variables["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # lets `--distributed-executor-backend uni` through
        variables["CUDA_VISIBLE_DEVICES"] = ""
    return variables


def transformers_flags(parameters: Serve, model: Path, port: int) -> list[str]:
    """Our own server, see `transformers_server.py`."""
    return [
        *("python", "-m", "workflow_scripts.serve.transformers_server"),
        *("--model", str(model), "--served-model-name", parameters.name, "--port", str(port)),
        *("--device", parameters.device, "--dtype", parameters.dtype),
        *("--min-pixels", str(images.LEAST_PIXELS), "--max-pixels", str(parameters.pixels.max_pixels)),
        *("--batch", str(parameters.questions.in_flight)),
    ]


def child_environment(variables: dict[str, str], scratch: Path) -> dict[str, str]:
    """The caller's environment with the engine's variables; temporary files go to `scratch`."""
    return {**os.environ, "TMPDIR": str(scratch), **variables}
