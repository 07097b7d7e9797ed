"""Convert an authors' checkpoint (.pth.tar) once into a folder of ours: weights.safetensors, config.json, vocabulary.txt."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from torch import nn

from workflow_scripts import console, files, manifest
from workflow_scripts.console import BadInput
from workflow_scripts.track import checkpoints
from workflow_scripts.track.networks import dutrack, seqtrack
from workflow_scripts.track.texts import Tokenizer

VARIANTS = (*dutrack.VARIANTS, *seqtrack.CONFIGS)


def network_of(variant: str, cased: bool = False) -> nn.Module:
    """Fresh network of an official variant; its weights are about to be replaced."""
    if variant in dutrack.VARIANTS:
        return dutrack.build(replace(dutrack.VARIANTS[variant], cased=cased))
    if variant in seqtrack.CONFIGS:
        return seqtrack.SeqTrack(seqtrack.CONFIGS[variant]).eval()
    raise BadInput(f"There is no variant {variant}: name one of {', '.join(VARIANTS)}.")


def convert(checkpoint: Path, variant: str, output: Path, vocabulary: Path | None = None, cased: bool = False) -> None:
    """Read, compare with the variant, write; nothing is written unless every name and shape agrees."""
    words = None
    if vocabulary is not None:
        words = Tokenizer.from_file(vocabulary, cased).words
        size = getattr(dutrack.VARIANTS.get(variant), "vocabulary_size", None)
        if size is not None and len(words) > size:
            raise BadInput(f"{vocabulary} has {len(words)} words, more than the network's {size}: give its own vocabulary.")
    network = network_of(variant, cased)
    checkpoints.load_exactly(network, checkpoints.read_checkpoint(checkpoint), str(checkpoint))
    with files.atomic_folder(output) as folder:
        checkpoints.save(folder, network, words)


def find(path: Path) -> Path:
    """The one .pth.tar in a folder, or the file itself. BadInput where there is none, or more than one."""
    if not path.is_dir():
        return path
    found = sorted(path.rglob("*.pth.tar"))
    if len(found) != 1:
        named = ", ".join(p.name for p in found) or "no .pth.tar"
        raise BadInput(f"{path} holds {named}: name one checkpoint.")
    return found[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="the authors' .pth.tar, or the folder that holds it")
    parser.add_argument("--variant", required=True, help=", ".join(VARIANTS))
    parser.add_argument("--vocabulary", type=Path, help="BERT vocabulary file of a DUTrack, copied into the folder")
    parser.add_argument("--cased", action="store_true", help="the vocabulary is a cased one (default: uncased)")
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    arguments = parser.parse_args()
    checkpoint = find(arguments.checkpoint)
    convert(checkpoint, arguments.variant, arguments.output, arguments.vocabulary, arguments.cased)
    if arguments.manifest:
        choices = {"variant": arguments.variant, "cased": arguments.cased}
        manifest.write(arguments.manifest, [arguments.output], choices, [checkpoint])


if __name__ == "__main__":
    console.run(main)
