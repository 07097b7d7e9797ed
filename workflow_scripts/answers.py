"""What a model's text says: thinking, decision and sentence of ReasoningTrack's form, boxes of R1-Track's."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal

STRICT = re.compile(r"\s*<think>(.*?)</think>\s*<d>(yes|no)</d>\s*<answer>(.*?)</answer>\s*", re.DOTALL)


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


def well_formed(text: str) -> bool:
    """Whether `parse` can read the text."""
    return parse(text).well_formed


def parse_box(text: str) -> tuple[float, float, float, float] | None:
    """R1-Track's answer ``[x1, y1, x2, y2]`` (xyxy pixels of the crop), alone or inside <answer>; None if it is not a box."""
    inside = re.fullmatch(r"\s*<think>.*</think>.*?<answer>(.*?)</answer>\s*", text, re.DOTALL)
    try:
        values = json.loads(inside.group(1) if inside else text)
    except ValueError:
        return None
    if not isinstance(values, list) or len(values) != 4:
        return None
    if any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
        return None
    x1, y1, x2, y2 = (float(v) for v in values)
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None
