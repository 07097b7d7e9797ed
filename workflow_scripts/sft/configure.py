"""Verb: LLaMA-Factory's configuration of one run, rendered from the parameters and read by LLaMA-Factory's own parser.

What the graph decides (paths, pixel limits, data, checkpoints that can be resumed) is set here; how to learn comes from the
run's `arguments`, which are LLaMA-Factory's own words. A word it does not know, or a value it would refuse after minutes of
loading, is refused now.
"""

from __future__ import annotations

import argparse
import copy
import difflib
import os
import tempfile
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from workflow_scripts import console, files, images, manifest, params, prompts
from workflow_scripts.console import BadInput
from workflow_scripts.params.sft import Pixels, Recipe
from workflow_scripts.sft import rows


def render(recipe: Recipe, pixels: Pixels, names: Iterable[str], model: Path, dataset: Path, output: Path) -> dict[str, Any]:
    """The configuration for the registered datasets `names`. BadInput if the recipe sets what the graph decides."""
    decided: dict[str, Any] = {
        "stage": "sft",
        "do_train": True,
        "finetuning_type": recipe.method,
        "model_name_or_path": model.as_posix(),
        "image_min_pixels": images.LEAST_PIXELS,  # pictures come resized: LLaMA-Factory's own rule shall change nothing
        "image_max_pixels": pixels.max_pixels,
        "template": recipe.template,
        "dataset": ",".join(names),
        "dataset_dir": dataset.as_posix(),
        "media_dir": ".",  # rows hold whole paths
        "overwrite_cache": True,
        "output_dir": output.as_posix(),
        "save_only_model": False,  # optimiser and random state too: a killed run goes on where it was
        "save_total_limit": 2,
        "report_to": "none",
        "disable_tqdm": True,
        "plot_loss": False,
    }
    if twice := sorted(set(decided) & set(recipe.arguments)):
        raise BadInput(f"sft.runs: {', '.join(twice)} is set by the workflow itself; remove it from the recipe's arguments.")
    return decided | recipe.arguments


def known_arguments() -> set[str]:
    """Every argument that the installed LLaMA-Factory takes for training."""
    from llamafactory.hparams.parser import _TRAIN_ARGS
    from transformers import HfArgumentParser

    return {action.dest for action in HfArgumentParser(_TRAIN_ARGS)._actions} - {"help"}


def validate(config: Mapping[str, Any]) -> None:
    """BadInput names an unknown argument with its nearest known one, or repeats why LLaMA-Factory refuses a value."""
    import torch

    # the parser asks the machine as well: precision is judged where the training runs, the rest also on a login node
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    from llamafactory.data.template import TEMPLATES
    from llamafactory.hparams import get_train_args

    known = known_arguments()
    for name in config:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise BadInput(f"LLaMA-Factory has no argument {name}{hint or '.'} Mend sft.runs in params.yaml.")
    if config["template"] not in TEMPLATES:
        raise BadInput(f"LLaMA-Factory has no template {config['template']}: set sft.runs.*.recipe.template to one it has.")
    tokens = 2 * config["image_max_pixels"] // images.TOKEN_SIDE**2
    cutoff = config.get("cutoff_len", 2048)
    if tokens >= cutoff:
        raise BadInput(
            f"two images take up to {tokens} tokens, but rows are cut at {cutoff} (cutoff_len): "
            "raise it, or lower sft.pixels.max_pixels."
        )
    elsewhere = {} if torch.cuda.is_available() else {"use_cpu": True, "bf16": False, "fp16": False}
    with tempfile.TemporaryDirectory() as empty:  # an output that exists would be taken for a run to resume
        try:
            get_train_args({**config, **elsewhere, "output_dir": str(Path(empty) / "output")})
        except (ValueError, TypeError) as error:
            raise BadInput(f"LLaMA-Factory refuses the configuration: {error}") from error


def check_registered(config: Mapping[str, Any]) -> None:
    """BadInput names a dataset that dataset_info.json does not register, or whose file is missing."""
    folder = Path(config["dataset_dir"])
    known = files.read_json(folder / "dataset_info.json")
    for name in config["dataset"].split(","):
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else "."
            raise BadInput(f"{folder / 'dataset_info.json'} registers no dataset {name}{hint} Rewrite the annotations again.")
        if not (folder / known[name]["file_name"]).is_file():
            raise BadInput(f"{folder / known[name]['file_name']} of dataset {name} is missing: rewrite the annotations again.")


def check_template(name: str, processor: Any) -> None:
    """BadInput if LLaMA-Factory's template `name` asks with other tokens than the model's own chat template."""
    from llamafactory.data.template import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments

    said = [{"role": "user", "content": "a question"}, {"role": "assistant", "content": "an answer"}]
    own = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "text", "text": "a question"}]}], add_generation_prompt=True, tokenize=False
    )
    template = get_template_and_fix_tokenizer(copy.deepcopy(processor.tokenizer), DataArguments(template=name))
    asked, _ = template.encode_oneturn(processor.tokenizer, said)
    found = processor.tokenizer.decode(asked)
    if found != own:
        raise BadInput(
            f"LLaMA-Factory's template {name} asks {found!r} where the model's own chat template asks {own!r}: "
            "set sft.runs.*.recipe.template to the model's."
        )


def check_lengths(config: Mapping[str, Any], tokenizer: Any) -> None:
    """BadInput names the first row that is longer than cutoff_len with its pictures: the training would cut it, or break."""
    folder, cutoff = Path(config["dataset_dir"]), config.get("cutoff_len", 2048)
    known = files.read_json(folder / "dataset_info.json")
    for name in config["dataset"].split(","):
        path, numbered = folder / known[name]["file_name"], enumerate(rows.read(folder / known[name]["file_name"]), start=1)
        while part := list(islice(numbered, 512)):
            texts = [f"{rows.question(row)}\n{rows.response(row)}" for _, row in part]
            for (number, row), ids in zip(
                part, tokenizer([t.replace(rows.IMAGE, "") for t in texts])["input_ids"], strict=True
            ):
                pictures = len(row["images"]) * (config["image_max_pixels"] // images.TOKEN_SIDE**2)
                if len(ids) + pictures + prompts.TEMPLATE_TOKENS > cutoff:
                    raise BadInput(
                        f"{path}, row {number}: up to {pictures} tokens of pictures, {len(ids)} of text and "
                        f"{prompts.TEMPLATE_TOKENS} around them are more than cutoff_len ({cutoff}): raise it, or lower "
                        "sft.pixels.max_pixels."
                    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", required=True, help="name of the run in sft.runs")
    parser.add_argument("--model", type=Path, required=True, help="base model folder")
    parser.add_argument("--dataset", type=Path, required=True, help="rewritten dataset folder")
    parser.add_argument("--train-output", type=Path, required=True, help="folder that the training will write")
    parser.add_argument("--output", type=Path, required=True, help="YAML to write")
    parser.add_argument("--parameters", help="JSON of sft.runs.<labels>.recipe (default: params.yaml)")
    parser.add_argument("--pixels", help="JSON of sft.pixels (default: params.yaml)")
    parser.add_argument("--input", type=Path, action="append", default=[], help="manifest it was made from, recorded")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    flags = parser.parse_args()
    from transformers import AutoProcessor, logging

    recipe = params.section(flags.parameters, f"sft.runs.{flags.labels}.recipe", Recipe)
    pixels = params.section(flags.pixels, "sft.pixels", Pixels)
    names = list(files.read_json(flags.dataset / "dataset_info.json"))
    config = render(recipe, pixels, names, flags.model, flags.dataset, flags.train_output)
    validate(config)
    check_registered(config)
    logging.set_verbosity_error()  # LLaMA-Factory has made it tell everything
    processor = AutoProcessor.from_pretrained(flags.model, local_files_only=True)
    check_template(config["template"], processor)
    check_lengths(config, processor.tokenizer)
    files.write_text(flags.output, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    print(f"{flags.output}: {len(config)} arguments, all known to the installed LLaMA-Factory")
    if flags.manifest:
        used = {"recipe": recipe.model_dump(), "pixels": pixels.model_dump()}
        manifest.write(flags.manifest, [flags.output], used, flags.input)


if __name__ == "__main__":
    console.run(main)
