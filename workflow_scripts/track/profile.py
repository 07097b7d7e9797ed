"""What a tracker costs: parameters, multiply-accumulates, frames per second by batch size and precision, time by part.

    python -m workflow_scripts.track.profile --tracker seqtrack_b256 --batch 1 4 --precision fp32 bf16

No trained weights are needed: without `--weights` the network keeps its first random ones, and before every frame each state is
set back to the same box, so that all that is measured is the same work. Frames are noise of `--size`. A network does
different work at different moments of a sequence, and each moment is measured on its own: SeqTrack before and after its first
template update, DUTrack on the first frame and once its memory is full.

MACs are half of what torch's FlopCounterMode counts for one sequence (attention's products included, norms and activations
not). The time of a part is its own, without that of the parts that it calls.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from workflow_scripts import console, files, manifest
from workflow_scripts.console import BadInput
from workflow_scripts.track import crops, load_tracker
from workflow_scripts.track.convert import VARIANTS, network_of
from workflow_scripts.track.networks.packed import PRODUCT
from workflow_scripts.track.trackers.base import Box, Image, Tracker

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SENTENCE = "the red car that turns left"
PACKED = {PRODUCT: lambda x, *_, out_shape: 2 * math.prod(out_shape) * x[-1]}  # FLOPs of a packed linear layer
LATER = 12  # frames after which a DUTrack's memory is as full as it gets


@dataclass(frozen=True)
class Cost:
    """One line of the table. `parts` are milliseconds a step of the whole batch, by part; `rest` is what no part names."""

    moment: str
    precision: str
    batch: int
    giga_macs: float  # one sequence, one frame
    milliseconds: float  # a step of the whole batch, median
    frames_per_second: float  # all sequences together
    parts: Mapping[str, float]


class Stopwatch:
    """Adds up the time of wrapped functions, each without what the others spent inside it."""

    def __init__(self, wait: Callable[[], None]) -> None:
        self.wait = wait  # until the device is done: on a GPU a call returns before its work does
        self.seconds: dict[str, float] = {}
        self._inner: list[float] = []

    def wrap(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            self.wait()
            begin = time.perf_counter()
            self._inner.append(0.0)
            try:
                return function(*arguments, **options)
            finally:
                self.wait()
                spent = time.perf_counter() - begin
                self.seconds[part] = self.seconds.get(part, 0.0) + spent - self._inner.pop()
                if self._inner:
                    self._inner[-1] += spent

        return timed


@contextmanager
def replaced(places: Sequence[tuple[Any, str, Callable[..., Any]]]) -> Iterator[None]:
    """Attributes of objects replaced by others inside the block."""
    before = [(owner, name, getattr(owner, name), name in vars(owner)) for owner, name, _ in places]
    for owner, name, function in places:
        setattr(owner, name, function)
    try:
        yield
    finally:
        for owner, name, function, own in before:
            setattr(owner, name, function) if own else delattr(owner, name)


def parts_of(tracker: Any) -> dict[str, tuple[Any, str]]:
    """Where each part of a tracker's step is: object and name of the function."""
    network = tracker.network
    common = {"crop": (crops, "crop"), "normalise": (crops, "normalise"), "template stem": (network, "embed_template")}
    if type(network).__name__ == "SeqTrack":
        return common | {
            "search stem": (network, "embed_search"),
            "encoder": (tracker, "encode"),
            "decoder": (tracker, "decode"),
        }
    return common | {
        "search stem": (network.backbone, "search"),
        "text": (tracker, "_embed_texts"),
        "trunk": (network.backbone, "fuse"),
        "head": (network.box_head, "forward"),
    }


def moments(tracker: Any, states: list[Any], frames: list[Image], box: Box) -> dict[str, list[Any]]:
    """States at each moment whose work differs, by name."""
    if type(tracker.network).__name__ == "SeqTrack":
        return {"before the first update": states, "after it": [replace(s, newest=s.first) for s in states]}
    later = states
    for _ in range(LATER):
        later = [replace(s, box=box) for s in tracker.step(later, frames)[0]]
    return {"first frame": states, "memory full": later}


def measure(
    tracker: Any, moment: str, states: list[Any], frames: list[Image], precision: str, repeats: int, device: torch.device
) -> Cost:
    """Cost of one step from `states`, repeated from the same states (a step changes none of them)."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    step = partial(tracker.step, states, frames)
    with autocast(device, precision):
        # torch counts no FLOPs of the CPU's fused kernel; the plain one does the same products.
        with FlopCounterMode(display=False, custom_mapping=PACKED) as counter, sdpa_kernel(SDPBackend.MATH):
            tracker.step(states[:1], frames[:1])
        step()
        seconds = []
        for _ in range(repeats):
            wait()
            begin = time.perf_counter()
            step()
            wait()
            seconds.append(time.perf_counter() - begin)
        watch = Stopwatch(wait)
        places = [(owner, name, watch.wrap(part, getattr(owner, name))) for part, (owner, name) in parts_of(tracker).items()]
        with replaced(places):
            watched = watch.wrap("rest", step)
            for _ in range(repeats):
                watched()
    median = statistics.median(seconds)
    return Cost(
        moment=moment,
        precision=precision,
        batch=len(states),
        giga_macs=counter.get_total_flops() / 2e9,
        milliseconds=1e3 * median,
        frames_per_second=len(states) / median,
        parts={part: 1e3 * spent / repeats for part, spent in watch.seconds.items()},
    )


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, PRECISIONS[precision])


def parameters_of(network: nn.Module) -> dict[str, int]:
    """Numbers of parameters by the first two levels of their names; parts below a hundredth of all are `others`."""
    counts: dict[str, int] = {}
    for name, parameter in network.named_parameters():
        part = ".".join(name.split(".")[:2])
        counts[part] = counts.get(part, 0) + parameter.numel()
    least = sum(counts.values()) / 100
    large = {part: count for part, count in counts.items() if count >= least}
    return {**large, "others": sum(counts.values()) - sum(large.values())}


def build(name: str, weights: Path | None, vocabulary: Path | None, benchmark: str, device: str) -> Tracker:
    """The tracker; without weights, one with a fresh network (and, for a network that reads, a small vocabulary)."""
    if weights is not None:
        return load_tracker(name, weights, benchmark, device, vocabulary)
    if name not in VARIANTS:
        raise BadInput(f"{name} has no network that could be made without weights: name one of {', '.join(VARIANTS)}.")
    torch.manual_seed(0)
    network = network_of(name).to(device)
    if name.startswith("seqtrack"):
        from workflow_scripts.track.trackers.seqtrack import SeqTrackTracker, update_rule

        return SeqTrackTracker(network, update_rule(name, benchmark))
    from workflow_scripts.track.texts import Tokenizer, small_vocabulary
    from workflow_scripts.track.trackers.dutrack import DUTracker

    return DUTracker(network, Tokenizer(small_vocabulary([SENTENCE])))


def profile(
    tracker: Any, batches: Sequence[int], precisions: Sequence[str], repeats: int, size: tuple[int, int], device: str
) -> list[Cost]:
    """Every moment, precision and batch size; `size` is width and height of the frames."""
    width, height = size
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    box = np.array([0.45 * width, 0.45 * height, 0.1 * width, 0.1 * height])
    costs = []
    for precision in precisions:
        for batch in batches:
            frames = [frame] * batch
            with autocast(torch.device(device), precision):
                states = tracker.start(frames, [box] * batch, [SENTENCE] * batch)
                found = moments(tracker, states, frames, box)
            for moment, at in found.items():
                costs.append(measure(tracker, moment, at, frames, precision, repeats, torch.device(device)))
    return costs


def report(name: str, parameters: Mapping[str, int], costs: Sequence[Cost]) -> str:
    """The figures as text."""
    lines = [f"{name}: {sum(parameters.values()) / 1e6:.2f} M parameters"]
    lines += [f"  {part:32} {count / 1e6:9.3f} M" for part, count in parameters.items()]
    lines += ["", f"{'moment':24} {'precision':9} {'batch':>5} {'GMAC':>8} {'ms a step':>10} {'frames/s':>9}  parts, ms a step"]
    for cost in costs:
        parts = ", ".join(f"{part} {ms:.1f}" for part, ms in sorted(cost.parts.items(), key=lambda item: -item[1]))
        lines.append(
            f"{cost.moment:24} {cost.precision:9} {cost.batch:5} {cost.giga_macs:8.3f} {cost.milliseconds:10.1f} "
            f"{cost.frames_per_second:9.2f}  {parts}"
        )
    return "\n".join(lines)


def frame_size(text: str) -> tuple[int, int]:
    """`WIDTHxHEIGHT`."""
    try:
        width, height = (int(v) for v in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not WIDTHxHEIGHT") from None
    if min(width, height) < 32:
        raise argparse.ArgumentTypeError(f"{text} is too small: 32x32 at least")
    return width, height


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracker", required=True, help=", ".join(VARIANTS))
    parser.add_argument("--weights", type=Path, help="folder or checkpoint (default: a fresh network)")
    parser.add_argument("--vocabulary", type=Path, help="vocabulary of a network that reads (default: the weights' own)")
    parser.add_argument("--benchmark", default="lasot", help="whose settings are used")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4], help="sequences in lockstep")
    parser.add_argument("--precision", nargs="+", default=["fp32"], choices=sorted(PRECISIONS))
    parser.add_argument("--repeats", type=int, default=5, help="steps that are timed, of which the median counts")
    parser.add_argument("--size", type=frame_size, default=(1280, 720), help="WIDTHxHEIGHT of the frames (1280x720)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="torch threads on the CPU (default: torch's own choice)")
    parser.add_argument("--output", type=Path, help="the figures as JSON")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    arguments = parser.parse_args()
    if min(arguments.batch) < 1 or arguments.repeats < 1:
        parser.error("--batch and --repeats count from 1")
    if arguments.manifest and not arguments.output:
        parser.error("--manifest needs --output")
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        raise BadInput(f"--device {arguments.device}: torch sees no GPU here; leave the flag out to profile on the CPU.")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)

    tracker: Any = build(arguments.tracker, arguments.weights, arguments.vocabulary, arguments.benchmark, arguments.device)
    if not hasattr(tracker, "network"):
        raise BadInput(f"{arguments.tracker} has no network to profile: name one of {', '.join(VARIANTS)}.")
    parameters = parameters_of(tracker.network.requires_grad_(False))
    costs = profile(tracker, arguments.batch, arguments.precision, arguments.repeats, arguments.size, arguments.device)
    print(report(arguments.tracker, parameters, costs))
    if arguments.output:
        with files.atomic_path(arguments.output) as path:
            figures = {"tracker": arguments.tracker, "parameters": parameters, "costs": [asdict(c) for c in costs]}
            path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if arguments.manifest:
        manifest.write(arguments.manifest, [arguments.output], {"tracker": arguments.tracker})


if __name__ == "__main__":
    console.run(main)
