"""What the reward's tracker service brings: a whole rollout in one request, against tracking each answer by itself.

    python -m workflow_scripts.in_env track -- python benchmarks/reward.py [--weights results/mini/track/weights/dutrack]

256 answers to 51 pairs of frames, each with another sentence, rewarded by the preset reasoningtrack-iou with the small DUTrack
on a CPU. By itself, each answer takes one start of the tracker (on the frames read from disk) and two calls, under the old and
under the new sentence. Without weights the network is untrained: as fast, and its boxes mean nothing. Prints seconds, in turn
and repeated, and the ratios of the medians: also where the IoU under the old sentence is in the dataset already, and against a
tracker that is loaded anew for every answer, as the published code does. Ends with an error below 4, or if a reward differs.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from workflow_scripts import boxes, images
from workflow_scripts.grpo import reward_service, rewards, tracker_client
from workflow_scripts.grpo.rewards import Question, Truth
from workflow_scripts.track import texts
from workflow_scripts.track.networks import dutrack as networks
from workflow_scripts.track.registry import load_tracker
from workflow_scripts.track.trackers.dutrack import DUTracker

ANSWERS, PAIRS, BAR = 256, 51, 4.0
PRESET = "reasoningtrack-iou"


def draw(folder: Path) -> list[Truth]:
    """Pairs of frames of 320x240 on disk: a bright square over noise that moves a little."""
    rng = np.random.default_rng(0)
    truths = []
    for pair in range(PAIRS):
        noise = rng.integers(60, 120, (240, 320, 3), dtype=np.uint8)
        start = rng.integers(20, 180, 2)
        sides = []
        for name, (x, y) in zip("ab", (start, start + rng.integers(-8, 9, 2)), strict=True):
            frame = noise.copy()
            frame[y : y + 32, x : x + 32] = 230
            images.write_image(folder / f"{pair}{name}.jpg", frame)
            sides.append([x, y, 32, 32])
        truths.append(Truth("the white square", np.array(sides, float), (f"{pair}a.jpg", f"{pair}b.jpg")))
    return truths


def answers(truths: list[Truth]) -> list[dict]:
    """A rollout: answers to the pairs in turn, no two of one pair with the same sentence."""
    words = itertools.product(texts.COLOURS, texts.TEXTURES, texts.SHAPES)
    said = [f"<think>it changed</think><d>yes</d><answer>the {' '.join(w)}</answer>" for w in words]
    made = [(said[number // PAIRS], truths[number % PAIRS]) for number in range(ANSWERS)]
    return [{"response": text, "response_length": 30, "ground_truth": truth.dump()} for text, truth in made]


def alone(load: Callable[[], DUTracker], root: Path) -> rewards.Tracker:
    """A tracker for the two questions of one answer: one start, two calls."""

    def ask(questions: list[Question]) -> list[float | None]:
        tracker, first = load(), questions[0]
        start, second = (images.read_rgb(root / frame) for frame in first.frames)
        state = tracker.start([start], [np.array(first.boxes[0])], [first.sentence])[0]
        outputs = [tracker.step([replace(state, sentence=q.sentence)], [second])[1][0] for q in questions]
        return [float(boxes.intersection_over_union(o.box, first.boxes[1])) for o in outputs]

    return ask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, help="folder of a trained small DUTrack")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each way")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    untrained = networks.build(networks.VARIANTS["dutrack_small"])

    def load() -> DUTracker:
        if arguments.weights:
            return load_tracker("dutrack", arguments.weights)
        return DUTracker(untrained, texts.Tokenizer(texts.small_vocabulary()))

    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        truths, kept = draw(root), load()
        rollout = answers(truths)
        server = reward_service.serve(load(), "dutrack", root, 0)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = tracker_client.Client(f"http://127.0.0.1:{server.server_port}")
        before = client([Question(t.frames, tuple(map(tuple, t.boxes.tolist())), t.description) for t in truths])
        known = answers([replace(truth, iou_before=iou) for truth, iou in zip(truths, before, strict=True)])

        def one_by_one(tracker: rewards.Tracker) -> list[dict[str, float]]:
            return [rewards.compute_score([answer], PRESET, tracker=tracker)[0] for answer in rollout]

        ways = {
            "each by itself": lambda: one_by_one(alone(lambda: kept, root)),
            "the service": lambda: rewards.compute_score(rollout, PRESET, tracker=client),
            "the service, old IoU known": lambda: rewards.compute_score(known, PRESET, tracker=client),
            **({"each by itself, loaded anew": lambda: one_by_one(alone(load, root))} if arguments.weights else {}),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        found = {}
        for _ in range(arguments.repeats):
            for name, way in ways.items():
                began = time.perf_counter()
                found[name] = way()
                seconds[name].append(time.perf_counter() - began)
        server.shutdown()
    median = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in median.items():
        print(f"{name:28} {value:7.2f} s ({', '.join(f'{s:.2f}' for s in seconds[name])})")
    theirs, ours = found.pop("each by itself"), [score for scores in found.values() for score in scores]
    difference = max(
        abs(one[key] - other[key]) for one, other in zip(ours, itertools.cycle(theirs), strict=False) for key in other
    )
    ratio = median["each by itself"] / median["the service"]
    known_ratio = median["each by itself"] / median["the service, old IoU known"]
    print(f"{ratio:.1f} times as fast, {known_ratio:.1f} with the old IoU known; largest difference of a term {difference:.1e}")
    sys.exit(0 if ratio >= BAR and difference < 1e-4 else 1)


if __name__ == "__main__":
    main()
