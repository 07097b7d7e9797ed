"""Parameters: one file, two studies, and no key that nobody reads."""

import json
from typing import ClassVar

import pytest

from workflow_scripts import params
from workflow_scripts.console import BadInput
from workflow_scripts.params.base import Section


class Inner(Section):
    """A nested section."""

    steps: int
    rate: float = 0.1


class Outer(Section):
    """A section."""

    train: Inner
    names: ClassVar[str] = ""


@pytest.mark.parametrize("study", params.STUDIES)
def test_both_studies_of_params_yaml_are_valid(study):
    assert params.load("params.yaml", study).study == study


@pytest.mark.parametrize("study", params.STUDIES)
def test_an_unknown_key_is_refused_with_the_nearest_known_name(tmp_path, study):
    tree = params.read_tree("params.yaml")
    tree["trakc"] = {}
    with pytest.raises(BadInput, match=r"unknown parameter trakc; did you mean track\?"):
        params.resolve(tree, study)


def test_a_nested_unknown_key_names_its_place():
    with pytest.raises(BadInput, match=r"unknown parameter train\.stpes; did you mean steps\?"):
        params.validate(Outer, {"train": {"stpes": 3, "steps": 1}}, "params.yaml")


def test_a_missing_and_a_wrong_value_name_their_place():
    with pytest.raises(BadInput, match=r"parameter train\.steps is missing"):
        params.validate(Outer, {"train": {}}, "params.yaml")
    with pytest.raises(BadInput, match=r"parameter train\.steps is 'many'"):
        params.validate(Outer, {"train": {"steps": "many"}}, "params.yaml")


def test_the_flag_wins_over_the_file():
    assert params.section(json.dumps({"steps": 7}), "track.train", Inner).steps == 7
    with pytest.raises(BadInput, match="--parameters is not valid JSON"):
        params.section("{steps: 7", "track.train", Inner)


def test_a_study_that_does_not_exist_is_refused():
    with pytest.raises(BadInput, match="set it to mini or full"):
        params.resolve({"study": "tiny"})


def test_a_syntax_error_names_its_line(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("study: mini\ndata: [1,\n")
    with pytest.raises(BadInput, match="line 3"):
        params.load(path)


def test_a_study_overrides_only_the_keys_it_names():
    assert params.merge({"a": {"x": 1, "y": 2}, "b": [1]}, {"a": {"y": 3}, "b": [2, 3]}) == {"a": {"x": 1, "y": 3}, "b": [2, 3]}
