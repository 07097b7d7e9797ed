"""The register of sources, data/sources.yaml: for each artifact where it is, how large, with which hash, on what terms.

Unknown sizes and hashes are written as `unknown`; they are never guessed. Entries are sorted by name.
"""

from __future__ import annotations

import difflib
import fnmatch
import itertools
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from workflow_scripts.console import BadInput
from workflow_scripts.data.checksums import Digest, digest
from workflow_scripts.params.base import Section

PATH = Path("data/sources.yaml")


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
    unpack: bool = Field(default=False, description="its zip archives are unpacked, each into a folder of its name")


class GoogleDrive(Section):
    """A file or folder on Google Drive."""

    kind: Literal["google-drive"]
    id: str = Field(pattern=r"^[\w-]{20,}$")
    folder: bool = False
    patterns: list[str] = Field(default_factory=list, description="of a folder, only these paths; none: all")


class Dropbox(Section):
    """A shared folder on Dropbox; it comes as one zip, which is taken apart."""

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
MIRRORS: dict[str, type[Section]] = {
    "url": Url,
    "huggingface": HuggingFace,
    "google-drive": GoogleDrive,
    "dropbox": Dropbox,
    "baidu": Baidu,
    "page": Page,
}


def _check_size(value: Any) -> Any:
    if value != "unknown" and (type(value) is not int or value < 0):
        raise ValueError(f"{value!r} is no number of bytes: write one, or unknown")
    return value


def _check_hash(value: Any) -> Any:
    algorithm, _, text = str(value).partition(":")
    if value != "unknown":
        try:
            digest(text, algorithm)
        except BadInput as error:
            raise ValueError(str(error)) from None
    return value


Size = Annotated[int | Literal["unknown"], BeforeValidator(_check_size)]
Hash = Annotated[
    str, BeforeValidator(_check_hash)
]  # <algorithm>:<hexadecimal>, or unknown; `tree` is a folder's, as in manifests


class Sized(Section):
    """Something of a size and a hash, each known or said to be unknown."""

    bytes: Size
    hash: Hash

    @property
    def digest(self) -> Digest | None:
        """The hash, if it is known."""
        algorithm, _, text = self.hash.partition(":")
        return None if self.hash == "unknown" else digest(text, algorithm)

    @property
    def size(self) -> int | None:
        """The size in bytes, if it is known."""
        return None if self.bytes == "unknown" else int(self.bytes)


class Piece(Sized):
    """One file of an artifact that has several; the name may be a pattern where the publisher gives no list."""

    name: str

    @property
    def is_pattern(self) -> bool:
        """Whether the name stands for any number of files."""
        return any(sign in self.name for sign in "*?[")


class Source(Section):
    """One artifact: a file or a folder as a whole, or `files` that are each known by themselves."""

    what: str
    used_for: str
    licence: str = Field(description="licence or terms, or unknown")
    bytes: Size | None = None
    hash: Hash | None = None
    files: list[Piece] = Field(default_factory=list)
    mirrors: list[Mirror] = Field(min_length=1, description="tried in this order")
    by_hand: str = Field(description="what to do where no command can do it")

    @model_validator(mode="after")
    def _measured_once(self) -> Source:
        given = (self.bytes is not None, self.hash is not None)
        if any(given) != all(given) or all(given) == bool(self.files):
            raise ValueError("give bytes and hash (or unknown) of the whole, or of each of its files")
        return self

    @property
    def whole(self) -> Sized | None:
        """Size and hash of the whole; None where its files have their own."""
        return None if self.bytes is None or self.hash is None else Sized(bytes=self.bytes, hash=self.hash)

    @property
    def size(self) -> int | None:
        """The size in bytes, if it is known."""
        sizes = [part.size for part in ([self.whole] if self.whole else self.files)]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    def piece(self, name: str) -> Piece | None:
        """The entry of one of its files, by name or pattern."""
        return next((piece for piece in self.files if fnmatch.fnmatch(name, piece.name)), None)


class Register(Section):
    """All sources by name."""

    sources: dict[str, Source]

    @field_validator("sources")
    @classmethod
    def _sorted(cls, value: dict[str, Source]) -> dict[str, Source]:
        for name in value:
            if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
                raise ValueError(f"{name}: write names in lower case with dashes")
        for before, after in itertools.pairwise(value):
            if before > after:
                raise ValueError(f"{after} comes after {before}: sort the entries by name")
        return value


def load(path: str | Path = PATH) -> dict[str, Source]:
    """The register, checked. BadInput names the line, the entry, what is wrong with it, and the nearest known name."""
    return parse(read(path), path)


def read(path: str | Path) -> str:
    """The register's text."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist: run from the repository's root, or name it with --register-file.") from None


def parse(text: str, path: str | Path = PATH) -> dict[str, Source]:
    """The sources that `text` describes; `path` is for messages."""
    try:
        node = yaml.compose(text)
        seen: set[str] = set()
        for key, _ in getattr(locate(node, ("sources",)), "value", ()):
            if key.value in seen:
                raise BadInput(f"{path}, line {key.start_mark.line + 1}: there is a source {key.value} already.")
            seen.add(key.value)
        return Register.model_validate(yaml.safe_load(text)).sources
    except yaml.MarkedYAMLError as error:
        mark = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise BadInput(f"{path}{mark}: not valid YAML ({error.problem}).") from None
    except ValidationError as error:
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")  # a misspelt key is also a missing one
        located = locate(node, first["loc"])
        where = ".".join(map(str, first["loc"]))
        line = f"{path}, line {located.start_mark.line + 1}" if located else str(path)
        if first["type"] == "extra_forbidden":
            raise BadInput(f"{line}: unknown key {where}{_nearest(first['loc'])}.") from None
        message = first["msg"].removeprefix("Value error, ")
        raise BadInput(f"{line}: {where}: {message}.") from None


def locate(node: Any, path: tuple[int | str, ...]) -> Any:
    """The YAML node at `path` (or the deepest on the way to it): it knows its line, and where in the text it stands.

    Steps that are in pydantic's path but not in the text, such as the kind of a mirror, are passed over.
    """
    for step in path:
        if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
        elif isinstance(node, yaml.MappingNode):
            node = next((value for key, value in node.value if key.value == step), node)
    return node


def _nearest(path: tuple[int | str, ...]) -> str:
    """What is known where the key at `path` stands, the nearest name first."""
    kind = next((str(step) for step in path if step in MIRRORS), "")
    model = MIRRORS.get(kind) or (Piece if "files" in path else Source if len(path) > 1 else Register)
    known = list(model.model_fields)
    close = difflib.get_close_matches(str(path[-1]).lower(), known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; known here: {', '.join(known)}"


def find(name: str, path: str | Path = PATH) -> Source:
    """One entry; BadInput with the nearest known names if there is none of this name."""
    known = load(path)
    if name not in known:
        close = difflib.get_close_matches(name, list(known), n=3) or sorted(known)
        raise BadInput(f"{path} has no source {name}; there are {', '.join(close)}.")
    return known[name]
