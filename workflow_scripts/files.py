"""Files that are whole or absent: every output is written under a temporary name beside its target and renamed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workflow_scripts.console import BadInput

CHUNK_BYTES = 1 << 20


def _temporary(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.with_name(f".{target.name}.{os.getpid()}.tmp")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary file path; it replaces `path` if the block succeeds and disappears if it fails."""
    target = Path(path)
    temporary = _temporary(target)
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary empty folder; it replaces `path` if the block succeeds and disappears if it fails."""
    target = Path(path)
    temporary = _temporary(target)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        if target.is_symlink() or target.is_file():
            target.unlink()
        elif target.exists():
            shutil.rmtree(target)
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sweep(paths: Iterable[str | Path]) -> None:
    """Remove what writers that were killed left beside these files or folders. Nobody may be writing them now.

    Of `model` or `model.json`, that is of `model`, `model.json`, `.model.unfinished.pt`: of all names up to a dot.
    """
    for path in map(Path, paths):
        left = re.compile(rf"\.+{re.escape(path.name.removesuffix('.json'))}(\..+)?\.[^.]+\.tmp")
        for temporary in [p for p in path.parent.glob(".*.tmp") if left.fullmatch(p.name)]:
            if temporary.is_dir() and not temporary.is_symlink():
                shutil.rmtree(temporary, ignore_errors=True)
            else:
                temporary.unlink(missing_ok=True)


def cache_folder(name: str) -> Path:
    """Folder of what can be made again at any time, in the user's cache; TRACKGRAPH_CACHE overrides where that is."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trackgraph"
    return Path(os.environ.get("TRACKGRAPH_CACHE") or default).absolute() / name


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read JSON; BadInput names the file and the line where it breaks."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist: check the path, or build it first.") from None
    except json.JSONDecodeError as error:
        raise BadInput(f"{path}, line {error.lineno}: not valid JSON ({error.msg}); write it again.") from None


def digest(path: str | Path, algorithm: str) -> str:
    """Hexadecimal hash of a file's bytes, read in chunks."""
    result = hashlib.new(algorithm)
    with open(path, "rb") as handle:
        while chunk := handle.read(CHUNK_BYTES):
            result.update(chunk)
    return result.hexdigest()


def sha256(path: str | Path) -> str:
    """SHA-256 of a file."""
    return digest(path, "sha256")


def md5(path: str | Path) -> str:
    """MD5 of a file, for publishers who give no better."""
    return digest(path, "md5")
