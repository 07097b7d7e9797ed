"""The commands: what they print and write, and what they refuse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from conftest import settings, stub

from workflow_scripts import images, in_env, manifest


def run(verb: str, *flags: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"workflow_scripts.serve.{verb}", *map(str, flags)]
    return subprocess.run(command, text=True, capture_output=True, check=False)


def pictures(folder: Path) -> tuple[Path, Path]:
    paths = (folder / "first.png", folder / "second.png")
    for value, path in enumerate(paths):
        images.write_image(path, np.full((60, 80, 3), 40 * value + 90, np.uint8))
    return paths


def test_ask_prints_description_decision_think_and_answer(tmp_path: Path) -> None:
    first, second = pictures(tmp_path)
    parameters = settings()
    with stub(parameters, tmp_path / "log") as endpoint:
        flags = ("--image1", first, "--image2", second, "--text", "the red car", "--parameters", parameters.model_dump_json())
        done = run("ask", "--url", endpoint.url, *flags)
        assert done.returncode == 0, done.stderr
        lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
        assert lines["description"] == "the red car" and lines["answer"] == "the red car again"
        assert lines["decision"] == "yes" and lines["think"].startswith("seen ")
        bare = {k: v for k, v in os.environ.items() if k != "TRACKGRAPH_ENV"}  # as a user types it, in no environment
        command = [f"{in_env.ROOT}/.venv/bin/python", "-m", "workflow_scripts.serve.ask", "--url", endpoint.url]
        typed = subprocess.run([*command, *map(str, flags)], env=bare, text=True, capture_output=True, check=False)
        assert (typed.stdout, typed.returncode) == (done.stdout, 0), typed.stderr
        truncated = tmp_path / "cut.png"
        truncated.write_bytes(first.read_bytes()[:60])
        refused = run("ask", "--url", endpoint.url, *flags[:3], truncated, *flags[4:])
    assert refused.returncode == 1 and f"error: {truncated} cannot be read" in refused.stderr


def test_an_answer_without_form_is_shown_and_refused(tmp_path: Path) -> None:
    first, second = pictures(tmp_path)
    parameters = settings(questions={"malformed_retries": 0})
    with stub(parameters, tmp_path / "log", "--malformed", "all") as endpoint:
        flags = ("--image1", first, "--image2", second, "--text", "the red car", "--parameters", parameters.model_dump_json())
        done = run("ask", "--url", endpoint.url, *flags)
    assert done.stdout == "description: the red car\ndecision: (none)\nthink: (none)\nanswer: (none)\n"
    assert done.returncode == 1 and "'The target did not move.'" in done.stderr


def test_check_writes_the_pair_with_its_answer_and_a_manifest_without_clocks(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_text("weights")
    manifest.write(tmp_path / "model.json", [model])
    written = []
    with stub(settings(), tmp_path / "log") as endpoint:
        parameters = settings(engine="url", url=endpoint.url)
        for name in ("one", "two"):
            out = tmp_path / name
            files = ("--pair", out / "pair", "--output", out / "check.json", "--manifest", out / "pair.json")
            flags = ("--model", model, "--model-manifest", tmp_path / "model.json", "--server-log", tmp_path / "unused")
            done = run("check", *flags, *files, "--parameters", parameters.model_dump_json())
            assert done.returncode == 0, done.stderr
            written.append((out / "pair.json").read_text())
            manifest.verify(out / "pair.json")
        assert written[0] == written[1]
        check = json.loads((tmp_path / "one" / "check.json").read_text())
        assert check["answer"]["answer"].endswith(" again") and check["start_seconds"] > 0
        (model / "model.safetensors").write_text("other weights")
        refused = run("check", *flags, *files, "--parameters", parameters.model_dump_json())
    assert refused.returncode == 1 and "is not the model that" in refused.stderr
