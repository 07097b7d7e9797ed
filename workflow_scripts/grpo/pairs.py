"""Build the pair dataset: train.parquet and val.parquet in EasyR1's columns, the pictures beside them.

    problem   prompt with one <image> a picture          images   paths relative to the dataset's folder
    answer    JSON of rewards.Truth: description, boxes, frames, attributes, and the tracker's IoU under the description
              (EasyR1 passes this column alone to the reward)

mini renders pairs; full samples them from training splits through the index (grpo.sampling): two frames of one sequence that
show the target. No sequence is sampled that is also in a guarded test split, by name or by the bytes of its first frame.
Pictures are stored at the one size rule of every language-model stage. The tracker's IoU under the description does not depend
on what is learnt: where the reward asks a tracker, it is measured here, once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

import numpy as np

from workflow_scripts import console, files, images, manifest, pairs, params, prompts, sequences
from workflow_scripts.console import BadInput
from workflow_scripts.grpo import tracker_client
from workflow_scripts.grpo.rewards import Question, Tracker, Truth
from workflow_scripts.grpo.sampling import Row, sampled
from workflow_scripts.params.grpo import Pairs

MEASURED = 256  # pairs in one request to the tracker


def rendered(parameters: Pairs, validation: bool) -> Iterator[Row]:
    """Rendered pairs; validation pairs come from the next seed."""
    count = parameters.validation if validation else parameters.train
    for at, pair in enumerate(pairs.mixture(parameters.seed + validation, count, parameters.views)):
        names = tuple(f"{'val' if validation else 'train'}/{at:05d}_{side}.png" for side in (1, 2))
        attributes = {"before": asdict(pair.before), "after": asdict(pair.after)}
        truth = Truth(pair.before.sentence, pair.boxes, ("", ""), attributes)
        yield Row(pair.frames, names, truth, {"sentence": truth.description})  # type: ignore[arg-type]


def from_indices(indices: Mapping[str, Path], parameters: Pairs) -> tuple[Iterator[Row], Iterator[Row]]:
    """Training and validation rows out of the benchmarks' indices; one sequence in twenty validates."""
    for benchmark in {*parameters.benchmarks, *parameters.guarded}:
        if benchmark not in indices:
            raise BadInput(f"no index of {benchmark} was given: add --index {benchmark}=results/.../{benchmark}.npz.")
    described = [s for b in parameters.benchmarks for s in sequences.read_index(indices[b], split="train")]
    if parameters.source == "sequences":
        described = [s for s in described if s.sentence]
    chosen = [s for s in described if s.name not in set(parameters.without)]
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


def check_leak(chosen: list[sequences.Sequence], guarded: Mapping[str, list[sequences.Sequence]]) -> None:
    """BadInput if a chosen sequence is in a guarded test split, by name or by the bytes of its first frame."""
    names = {s.name.casefold(): benchmark for benchmark, tests in guarded.items() for s in tests}
    for s in chosen:
        if s.name.casefold() in names:
            raise BadInput(
                f"sequence {s.name} is in the test split of {names[s.name.casefold()]}: "
                "take it out (grpo.pairs.without), or its benchmark (grpo.pairs.benchmarks)."
            )
    prints = {files.sha256(s.frames[0]): f"{b}/{s.name}" for b, tests in guarded.items() for s in tests}
    for s in chosen:
        twin = prints.get(files.sha256(s.frames[0]))
        if twin:
            raise BadInput(
                f"sequence {s.name} begins with the same frame as the test sequence {twin}: take it out (grpo.pairs.without)."
            )


def measured(rows: Iterator[Row], tracker: Tracker) -> Iterator[Row]:
    """`rows` with the tracker's IoU under their descriptions; None stays where the tracker failed, and is asked again later."""
    while part := list(islice(rows, MEASURED)):
        questions = [
            Question(row.truth.frames, tuple(tuple(map(float, box)) for box in row.truth.boxes), row.truth.description)  # type: ignore[arg-type]
            for row in part
        ]
        for row, iou in zip(part, tracker(questions), strict=True):
            yield replace(row, truth=replace(row.truth, iou_before=iou))


def write(rows: Iterator[Row], folder: Path, name: str, prompt: str, total: int) -> dict[str, int]:
    """Write the pictures under folder/images and folder/<name>.parquet; returns the counts."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    columns: dict[str, list] = {"problem": [], "images": [], "answer": []}
    unmeasured = 0
    for row in console.progress(rows, f"writing {name} pairs", total):
        paths = [f"images/{n}" for n in row.names]
        for path, picture in zip(paths, row.pictures, strict=True):
            images.write_image(folder / path, picture)
        unmeasured += row.truth.iou_before is None
        try:
            system, user = prompts.build(prompt, **row.asked)
        except KeyError as error:
            raise BadInput(
                f"prompt {prompt} asks for a {error.args[0]}, which these pairs do not have: set grpo.pairs.prompt."
            ) from None
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
    return {f"{name}_pairs": len(columns["problem"]), f"{name}_pairs_with_iou": len(columns["problem"]) - unmeasured}


def build(output: Path, indices: Mapping[str, Path], parameters: Pairs, tracker: Tracker | None = None) -> dict[str, int]:
    """The whole dataset at `output`; returns the counts of pairs."""
    if parameters.source == "rendered":
        training, validating = rendered(parameters, False), rendered(parameters, True)
    else:
        training, validating = from_indices(indices, parameters)
    if tracker is not None:
        if parameters.source != "sequences":
            raise BadInput(f"a tracker cannot be asked about {parameters.source} pairs: set grpo.pairs.source to sequences.")
        training, validating = measured(training, tracker), measured(validating, tracker)
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
    parser.add_argument("--tracker", help="tracker of the reward, whose IoU under the description is stored with each pair")
    parser.add_argument("--tracker-weights", type=Path, help="folder of its weights")
    parser.add_argument("--device", default="cpu", help="torch device of the tracker")
    parser.add_argument("--input", type=Path, action="append", default=[], help="manifest it was made from, recorded")
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
    with contextlib.ExitStack() as stack:
        tracker = None
        if arguments.tracker:
            service = tracker_client.running(arguments.tracker, arguments.tracker_weights, device=arguments.device)
            tracker = stack.enter_context(service)
        facts = build(arguments.output, indices, parameters, tracker)
    print(", ".join(f"{count} {name.replace('_', ' ')}" for name, count in facts.items()))
    if arguments.manifest:
        manifest.write(
            arguments.manifest, [arguments.output], parameters.model_dump(), [*indices.values(), *arguments.input], facts
        )


if __name__ == "__main__":
    console.run(main)
