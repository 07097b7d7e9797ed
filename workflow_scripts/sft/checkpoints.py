"""Model folders between stages: which files are weights, which belong to the base, and what must hold before a hand-over.

transformers 4.57 writes `tie_word_embeddings` only inside `text_config`; 5.x then reads the tied head as a new, random one and
says nothing. The base's own JSON files, in the Hub's flat form, are read right by every version: they are put back beside the
new weights, and the gate looks at what a reader really gets.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from workflow_scripts import weights
from workflow_scripts.console import BadInput

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")


def is_weights(path: Path) -> bool:
    """True for a weight file or the index of sharded ones."""
    return any(path.match(pattern) for pattern in WEIGHTS)


def restore(base: Path, folder: Path) -> None:
    """Copy every file of the base model but its weights into `folder`; dot files are other tools' marks."""
    for path in sorted(base.iterdir()):
        if path.is_file() and not is_weights(path) and not path.name.startswith("."):
            shutil.copy2(path, folder / path.name)


def gate(folder: Path, base: Path) -> int:
    """BadInput unless the model has the base's tensors, loads with no key missing, and shares its head if the base does.

    Returns the number of parameters.
    """
    import torch
    from transformers import AutoModelForImageTextToText

    names, expected = ({k: shape for k, (_, shape) in weights.tensors(f).items()} for f in (folder, base))
    if names != expected:
        odd = sorted(set(names.items()) ^ set(expected.items()))[0]
        raise BadInput(f"{folder}: tensor {odd[0]} {list(odd[1])} does not agree with {base}; train again.")
    model, info = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True, torch_dtype="auto")
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[kind]:
            raise BadInput(f"{folder}: {kind.replace('_', ' ')} on reload, first {sorted(info[kind])[0]}; train again.")
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    if tied != bool(json.loads((base / "config.json").read_text())["tie_word_embeddings"]):
        raise BadInput(f"{folder}: the head is {'' if tied else 'not '}tied to the embedding, unlike the base's; train again.")
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise BadInput(f"{folder}: {name} is not finite; lower the learning rate and train again.")
    return sum(parameter.numel() for parameter in model.parameters())
