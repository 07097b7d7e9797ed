"""What can be said of a model before an engine starts on it: in no time here, after half a minute or never by the engine."""

from __future__ import annotations

import os
from pathlib import Path

from workflow_scripts import files, gpus, manifest
from workflow_scripts.console import BadInput
from workflow_scripts.params.serve import Serve

WRITERS = ("ForConditionalGeneration", "ForCausalLM")  # how classes that answer in words are called
NEEDED = {
    "configuration": ("config.json",),
    "weights": ("*.safetensors",),
    "tokenizer": ("tokenizer.json", "vocab.json"),
    "image processor": ("preprocessor_config.json",),
}
GIB = 2**30


def check_model(model: Path) -> None:
    """BadInput unless the folder has what every engine needs to answer questions with pictures."""
    if not model.is_dir():
        raise BadInput(f"{model} is not a folder: merge or export the model first.")
    for what, patterns in NEEDED.items():
        if not any(any(model.glob(pattern)) for pattern in patterns):
            raise BadInput(f"{model} has no {what} ({' or '.join(patterns)}): merge or export the model again.")
    index = model / "model.safetensors.index.json"
    for name in set(files.read_json(index)["weight_map"].values()) if index.is_file() else ():
        if not (model / name).is_file():
            raise BadInput(f"{model / name} is missing, which {index.name} lists: merge or export the model again.")
    config = files.read_json(model / "config.json")
    named = config.get("architectures") or []
    if not any(name.endswith(WRITERS) for name in named):
        # vLLM takes such a model for one that embeds: healthy, and 404 to every question
        raise BadInput(
            f"{model / 'config.json'} names {', '.join(named) or 'no class'} under `architectures` at its top level, and none "
            "that writes answers: merge or export the model again."
        )
    templates = ("chat_template.json", "chat_template.jinja")
    settings = model / "tokenizer_config.json"
    own = settings.is_file() and files.read_json(settings).get("chat_template")
    if not own and not any((model / name).is_file() for name in templates):
        raise BadInput(f"{model} has no chat template ({' or '.join(templates)}): merge or export the model again.")


def identity(model: Path, made_by: Path | None = None) -> str:
    """Hash of the model's files. BadInput unless it is the one in the manifest `made_by`, by default `model`.json if there."""
    beside = model.with_name(f"{model.name}.json")
    made_by = made_by or (beside if beside.is_file() else None)
    found = str(manifest.summary(model)["sha256"])
    if made_by and found not in [output["sha256"] for output in manifest.read(made_by)["outputs"].values()]:
        raise BadInput(f"{model} is not the model that {made_by} tells of: delete both and run their node again.")
    return found


def check_memory(parameters: Serve, model: Path) -> None:
    """BadInput where the GPUs for vLLM have not the free memory that it takes, or that is less than the model's weights."""
    settings = parameters.vllm
    weights = sum(path.stat().st_size for path in model.glob("*.safetensors")) / settings.tensor_parallel_size
    found = gpus.visible()[: settings.tensor_parallel_size]
    if len(found) < settings.tensor_parallel_size:
        raise BadInput(
            f"serve.vllm.tensor_parallel_size is {settings.tensor_parallel_size} and {len(found)} GPUs are visible "
            f"({gpus.VISIBLE}={os.environ.get(gpus.VISIBLE, 'unset')}): lower it, or ask for more."
        )
    for gpu in found:
        wanted = settings.gpu_memory_utilization * gpu.total
        if gpu.free < wanted:
            raise BadInput(
                f"GPU {gpu.index} has {gpu.free / GIB:.1f} of its {gpu.total / GIB:.1f} GiB free and vLLM would take "
                f"{wanted / GIB:.1f}: end what runs there, or lower serve.vllm.gpu_memory_utilization."
            )
        if weights > wanted:
            raise BadInput(
                f"the weights of {model} take {weights / GIB:.1f} GiB of each GPU and vLLM may take {wanted / GIB:.1f} of "
                f"GPU {gpu.index}: raise serve.vllm.tensor_parallel_size or gpu_memory_utilization."
            )
