"""The study of these tests: made once for all of them, in a path with a space and a letter outside ASCII."""

import os
from pathlib import Path

import pytest

from tests.graph import smallest
from tests.graph.planner import Job, Planner


@pytest.fixture(scope="session", autouse=True)
def indices(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the studies keep of datasets' contents is not in the user's cache."""
    os.environ["TRACKGRAPH_INDICES"] = str(tmp_path_factory.mktemp("indices"))


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which the smallest study has run once."""
    folder = tmp_path_factory.mktemp("clone") / "my stüdy"
    smallest.clone(folder)
    ended = smallest.ask(folder, "all")
    assert ended.returncode == 0, (ended.stdout + ended.stderr)[-6000:]
    return folder


@pytest.fixture(scope="session")
def planner(study: Path):
    """Answers what would run in the study."""
    with Planner(study) as planner:
        yield planner


@pytest.fixture(scope="session")
def jobs(planner: Planner) -> list[Job]:
    """The plan of the whole study."""
    return planner.jobs(["all"])
