"""A study of four sequences and three trackers, and the ways to score it."""

import csv
from pathlib import Path

import numpy as np

from workflow_scripts import files, sequences
from workflow_scripts.score import run

NAMES = ("alpha", "beta", "gamma", "delta")
TRACKERS = {"static": None, "good": 2.0, "better": 1.0}


def make(folder: Path) -> Path:
    """The same four sequences and three trackers in the toolkits' layout and in the study's own, under `folder`."""
    rng = np.random.default_rng(0)
    made = []
    for i, name in enumerate(NAMES):
        n = 30 + i
        boxes = np.cumsum(rng.normal(0, 2, (n, 4)), axis=0) * [1, 1, 0.1, 0.1] + [100, 80, 30, 30]
        present = np.ones(n, dtype=bool)
        present[10:13] = False
        text = "".join(",".join(map(repr, map(float, box))) + "\n" for box in boxes)
        files.write_text(folder / "kit/annos" / f"{name}.txt", text)
        files.write_text(folder / "kit/annos/absent" / f"{name}.txt", "".join(f"{int(p)}\n" for p in present))
        files.write_text(folder / "kit/annos/att" / f"{name}.txt", "1,0,1" + 12 * ",0")
        frames = [folder / "data" / name / f"{k}.png" for k in range(n)]
        made.append(sequences.Sequence(name, "test", frames, boxes, present, "a thing", ("CM", "DEF")))
        for tracker, noise in TRACKERS.items():
            found = boxes[:1].repeat(n, 0) if noise is None else boxes + rng.normal(0, noise, boxes.shape)
            text = "".join(",".join(map(repr, map(float, box))) + "\n" for box in found)
            files.write_text(folder / f"kit/tracking_results/{tracker}_tracking_result/{name}.txt", text)
            files.write_text(folder / f"raw/{tracker}/{name}.txt", text)
            files.write_text(folder / f"raw/{tracker}/{name}.time.txt", "1.0\n" * n)
    for tracker in TRACKERS:
        summary = {"sequences": 4, "frames": 126, "seconds": 2.0, "vlm_calls": 7, "fall_backs": 1}
        files.write_json(folder / f"raw/{tracker}/summary.json", summary)
    sequences.write_index(folder / "tnllt.npz", made, folder, "tnllt")
    return folder


def from_kit(study: Path, output: str, *more: str) -> Path:
    """Score from the toolkits' layout."""
    kit = ["--annotations", str(study / "kit/annos"), "--results", str(study / "kit/tracking_results")]
    run.main(["--protocol", "tnllt", *kit, "--parameters", '{"samples": 200}', "--output", str(study / output), *more])
    return study / output


def from_index(study: Path, output: str, *more: str) -> Path:
    """Score from the index and the collected results."""
    ours = ["--index", str(study / "tnllt.npz"), "--split", "test", "--results", str(study / "raw")]
    run.main(["--protocol", "tnllt", *ours, "--parameters", '{"samples": 200}', "--output", str(study / output), *more])
    return study / output


def rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))
