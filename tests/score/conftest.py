"""Recorded runs of the toolkits, unpacked once a session; the two engines that must give their numbers."""

import lzma
import shutil
import tarfile
from collections.abc import Iterator
from ctypes import CDLL
from pathlib import Path

import pytest

from workflow_scripts import in_env
from workflow_scripts.score import scanner

GOLDEN = Path(__file__).parent / "golden"


def text_of(name: str) -> str:
    """A golden text file, packed or not."""
    path = GOLDEN / name
    return lzma.open(path, "rt", encoding="utf-8").read() if path.suffix == ".xz" else path.read_text(encoding="utf-8")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test uses or leaves anything in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("TRACKGRAPH_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def compiled(own_cache: Path) -> CDLL:
    """The compiled scanner, on every machine: where there is no C compiler, by that of envs/compiler.lock."""
    with pytest.MonkeyPatch.context() as patch:
        if shutil.which("cc") is None:
            patch.setenv("CC", f"{in_env.ensure('compiler') / 'bin' / 'python'} -m ziglang cc")
            patch.setenv("ZIG_GLOBAL_CACHE_DIR", str(own_cache / "zig"))
        scanner.library.cache_clear()
        library = scanner.library()
    assert library is not None
    return library


@pytest.fixture(scope="module", params=["numpy", "compiled"])
def engine(request: pytest.FixtureRequest, compiled: CDLL) -> Iterator[str]:
    """Each of the two engines in turn, whatever this machine would choose."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanner, "library", lambda: compiled if request.param == "compiled" else None)
        yield request.param


@pytest.fixture(scope="session")
def golden_inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    for name in ("edge_pub", "agg_pub", "synth_pub"):
        with tarfile.open(GOLDEN / f"{name}.tar.xz") as archive:
            archive.extractall(folder, filter="data")
    return folder
