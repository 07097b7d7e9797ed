"""Merge a checkpoint's rank shards into one model folder of safetensors, whole or not at all.

    python -m workflow_scripts.grpo.merge --checkpoints results/mini/grpo/checkpoints --output results/mini/grpo/model \\
        --manifest results/mini/grpo/model.json

The weights are written under the published names, the config beside them says at top level what some versions look for only
there (architectures, tied embeddings), and keeps the cache on and the generation config as it was.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from workflow_scripts import console, files, manifest, params
from workflow_scripts.console import BadInput
from workflow_scripts.grpo import checkpoints
from workflow_scripts.grpo.assemble import Assembly, Model, describe
from workflow_scripts.params.grpo import Merge

NEEDED = (
    ("config.json",),
    ("tokenizer.json", "vocab.json"),
    ("tokenizer_config.json",),
    ("preprocessor_config.json", "processor_config.json"),
)


def merge(step: checkpoints.Step, output: Path, parameters: Merge) -> dict[str, int | str]:
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
        kind = next(iter(written["types"]))
        write_config(source / "config.json", folder / "config.json", model, kind)
    return {"step": step.number, "ranks": len(step.shards), "tensors": written["tensors"], "dtype": kind}


def write_weights(assembly: Assembly, folder: Path, parameters: Merge) -> dict:
    """Stream the tensors into files of at most parameters.largest_file bytes; more than one gets an index."""
    from safetensors.torch import save_file

    where, types, batches = {}, {}, list(_batches(assembly, parameters))
    for number, names in enumerate(batches, start=1):
        name = "model.safetensors" if len(batches) == 1 else f"model-{number:05d}-of-{len(batches):05d}.safetensors"
        tensors = {}
        for internal in names:
            tensor = cast(assembly.tensor(internal), parameters.dtype)
            stored = assembly.model.stored_as[internal]
            tensors[stored], where[stored] = tensor.clone(), name  # out of the memory-mapped shard
            types[str(tensor.dtype).removeprefix("torch.")] = True
        save_file(tensors, folder / name, metadata={"format": "pt"})
    if len(batches) > 1:
        total = sum((folder / name).stat().st_size for name in set(where.values()))
        files.write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": where})
    return {"tensors": len(where), "types": types}


def _batches(assembly: Assembly, parameters: Merge) -> Iterator[list[str]]:
    """Names of the tensors of each file; iterating the assembly also checks every tensor before anything is written."""
    batch: list[str] = []
    size = 0
    for name, tensor in assembly:
        width = cast(tensor[:0], parameters.dtype).element_size() * tensor.numel() if tensor.ndim else 8
        if batch and size + width > parameters.largest_file:
            yield batch
            batch, size = [], 0
        batch.append(name)
        size += width
    if batch:
        yield batch


def cast(tensor: torch.Tensor, dtype: str) -> torch.Tensor:
    """`tensor` in the type that is stored."""
    return tensor if dtype == "keep" or not tensor.is_floating_point() else tensor.to(getattr(torch, dtype))


def write_config(source: Path, target: Path, model: Model, kind: str) -> None:
    """The step's config with what must be said at top level: architecture, tied embeddings, cache, the weights' type."""
    config = files.read_json(source)
    config["architectures"] = [model.architecture]
    config["tie_word_embeddings"] = bool(model.tied)
    for part in [config, *(v for v in (config.get("text_config"),) if isinstance(v, dict))]:
        part["use_cache"] = True
    for key in {"torch_dtype", "dtype"} & set(config) or {"torch_dtype"}:
        config[key] = kind
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
    print(f"merged step {facts['step']}: {facts['tensors']} tensors of {facts['ranks']} ranks, {facts['dtype']}")
    if arguments.manifest:
        inputs = [arguments.checkpoints_manifest] if arguments.checkpoints_manifest else []
        manifest.write(arguments.manifest, [arguments.output], parameters.model_dump(), inputs, facts)


if __name__ == "__main__":
    console.run(main)
