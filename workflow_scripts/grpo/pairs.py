"""Build the pair dataset: train.parquet and val.parquet in EasyR1's columns, the pictures beside them.

    problem   prompt with one <image> a picture          images   paths relative to the dataset's folder
    answer    JSON of rewards.Truth: description, boxes, frames, attributes (EasyR1 passes this column alone to the reward)

mini renders pairs; full samples them from training splits through the index: two frames of one sequence in which the target is
present, the later one at most `longest_gap` frames on. No sequence is sampled that is also in a guarded test split, by name or
by the bytes of its first frame. Pictures are stored at the one size rule of every language-model stage.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from workflow_scripts import console, files, images, manifest, pairs, params, prompts, sequences
from workflow_scripts.console import BadInput
from workflow_scripts.grpo.rewards import Truth
from workflow_scripts.params.grpo import Pairs

LEAST_SIDE = 2.0  # pixels; thinner boxes are annotation noise


@dataclass(frozen=True)
class Row:
    """One pair before it is written: two RGB pictures, their file names, the truth."""

    pictures: tuple[np.ndarray, np.ndarray]
    names: tuple[str, str]
    truth: Truth


def rendered(parameters: Pairs, validation: bool) -> Iterator[Row]:
    """Rendered pairs; validation pairs come from the next seed."""
    count = parameters.validation if validation else parameters.train
    for at, pair in enumerate(pairs.mixture(parameters.seed + validation, count, parameters.views)):
        names = tuple(f"{'val' if validation else 'train'}/{at:05d}_{side}.png" for side in (1, 2))
        attributes = {"before": asdict(pair.before), "after": asdict(pair.after)}
        yield Row(pair.frames, names, Truth(pair.before.sentence, pair.boxes, ("", ""), attributes))  # type: ignore[arg-type]


def sampled(chosen: list[sequences.Sequence], count: int, parameters: Pairs, name: str) -> Iterator[Row]:
    """`count` pairs of the sequences `chosen`, visited in turn, seeded; frames are read where they lie."""
    generator = np.random.default_rng([parameters.seed, name == "val"])
    usable = {s.name: np.flatnonzero(visible(s)) for s in chosen}
    ready = [s for s in chosen if first_frames(usable[s.name], parameters.longest_gap).size]
    if not ready:
        raise BadInput("no training sequence has two frames with the target in view: check the index of the benchmark.")
    order = np.concatenate([generator.permutation(len(ready)) for _ in range(-(-count // len(ready)))])[:count]
    for at, position in enumerate(order):
        sequence = ready[position]
        shown = usable[sequence.name]
        first = int(generator.choice(first_frames(shown, parameters.longest_gap)))
        second = int(generator.choice(second_frames(shown, first, parameters.longest_gap)))
        indices = (int(shown[first]), second)
        frames = tuple(sequence.frames[i] for i in indices)
        pictures = tuple(images.fit_pixels(images.read_rgb(f), parameters.min_pixels, parameters.max_pixels) for f in frames)
        truth = Truth(sequence.sentence, sequence.boxes[list(indices)], tuple(f.as_posix() for f in frames))  # type: ignore[arg-type]
        names = tuple(f"{name}/{at // 1000:03d}/{at:06d}_{side}.jpg" for side in (1, 2))
        yield Row(pictures, names, truth)  # type: ignore[arg-type]


def visible(sequence: sequences.Sequence) -> np.ndarray:
    """Flags [N]: frames with the target in view and a box of more than a few pixels."""
    count = min(len(sequence.frames), len(sequence.boxes))
    boxes = sequence.boxes[:count]
    return sequence.present[:count] & np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] >= LEAST_SIDE).all(axis=1)


def first_frames(shown: np.ndarray, longest_gap: int) -> np.ndarray:
    """Positions in `shown` that another frame follows within `longest_gap` (0: any distance)."""
    return np.flatnonzero(np.diff(shown) <= (longest_gap or np.inf))


def second_frames(shown: np.ndarray, first: int, longest_gap: int) -> np.ndarray:
    """Frame indices after shown[first], at most `longest_gap` on (0: any distance)."""
    later = shown[first + 1 :]
    return later[later - shown[first] <= (longest_gap or np.inf)]


def check_leak(chosen: list[sequences.Sequence], guarded: Mapping[str, list[sequences.Sequence]]) -> None:
    """BadInput if a chosen sequence is in a guarded test split, by name or by the bytes of its first frame."""
    names = {s.name.casefold(): benchmark for benchmark, tests in guarded.items() for s in tests}
    for s in chosen:
        if s.name.casefold() in names:
            raise BadInput(
                f"sequence {s.name} is in the test split of {names[s.name.casefold()]}: "
                "take its benchmark out of grpo.pairs.benchmarks."
            )
    prints = {files.sha256(s.frames[0]): f"{b}/{s.name}" for b, tests in guarded.items() for s in tests}
    for s in chosen:
        twin = prints.get(files.sha256(s.frames[0]))
        if twin:
            raise BadInput(f"sequence {s.name} begins with the same frame as the test sequence {twin}: take one of them out.")


def from_indices(indices: Mapping[str, Path], parameters: Pairs) -> tuple[Iterator[Row], Iterator[Row]]:
    """Training and validation rows out of the benchmarks' indices; one sequence in twenty validates."""
    for benchmark in {*parameters.benchmarks, *parameters.guarded}:
        if benchmark not in indices:
            raise BadInput(f"no index of {benchmark} was given: add --index {benchmark}=results/.../{benchmark}.npz.")
    chosen = [s for b in parameters.benchmarks for s in sequences.read_index(indices[b], split="train") if s.sentence]
    if len(chosen) < 2:
        raise BadInput(
            f"the training splits of {', '.join(parameters.benchmarks) or 'no benchmark'} hold {len(chosen)} described "
            "sequences, two are needed: name benchmarks with a training split and sentences."
        )
    check_leak(chosen, {b: sequences.read_index(indices[b], split="test") for b in parameters.guarded})
    order = np.random.default_rng(parameters.seed).permutation(len(chosen))
    held = {int(i) for i in order[: max(1, len(chosen) // 20)]}
    training = [s for i, s in enumerate(chosen) if i not in held]
    validating = [s for i, s in enumerate(chosen) if i in held]
    return (
        sampled(training, parameters.train, parameters, "train"),
        sampled(validating, parameters.validation, parameters, "val"),
    )


def write(rows: Iterator[Row], folder: Path, name: str, prompt: str, total: int) -> dict[str, int]:
    """Write the pictures under folder/images and folder/<name>.parquet; returns the counts."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    columns: dict[str, list] = {"problem": [], "images": [], "answer": []}
    for row in console.progress(rows, f"writing {name} pairs", total):
        paths = [f"images/{n}" for n in row.names]
        for path, picture in zip(paths, row.pictures, strict=True):
            images.write_image(folder / path, picture)
        system, user = prompts.build(prompt, sentence=row.truth.description)
        if system is not None or user.count("<image>") != len(paths):
            raise BadInput(
                f"prompt {prompt} has a system text or no place for two pictures, which EasyR1's rows cannot hold: "
                "set grpo.pairs.prompt."
            )
        columns["problem"].append(user)
        columns["images"].append(paths)
        columns["answer"].append(row.truth.dump())
    if not columns["problem"]:
        raise BadInput(f"no {name} pair was made: ask for at least one.")
    parquet.write_table(arrow.table(columns), folder / f"{name}.parquet")
    return {f"{name}_pairs": len(columns["problem"])}


def build(output: Path, indices: Mapping[str, Path], parameters: Pairs) -> dict[str, int]:
    """The whole dataset at `output`; returns the counts of pairs."""
    if parameters.source == "rendered":
        training, validating = rendered(parameters, False), rendered(parameters, True)
    else:
        training, validating = from_indices(indices, parameters)
    with files.atomic_folder(output) as folder:
        facts = write(training, folder, "train", parameters.prompt, parameters.train)
        facts |= write(validating, folder, "val", parameters.prompt, parameters.validation)
        check_distinct(folder)
    return facts


def check_distinct(folder: Path) -> None:
    """BadInput if a validation picture is, byte for byte, a training picture."""
    training = {files.sha256(p) for p in sorted((folder / "images" / "train").rglob("*")) if p.is_file()}
    for path in sorted((folder / "images" / "val").rglob("*")):
        if path.is_file() and files.sha256(path) in training:
            raise BadInput(f"{os.path.relpath(path, folder)} is also a training picture: choose another grpo.pairs.seed.")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Build the pair dataset of GRPO in EasyR1's columns.")
    parser.add_argument(
        "--index", action="append", default=[], metavar="NAME=PATH", help="index of a benchmark (full); may be repeated"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the dataset")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    parser.add_argument("--parameters", help="JSON of grpo.pairs (default: params.yaml)")
    arguments = parser.parse_args()
    parameters = params.section(arguments.parameters, "grpo.pairs", Pairs)
    indices = {}
    for entry in arguments.index:
        name, found, path = entry.partition("=")
        if not found:
            raise BadInput(f"--index {entry}: write it as NAME=PATH.")
        indices[name] = Path(path)
    facts = build(arguments.output, indices, parameters)
    print(", ".join(f"{count} {name.replace('_', ' ')}" for name, count in facts.items()))
    if arguments.manifest:
        manifest.write(arguments.manifest, [arguments.output], parameters.model_dump(), indices.values(), facts)


if __name__ == "__main__":
    console.run(main)
