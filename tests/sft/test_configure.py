"""LLaMA-Factory's own parser reads every configuration before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import PIXELS, RECIPE

from workflow_scripts import files, params
from workflow_scripts.console import BadInput
from workflow_scripts.params.sft import Recipe
from workflow_scripts.sft import configure

ROOT = Path(__file__).parents[2]


def render(recipe: Recipe) -> dict:
    return configure.render(recipe, PIXELS, ["sft_dataset_rendered"], Path("models/base"), Path("data"), Path("out"))


def altered(**arguments: object) -> Recipe:
    return RECIPE.model_copy(update={"arguments": {**RECIPE.arguments, **arguments}})


def test_an_unknown_argument_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(BadInput, match=r"no argument learning_rates; did you mean learning_rate\?"):
        configure.validate(render(altered(learning_rates=1e-3)))


def test_a_value_that_the_parser_refuses_is_refused_here() -> None:
    with pytest.raises(BadInput, match="LLaMA-Factory refuses the configuration"):
        configure.validate(render(altered(lr_scheduler_type="cosinus")))


def test_an_argument_that_the_graph_decides_is_refused() -> None:
    with pytest.raises(BadInput, match="output_dir is set by the workflow"):
        render(altered(output_dir="elsewhere"))


def test_a_template_that_does_not_exist_is_refused() -> None:
    with pytest.raises(BadInput, match="no template qwen2-vl"):
        configure.validate(render(RECIPE.model_copy(update={"template": "qwen2-vl"})))


def test_rows_too_short_for_their_images_are_refused() -> None:
    with pytest.raises(BadInput, match="two images take up to 12 tokens, but rows are cut at 10"):
        configure.validate(render(altered(cutoff_len=10)))


def test_a_dataset_that_is_not_registered_is_refused_with_the_nearest(tmp_path: Path) -> None:
    files.write_json(tmp_path / "dataset_info.json", {"r1_track_sft": {"file_name": "rows.json"}})
    config = {"dataset_dir": str(tmp_path), "dataset": "r1_track_100k"}
    with pytest.raises(BadInput, match=r"registers no dataset r1_track_100k; did you mean r1_track_sft\?"):
        configure.check_registered(config)
    with pytest.raises(BadInput, match=r"rows\.json of dataset r1_track_sft is missing"):
        configure.check_registered(config | {"dataset": "r1_track_sft"})
    (tmp_path / "rows.json").write_text("[]")
    configure.check_registered(config | {"dataset": "r1_track_sft"})


@pytest.mark.parametrize(("template", "alike"), [("qwen2_vl", True), ("qwen", False), ("llama3", False)])
def test_a_template_that_asks_otherwise_than_the_model_is_refused(base: Path, template: str, alike: bool) -> None:
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(base)
    if alike:
        configure.check_template(template, processor)
        return
    with pytest.raises(
        BadInput, match=f"template {template} asks .* where the model's own chat template asks .*: set sft.runs"
    ):
        configure.check_template(template, processor)


def test_a_row_that_is_too_long_for_its_pictures_is_named(base: Path, dataset: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    config = {"dataset_dir": str(dataset), "dataset": "sft_dataset_rendered", "image_max_pixels": 4704, "cutoff_len": 256}
    configure.check_lengths(config, tokenizer)
    with pytest.raises(BadInput, match=r"rendered\.json, row 1: up to 12 tokens of pictures, \d+ of text .* cutoff_len \(64\)"):
        configure.check_lengths(config | {"cutoff_len": 64}, tokenizer)


@pytest.mark.parametrize("study", ["mini", "full"])
def test_the_studys_recipes_are_accepted(study: str) -> None:
    sft = params.load(ROOT / "params.yaml", study).sft
    for run in sft.runs.values():
        config = configure.render(run.recipe, sft.pixels, run.rows.files, Path("base"), Path("data"), Path("out"))
        configure.validate(config)
        assert config["image_max_pixels"] == sft.pixels.max_pixels


def test_the_full_study_trains_as_published() -> None:
    runs = params.load(ROOT / "params.yaml", "full").sft.runs
    reasoning, located = runs["clean"].recipe, runs["r1track"].recipe
    assert reasoning.method == "full" and len(runs["clean"].rows.files) == 5
    published = {"learning_rate": 5e-5, "num_train_epochs": 3.0, "gradient_accumulation_steps": 8, "cutoff_len": 4096}
    assert published.items() <= reasoning.arguments.items()
    assert located.method == "lora"
    assert {
        "lora_rank": 12,
        "learning_rate": 1e-5,
        "cutoff_len": 1024,
        "lora_target": "all",
    }.items() <= located.arguments.items()
