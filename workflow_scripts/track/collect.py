"""Put the shards of one tracker together: one folder with every sequence's results and a summary.

    python -m workflow_scripts.track.collect --index results/mini/data/tnllt.npz \\
        --shard results/mini/track/shards/tnllt/csrt/0 --output results/mini/track/raw/tnllt/csrt
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence as Series
from pathlib import Path

from workflow_scripts import console, files, manifest, sequences
from workflow_scripts.console import BadInput
from workflow_scripts.sequences import Sequence
from workflow_scripts.track import runner

KINDS = (".time.txt", ".confidence.txt", ".trace.jsonl", ".txt")


def collect(shards: Series[Path], chosen: Series[Sequence], output: Path) -> dict[str, float]:
    """Copy every sequence of `chosen` from the one shard that has it. BadInput if none or two do, or frames are missing."""
    with files.atomic_folder(output) as folder:
        for sequence in chosen:
            found = [shard for shard in shards if runner.is_sealed(shard, sequence)]
            if len(found) != 1:
                problem = "in no shard" if not found else f"in {len(found)} shards, {found[0]} and {found[1]}"
                raise BadInput(f"sequence {sequence.name} is {problem}: delete the shards' folders and run the tracker again.")
            boxes = runner.read_boxes(found[0] / f"{sequence.name}.txt")
            if len(boxes) != len(sequence.frames):
                raise BadInput(
                    f"{found[0] / sequence.name}.txt has {len(boxes)} boxes for {len(sequence.frames)} frames: "
                    "delete it and run the tracker again."
                )
            for kind in KINDS:
                shutil.copyfile(found[0] / f"{sequence.name}{kind}", folder / f"{sequence.name}{kind}")
        summary = runner.summarise(folder, chosen)
        files.write_json(folder / "summary.json", summary)
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--index", type=Path, required=True, help="index of the benchmark (.npz)")
    parser.add_argument("--split", default="test", help="split that was tracked")
    parser.add_argument("--shard", type=Path, nargs="+", required=True, help="folders of the shards")
    parser.add_argument("--output", type=Path, required=True, help="folder of the tracker's results")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    arguments = parser.parse_args()
    chosen = sequences.read_index(arguments.index, split=arguments.split)
    summary = collect(arguments.shard, chosen, arguments.output)
    if arguments.manifest:
        facts = {k: summary[k] for k in ("sequences", "frames", "vlm_calls", "fall_backs")}
        outputs = [arguments.output / f"{s.name}.txt" for s in chosen]
        manifest.write(arguments.manifest, outputs, {"split": arguments.split}, [arguments.index], facts)


if __name__ == "__main__":
    console.run(main)
