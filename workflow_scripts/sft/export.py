"""Verb: merge a LoRA run's adapter into its base with ``llamafactory-cli export``, into a model folder like any other."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import yaml

from workflow_scripts import console, files, manifest
from workflow_scripts.console import BadInput
from workflow_scripts.sft import checkpoints, factory

SHARD_GIGABYTES = 5


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the run's LLaMA-Factory YAML")
    parser.add_argument("--adapter", type=Path, required=True, help="folder that the training wrote")
    parser.add_argument("--output", type=Path, required=True, help="model folder to write")
    parser.add_argument("--input", type=Path, action="append", default=[], help="manifest it was made from, recorded")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    flags = parser.parse_args()
    config = yaml.safe_load(flags.config.read_text(encoding="utf-8"))
    if config["finetuning_type"] != "lora":
        raise BadInput(f"{flags.config} is a {config['finetuning_type']} run: only a lora run has an adapter to export.")
    base = Path(config["model_name_or_path"])
    flags.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=flags.output.parent, prefix=f".{flags.output.name}.", suffix=".tmp") as scratch:
        merged = Path(scratch) / "merged"
        own = {
            "model_name_or_path": base.as_posix(),
            "adapter_name_or_path": flags.adapter.as_posix(),
            "template": config["template"],
            "finetuning_type": "lora",
            "export_dir": str(merged),
            "export_size": SHARD_GIGABYTES,
            "export_device": "cpu",
            "export_legacy_format": False,
        }
        files.write_text(Path(scratch) / "export.yaml", yaml.safe_dump(own, sort_keys=False))
        factory.run(["export", str(Path(scratch) / "export.yaml")], "run the same command again after the repair")
        with files.atomic_folder(flags.output) as folder:
            for path in sorted(p for p in merged.iterdir() if checkpoints.is_weights(p)):
                shutil.copy2(path, folder / path.name)
                (folder / path.name).chmod(0o644)
            checkpoints.restore(base, folder)
            count = checkpoints.gate(folder, base)
    print(f"{flags.output}: {count} parameters, adapter merged")
    if flags.manifest:
        manifest.write(
            flags.manifest, [flags.output], own | {"export_dir": flags.output.as_posix()}, [flags.config, *flags.input]
        )


if __name__ == "__main__":
    console.run(main)
