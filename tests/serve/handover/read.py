"""Reads models with the transformers of this environment: `python read.py OUTPUT.npz MODEL...`.

Of each, by the folder's name: the ids of one question with two pictures, the logits after it, and the greedy answer's ids.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

STEPS = 12


def pictures() -> list[Image.Image]:
    """Two pictures of 56x56 that differ."""
    noise = np.random.default_rng(0).integers(0, 256, (2, 56, 56, 3), dtype=np.uint8)
    return [Image.fromarray(one) for one in noise]


def question() -> list[dict]:
    """The question as a conversation."""
    return [
        {"role": "user", "content": [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "the red plain circle"}]}
    ]


def main() -> None:
    said = {}
    for folder in map(Path, sys.argv[2:]):
        processor = AutoProcessor.from_pretrained(folder)
        text = processor.apply_chat_template(question(), add_generation_prompt=True, tokenize=False)
        inputs = processor(text=[text], images=pictures(), return_tensors="pt")
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
        greedy = {"do_sample": False, "temperature": None, "top_p": None, "repetition_penalty": 1.0}
        with torch.inference_mode():
            logits = model(**inputs).logits[0, -1]
            output = model.generate(**inputs, **greedy, max_new_tokens=STEPS, min_new_tokens=STEPS)
        ids = inputs["input_ids"][0].numpy()
        said |= {f"{folder.name} ids": ids, f"{folder.name} logits": logits.numpy()}
        said[f"{folder.name} greedy"] = output[0, len(ids) :].numpy()
    np.savez(sys.argv[1], **said)


if __name__ == "__main__":
    main()
