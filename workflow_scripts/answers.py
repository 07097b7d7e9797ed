"""What a model's text says: thinking, decision and sentence of ReasoningTrack's form, boxes of R1-Track's."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

STRICT = re.compile(r"\s*<think>(.*?)</think>\s*<d>(yes|no)</d>\s*<answer>(.*?)</answer>\s*", re.DOTALL)
LARGEST = 1e6  # pixels; JSON knows numbers without end, and NaN


@dataclass(frozen=True)
class Answer:
    """One parsed answer. `decision` and `sentence` are None unless `well_formed`."""

    text: str
    think: str | None
    decision: Literal["yes", "no"] | None
    sentence: str | None
    well_formed: bool


def parse(text: str) -> Answer:
    """Parse ``<think>..</think><d>yes|no</d><answer>..</answer>``; the whole text must match, nothing is guessed."""
    match = STRICT.fullmatch(text)
    if match is None or any(tag in match.group(1) + match.group(3) for tag in ("<think>", "<d>", "<answer>", "</")):
        return Answer(text, None, None, None, False)
    sentence = match.group(3).strip()
    if not sentence:
        return Answer(text, None, None, None, False)
    return Answer(text, match.group(1).strip(), "yes" if match.group(2) == "yes" else "no", sentence, True)


def between(text: str, tag: str) -> str | None:
    """What stands between the first <tag> and its </tag>, whatever form the rest has; None where they are not there."""
    found = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return found.group(1) if found else None


def well_formed(text: str) -> bool:
    """Whether `parse` can read the text."""
    return parse(text).well_formed


def parse_box(text: str) -> tuple[float, float, float, float] | None:
    """R1-Track's answer ``[x1, y1, x2, y2]`` (xyxy pixels of the crop), alone or inside <answer>; None if it is not a box."""
    inside = re.fullmatch(r"\s*<think>.*</think>.*?<answer>(.*?)</answer>\s*", text, re.DOTALL)
    try:
        values = json.loads(inside.group(1) if inside else text)
    except (ValueError, RecursionError):
        return None
    return _corners(values)


def parse_located(text: str) -> tuple[float, float, float, float] | None:
    """The box (xyxy pixels) of ``[{"bbox_2d": [x1, y1, x2, y2], ...}]``, fenced as JSON or not; of several the first.

    None if the text is anything else.
    """
    fenced = re.fullmatch(r"\s*```(?:json)?(.*?)```\s*", text, re.DOTALL)
    try:
        values = json.loads(fenced.group(1) if fenced else text)
    except (ValueError, RecursionError):
        return None
    first = values[0] if isinstance(values, list) and values else values
    return _corners(first.get("bbox_2d")) if isinstance(first, dict) else None


def _corners(values: Any) -> tuple[float, float, float, float] | None:
    """Four numbers of pixels, left before right and top before bottom; None for all else."""
    if not isinstance(values, list) or len(values) != 4:
        return None
    if any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
        return None
    if not all(-LARGEST <= v <= LARGEST for v in values):
        return None
    x1, y1, x2, y2 = (float(v) for v in values)
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None
