"""One pixel rule: whatever a frame's size, LLaMA-Factory, the pair dataset and both engines see the same picture of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from workflow_scripts import images, params, tokens

# width x height at the model and tokens of a picture, by the published limits
RIGHT = {
    "1280x720": ("672x364", 312),
    "1920x1080": ("672x364", 312),
    "854x480": ("672x364", 312),
    "320x240": ("308x252", 99),
    "56x56": ("252x252", 81),
    "720x1280": ("364x672", 312),
    "1000x120": ("1008x112", 144),
    "97x411": ("140x504", 90),
}


def parameter_file(folder: Path, **changes: object) -> Path:
    """params.yaml whose full study is served on a CPU, with `changes` laid over its sections."""
    tree = params.read_tree("params.yaml")
    here = {"engine": "transformers", "device": "cpu", "dtype": "float32"}
    tree["serve"] = params.merge(tree["serve"], {"full": here})
    path = folder / "parameters of a test.yaml"
    path.write_text(yaml.safe_dump(params.merge(tree, changes)))
    return path


def report(model: Path, parameters: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "workflow_scripts.tokens", "--model", str(model), "--study", "full"]
    return subprocess.run([*command, "--params", str(parameters), *flags], text=True, capture_output=True, check=False)


def test_eight_frame_sizes_are_the_same_tokens_in_sft_rl_and_serving(model: Path, tmp_path: Path) -> None:
    done = report(model, parameter_file(tmp_path))
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    assert [(row[0], row[1]) for row in rows] == [(frame, stage) for frame in RIGHT for stage in tokens.STAGES]
    for frame, stage, picture, count, _ in rows:
        assert (picture, int(count)) == RIGHT[frame], (frame, stage)
    assert all(len({row[4] for row in rows if row[0] == frame}) == 1 for frame in RIGHT)  # and the same prompt around them


def test_the_papers_sft_keeps_its_own_resize_which_is_told(model: Path, tmp_path: Path) -> None:
    own = {"full": {"pixels": {"min_pixels": 1024, "max_pixels": 589824}}}
    parameters = params.load(parameter_file(tmp_path, prompt_style="paper", sft=own), "full")
    tokens.draw(["1280x720", "320x240"], tmp_path / "frames")
    sft = tokens.ask("sft", model, tmp_path / "frames", parameters.sft.model_dump_json())
    assert {frame: (one.picture, one.picture_tokens) for frame, one in sft.items()} == {
        "1280x720": ("1280x720", 777),
        "320x240": ("320x240", 99),
    }
    serve = {"1280x720": tokens.Seen("1280x720", "672x364", 312, 700)}
    assert tokens.disagreement({"serve": serve, "sft": sft}) == (
        "1280x720 is 672x364 and 312 tokens in serve, 1280x720 and 777 tokens in sft"
    )


@pytest.mark.slow_server
def test_vllm_leaves_pictures_of_the_client_as_they_are(model: Path, tmp_path: Path) -> None:
    tokens.draw(RIGHT, tmp_path / "frames")
    parameters = params.load(parameter_file(tmp_path, serve={"full": {"engine": "vllm"}}), "full").serve
    command = [
        sys.executable,
        "-m",
        "workflow_scripts.serve.tokens",
        "--model",
        str(model),
        "--frames",
        str(tmp_path / "frames"),
    ]
    done = subprocess.run([*command, "--parameters", parameters.model_dump_json()], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    seen = {one["frame"]: (one["picture"], one["picture_tokens"]) for one in json.loads(done.stdout.splitlines()[-1])}
    assert seen == RIGHT


@pytest.mark.parametrize("section", ["sft", "grpo", "serve"])
def test_limits_that_differ_between_stages_are_refused_with_both_places(section: str) -> None:
    other = {"pixels": {"max_pixels": 300_000}} if section != "grpo" else {"pairs": {"max_pixels": 300_000}}
    tree = params.merge(params.read_tree("params.yaml"), {section: {"full": other}})
    with pytest.raises(
        ValueError, match=r"(grpo\.pairs|serve\.pixels) has other min_pixels and max_pixels .* than sft\.pixels"
    ):
        params.resolve(tree, "full")


def test_a_frame_that_was_fitted_is_fitted_as_it_is_however_narrow_it_was() -> None:
    for limits in ((3136, 4704), (59536, 262144), (50176, 313600)):
        for height in range(8, 1200, 37):
            for width in range(8, 1200, 41):
                fitted = images.fit_size(height, width, *limits)
                assert images.fit_size(*fitted, images.LEAST_PIXELS, limits[1]) == fitted
                assert fitted[0] * fitted[1] <= limits[1]


def test_a_size_that_is_none_is_refused(model: Path, tmp_path: Path) -> None:
    done = report(model, parameter_file(tmp_path), "--frame", "1280")
    assert done.returncode == 1 and done.stderr == "error: --frame 1280: write it as WIDTHxHEIGHT, e.g. 1280x720.\n"
