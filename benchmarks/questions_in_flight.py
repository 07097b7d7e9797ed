"""What it brings that a sequence waits for its own answer only: ReasoningTrack with a model of random answering times.

    python -m workflow_scripts.in_env track -- python benchmarks/questions_in_flight.py [--sequences 24] [--repeats 2]

Two ways in turn, over the same rendered sequences and with the same answers: the batch waits until all of its questions are
answered, or its other sequences go on. The network is small and untrained. Prints seconds and the ratio of the medians, and
ends with an error if a box differs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from workflow_scripts import images
from workflow_scripts.asking import Question
from workflow_scripts.sequences import Sequence
from workflow_scripts.track import runner
from workflow_scripts.track.networks import dutrack as networks
from workflow_scripts.track.texts import Tokenizer, small_vocabulary
from workflow_scripts.track.trackers.dutrack import DUTracker
from workflow_scripts.track.trackers.reasoningtrack import ReasoningTracker, Rule

BATCH, IN_FLIGHT, EVERY = 4, 8, 5  # sequences a step, questions at once, frames between looks


class Blocking:
    """A tracker without its questions: the runner sees only a step that takes as long as the slowest answer."""

    lockstep = True

    def __init__(self, tracker: ReasoningTracker) -> None:
        self.start, self._step = tracker.start, tracker.step

    def step(self, states: list, frames: list) -> tuple[list, list]:
        return self._step(states, frames)


def draw(folder: Path, name: str, frames: int, seed: int) -> Sequence:
    """A bright square that wanders over noise."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(60, 120, (120, 160, 3), dtype=np.uint8)
    corners = np.clip(np.cumsum(rng.normal(0, 2, (frames, 2)), axis=0) + 60, 0, 90).astype(int)
    for number, (x, y) in enumerate(corners):
        frame = noise.copy()
        frame[y : y + 24, x : x + 24] = 230
        images.write_image(folder / name / f"{number:04d}.png", frame)
    boxes = np.concatenate([corners, np.full_like(corners, 24)], axis=1).astype(float)
    paths = sorted((folder / name).iterdir())
    return Sequence(name, "test", paths, boxes, np.ones(frames, dtype=bool), "the white square")


def answer(question: Question) -> str:
    """A sentence after 0.2 to 1.2 seconds; the pictures decide both."""
    number = int(question.images[1].sum(dtype=np.int64))
    time.sleep(0.2 + number % 101 / 100)
    return f"<think>t</think><d>yes</d><answer>the {small_vocabulary()[5 + number % 20]} thing</answer>"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sequences", type=int, default=24)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tracker = DUTracker(networks.build(networks.VARIANTS["dutrack_small"]), Tokenizer(small_vocabulary()), rows=BATCH)
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(IN_FLIGHT) as pool:
        folder = Path(temporary)
        chosen = [draw(folder / "set", f"s{n}", arguments.frames, n) for n in range(arguments.sequences)]
        rule = Rule(every=EVERY, area=1.0, shift=0.0)  # asks at every look
        asking = ReasoningTracker(tracker, lambda questions: list(pool.map(answer, questions)), rule=rule)
        seconds: dict[str, list[float]] = {"blocking": [], "in flight": []}
        boxes = set()
        for repeat in range(arguments.repeats):
            for name, run in (("blocking", Blocking(asking)), ("in flight", asking)):
                output = folder / f"{name} {repeat}"
                begin = time.perf_counter()
                if failures := runner.run_sequences(run, chosen, output, BATCH, in_flight=IN_FLIGHT):
                    raise SystemExit(f"failed: {failures}")
                seconds[name].append(time.perf_counter() - begin)
                boxes.add(b"".join((output / f"{s.name}.txt").read_bytes() for s in chosen))
        asked = runner.summarise(output, chosen)["vlm_calls"]
    before, after = (statistics.median(seconds[name]) for name in seconds)
    print(f"{len(chosen)} sequences of {arguments.frames} frames, {asked} questions, medians of {arguments.repeats}:")
    print(f"blocking {before:.1f} s, in flight {after:.1f} s: {before / after:.2f} times as fast")
    if len(boxes) > 1:
        raise SystemExit("error: the boxes differ")


if __name__ == "__main__":
    main()
