"""Writes a model by every way the study has, with each stage's own commands at their smallest.

python write.py sft FOLDER      base (built), full (fine-tuned), exported (adapter, merged into the base)
python write.py grpo FOLDER     merged (reinforced from full: the trainer's rank shards, merged)
"""

import json
import runpy
import sys
from pathlib import Path

PIXELS = {"min_pixels": 3136, "max_pixels": 4704}
# 60 steps are enough to keep the form now and then: reinforcement without any reward would change nothing
LEARNING = {
    "learning_rate": 3e-3,
    "lr_scheduler_type": "constant",
    "per_device_train_batch_size": 16,
    "freeze_vision_tower": False,
    "freeze_multi_modal_projector": False,
    "cutoff_len": 256,
    "logging_steps": 1,
    "save_steps": 60,
    "use_cpu": True,
    "preprocessing_num_workers": 1,
    "seed": 1,
}


def verb(module: str, *flags: object, **parameters: object) -> None:
    """One command of a stage, in this process: its imports are the longest part of it."""
    sys.argv = [module, *map(str, flags)]
    for name, value in parameters.items():
        sys.argv += [f"--{name}", json.dumps(value)]
    runpy.run_module(f"workflow_scripts.{module}", run_name="__main__", alter_sys=True)


def sft(folder: Path) -> None:
    """Base, full and exported."""
    verb("sft.base_model", "--output", folder / "base", parameters={"tiny": {"hidden": 64, "vision_hidden": 32}})
    verb("sft.annotations", "--output", folder / "rows", parameters={"train": 64, "heldout": 1})
    given = ("--labels", "clean", "--annotations", folder / "rows", "--output", folder / "dataset")
    asked = {"style": "consistent", "name": "reasoningtrack"}
    verb("sft.rewrite", *given, parameters={"files": ["sft_dataset_rendered"]}, prompt=asked, pixels=PIXELS)
    for method, name, steps in (("full", "full", 60), ("lora", "adapter", 3)):
        config, output = folder / f"{name}.yaml", folder / name
        given = ("--labels", "clean", "--model", folder / "base", "--dataset", folder / "dataset", "--train-output", output)
        recipe = {"method": method, "arguments": LEARNING | {"max_steps": steps}}
        verb("sft.configure", *given, "--output", config, parameters=recipe, pixels=PIXELS)
        verb("sft.train", "--config", config, "--output", output)
    verb("sft.export", "--config", folder / "adapter.yaml", "--adapter", folder / "adapter", "--output", folder / "exported")


def grpo(folder: Path) -> None:
    """Merged."""
    pairs = {"source": "rendered", "train": 8, "validation": 2, **PIXELS}
    trl = {"steps": 2, "save_every": 2, "prompts_per_step": 4, "generations": 4, "learning_rate": 1e-2, "temperature": 0.9}
    section = {"engine": "trl", "start_from": "clean", "pairs": pairs, "reward": {"preset": "recipe"}, "trl": trl}
    verb("grpo.pairs", "--output", folder / "pairs", parameters=pairs)
    config, run = folder / "grpo.yaml", folder / "checkpoints"
    verb("grpo.configure", "--model", folder / "full", "--pairs", folder / "pairs", "--output", config, parameters=section)
    verb("grpo.train", "--config", config, "--output", run, "--metrics", folder / "metrics", "--curve", folder / "curve")
    verb("grpo.merge", "--checkpoints", run, "--output", folder / "merged", parameters={})


if __name__ == "__main__":
    {"sft": sft, "grpo": grpo}[sys.argv[1]](Path(sys.argv[2]))
