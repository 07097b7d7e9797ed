"""Read a benchmark's layout once, into the neutral index that all later stages use. No image is opened.

python -m workflow_scripts.data.index --benchmark tnllt --root data/mini/tnllt --output results/mini/data/tnllt.npz
"""

from __future__ import annotations

import argparse
from pathlib import Path

from workflow_scripts import console, manifest, sequences
from workflow_scripts.console import BadInput
from workflow_scripts.data import benchmarks, cache, layouts
from workflow_scripts.data.benchmarks import Benchmark
from workflow_scripts.data.layouts import common
from workflow_scripts.data.layouts.common import Entry
from workflow_scripts.sequences import Sequence


def refuse_mismatch(sequence: Sequence, first_frame_only: bool) -> None:
    """BadInput unless there is a frame for every box and a box for every frame (or one box, where no more is public)."""
    where = sequence.frames[0].parent if sequence.frames else sequence.name
    images, boxes = len(sequence.frames), len(sequence.boxes)
    if first_frame_only and images and boxes == 1:
        return
    if images < boxes:
        raise BadInput(
            f"{where} holds {images} images, but there are {boxes} boxes: restore the missing images of {sequence.name}."
        )
    if images > boxes:
        raise BadInput(
            f"{where} holds {images} images, but there are only {boxes} boxes: restore {sequence.name}'s annotation."
        )


def read_benchmark(name: str, root: Path, lists: Path | None = None, splits: list[str] | None = None) -> list[Sequence]:
    """All sequences of a benchmark (of some splits), refused if counts differ."""
    benchmark, found = benchmarks.load(name), []
    for entry, sequence in read_all(name, root, lists, splits):
        if isinstance(sequence, BadInput):
            raise sequence
        refuse_mismatch(sequence, entry.split in benchmark.first_frame_only)
        found.append(sequence)
    return found


def read_all(
    name: str, root: Path, lists: Path | None = None, splits: list[str] | None = None
) -> list[tuple[Entry, Sequence | BadInput]]:
    """Every sequence of a benchmark (of some splits), or what is wrong with its annotation; the unchanged from the cache."""
    benchmark = benchmarks.load(name)
    entries = [e for e in layouts.find(root, benchmark, lists) if not splits or e.split in splits]
    file, reader = cache.place(root, name), cache.reader_digest(benchmark)
    before = cache.load(file, root, reader)
    now: cache.Kept = dict(before) if splits else {}
    found: list[tuple[Entry, Sequence | BadInput]] = []
    for entry in console.progress(entries, f"{name}: sequences read", len(entries)):
        kept = cache.take(before, entry)
        if kept is None:
            kept = read_afresh(entry, benchmark)
        if not isinstance(kept, BadInput):
            now[cache.key(entry)] = kept
        found.append((entry, kept if isinstance(kept, BadInput) else kept[0]))
    if list(map(id, now.values())) != list(map(id, before.values())):
        cache.save(file, now, root, name, reader)
    return found


def read_afresh(entry: Entry, benchmark: Benchmark) -> cache.Reading | BadInput:
    """A sequence and the stamps of what it was read from."""
    with common.touched() as touched:
        try:
            sequence = layouts.read(entry, benchmark)
        except BadInput as error:
            return error
    return sequence, cache.stamps(touched)


def facts(found: list[Sequence]) -> dict[str, int]:
    """Counts for the manifest."""
    counts = {"sequences": len(found), "frames": sum(map(len, found))}
    return counts | {f"{split} sequences": sum(s.split == split for s in found) for split in sorted({s.split for s in found})}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description="Index a benchmark: paths, boxes, presence, language and attributes in one file."
    )
    parser.add_argument("--benchmark", required=True, help="name of a YAML in workflow_scripts/data/benchmarks")
    parser.add_argument("--root", type=Path, required=True, help="dataset folder")
    parser.add_argument("--lists", type=Path, help="folder of the split lists (default: the dataset folder)")
    parser.add_argument("--split", action="append", help="only this split; may be given again")
    parser.add_argument("--output", type=Path, required=True, help="index to write (.npz)")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    parser.add_argument(
        "--input", type=Path, action="append", default=[], help="manifest of what is indexed: frames change with it"
    )
    arguments = parser.parse_args()
    found = read_benchmark(arguments.benchmark, arguments.root, arguments.lists, arguments.split)
    sequences.write_index(arguments.output, found, arguments.root, arguments.benchmark)
    counts = facts(found)
    print(f"{arguments.output}: " + ", ".join(f"{count} {what}" for what, count in counts.items()))
    if arguments.manifest:
        manifest.write(arguments.manifest, [arguments.output], inputs=arguments.input, facts=counts)


if __name__ == "__main__":
    console.run(main)
