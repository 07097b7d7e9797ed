"""Tiny sequences drawn here: a textured square or disc that moves over noise, in TNLLT-like folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from workflow_scripts import images, sequences
from workflow_scripts.sequences import Sequence

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 70, 220)}


def draw_sequence(
    folder: Path, name: str, frames: int = 12, colour: str = "red", split: str = "test", seed: int = 0
) -> Sequence:
    """A square of 24 pixels with a pattern that OpenCV's trackers can hold on to, moving over noise of 160 x 120."""
    rng = np.random.default_rng(seed)
    background = rng.integers(90, 140, (120, 160, 3)).astype(np.uint8)
    pattern = np.kron(rng.integers(0, 2, (6, 6)), np.ones((4, 4)))[..., None]  # of no period, for the correlation filters
    square = (np.array(COLOURS[colour]) * (0.4 + 0.6 * pattern)).astype(np.uint8)
    start, speed = rng.uniform(30, 60, 2), rng.uniform(-1.5, 2.5, 2)
    paths, boxes = [], []
    for number in range(frames):
        x, y = (start + speed * number).round().astype(int)
        frame = background.copy()
        frame[y : y + 24, x : x + 24] = square
        paths.append(folder / name / "imgs" / f"{number + 1:05d}.png")
        images.write_image(paths[-1], frame)
        boxes.append([x, y, 24, 24])
    return Sequence(
        name, split, paths, np.array(boxes, dtype=float), np.ones(frames, dtype=bool), f"the {colour} checkered square"
    )


@pytest.fixture
def draw(tmp_path: Path) -> Callable[..., Sequence]:
    """Draws one sequence under the test's folder."""
    return lambda name, **options: draw_sequence(tmp_path / "set", name, **options)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """An index of four training and four test sequences."""
    root, colours = tmp_path / "set", list(COLOURS)
    drawn = [
        draw_sequence(root, f"{split}_{n}", 10 + n, colours[n % 3], split, seed=10 * n + (split == "test"))
        for split in ("train", "test")
        for n in range(4)
    ]
    sequences.write_index(tmp_path / "tiny.npz", drawn, root, "tiny")
    return tmp_path / "tiny.npz"


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """torch on one thread while a module's tests run."""
    import torch  # here: the classic trackers' tests do without it

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
