"""What can be wrong with a sequence's annotation, told without opening an image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from workflow_scripts.data.benchmarks import Benchmark
from workflow_scripts.frames import Frames, number
from workflow_scripts.params.data import Checking
from workflow_scripts.sequences import Sequence


@dataclass(frozen=True)
class Problem:
    """One finding. Errors are what would break or falsify a later stage."""

    sequence: str
    level: Literal["error", "warning"]
    kind: str
    text: str


def in_counts(s: Sequence) -> Iterator[Problem]:
    """Frames against boxes, and gaps in the frames' numbers."""
    if not s.frames:
        yield Problem(s.name, "error", "no frames", "there is no image")
    elif len(s.boxes) != len(s.frames) and not (s.first_frame_only and len(s.boxes) == 1):
        yield Problem(s.name, "error", "counts", f"{len(s.frames)} images, {len(s.boxes)} boxes")
    if isinstance(s.frames, Frames):
        ends = [(s.frames[end - 1].name, s.frames[end].name) for end in np.cumsum([n for _, n in s.frames.runs])[:-1]]
        gaps = [(a, b) for a, b in ends if number(b)[0] != number(a)[0] + 1]
        if gaps:
            text = f"{len(gaps)} in the images' numbers, the first: {gaps[0][1]} follows {gaps[0][0]}"
            yield Problem(s.name, "warning", "gap", text)


def in_boxes(s: Sequence, benchmark: Benchmark) -> Iterator[Problem]:
    """Numbers that cannot be boxes of a present target. Kinds that the published annotation has are errors in frame 1 alone."""
    finite = np.isfinite(s.boxes).all(axis=1)
    sizeless = finite & (s.boxes[:, 2:] <= 0).any(axis=1)
    for kind, bad in (("NaN box", ~finite & s.present), ("box without size", sizeless & s.present)):
        if bad.any():
            level = "warning" if kind in benchmark.flaws and not bad[0] else "error"
            yield Problem(s.name, level, kind, f"{bad.sum()} present frames, the first is frame {bad.argmax() + 1}")
    negative = finite & s.present & (s.boxes[:, :2] < 0).any(axis=1)
    if negative.any():
        yield Problem(
            s.name, "warning", "negative corner", f"{negative.sum()} boxes, the first is of frame {negative.argmax() + 1}"
        )


def in_presence(s: Sequence, settings: Checking) -> Iterator[Problem]:
    """An absent first frame, many absent frames, and boxes that contradict the flags."""
    if len(s.present) and not s.present[0] and not settings.allow_absent_first:
        text = "the target is absent in frame 1: is the polarity wrong? --allow-absent-first accepts it"
        yield Problem(s.name, "error", "absent first frame", text)
    share = absent_share([s])
    if share > settings.max_absent_share:
        yield Problem(s.name, "warning", "absent share", f"the target is absent in {share:.0%} of the frames")
    if s.present.any() and not s.present.all():
        sizeless = ~(np.nan_to_num(s.boxes[:, 2:]) > 0).all(axis=1)
        if sizeless[s.present].mean() > max(0.5, sizeless[~s.present].mean()):
            text = "boxes have no size where the flags say present, and have one where they say absent: wrong polarity"
            yield Problem(s.name, "error", "polarity", text)


def in_benchmark(found: list[Sequence], settings: Checking) -> Iterator[Problem]:
    """What no single sequence tells: most of all frames absent; sentences for some sequences only."""
    share = absent_share(found)
    if share > settings.max_absent_share:
        enough = np.ceil(share * 100) / 100
        text = f"{share:.0%} of all frames are absent: is the polarity wrong? --max-absent-share {enough:g} accepts it"
        yield Problem("all", "error", "absent share", text)
    if any(s.sentence for s in found):
        for s in found:
            if not s.sentence:
                yield Problem(s.name, "warning", "no sentence", "no language annotation, which others have")


def absent_share(found: Iterable[Sequence]) -> float:
    """Share of absent frames."""
    flags = [s.present for s in found if len(s.present)]
    return 1 - float(np.concatenate(flags).mean()) if flags else 0.0
