"""The register of sources, data/sources.yaml: for each artifact where it is, how large, with which hash, on what terms.

Unknown sizes and hashes are written as `unknown`; they are never guessed. Entries are sorted by name.
"""

from __future__ import annotations

import difflib
import fnmatch
import itertools
import re
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, Field, field_validator

from workflow_scripts import params
from workflow_scripts.console import BadInput
from workflow_scripts.data.checksums import Digest, digest
from workflow_scripts.params.base import Section

PATH = Path("data/sources.yaml")
Unknown = Literal["unknown"]


class Url(Section):
    """A plain address: http, https or file."""

    kind: Literal["url"]
    url: str


class HuggingFace(Section):
    """A repository on Hugging Face, at a full commit."""

    kind: Literal["huggingface"]
    repository: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    type: Literal["model", "dataset"]
    revision: str = Field(pattern=r"^([0-9a-f]{40}|unknown)$")
    patterns: list[str] = Field(default_factory=list, description="only these paths; none: all")


class GoogleDrive(Section):
    """A file or folder on Google Drive."""

    kind: Literal["google-drive"]
    id: str = Field(pattern=r"^[\w-]{20,}$")
    folder: bool = False
    patterns: list[str] = Field(default_factory=list, description="of a folder, only these paths; none: all")


class Dropbox(Section):
    """A shared folder on Dropbox; it comes as one zip."""

    kind: Literal["dropbox"]
    url: str = Field(pattern=r"^https://www\.dropbox\.com/")


class Baidu(Section):
    """A share on Baidu, which needs an account and a browser: fetched by hand."""

    kind: Literal["baidu"]
    url: str = Field(pattern=r"^https://pan\.baidu\.com/")
    code: str | None = None


class Page(Section):
    """A page with terms to accept or a form to fill in: fetched by hand."""

    kind: Literal["page"]
    url: str


Mirror = Annotated[Url | HuggingFace | GoogleDrive | Dropbox | Baidu | Page, Field(discriminator="kind")]


def _check_hash(value: str) -> str:
    algorithm, _, text = value.partition(":")
    if value != "unknown":
        try:
            digest(text, algorithm)
        except BadInput as error:
            raise ValueError(str(error)) from None
    return value


class Sized(Section):
    """Something of a size and a hash, each known or said to be unknown."""

    bytes: int | Unknown
    hash: Annotated[str, AfterValidator(_check_hash)] = Field(description="<algorithm>:<hexadecimal>, or unknown")

    @property
    def digest(self) -> Digest | None:
        """The hash, if it is known."""
        return None if self.hash == "unknown" else digest(self.hash.partition(":")[2])

    @property
    def size(self) -> int | None:
        """The size in bytes, if it is known."""
        return None if self.bytes == "unknown" else int(self.bytes)


class Piece(Sized):
    """One file of an artifact that has several; the name may be a pattern where the publisher gives no list."""

    name: str


class Source(Sized):
    """One artifact."""

    what: str
    used_for: str
    licence: str = Field(description="licence or terms, or unknown")
    mirrors: list[Mirror] = Field(min_length=1, description="tried in this order")
    files: list[Piece] = Field(default_factory=list, description="its files, where it is a folder; none: one file")
    by_hand: str = Field(description="what to do where no command can do it")

    def piece(self, name: str) -> Piece | None:
        """The entry of one of its files, by name or pattern."""
        return next((piece for piece in self.files if fnmatch.fnmatch(name, piece.name)), None)


class Register(Section):
    """All sources by name."""

    sources: dict[str, Source]

    @field_validator("sources")
    @classmethod
    def _sorted(cls, value: dict[str, Source]) -> dict[str, Source]:
        names = list(value)
        for before, after in itertools.pairwise(names):
            if before > after:
                raise ValueError(f"{after} comes after {before}: sort the entries by name")
        for name in names:
            if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
                raise ValueError(f"{name}: write names in lower case with dashes")
        return value


def load(path: str | Path = PATH) -> dict[str, Source]:
    """The register, checked. BadInput names the entry and what is wrong with it."""
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist: run from the repository's root, or name it with --register-file.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise BadInput(f"{path}{line}: not valid YAML ({getattr(error, 'problem', error)}).") from None
    return params.validate(Register, tree, str(path)).sources


def find(name: str, path: str | Path = PATH) -> Source:
    """One entry; BadInput with the nearest known names if there is none of this name."""
    known = load(path)
    if name not in known:
        close = difflib.get_close_matches(name, list(known), n=3) or sorted(known)
        raise BadInput(f"{path} has no source {name}; there are {', '.join(close)}.")
    return known[name]
