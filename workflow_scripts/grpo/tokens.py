"""Verb: what the reinforcement learning makes of frames, stored and read as pairs (see workflow_scripts.tokens).

The prompt is put together as TRL's trainer does it. EasyR1 calls the same processor; its own resize before that finds nothing
to do, because pictures are stored within its limits.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from workflow_scripts import console, params, tokens
from workflow_scripts.grpo import pairs, sampling, trl_engine
from workflow_scripts.grpo.dataset import read_rows
from workflow_scripts.params.grpo import Pairs
from workflow_scripts.sequences import Sequence


def see(flags: argparse.Namespace, frames: list[Path]) -> list[tokens.Seen]:
    """A pair of each frame, sampled from a sequence of two, written to a dataset and read as the trainer reads it."""
    from PIL import Image
    from transformers import AutoProcessor
    from trl import maybe_apply_chat_template
    from trl.data_utils import prepare_multimodal_messages

    settings = params.section(flags.parameters, "grpo.pairs", Pairs)
    processor = AutoProcessor.from_pretrained(flags.model, local_files_only=True)
    pad = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    seen = []
    with tempfile.TemporaryDirectory() as scratch:
        for frame in frames:
            boxes, present = np.tile([2.0, 2.0, 8.0, 8.0], (2, 1)), np.ones(2, dtype=bool)
            video = Sequence(frame.stem, "train", [frame, frame], boxes, present, tokens.SENTENCE)
            folder = Path(scratch, frame.stem)
            folder.mkdir()
            pairs.write(sampling.sampled([video], 1, settings, "train"), folder, "train", settings.prompt, 1)
            (row,) = read_rows(folder / "train.parquet")
            asked = [{"role": "user", "content": trl_engine.text_of(row["problem"], 2)}]
            prepare_multimodal_messages(asked, num_images=2)
            text = maybe_apply_chat_template({"prompt": asked}, processor)["prompt"]
            ids = processor(text=[text], images=[[Image.open(path) for path in row["images"]]])["input_ids"][0]
            count = list(ids).count(pad)
            seen.append(tokens.Seen(frame.stem, tokens.measure(row["images"][0]), count // 2, len(ids)))
    return seen


def main() -> None:
    """Command line."""
    tokens.stage(__doc__ or "", "grpo.pairs", see)


if __name__ == "__main__":
    console.run(main)
