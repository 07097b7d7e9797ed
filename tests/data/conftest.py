"""Small real data: rendered sequences and their archive, made once a run."""

from pathlib import Path

import pytest

from workflow_scripts.data import render
from workflow_scripts.params.data import Rendering

SMALL = Rendering(seed=7, train_sequences=1, test_sequences=2, shortest=40, longest=44, width=160, height=120, workers=1)


@pytest.fixture(scope="session")
def small() -> Rendering:
    """Parameters of three small sequences."""
    return SMALL


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three sequences as a folder in TNLLT's layout."""
    folder = tmp_path_factory.mktemp("rendered") / "tnllt"
    render.render_dataset(folder, SMALL)
    return folder


@pytest.fixture(scope="session")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same sequences as an archive in three parts with its md5 file."""
    folder = tmp_path_factory.mktemp("published") / "upstream"
    render.render_archive(folder, SMALL, "TNLLT", 3)
    return folder
