"""A benchmark that was really scored: random walks, trackers from good to lost, an index with frames and the results' files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workflow_scripts import files, sequences
from workflow_scripts.score import run

ATTRIBUTES = ("CM", "ROT", "DEF", "FOC", "IV", "OV", "POC", "VC", "SV", "BC", "MB", "ARC", "LR", "FM", "AS")

START = np.array([140, 100, 40, 36])  # xywh of every first box


def write_boxes(path: Path, boxes: np.ndarray) -> None:
    files.write_text(path, "".join(",".join(f"{v:.3f}" for v in box) + "\n" for box in boxes))


def made_by(skill: float, truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Boxes of a tracker: noise that grows as `skill` falls, and a loss from which it may come back."""
    n = len(truth)
    boxes = truth + rng.normal(0, 1 + 10 * (1 - skill), truth.shape) * [1, 1, 0.5, 0.5]
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 4)
    if rng.random() > skill:
        start = int(rng.integers(n // 5, n))
        end = n if rng.random() > 0.4 else min(n, start + int(rng.integers(5, n // 2)))
        boxes[start:end] = boxes[start]
    boxes[0] = truth[0]
    return boxes


def make_study(root: Path, trackers: list[str], count: int, frames: int, seed: int = 0, images: bool = False) -> Path:
    """Index, raw results and a scoring run of `count` sequences under `root`."""
    rng = np.random.default_rng(seed)
    chosen = []
    for i in range(count):
        n = int(rng.integers(frames // 2, frames + 1))
        walk = np.cumsum(rng.normal(0, 4, (n, 4)) * [1, 1, 0.1, 0.1], axis=0)
        truth = np.clip(START + walk, [1, 1, 12, 12], [270, 190, 90, 90])
        present = np.ones(n, dtype=bool)
        if i % 2:
            present[n // 2 : n // 2 + n // 10] = False
        name = f"object_{i:02d}"
        paths = [root / "frames" / name / f"{k:06d}.jpg" for k in range(n)]
        if images:
            paths[0].parent.mkdir(parents=True)
            for k, path in enumerate(paths):
                Image.new("RGB", (320, 240), (90, 120, (3 * k) % 255)).save(path, quality=60)
        some = tuple(a for a in ATTRIBUTES if rng.random() < 0.5)
        chosen.append(sequences.Sequence(name, "test", paths, truth, present, f"the object number {i}", some))
        for rank, tracker in enumerate(trackers):
            skill = 0.95 - 0.9 * rank / len(trackers)
            write_boxes(root / f"raw/{tracker}/{name}.txt", made_by(skill, truth, rng))
    for rank, tracker in enumerate(trackers):
        seconds = (rank + 1) ** 1.7 * 0.5
        files.write_json(root / f"raw/{tracker}/summary.json", {"frames": 4000, "seconds": seconds, "vlm_calls": 0})
    sequences.write_index(root / "index.npz", chosen, root, "tnllt")
    arguments = ["--protocol=tnllt", f"--index={root / 'index.npz'}", "--split=test", f"--results={root / 'raw'}"]
    run.main([*arguments, f"--trackers={','.join(trackers)}", '--parameters={"samples": 400}', f"--output={root / 'scores'}"])
    return root


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three trackers, six sequences, with images."""
    return make_study(tmp_path_factory.mktemp("small"), ["high", "middle", "low"], 6, 40, images=True)


@pytest.fixture(scope="session")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """25 trackers with names as long as they come, fifty sequences."""
    names = [f"Tracker-{chr(65 + i)}{'-B384-published' if i % 5 == 0 else ''}" for i in range(25)]
    return make_study(tmp_path_factory.mktemp("crowd"), names, 50, 120)
