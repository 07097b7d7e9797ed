"""The study's parameters: params.yaml as pydantic models, one file a section, unknown keys refused with the nearest known name.

A section of params.yaml holds the keys that both studies share, and `mini:` and `full:` mappings that are merged over them;
`study` says which. Rules pass a section on as JSON (``--parameters``), so that Snakemake sees each value a node reads and a
line copied from its log runs alone.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ValidationError, model_validator

from workflow_scripts.console import BadInput
from workflow_scripts.params import prompting
from workflow_scripts.params.base import Section
from workflow_scripts.params.data import Data
from workflow_scripts.params.grpo import Grpo
from workflow_scripts.params.report import Report
from workflow_scripts.params.score import Score
from workflow_scripts.params.serve import Serve
from workflow_scripts.params.sft import Sft
from workflow_scripts.params.track import WITHOUT_WEIGHTS, Track

STUDIES = ("mini", "full")
SWITCHES = ("study", "prompt_style")  # keys that are no section
NO_WEIGHTS = "whose weights neither track.trained nor track.checkpoints brings"
LACKING = {  # where a tracker or model is named that the study does not have -> what it lacks
    "grpo.start_from": "which is none of sft.runs",
    "track.trained": "which has no recipe in track.train",
    "track.trackers": NO_WEIGHTS,
    "track.describers": "which is none of track.trackers",
    "track.reasoning.network": NO_WEIGHTS,
    "grpo.easyr1.tracker": NO_WEIGHTS,
    "report.figures.pair": "which is no row of TNLLT's table",
    "score.papers": "which is no row of that benchmark's table",
}
Model = TypeVar("Model", bound=BaseModel)


class Params(Section):
    """All parameters of one study."""

    study: Literal["mini", "full"]
    prompt_style: Literal["consistent", "paper"]
    data: Data
    sft: Sft
    grpo: Grpo
    serve: Serve
    track: Track
    score: Score
    report: Report

    @model_validator(mode="after")
    def _known_benchmarks(self) -> Params:
        """A benchmark that a stage works on is brought by the data stage: all that are not are named at once. TNLLT is one."""
        track, pairs = self.track, self.grpo.pairs
        for where, names in (("track.benchmarks", track.benchmarks), ("score.protocols", self.score.protocols)):
            if "tnllt" not in names:
                raise ValueError(f"{where} lacks tnllt, of which the study's table is: add it")
        asked = {"track.benchmarks": track.benchmarks, "score.protocols": self.score.protocols}
        asked |= {"score.submissions": self.score.submissions}
        asked |= {"grpo.pairs.benchmarks": pairs.benchmarks, "grpo.pairs.guarded": pairs.guarded}
        asked |= {f"track.train.{n}.benchmarks": track.train[n].benchmarks for n in track.trained if n in track.train}
        lacking = {where: [name for name in names if name not in self.data.benchmarks] for where, names in asked.items()}
        said = [f"{', '.join(names)} in {where}" for where, names in lacking.items() if names]
        if said:
            known = ", ".join(self.data.benchmarks)
            raise ValueError(f"data.benchmarks ({known}) lacks {'; '.join(said)}: add them to it, or take them out there")
        return self

    @model_validator(mode="after")
    def _known_names(self) -> Params:
        """A tracker or a model that a stage names is one of the study: refused here, before days of computing."""
        track, asked = self.track, self.grpo.reward_tracker
        weights = {*track.trained, *track.checkpoints}
        runnable = {*WITHOUT_WEIGHTS, "reasoningtrack", *weights}
        rows = {benchmark: set(track.rows(benchmark)) for benchmark in self.score.protocols}
        named = [("grpo.start_from", self.grpo.start_from, set(self.sft.runs))]
        named += [("track.trained", name, set(track.train)) for name in track.trained]
        named += [("track.trackers", name, runnable) for name in track.trackers]
        named += [("track.describers", name, set(track.trackers)) for name in track.describers]
        if "reasoningtrack" in track.trackers:
            named += [("track.reasoning.network", track.reasoning.network, weights)]
        if asked:
            named += [("grpo.easyr1.tracker", asked, weights)]
        named += [("report.figures.pair", tracker, rows["tnllt"]) for tracker in self.report.figures.pair]
        named += [("score.papers", p.tracker, rows.get(p.benchmark, set())) for p in self.score.papers]
        for where, name, known in named:
            if name not in known:
                raise ValueError(f"{where} names {name}, {LACKING[where]}{_nearest(name, list(known))}")
        return self

    @model_validator(mode="after")
    def _asked_alike(self) -> Params:
        """Prompts of the stages agree, unless the paper's mismatch is wanted."""
        for sentence in prompting.mismatches(self):
            raise ValueError(sentence)
        return self


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `over` laid on top, mapping by mapping; lists and scalars are replaced whole."""
    merged = dict(base)
    for key, value in over.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if nested else value
    return merged


def resolve(tree: Mapping[str, Any], study: str | None = None, source: str = "params.yaml") -> Params:
    """The parameters of one study out of the whole tree of params.yaml. BadInput names the key and the nearest known one."""
    study = study or tree.get("study")
    if study not in STUDIES:
        raise BadInput(f"{source}: study is {study!r}; set it to mini or full.")
    for section in tree:
        if section not in Params.model_fields:
            raise BadInput(f"{source}: unknown parameter {section}{_nearest(section, list(Params.model_fields))}.")
    flat: dict[str, Any] = {"study": study, "prompt_style": tree.get("prompt_style", "consistent")}
    for section, values in tree.items():
        if section not in SWITCHES:
            common = {k: v for k, v in (values or {}).items() if k not in STUDIES}
            flat[section] = merge(common, (values or {}).get(study) or {})
    return validate(Params, merge(prompting.defaults(flat), flat), source)


def validate(model: type[Model], value: Any, source: str) -> Model:
    """`value` as `model`; BadInput says in one sentence what is wrong where, and the nearest known name for an unknown key."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            hint = _nearest(str(first["loc"][-1]), _fields_at(model, first["loc"][:-1]))
            raise BadInput(f"{source}: unknown parameter {where}{hint}.") from None
        if first["type"] == "missing":
            raise BadInput(f"{source}: parameter {where} is missing; add it (docs/parameters.md describes it).") from None
        if not where:  # a check over several sections: its sentence says all
            raise BadInput(f"{source}: {first['msg'].removeprefix('Value error, ')}.") from None
        # a whole section would hide the reason
        value = "" if isinstance(first["input"], Mapping) else f" is {first['input']!r}"
        raise BadInput(f"{source}: parameter {where}{value}: {first['msg'].removeprefix('Value error, ')}.") from None


def load(path: str | Path = "params.yaml", study: str | None = None) -> Params:
    """Read and check a parameter file; `study` overrides the one it names."""
    return resolve(read_tree(path), study, str(path))


def read_tree(path: str | Path) -> dict[str, Any]:
    """The YAML of a parameter file as nested dictionaries. BadInput names the line of a syntax error."""
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist: run from the repository's root, or name the file.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise BadInput(f"{path}{line}: not valid YAML ({getattr(error, 'problem', error)}).") from None
    if not isinstance(tree, dict):
        raise BadInput(f"{path} holds no parameters: restore it from git.")
    return tree


def section(flag: str | None, name: str, model: type[Model]) -> Model:
    """A command's parameters: the JSON of its ``--parameters`` flag, or section `name` (``track.train``) of params.yaml."""
    if flag is not None:
        try:
            value = json.loads(flag)
        except json.JSONDecodeError as error:
            raise BadInput(f"--parameters is not valid JSON ({error.msg}); quote it as one shell word.") from None
        return validate(model, value, "--parameters")
    value = load()
    for part in name.split("."):
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    return validate(model, value.model_dump() if isinstance(value, BaseModel) else value, "params.yaml")


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; known here: {', '.join(sorted(known)) or 'none'}"


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Names that the model reached by `location` knows."""
    current: Any = model
    for part in location:
        field = getattr(current, "model_fields", {}).get(part)
        if field is not None:
            current = field.annotation
        arguments = [a for a in getattr(current, "__args__", ()) if hasattr(a, "model_fields")]
        if arguments:
            current = arguments[0]
    return list(getattr(current, "model_fields", {}))
