"""Make the mini study's dataset: rendered sequences in TNLLT's layout, as a folder or as a published archive in parts.

    python -m workflow_scripts.data.render --output data/mini/upstream            # TNLLT_part_aa.. and TNLLT_parts.md5
    python -m workflow_scripts.data.render --form folder --output somewhere       # the sequences themselves

The archive form writes no sequence to disk: frames go from the drawing processes through tar and gzip into the parts. The
same parameters give the same bytes. Train and test sequences are disjoint because their seeds are.
"""

from __future__ import annotations

import argparse
import json
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from workflow_scripts import console, files, manifest, params, runs
from workflow_scripts.data import packing
from workflow_scripts.data.rendering import attributes, scene
from workflow_scripts.params.data import Rendering

SPLITS = ("train", "test")
PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]  # fastest, and smallest here
AHEAD = 3  # finished sequences that may wait in memory for the writer, beyond one a worker
Member = tuple[str, bytes]  # path within the dataset, content


@dataclass(frozen=True)
class Job:
    """One sequence to draw."""

    split: str
    number: int
    parameters: Rendering

    @property
    def recipe(self) -> tuple[str, ...]:
        """What the scene is made of."""
        return scene.RECIPES[self.number % len(scene.RECIPES)]

    @property
    def name(self) -> str:
        """For example ``Mini_test_00_LANG``."""
        return "_".join(["Mini", self.split, f"{self.number:02d}", *self.recipe])


def jobs(parameters: Rendering) -> list[Job]:
    """All sequences, training split first."""
    counts = {"train": parameters.train_sequences, "test": parameters.test_sequences}
    return [Job(split, number, parameters) for split in SPLITS for number in range(counts[split])]


def draw(job: Job) -> list[Member]:
    """Render one sequence into the files of TNLLT's layout."""
    p = job.parameters
    entropy = (p.seed, SPLITS.index(job.split), job.number)
    # Every second sequence is LANG, so that number // 2 steps through each palette.
    sequence = scene.render(entropy, job.recipe, job.number // 2, (p.shortest, p.longest), p.width, p.height)
    members = [
        ("groundtruth.txt", box_lines(sequence.boxes).encode()),
        ("absent_label.txt", "".join(f"{int(seen)}\n" for seen in sequence.present).encode()),  # TNLLT: 1 = present
        ("attributes.txt", attributes.line(sequence.flags).encode()),
        ("language.txt", f"{sequence.sentence}\n".encode()),
        ("scene.json", (json.dumps(sequence.facts, indent=1) + "\n").encode()),
    ]
    for index, frame in enumerate(sequence.frames, start=1):
        encoded, data = cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), PNG)
        if not encoded:
            raise OSError(f"OpenCV could not encode frame {index} of {job.name}")
        members.append((f"imgs/{index:05d}.png", data.tobytes()))
    return [(f"{job.name}/{path}", content) for path, content in members]


def box_lines(boxes: np.ndarray) -> str:
    """groundtruth.txt: ``x,y,w,h`` a frame, hundredths of a pixel; absent frames are 0,0,0,0."""
    return "".join(",".join(f"{value:.2f}".rstrip("0").rstrip(".") for value in box) + "\n" for box in boxes)


def split_files(parameters: Rendering) -> list[Member]:
    """The published lists: one name a line, no newline after the last, an empty validation split."""
    names = {split: [job.name for job in jobs(parameters) if job.split == split] for split in SPLITS}
    lists = {
        "all_dataset.txt": names["test"] + names["train"],
        "testing_set.txt": names["test"],
        "tnl_lt_test_split.txt": names["test"],
        "tnl_lt_train_split.txt": names["train"],
        "tnl_lt_val_split.txt": [],
    }
    return [(path, "\n".join(content).encode()) for path, content in lists.items()]


def rendered(parameters: Rendering) -> Iterator[list[Member]]:
    """The files of the dataset, one list a sequence, in order; drawn by `parameters.workers` processes a little ahead."""
    work = jobs(parameters)
    if parameters.workers == 1:
        yield from map(draw, work)
        return
    # a killed pool's workers would wait for more work for ever
    with ProcessPoolExecutor(parameters.workers, get_context("spawn"), initializer=runs.die_with_parent) as pool:
        waiting: deque[Future[list[Member]]] = deque()
        for job in work:
            waiting.append(pool.submit(draw, job))
            if len(waiting) >= parameters.workers + AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def render_dataset(folder: str | Path, parameters: Rendering) -> None:
    """Render straight into `folder` (TNLLT's layout and split files); the folder appears when it is whole."""
    with files.atomic_folder(folder) as target:
        for members in [split_files(parameters), *rendered(parameters)]:
            for path, content in members:
                (target / path).parent.mkdir(parents=True, exist_ok=True)
                (target / path).write_bytes(content)


def render_archive(folder: str | Path, parameters: Rendering, name: str, parts: int) -> None:
    """Render into `folder` as ``<name>_part_aa``.. and ``<name>_parts.md5``, as a publisher would upload it."""
    work = jobs(parameters)
    with files.atomic_folder(folder) as target, packing.PartedArchive(target, name, parts) as archive:
        for path, content in split_files(parameters):
            archive.add(path, content)
        for done, members in enumerate(console.progress(rendered(parameters), "sequences rendered", len(work)), start=1):
            for path, content in members:
                archive.add(path, content)
            archive.cut(done / len(work))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Render the mini study's sequences in TNLLT's layout.")
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    parser.add_argument("--form", choices=("archive", "folder"), default="archive", help="archive in parts, or plain files")
    parser.add_argument("--name", default="TNLLT", help="archive name")
    parser.add_argument("--parts", type=int, default=4, help="number of parts")
    parser.add_argument("--parameters", help="JSON of the section data.render (default: params.yaml)")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    arguments = parser.parse_args()
    parameters = params.section(arguments.parameters, "data.render", Rendering)
    if arguments.form == "folder":
        render_dataset(arguments.output, parameters)
    else:
        render_archive(arguments.output, parameters, arguments.name, arguments.parts)
    if arguments.manifest:
        counts = {"sequences": len(jobs(parameters)), "train": parameters.train_sequences, "test": parameters.test_sequences}
        manifest.write(arguments.manifest, [arguments.output], parameters.model_dump(), facts=counts)


if __name__ == "__main__":
    console.run(main)
