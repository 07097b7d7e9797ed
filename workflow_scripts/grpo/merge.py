"""Merge a checkpoint's rank shards into one model folder of safetensors, whole or not at all.

    python -m workflow_scripts.grpo.merge --checkpoints results/mini/grpo/checkpoints --output results/mini/grpo/model \\
        --manifest results/mini/grpo/model.json

The weights are written under the published names, one tensor at a time: the largest one decides the memory, not the model. The
adapter of a LoRA step is added to its base. The config beside them says at top level what some versions look for only there
(architectures, tied embeddings), and keeps the cache on and the generation config as it was.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from workflow_scripts import console, files, manifest, params
from workflow_scripts.console import BadInput
from workflow_scripts.grpo import checkpoints, streamed
from workflow_scripts.grpo.assemble import Assembly, Model, describe
from workflow_scripts.params.grpo import Merge

NEEDED = (
    ("config.json",),
    ("tokenizer.json", "vocab.json"),
    ("tokenizer_config.json",),
    ("preprocessor_config.json", "processor_config.json"),
)


def merge(step: checkpoints.Step, output: Path, parameters: Merge) -> dict[str, Any]:
    """Write the model of `step` at `output` and return what it holds. BadInput names the file that is wrong."""
    source = step.actor / "huggingface"
    for choice in NEEDED:
        if not any((source / name).is_file() for name in choice):
            raise BadInput(f"{source / choice[0]} is missing: the step was not saved whole; train again.")
    model = describe(source)
    assembly = Assembly(step.shards, model)
    with files.atomic_folder(output) as folder:
        for path in sorted(source.iterdir()):
            if path.is_file() and path.suffix not in (".safetensors", ".bin", ".pt"):
                shutil.copyfile(path, folder / path.name)
        written = write_weights(assembly, folder, parameters)
        write_config(source / "config.json", folder / "config.json", model, written["dtype"])
    return {"step": step.number, "ranks": len(step.shards), "lora": assembly.adapter is not None} | written


def write_weights(assembly: Assembly, folder: Path, parameters: Merge) -> dict:
    """Stream the tensors into files of at most parameters.largest_file bytes; more than one gets an index."""
    internal = {assembly.model.stored_as[name]: name for name in assembly.owners()}
    entries = [
        streamed.Entry(stored, kind(assembly.dtype(name), parameters.dtype), assembly.model.shapes[name])
        for stored, name in internal.items()
    ]
    parts = list(split(entries, parameters.largest_file))
    where = {}
    for number, part in enumerate(parts, start=1):
        name = "model.safetensors" if len(parts) == 1 else f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        ordered = streamed.in_order(part)
        streamed.write(folder / name, ordered, (cast(assembly.tensor(internal[e.name]), parameters.dtype) for e in ordered))
        where |= {entry.name: name for entry in part}
    if len(parts) > 1:
        total = sum(entry.size for entry in entries)
        files.write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": where})
    return {"tensors": len(where), "dtype": str(entries[0].dtype).removeprefix("torch.")}


def split(entries: Sequence[streamed.Entry], largest: int) -> Iterator[list[streamed.Entry]]:
    """The tensors of each file, in their order."""
    part: list[streamed.Entry] = []
    size = 0
    for entry in entries:
        if part and size + entry.size > largest:
            yield part
            part, size = [], 0
        part.append(entry)
        size += entry.size
    if part:
        yield part


def kind(dtype: torch.dtype, wanted: str) -> torch.dtype:
    """The type in which tensors of `dtype` are stored."""
    return dtype if wanted == "keep" or not dtype.is_floating_point else getattr(torch, wanted)


def cast(tensor: torch.Tensor, dtype: str) -> torch.Tensor:
    """`tensor` in the type that is stored."""
    return tensor.to(kind(tensor.dtype, dtype))


def write_config(source: Path, target: Path, model: Model, dtype: str) -> None:
    """The step's config with what must be said at top level: architecture, tied embeddings, cache, the weights' type."""
    config = files.read_json(source)
    config["architectures"] = [model.architecture]
    config["tie_word_embeddings"] = bool(model.tied)
    for part in [config, *(v for v in (config.get("text_config"),) if isinstance(v, dict))]:
        part["use_cache"] = True
    for key in {"torch_dtype", "dtype"} & set(config) or {"torch_dtype"}:
        config[key] = dtype
    files.write_json(target, config)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Merge the rank shards of a GRPO checkpoint into one model folder.")
    parser.add_argument("--checkpoints", type=Path, required=True, help="folder with checkpoint_tracker.json")
    parser.add_argument("--checkpoints-manifest", type=Path, help="manifest of that folder, recorded as input")
    parser.add_argument("--output", type=Path, required=True, help="model folder")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    parser.add_argument("--parameters", help="JSON of grpo.merge (default: params.yaml)")
    parser.add_argument("--unsealed", action="store_true", help="merge a checkpoint without recorded hashes")
    arguments = parser.parse_args()
    parameters = params.section(arguments.parameters, "grpo.merge", Merge)
    step = checkpoints.select(arguments.checkpoints, parameters.step)
    if not arguments.unsealed:
        checkpoints.check_seal(step)
    facts = merge(step, arguments.output, parameters)
    added = ", adapter added" if facts["lora"] else ""
    print(f"merged step {facts['step']}: {facts['tensors']} tensors of {facts['ranks']} ranks, {facts['dtype']}{added}")
    if arguments.manifest:
        inputs = [arguments.checkpoints_manifest] if arguments.checkpoints_manifest else []
        manifest.write(arguments.manifest, [arguments.output], parameters.model_dump(), inputs, facts)


if __name__ == "__main__":
    console.run(main)
