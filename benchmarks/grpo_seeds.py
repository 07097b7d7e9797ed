"""Whether GRPO raises the reward whatever its seed: the mini study's training from its own start model, once a seed.

    python -m workflow_scripts.in_env grpo -- python benchmarks/grpo_seeds.py [--seeds 0 1 2] [--root .] [--output FOLDER]

`--root` is a folder in which the mini study was made; its model and its pairs are read and nothing there is written. Prints,
for each seed, the mean reward of the first and of the last eight steps (sampled answers) and of the greedy answers to the
validation pairs before and after, and ends with an error unless both rise.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from workflow_scripts import params


def train(seed: int, root: Path, output: Path) -> dict:
    """The metrics of one run, made by the commands of the graph."""
    grpo = params.load(root / "params.yaml", "mini").grpo
    assert grpo.trl is not None
    settings = grpo.model_copy(update={"trl": grpo.trl.model_copy(update={"seed": seed})}).model_dump_json()
    model, pairs = (f"results/mini/{name}" for name in (f"sft/{grpo.start_from}/model", "grpo/pairs"))
    config, metrics = output / f"{seed}.yaml", output / f"{seed}.json"
    configure = ["configure", "--parameters", settings, "--model", model, "--pairs", pairs, "--output", str(config)]
    run = ["train", "--config", str(config), "--output", str(output / f"checkpoints-{seed}")]
    run += ["--metrics", str(metrics), "--curve", str(output / f"{seed}.csv")]
    for verb, *flags in (configure, run):
        command = [sys.executable, "-m", f"workflow_scripts.grpo.{verb}", *flags]
        # one thread, as the graph gives it: another number sums in another order
        variables = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
        subprocess.run(command, cwd=root, env=variables, check=True, stdout=subprocess.DEVNULL)
    return json.loads(metrics.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of sampling and order")
    parser.add_argument("--root", type=Path, default=Path(), help="folder in which the mini study was made")
    parser.add_argument("--output", type=Path, help="folder for the runs (default: a temporary one)")
    arguments = parser.parse_args()
    rises = []
    with tempfile.TemporaryDirectory() as scratch:
        output = (arguments.output or Path(scratch)).absolute()
        output.mkdir(parents=True, exist_ok=True)
        for seed in arguments.seeds:
            found = train(seed, arguments.root.absolute(), output)
            before, after = (found[f"validation_{when}"]["overall_reward"] for when in ("before", "after"))
            print(
                f"seed {seed}: sampled {found['reward_first']:.3f} -> {found['reward_last']:.3f}, "
                f"greedy {before:.3f} -> {after:.3f}",
                flush=True,
            )
            rises.append(found["reward_last"] > found["reward_first"] and after > before)
    print(f"higher in {sum(rises)} of {len(rises)}")
    sys.exit(0 if all(rises) else 1)


if __name__ == "__main__":
    main()
