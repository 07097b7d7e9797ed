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


def asked(study: str, **changes) -> params.Params:
    """The study of params.yaml with `changes` laid over its own part of a section (or over a switch)."""
    tree = params.read_tree("params.yaml")
    over = {k: v if k in params.SWITCHES else {study: v} for k, v in changes.items()}
    return params.resolve(params.merge(tree, over), study)


def prompts_of(chosen: params.Params) -> tuple[str, str, str, str]:
    return chosen.sft.prompt.style, chosen.sft.prompt.name, chosen.grpo.pairs.prompt, chosen.serve.prompt


def test_consistent_means_one_prompt_from_sft_to_serving():
    one = "reasoningtrack-consistent"
    assert prompts_of(asked("full")) == ("consistent", one, one, one)
    assert prompts_of(asked("mini", sft={"prompt": {"name": one}})) == ("consistent", one, one, one)


@pytest.mark.parametrize("study", params.STUDIES)
def test_paper_brings_back_the_published_mismatch_by_one_key(study):
    chosen = asked(study, prompt_style="paper")
    assert prompts_of(chosen)[0] == "paper"
    assert prompts_of(chosen)[2:] == ("reasoningtrack-paper-rl", "reasoningtrack-paper-eval")
    assert asked(study, prompt_style="paper", serve={"prompt": "reasoningtrack"}).serve.prompt == "reasoningtrack"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"serve": {"prompt": "reasoningtrack"}},
            r"serve\.prompt is reasoningtrack and sft\.prompt\.name is .*-consistent, but",
        ),
        ({"grpo": {"pairs": {"prompt": "reasoningtrack"}}}, r"grpo\.pairs\.prompt is reasoningtrack and sft\.prompt\.name"),
        ({"sft": {"prompt": {"name": "reasonngtrack"}}}, "sft.prompt.name names reasonngtrack, which is no prompt"),
        ({"sft": {"prompt": {"style": "paper"}}}, "sft.prompt.style follows prompt_style, which is consistent"),
        ({"serve": {"pixels": {"max_pixels": 999_999}}}, r"serve\.pixels has other .* \(59536, 999999\) than .* 262144\)"),
        ({"grpo": {"pairs": {"min_pixels": 3136}}}, r"grpo\.pairs has other min_pixels"),
        ({"prompt_style": "papers"}, "prompt_style is 'papers'"),
    ],
)
def test_a_stage_that_asks_otherwise_is_refused_under_consistent(changes, said):
    with pytest.raises(BadInput, match=said):
        asked("full", **changes)


def test_crops_are_taught_with_the_prompt_of_the_tracker_that_asks_them():
    crops = {"pairs": {"source": "crops"}}
    assert asked("full", grpo=crops).grpo.pairs.prompt == "r1track"
    assert asked("full", grpo=crops, track={"r1track": {"prompt": "think"}}).grpo.pairs.prompt == "r1track-think"
    with pytest.raises(BadInput, match=r"grpo\.pairs\.prompt is r1track and the prompt of track\.r1track is r1track-think"):
        asked("full", grpo=params.merge(crops, {"pairs": {"prompt": "r1track"}}), track={"r1track": {"prompt": "think"}})


def test_benchmarks_that_the_data_stage_does_not_bring_are_all_named_at_once():
    said = (
        r"data\.benchmarks \(tnllt\) lacks lasot in track\.benchmarks; tnl2k, .* in score\.protocols; got10k, trackingnet in "
    )
    with pytest.raises(BadInput, match=said + r"score\.submissions; tnl2k in grpo\.pairs\.guarded: add them to it"):
        asked(
            "full",
            data={"benchmarks": ["tnllt"]},
            track={"benchmarks": ["tnllt", "lasot"]},
            grpo={"pairs": {"guarded": ["tnllt", "tnl2k"]}},
        )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"trackers": ["dutrack_384_got"]},
            r"track\.trackers names dutrack_384_got, whose weights neither .*did you mean dutrack_384",
        ),
        (
            {"trained": ["dutrak_256_full"]},
            r"track\.trained names dutrak_256_full, which has no recipe in track\.train; did you mean",
        ),
        (
            {"describers": {"dutrack": "blip"}},
            r"track\.describers names dutrack, which is none of track\.trackers; did you mean",
        ),
        ({"trackers": ["csrt", "csrt"]}, r"parameter track\.trackers is \['csrt', 'csrt'\]: csrt stands there twice"),
        ({"trackers": []}, r"parameter track\.trackers is \[\]: .* at least 1 item"),
        ({"benchmarks": ["lasot"]}, r"track\.benchmarks lacks tnllt, of which the study's table is"),
        ({"reasoning": {"network": "dutrack_b256"}}, r"track\.reasoning\.network names dutrack_b256, whose weights neither"),
    ],
)
def test_a_tracker_that_the_study_cannot_run_is_refused_before_anything_runs(changes, said):
    with pytest.raises(BadInput, match=said):
        asked("full", track=changes)


def test_the_tracker_of_the_reward_needs_weights_only_where_it_is_asked():
    other = {"easyr1": {"tracker": "dutrack_384_got"}}
    with pytest.raises(BadInput, match=r"grpo\.easyr1\.tracker names dutrack_384_got, whose weights neither"):
        asked("full", grpo=other)
    assert asked("full", grpo={**other, "pairs": {"source": "crops"}}).grpo.reward_tracker is None


def test_a_check_of_a_whole_section_says_its_reason_and_not_the_section():
    with pytest.raises(BadInput, match=r"^params\.yaml: parameter grpo: engine is trl but the section trl is missing\.$"):
        asked("full", grpo={"engine": "trl"})


def test_reinforcement_starts_from_a_model_that_is_trained():
    tree = params.read_tree("params.yaml")
    del tree["sft"]["full"]["runs"]["clean"]
    with pytest.raises(BadInput, match=r"grpo\.start_from names clean, which is none of sft\.runs; known here: "):
        params.resolve(tree, "full")
