"""Write the trainer's configuration, checked against what that trainer knows, before anything expensive starts.

engine, start_from, model, pairs, reward     what `train` needs beside it; paths relative to the working directory
trainer                                      the trainer's own keys: GRPOConfig's fields (trl), EasyR1's tree (easyr1)
easyr1, shards                               how that trainer is brought up; rank files of a TRL checkpoint
"""

from __future__ import annotations

import argparse
import difflib
from pathlib import Path
from typing import Any

import yaml

from workflow_scripts import console, files, images, manifest, params, prompts
from workflow_scripts.console import BadInput
from workflow_scripts.grpo import easyr1_config, rewards
from workflow_scripts.params.grpo import Grpo, Pairs, Trl

SCORED = {
    "crops": "boxes in pixels of the picture",
    "sequences": "sentences by what a tracker makes of them in the frames",
    "rendered": "words on what was rendered",
}


def trl_arguments(settings: Trl) -> dict[str, Any]:
    """GRPOConfig's fields for the mini study (no KL, group-scaled advantages)."""
    return {
        "per_device_train_batch_size": settings.prompts_per_step * settings.generations,
        "num_generations": settings.generations,
        "gradient_accumulation_steps": 1,
        "max_completion_length": settings.max_completion_length,
        "max_prompt_length": None,  # a cut prompt would lose picture tokens
        "max_steps": settings.steps,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "cosine",  # a constant rate leaves the last steps' noise in the model
        "warmup_steps": settings.warmup_steps,
        "beta": settings.beta,
        "temperature": settings.temperature,
        "loss_type": "dapo",
        "scale_rewards": "group",
        "max_grad_norm": 1.0,
        "num_iterations": 1,
        "seed": settings.seed,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": settings.save_every,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "disable_tqdm": True,
    }


def check_trl(arguments: dict[str, Any], source: str) -> None:
    """BadInput if GRPOConfig does not know a key, or does not take the values together."""
    import dataclasses

    from trl import GRPOConfig

    known = {field.name for field in dataclasses.fields(GRPOConfig) if field.init}
    for key in arguments:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            raise BadInput(f"{source}: TRL's GRPOConfig knows no field {key}{f'; did you mean {close[0]}?' if close else ''}.")
    try:
        GRPOConfig(output_dir="unused", **arguments)
    except (ValueError, TypeError) as error:
        raise BadInput(f"{source}: TRL's GRPOConfig refuses these values ({error}).") from None


def configure(
    parameters: Grpo, model: str, pairs: str, root: Path, source: str, tracker_weights: str | None = None
) -> dict[str, Any]:
    """The whole configuration, checked. BadInput says what is wrong before a trainer would."""
    for path in (f"{model}/config.json", f"{pairs}/train.parquet", f"{pairs}/val.parquet"):
        if not (root / path).is_file():
            raise BadInput(f"{path} does not exist: build it first.")
    mixed = rewards.mix(parameters.reward.preset, parameters.reward.weights)
    preset, pairs_of = parameters.reward.preset, parameters.pairs.source
    wanted = "crops" if preset.startswith("r1track") else "sequences" if mixed.needs_tracker else "rendered"
    if pairs_of != wanted:
        raise BadInput(
            f"{source}: reward preset {preset} scores {SCORED[wanted]}, and grpo.pairs.source is {pairs_of}: "
            f"set it to {wanted}, or choose another preset."
        )
    config: dict[str, Any] = {
        "engine": parameters.engine,
        "start_from": parameters.start_from,
        "model": model,
        "pairs": pairs,
        "reward": parameters.reward.model_dump(),
    }
    if parameters.engine == "trl":
        assert parameters.trl is not None  # the parameters' own check
        if mixed.needs_tracker:
            raise BadInput(
                f"{source}: reward preset {parameters.reward.preset} asks a tracker, which the trl engine does not start."
            )
        arguments = trl_arguments(parameters.trl)
        check_trl(arguments, source)
        return config | {"shards": parameters.trl.shards, "trainer": arguments}
    assert parameters.easyr1 is not None
    if mixed.needs_tracker and parameters.easyr1.tracker is None:
        raise BadInput(f"{source}: reward preset {parameters.reward.preset} asks a tracker: set grpo.easyr1.tracker.")
    trainer = easyr1_config.render(parameters, model, pairs, "")
    easyr1_config.check(trainer, root, source)
    check_rows(root / pairs / "train.parquet", trainer["data"]["rollout_batch_size"])
    check_lengths(root / model, root / pairs, parameters.pairs, trainer["data"]["max_prompt_length"])
    launch = parameters.easyr1.model_dump(exclude={"overrides", "recipe"}) | {"tracker_weights": tracker_weights}
    if not mixed.needs_tracker:
        launch |= {"tracker": None, "tracker_weights": None}
    return config | {"easyr1": launch, "trainer": trainer}


def check_rows(path: Path, batch: int) -> None:
    """EasyR1 drops the last, incomplete batch: fewer rows than one batch leave nothing to train on."""
    import pyarrow.parquet as parquet

    count = parquet.ParquetFile(path).metadata.num_rows
    if count < batch:
        raise BadInput(f"{path} has {count} rows, less than data.rollout_batch_size ({batch}): ask for more grpo.pairs.train.")


def check_lengths(model: Path, dataset: Path, pairs: Pairs, longest: int) -> None:
    """BadInput if a prompt with its pictures is longer than EasyR1 takes: it would stop at that row, in mid-training."""
    import pyarrow.parquet as parquet
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
    area = pairs.crops.size**2 if pairs.source == "crops" else pairs.max_pixels
    for name in ("train", "val"):
        problems = parquet.read_table(dataset / f"{name}.parquet", columns=["problem"])["problem"].to_pylist()
        different = list(dict.fromkeys(problems))
        for problem, ids in zip(different, tokenizer([p.replace("<image>", "") for p in different])["input_ids"], strict=True):
            pictures = problem.count("<image>") * (area // images.TOKEN_SIDE**2)
            if len(ids) + pictures + prompts.TEMPLATE_TOKENS > longest:
                raise BadInput(
                    f"{dataset / name}.parquet, row {problems.index(problem) + 1}: up to {pictures} tokens of pictures, "
                    f"{len(ids)} of text and {prompts.TEMPLATE_TOKENS} around them are more than data.max_prompt_length "
                    f"({longest}): lower grpo.pairs.max_pixels, or raise it (grpo.easyr1.overrides)."
                )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Write and check the configuration of the GRPO trainer.")
    parser.add_argument("--model", required=True, help="folder of the model to start from")
    parser.add_argument("--pairs", required=True, help="folder of the pair dataset")
    parser.add_argument("--tracker-weights", help="folder of the weights of the tracker that the reward asks")
    parser.add_argument("--input", type=Path, action="append", default=[], help="manifest of an input; may be repeated")
    parser.add_argument("--output", type=Path, required=True, help="configuration (YAML)")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    parser.add_argument("--parameters", help="JSON of the section grpo (default: params.yaml)")
    arguments = parser.parse_args()
    parameters = params.section(arguments.parameters, "grpo", Grpo)
    weights = arguments.tracker_weights
    config = configure(parameters, arguments.model, arguments.pairs, Path.cwd(), "grpo", weights)
    header = f"# The GRPO trainer's configuration ({parameters.engine}), written by workflow_scripts.grpo.configure.\n"
    files.write_text(arguments.output, header + yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    print(f"{arguments.output}: {parameters.engine} from the {parameters.start_from} model, every key known")
    if arguments.manifest:
        recorded = parameters.model_dump(mode="json", exclude={"merge"})
        manifest.write(arguments.manifest, [arguments.output], recorded, arguments.input)


if __name__ == "__main__":
    console.run(main)
