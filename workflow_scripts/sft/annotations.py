"""Verb: the annotation files and their images. The mini study renders pairs and writes them as the published files are.

That is: a JSON list of {instruction, input, output, images} whose image paths begin with /your_root_path/, so that the
rewriting, the checks and the registration have the same work to do in both studies. The full study fetches the published
files and image sets by the register of sources.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workflow_scripts import console, files, images, manifest, pairs, params, prompts
from workflow_scripts.params.sft import Annotations
from workflow_scripts.sft import rows

RENDERED = "sft_dataset_rendered"


def row(pair: pairs.Pair, number: int, part: str, folder: Path) -> dict[str, Any]:
    """Write the pair's two frames under `folder` and return its row in the published form."""
    names = [f"images/{part}/sample{number:04d}/img{frame}.png" for frame in (1, 2)]
    for name, frame in zip(names, pair.frames, strict=True):
        images.write_image(folder / name, frame)
    _, user = prompts.build("reasoningtrack", sentence=pair.before.sentence)
    return {
        "instruction": "",
        "input": user,
        "output": pairs.answer(pair.before, pair.after),
        "images": [rows.PLACEHOLDER + name for name in names],
    }


def render(settings: Annotations, folder: Path) -> None:
    """Render training and held-out pairs; held-out rows also carry the attributes and boxes of both frames."""
    viewed = round(settings.views * settings.train)
    drawn = pairs.samples(settings.seed, settings.train - viewed + settings.heldout)
    shown = drawn[: settings.train - viewed] + pairs.views(settings.seed, viewed, settings.bare)
    train = [row(pair, number, "train", folder) for number, pair in enumerate(shown, start=1)]
    files.write_json(folder / f"{RENDERED}.json", train)
    heldout = []
    asked = drawn[settings.train - viewed :] + pairs.views(settings.seed + 1, settings.heldout_views)
    for number, pair in enumerate(asked, start=1):
        known = {"before": asdict(pair.before), "after": asdict(pair.after), "boxes": pair.boxes.round(3).tolist()}
        heldout.append(row(pair, number, "heldout", folder) | known)
    files.write_json(folder / "heldout.json", heldout)


def fetch(sources: list[str], store: Path, folder: Path) -> list[Path]:
    """Fetch the named sources into `store` and link what they hold into `folder`; returns their manifests.

    The data stage's own command does it: resumed, checked against the register, adopted from the inbox where no command can
    fetch. A source whose manifest is there is not fetched again.
    """
    run = [sys.executable, "-m", "workflow_scripts.in_env", "data", "--", "python", "-m", "workflow_scripts.data.fetch"]
    for source in sources:
        held, mark = store / source, store / f"{source}.json"
        if not mark.exists():
            store.mkdir(parents=True, exist_ok=True)
            done = subprocess.run([*run, "--source", source, "--output", str(held), "--manifest", str(mark)], check=False)
            if done.returncode:
                raise console.BadInput(f"{source} could not be fetched: do what the line above says, then run this again.")
        for entry in sorted(held.iterdir()):
            place = folder / entry.name
            if place.is_symlink():
                raise console.BadInput(f"{entry} and {place.resolve()} have one name: keep one of them.")
            place.symlink_to(entry.resolve())
    return [store / f"{source}.json" for source in sources]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder of annotation files and images to write")
    parser.add_argument("--parameters", help="JSON of sft.annotations (default: params.yaml)")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    flags = parser.parse_args()
    settings = params.section(flags.parameters, "sft.annotations", Annotations)
    made_from = []
    with files.atomic_folder(flags.output) as folder:
        if settings.train:
            render(settings, folder)
            print(f"rendered {settings.train} training pairs and {settings.heldout} held-out pairs into {flags.output}")
        else:
            made_from = fetch(settings.sources, flags.output.with_name(f"{flags.output.name}-sources"), folder)
    if flags.manifest:
        manifest.write(flags.manifest, [flags.output], settings.model_dump(), made_from)


if __name__ == "__main__":
    console.run(main)
