"""Small real data: rendered sequences and their archive, made once a run; a server to fetch from."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty_server import Server

from workflow_scripts.data import render
from workflow_scripts.params.data import Rendering

SMALL = Rendering(seed=7, train_sequences=1, test_sequences=2, shortest=40, longest=44, width=160, height=120, workers=1)


@pytest.fixture(scope="session", autouse=True)
def indices(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A cache of readings of its own for the whole run, commands included."""
    os.environ["TRACKGRAPH_INDICES"] = str(tmp_path_factory.mktemp("indices"))


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


@pytest.fixture
def server() -> Iterator[Server]:
    """A server on 127.0.0.1 that can misbehave."""
    one = Server()
    yield one
    one.close()
