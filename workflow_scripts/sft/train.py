"""Verb: fine-tune with LLaMA-Factory, and hand over a model folder that every later stage reads alike.

The training writes into a working folder beside its output, named with a dot and kept when it is killed: the next start with
the same configuration, data and base goes on from the last whole checkpoint. When it is through, the new weights are put
beside the base's own JSON files, reloaded, checked, and only then appear under the output's name, with the loss as CSV.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib
import json
import re
import shutil
import threading
from pathlib import Path
from typing import Any

import yaml

from workflow_scripts import console, files, gpus, manifest, weights
from workflow_scripts.console import BadInput
from workflow_scripts.sft import checkpoints, configure, factory

BYTES_A_PARAMETER = {"full": 16, "lora": 2}  # fp32 weights, gradients and two moments; bf16 weights that stay as they are
GATE_IMPORTS = "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl"  # seconds of a second core, while the training runs
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


def fingerprint(config: dict[str, Any]) -> str:
    """Hash of everything that decides the result: the configuration, the dataset's and the base model's content."""
    parts = [config, manifest.summary(config["dataset_dir"]), manifest.summary(config["model_name_or_path"])]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def last_checkpoint(run: Path) -> Path | None:
    """The newest checkpoint that was written whole (its trainer_state.json comes last); broken ones are removed."""
    found = sorted(run.glob("checkpoint-*"), key=lambda path: int(re.sub(r"\D", "", path.name) or 0), reverse=True)
    for folder in found:
        try:
            json.loads((folder / "trainer_state.json").read_text())
            weights.tensors(folder)
            return folder
        except (OSError, ValueError):
            print(f"{folder.name} was not written whole: removed")
            shutil.rmtree(folder)
    return None


def check_memory(base: Path, method: str) -> None:
    """BadInput if a GPU has less memory free than weights, gradients and AdamW's moments take in any case."""
    each = BYTES_A_PARAMETER[method]
    needed = each * weights.parameters(base)
    for gpu in gpus.visible() if gpus.driver() else []:
        if gpu.free < needed:
            raise BadInput(
                f"GPU {gpu.index} has {gpu.free / 2**30:.1f} GiB free, and {method} fine-tuning of {base} takes at least "
                f"{needed / 2**30:.1f} ({each} bytes a parameter): end what else runs there, take a larger one, or method lora."
            )


def prepare(config: dict[str, Any], work: Path) -> Path:
    """Make or reuse the working folder and write the child's configuration into it; returns that file's path."""
    mark, now = work / "fingerprint", fingerprint(config)
    if work.exists() and (not mark.exists() or mark.read_text() != now):
        print("an unfinished training with another configuration, data or base was found: started afresh")
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    mark.write_text(now)
    checkpoint = last_checkpoint(work / "run")
    own = config | {"output_dir": str(work / "run"), "overwrite_output_dir": checkpoint is None}
    if checkpoint is not None:
        print(f"resuming from {checkpoint.name}")
        own["resume_from_checkpoint"] = str(checkpoint)
        if config["finetuning_type"] == "full":
            # transformers 4.57 saves tensors under the Hub's names and, resuming, looks for its own: it finds none, warns, and
            # goes on with the base's weights. So the checkpoint itself is given as the model: loading a model maps the names.
            checkpoints.restore(Path(config["model_name_or_path"]), checkpoint)
            own["model_name_or_path"] = str(checkpoint)
    files.write_text(work / "config.yaml", yaml.safe_dump(own, sort_keys=False))
    return work / "config.yaml"


def losses(state: Path) -> list[dict[str, float]]:
    """Step, epoch, loss, learning rate and gradient norm of every logged step."""
    history = files.read_json(state)["log_history"]
    return [
        {key: entry.get(key) for key in ("step", "epoch", "loss", "learning_rate", "grad_norm")}
        for entry in history
        if "loss" in entry
    ]


def collect(run: Path, base: Path, folder: Path, method: str) -> dict[str, Any]:
    """Put the result of `run` into `folder`: weights and the base's other files (or the adapter), loss.csv. Returns facts."""
    curve = losses(run / "trainer_state.json")
    if not curve:
        raise BadInput(f"{run} logged no loss: set logging_steps below the number of steps.")
    with (folder / "loss.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(curve[0]))
        writer.writeheader()
        writer.writerows(curve)
    facts = {"steps": int(curve[-1]["step"]), "first_loss": curve[0]["loss"], "last_loss": curve[-1]["loss"]}
    if method == "lora":
        for name in ADAPTER:
            if not (run / name).exists():
                raise BadInput(f"{run} has no {name}: train again.")
            shutil.copy2(run / name, folder / name)
        return facts | {"adapter_tensors": len(weights.tensors(folder))}
    for path in sorted(p for p in run.iterdir() if checkpoints.is_weights(p)):
        shutil.copy2(path, folder / path.name)
        (folder / path.name).chmod(0o644)
    checkpoints.restore(base, folder)
    return facts | {"parameters": checkpoints.gate(folder, base)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--config", type=Path, required=True, help="LLaMA-Factory YAML written by workflow_scripts.sft.configure"
    )
    parser.add_argument("--output", type=Path, required=True, help="model folder to write")
    parser.add_argument("--input", type=Path, action="append", default=[], help="manifest it was made from, recorded")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    flags = parser.parse_args()
    config = yaml.safe_load(flags.config.read_text(encoding="utf-8"))
    base, work = Path(config["model_name_or_path"]), flags.output.with_name(f".{flags.output.name}.training")
    configure.check_registered(config)
    check_memory(base, config["finetuning_type"])
    own = prepare(config, work)
    threading.Thread(target=importlib.import_module, args=(GATE_IMPORTS,), daemon=True).start()
    factory.run(["train", str(own)], "running the same command again resumes from the last checkpoint")
    with files.atomic_folder(flags.output) as folder:
        facts = collect(work / "run", base, folder, config["finetuning_type"])
    print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items()))
    if flags.manifest:
        manifest.write(flags.manifest, [flags.output], config, [flags.config, *flags.input], facts)
    shutil.rmtree(work)


if __name__ == "__main__":
    console.run(main)
