"""The studies of these tests keep what they read of datasets in a folder of their own."""

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def indices(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Not in the user's cache."""
    os.environ["TRACKGRAPH_INDICES"] = str(tmp_path_factory.mktemp("indices"))
