"""Verb: the base model. The mini study builds a tiny one, the full study downloads one by its full commit."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from workflow_scripts import console, files, manifest, params
from workflow_scripts.params.sft import Base, HubModel


def download(hub: HubModel, folder: Path) -> None:
    """Download the repository's files into `folder`; BadInput says what to do when the Hub does not answer."""
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(
            hub.repository,
            revision=hub.revision,
            local_dir=folder,
            allow_patterns=["*.json", "*.safetensors", "*.txt", "*.jinja", "LICENSE*"],
        )
    except Exception as error:  # the Hub's client raises its own, requests' and OS errors alike
        endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
        raise console.BadInput(
            f"{hub.repository} at {hub.revision} could not be downloaded from {endpoint} ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}); set HF_ENDPOINT to a mirror that has it, and HF_TOKEN if it asks for one."
        ) from error


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="model folder to write")
    parser.add_argument("--parameters", help="JSON of sft.base (default: params.yaml)")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    flags = parser.parse_args()
    base = params.section(flags.parameters, "sft.base", Base)
    if base.tiny is not None:
        from workflow_scripts.sft import tiny_model

        with files.atomic_folder(flags.output) as folder:
            count = tiny_model.build(base.tiny, folder)
        print(f"built {flags.output}: {count} parameters")
    else:
        partial = flags.output.with_name(f".{flags.output.name}.partial")  # kept after a break: the Hub's client resumes in it
        download(base.hub, partial)
        with files.atomic_folder(flags.output) as folder:
            for member in sorted(p for p in partial.iterdir() if p.is_file()):
                member.rename(folder / member.name)
        import shutil

        shutil.rmtree(partial)
    if flags.manifest:
        manifest.write(flags.manifest, [flags.output], base.model_dump())


if __name__ == "__main__":
    console.run(main)
