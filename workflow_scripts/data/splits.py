"""Write which sequence belongs to which split, from the index; refuse splits that share a sequence.

python -m workflow_scripts.data.splits --index results/mini/data/tnllt.npz --output results/mini/data/tnllt.splits.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

from workflow_scripts import console, files, manifest, sequences
from workflow_scripts.console import BadInput


def splits(records: list[dict]) -> dict[str, list[str]]:
    """Names by split, both in the index's order. BadInput when a name occurs twice."""
    result: dict[str, list[str]] = {}
    owner: dict[str, str] = {}
    for record in records:
        name, split = record["name"], record["split"]
        if name in owner:
            raise BadInput(
                f"{name} is in the {owner[name]} and in the {split} split: mend the benchmark's lists, then index again."
            )
        owner[name] = split
        result.setdefault(split, []).append(name)
    return result


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Write the splits of an indexed benchmark.")
    parser.add_argument("--index", type=Path, required=True, help="index of the benchmark")
    parser.add_argument("--output", type=Path, required=True, help="JSON to write: names by split")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    arguments = parser.parse_args()
    found = splits(sequences.read_header(arguments.index)["sequences"])
    files.write_json(arguments.output, found)
    print(", ".join(f"{split}: {len(names)}" for split, names in found.items()))
    if arguments.manifest:
        manifest.write(arguments.manifest, [arguments.output], facts={s: len(n) for s, n in found.items()})


if __name__ == "__main__":
    console.run(main)
