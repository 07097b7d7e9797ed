"""What each stage of the language-model chain sees of a frame: the picture's size, its tokens, the whole prompt's tokens.

    python -m workflow_scripts.tokens --model results/mini/grpo/model [--frame 1280x720 ...] [--study full]

Every stage is asked itself, in its own environment: LLaMA-Factory reads rewritten rows as for a training, the reinforcement
learning its pair dataset, and the served engine answers a question of the client. Rows are two equal frames and one sentence.
Ends with an error where stages that follow the one pixel rule do not agree.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from workflow_scripts import console, in_env, params
from workflow_scripts.console import BadInput

FRAMES = ("1280x720", "1920x1080", "854x480", "320x240", "56x56", "720x1280", "1000x120", "97x411")
SENTENCE = "the red plain circle on the left"
STAGES = ("sft", "grpo", "serve")


@dataclass(frozen=True)
class Seen:
    """A frame and its picture as width x height, the tokens of one such picture, and those of a question with two of them."""

    frame: str
    picture: str
    picture_tokens: int
    prompt_tokens: int


def draw(sizes: Iterable[str], folder: Path) -> None:
    """A noisy frame of each size, called by it. BadInput for a size that is none."""
    import numpy as np

    from workflow_scripts import images

    for size in sizes:
        width, _, height = size.partition("x")
        if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
            raise BadInput(f"--frame {size}: write it as WIDTHxHEIGHT, e.g. 1280x720.")
        noise = np.random.default_rng(0).integers(0, 256, (int(height), int(width), 3), dtype=np.uint8)
        images.write_image(folder / f"{size}.png", noise)


def measure(path: str | Path) -> str:
    """Width x height of a picture."""
    from workflow_scripts import images

    height, width = images.read_rgb(path).shape[:2]
    return f"{width}x{height}"


def stage(description: str, section: str, see: Callable[[argparse.Namespace, list[Path]], list[Seen]]) -> None:
    """Command line of one stage: reads --model, --frames and --parameters, and prints what `see` returns as a line of JSON."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--frames", type=Path, required=True, help="folder of frames")
    parser.add_argument("--parameters", help=f"JSON of the section {section} (default: params.yaml)")
    flags = parser.parse_args()
    seen = see(flags, sorted(flags.frames.iterdir()))
    print(json.dumps([asdict(one) for one in seen]))


def ask(name: str, model: Path, frames: Path, parameters: str) -> dict[str, Seen]:
    """What stage `name` sees, by frame. BadInput with the end of what it said when it fails."""
    command = [sys.executable, "-m", "workflow_scripts.in_env", name, "--", "python", "-m", f"workflow_scripts.{name}.tokens"]
    command += ["--model", str(model), "--frames", str(frames), "--parameters", parameters]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    if done.returncode:
        raise BadInput("\n".join(done.stderr.strip().splitlines()[-8:]).removeprefix("error: "))
    return {one["frame"]: Seen(**one) for one in json.loads(done.stdout.splitlines()[-1])}


def disagreement(seen: dict[str, dict[str, Seen]]) -> str:
    """The first frame that stages see with different pictures or tokens, in words; nothing where there is none."""
    for frame in next(iter(seen.values())):
        told = {name: by_frame[frame] for name, by_frame in seen.items()}
        if len({(one.picture, one.picture_tokens) for one in told.values()}) > 1:
            return f"{frame} is " + ", ".join(
                f"{one.picture} and {one.picture_tokens} tokens in {n}" for n, one in told.items()
            )
    return ""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="What each stage sees of a frame: picture, its tokens, the prompt's tokens.")
    parser.add_argument("--model", type=Path, required=True, help="model folder: its tokenizer, chat template and processor")
    parser.add_argument("--frame", action="append", help=f"WIDTHxHEIGHT; may be repeated (default: {' '.join(FRAMES)})")
    parser.add_argument("--study", choices=params.STUDIES, help="whose parameters (default: the one that params.yaml names)")
    parser.add_argument("--params", default="params.yaml", help="parameter file (default: params.yaml)")
    flags = parser.parse_args()
    in_env.enter("serve")
    settings = params.load(flags.params, flags.study)
    sections = {"sft": settings.sft, "grpo": settings.grpo.pairs, "serve": settings.serve}
    with tempfile.TemporaryDirectory() as folder:
        draw(flags.frame or FRAMES, Path(folder))
        model = flags.model.absolute()
        with ThreadPoolExecutor(len(STAGES)) as pool:
            asked = {n: pool.submit(ask, n, model, Path(folder), sections[n].model_dump_json()) for n in STAGES}
        seen = {name: future.result() for name, future in asked.items()}
    print(f"{'frame':>10} {'stage':>6} {'picture':>10} {'its tokens':>11} {'prompt':>7}")
    for frame in flags.frame or FRAMES:
        for name in STAGES:
            one = seen[name][frame]
            print(f"{frame:>10} {name:>6} {one.picture:>10} {one.picture_tokens:>11} {one.prompt_tokens:>7}")
    crops = {"grpo"} if settings.grpo.pairs.source == "crops" else set()  # they have a size of their own
    same = {name: by_frame for name, by_frame in seen.items() if name not in crops}
    if settings.prompt_style == "consistent" and (problem := disagreement(same)):
        raise BadInput(
            f"{problem}: a model must see in every stage what it was taught on; do min_pixels and max_pixels of "
            f"{flags.model / 'preprocessor_config.json'} let pictures of these sizes pass?"
        )


if __name__ == "__main__":
    console.run(main)
