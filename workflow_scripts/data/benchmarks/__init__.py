"""A benchmark is a small YAML here: its layout, splits, absence polarity, result files and protocol. Layouts hold the code."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field

from workflow_scripts import params
from workflow_scripts.console import BadInput
from workflow_scripts.params.base import Section

FOLDER = Path(__file__).parent


class Results(Section):
    """How trackers' results are filed by the benchmark's users."""

    name: str = Field(default="{name}.txt", description="file of a sequence's boxes")
    delimiter: Literal["comma", "tab"] = "comma"


class Options(Section):
    """What single sequences of a layout need."""

    videos: str = Field(default=".", description="folder of the sequences below the root")
    spans: dict[str, tuple[int, int]] = Field(default_factory=dict, description="first and last frame number of a sequence")
    folders: dict[str, str] = Field(default_factory=dict, description="folder of a sequence that shares it with another")
    annotations: dict[str, str] = Field(default_factory=dict, description="annotation file of a sequence, where it is another")
    omitted: dict[str, int] = Field(default_factory=dict, description="images and boxes left out at the start")


class Benchmark(Section):
    """One benchmark."""

    title: str
    layout: str = Field(description="module of workflow_scripts/data/layouts")
    sources: list[str] = Field(default_factory=list, description="entries of data/sources.yaml")
    splits: dict[str, str] = Field(
        default_factory=dict, description="split -> list file (one name a line) or, for layouts with split folders, folder"
    )
    only_split: str | None = Field(default=None, description="the split of every sequence where there are no lists")
    unlisted_split: str | None = Field(default=None, description="the split of sequences that no list names")
    absent: Literal["present-is-one", "absent-is-one", "zero-box", "nan-box", "labels", "none"] = Field(
        description="how absence is written: a flag file of either polarity, a box without size, NaN, the layout's labels"
    )
    attributes: list[str] = Field(default_factory=list, description="names of the flags in attributes.txt, in order")
    flaws: list[Literal["NaN box", "box without size"]] = Field(
        default_factory=list, description="problems that the published annotation has: only warned of"
    )
    first_frame_only: list[str] = Field(default_factory=list, description="splits whose ground truth is the first box alone")
    fps: float | None = None
    options: Options = Field(default_factory=Options, description="what else the layout's reader needs")
    results: Results = Field(default_factory=Results)
    protocol: str = Field(description="how it is scored, in a sentence")


def names() -> list[str]:
    """All benchmarks."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> Benchmark:
    """One benchmark by name; BadInput names the nearest known one."""
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        close = difflib.get_close_matches(name, names(), n=1) or names()
        raise BadInput(f"there is no benchmark {name}; did you mean {', '.join(close)}?")
    return params.validate(Benchmark, yaml.safe_load(path.read_text(encoding="utf-8")), str(path.name))
