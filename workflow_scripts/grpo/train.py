"""Train by the configured engine and leave a sealed checkpoint folder in EasyR1's layout.

The run lives in a hidden folder beside the output, named after the hash of its configuration and inputs: a killed run finds it
and continues, a changed one starts anew. When the run is judged complete (the tracker file has reached the last step and every
rank's file of it is there), the steps are sealed and the folder is renamed to the output.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workflow_scripts import console, files, manifest, params
from workflow_scripts.console import BadInput
from workflow_scripts.grpo import checkpoints
from workflow_scripts.grpo.trl_engine import LOG

WINDOW = 8  # steps: a step's mean over a few prompts is noisy


def read_log(path: Path) -> list[dict[str, Any]]:
    """Lines of experiment_log.jsonl, the last of each step and kind, in the order of steps."""
    kept: dict[tuple[int, bool], dict[str, Any]] = {}
    for number, text in enumerate(path.read_text().splitlines(), start=1):
        try:
            line = json.loads(text)
            kept[(line["step"], "val" in line and "reward" not in line)] = line
        except (ValueError, KeyError, TypeError):
            raise BadInput(f"{path}, line {number}: not a line of the trainer's log; remove it.") from None
    return [kept[key] for key in sorted(kept)]


def curve(log: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a training step: its mean reward, the running mean over 8 steps, the mean of each term."""
    rows = []
    for line in log:
        if "overall" in line.get("reward", {}):
            rows.append({"step": line["step"], "reward": line["reward"]["overall"], "running": 0.0, **line["reward"]})
            del rows[-1]["overall"]
            last = [row["reward"] for row in rows[-WINDOW:]]
            rows[-1]["running"] = round(sum(last) / len(last), 6)
    return rows


def metrics(log: list[dict[str, Any]], start_from: str) -> dict[str, Any]:
    """Mean reward of the first and last 8 steps, and the validation pairs' before and after. BadInput if nothing was logged."""
    reward = [row["reward"] for row in curve(log)]
    if not reward:
        raise BadInput("the trainer logged no reward: read its log.")
    window = min(WINDOW, len(reward))
    first, last = sum(reward[:window]) / window, sum(reward[-window:]) / window
    validated = [line["val"] for line in log if "val" in line]
    scored = [(line["val"].get("overall_reward", 0.0), -line["step"]) for line in log if "val" in line and line["step"]]
    return {
        "start_from": start_from,
        "steps": len(reward),
        "reward_first": round(first, 4),
        "reward_last": round(last, 4),
        "reward_rise": round(last - first, 4),
        "window": window,
        "validation_before": validated[0] if validated else {},
        "validation_after": validated[-1] if validated else {},
        "best_step": -max(scored)[1] if scored else None,
    }


def run_folder(output: Path, config: str, inputs: list[Path]) -> Path:
    """The hidden folder of the run with this configuration and these inputs."""
    content = hashlib.sha256(config.encode())
    for path in inputs:
        content.update(files.sha256(path).encode())
    return output.with_name(f".{output.name}.{content.hexdigest()[:12]}")


def train(config: Mapping[str, Any], folder: Path) -> None:
    """Run the engine in `folder` and judge that it is complete."""
    if config["engine"] == "trl":
        from workflow_scripts.grpo import trl_engine

        trl_engine.run(config, folder)
    else:
        from workflow_scripts.grpo import easyr1

        easyr1.run(config, folder)
    checkpoints.select(folder, "last")
    checkpoints.seal_all(folder)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train by GRPO; a killed run continues when started again.")
    parser.add_argument("--config", type=Path, required=True, help="configuration written by grpo.configure")
    parser.add_argument("--input", type=Path, action="append", default=[], help="manifest of an input; may be repeated")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint folder in EasyR1's layout")
    parser.add_argument("--metrics", type=Path, required=True, help="reward before and after (JSON)")
    parser.add_argument("--curve", type=Path, required=True, help="reward by step (CSV)")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    arguments = parser.parse_args()
    config = params.read_tree(arguments.config)
    if config.get("engine") not in ("trl", "easyr1"):
        raise BadInput(f"{arguments.config} names no engine: write it again with workflow_scripts.grpo.configure.")
    folder = run_folder(arguments.output, arguments.config.read_text(), arguments.input)
    train(config, folder)
    log = read_log(folder / LOG)
    facts = metrics(log, config["start_from"])
    files.write_json(arguments.metrics, facts)
    rows = curve(log)
    with files.atomic_path(arguments.curve) as temporary, temporary.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    if arguments.output.exists():
        shutil.rmtree(arguments.output)
    folder.replace(arguments.output)
    print(f"mean reward {facts['reward_first']} in the first {facts['window']} steps, {facts['reward_last']} in the last")
    if arguments.manifest:
        outputs = [arguments.output, arguments.metrics, arguments.curve]
        manifest.write(arguments.manifest, outputs, config, [arguments.config, *arguments.input], facts)


if __name__ == "__main__":
    console.run(main)
