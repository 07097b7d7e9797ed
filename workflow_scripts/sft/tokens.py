"""Verb: what LLaMA-Factory makes of frames, rewritten, configured and read as for a training (see workflow_scripts.tokens)."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from workflow_scripts import console, files, params, prompts, tokens
from workflow_scripts.params.sft import Rows, Sft
from workflow_scripts.sft import configure, factory, rewrite, rows

NAME = "frames"
IGNORED = -100  # label of a token that is asked with


def see(flags: argparse.Namespace, frames: list[Path]) -> list[tokens.Seen]:
    """A row for each frame, through the stage's own nodes and LLaMA-Factory's dataset."""
    settings = params.section(flags.parameters, "sft", Sft)
    os.environ |= factory.environment()  # before its import
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    _, user = prompts.build("reasoningtrack", sentence=tokens.SENTENCE)
    answer = f"<think>same</think><d>no</d><answer>{tokens.SENTENCE}</answer>"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        made = [
            {"instruction": "", "input": user, "output": answer, "images": [rows.PLACEHOLDER + frame.name] * 2}
            for frame in frames
        ]
        files.write_json(folder / f"{NAME}.json", made)
        (folder / "dataset").mkdir()
        rewrite.rewrite(folder, flags.frames, Rows(files=[NAME]), settings.prompt, settings.pixels, folder / "dataset")
        recipe = next(iter(settings.runs.values())).recipe
        config = configure.render(recipe, settings.pixels, [NAME], flags.model, folder / "dataset", folder / "unused")
        here = {"use_cpu": True, "bf16": False, "preprocessing_num_workers": 1, "dataloader_num_workers": 0}
        model_args, data_args, training_args, *_ = get_train_args(config | here)
        module = load_tokenizer(model_args)
        template = get_template_and_fix_tokenizer(module["tokenizer"], data_args)
        read = get_dataset(template, model_args, data_args, training_args, stage="sft", **module)["train_dataset"]
        picture = module["tokenizer"].convert_tokens_to_ids(template.mm_plugin.image_token)
        return [
            tokens.Seen(
                frame.stem,
                tokens.measure(row["images"][0]),
                row["input_ids"].count(picture) // 2,
                row["labels"].count(IGNORED),
            )
            for frame, row in zip(frames, read, strict=True)
        ]


def main() -> None:
    """Command line."""
    tokens.stage(__doc__ or "", "sft", see)


if __name__ == "__main__":
    console.run(main)
