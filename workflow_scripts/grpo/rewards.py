"""What an answer earns: small pure terms, mixed by declared weights.

A term maps one rollout to a number; a mix names the terms, their weights, and which of them an answer must pass to earn
anything. Presets hold the published weights of ReasoningTrack and R1-Track and the mini study's recipe. Deviations from
the published code, on purpose:

* an answer that breaks the form earns nothing for its decision (published: it counts as "no" and may be paid);
* a box with swapped corners is no box (published, and with the presets r1track-*-paper: the highest reward of all);
* when the tracker cannot be asked, every term is zero, or the run ends (published: IoU 0 on both sides, which pays "no").

`compute_score` has the signature of EasyR1's batch rewards; the TRL engine calls the same function.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from workflow_scripts import answers, boxes, pairs
from workflow_scripts.console import BadInput

IOU_STEP = 0.61  # ReasoningTrack: an IoU up to here is halved
LEAST_TOKENS, FREE_TOKENS, TOKENS_PER_POINT = 128, 448, 64  # R1-Track: shorter is refused, longer costs
R1_FORM = re.compile(
    r"<think>((?!</?think>).)*</think>((?!</?(think|answer)>).)*<answer>(?P<box>((?!</?answer>).)*)</answer>", re.DOTALL
)


@dataclass(frozen=True)
class Truth:
    """What the dataset knows of a pair; travels as JSON in EasyR1's answer column.

    boxes: xywh pixels of the target in both frames, [2, 4]; frames: their paths; attributes: of a rendered pair, the words
    of each frame's target; iou_before: the tracker's IoU under the description, if it was measured beforehand.
    """

    description: str
    boxes: np.ndarray
    frames: tuple[str, str] = ("", "")
    attributes: Mapping[str, Any] = field(default_factory=dict)
    iou_before: float | None = None

    @classmethod
    def parse(cls, text: str) -> Truth:
        """Read the answer column. BadInput if it is not what `dump` writes."""
        try:
            value = json.loads(text)
            target = np.asarray(value["boxes"], dtype=np.float64)
            frames = tuple(str(f) for f in value["frames"])
            if target.shape != (2, 4) or len(frames) != 2:
                raise ValueError("two boxes and two frames are needed")
            return cls(str(value["description"]), target, frames, value.get("attributes") or {}, value.get("iou_before"))
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(
                f"a ground truth of the pair dataset is not readable ({error}): build the pairs again. It begins {text[:80]!r}."
            ) from None

    def dump(self) -> str:
        """The JSON that `parse` reads."""
        value = {
            "description": self.description,
            "boxes": np.asarray(self.boxes).round(4).tolist(),
            "frames": list(self.frames),
            "attributes": dict(self.attributes),
            "iou_before": self.iou_before,
        }
        return json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True)
class Rollout:
    """One sampled answer. length: tokens; ious: the tracker's IoU in the second frame under the old and the new sentence."""

    response: str
    length: int
    truth: Truth
    ious: tuple[float, float] | None = None


@dataclass(frozen=True)
class Question:
    """One call of the tracker: start on the first frame's box with the sentence, how well does it hit the second's?"""

    frames: tuple[str, str]
    boxes: tuple[tuple[float, ...], tuple[float, ...]]  # xywh, first and second frame
    sentence: str


class Tracker(Protocol):
    """Anything that answers questions with an IoU each, None where the call failed."""

    def __call__(self, questions: Sequence[Question]) -> list[float | None]: ...


# ---------------------------------------------------------------- terms


def loose_format(rollout: Rollout) -> float:
    """1 if thinking, decision and answer tags all occur, in any order (ReasoningTrack's first format term)."""
    return float(all(answers.between(rollout.response, tag) is not None for tag in ("think", "d", "answer")))


def strict_format(rollout: Rollout) -> float:
    """1 if the whole answer has the form, with a decision that is yes or no."""
    return float(answers.parse(rollout.response).well_formed)


def _marks(rollout: Rollout) -> pairs.Score:
    try:
        before, after = (pairs.Target(**rollout.truth.attributes[name]) for name in ("before", "after"))
    except (KeyError, TypeError):
        raise BadInput(
            "the reward terms decision and words need rendered pairs, whose attributes are known: choose another preset."
        ) from None
    return pairs.score(rollout.response, before, after)


def decision(rollout: Rollout) -> float:
    """1 if yes/no says rightly whether the rendered target changed."""
    return _marks(rollout).decision


def words(rollout: Rollout) -> float:
    """Share of the four attribute words that are right."""
    return _marks(rollout).words


def sentence(rollout: Rollout) -> float:
    """1 if all four attribute words are right."""
    return _marks(rollout).sentence


def gain(rollout: Rollout) -> float:
    """1 if the decision fits the tracker: yes where the new sentence tracks better than the old, no where it does not."""
    said = answers.parse(rollout.response).decision
    if said is None or rollout.ious is None:
        return 0.0
    before, after = rollout.ious
    return float((said == "yes") == (after > before))


def stepped_iou(rollout: Rollout) -> float:
    """The tracker's IoU under the new sentence, halved up to the paper's step of 0.61."""
    if rollout.ious is None or not answers.parse(rollout.response).well_formed:
        return 0.0
    return rollout.ious[1] if rollout.ious[1] > IOU_STEP else rollout.ious[1] / 2


def _list_of(text: str) -> list[Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, list) and value else None


def _r1_list(rollout: Rollout) -> list[Any] | None:
    form = R1_FORM.fullmatch(rollout.response)
    return _list_of(form.group("box") if form else rollout.response)


def json_list(rollout: Rollout) -> float:
    """1 if the answer is a bare JSON list (R1-Track without thinking)."""
    return float(_list_of(rollout.response) is not None)


def think_format(rollout: Rollout) -> float:
    """1 if the answer is <think>..</think>..<answer>JSON list</answer> and nothing else (R1-Track with thinking)."""
    form = R1_FORM.fullmatch(rollout.response)
    return float(form is not None and _list_of(form.group("box")) is not None)


def enough_tokens(rollout: Rollout) -> float:
    """1 from 128 tokens on: R1-Track forces the thinking to be spelled out."""
    return float(rollout.length >= LEAST_TOKENS)


def giou(rollout: Rollout) -> float:
    """GIoU of the answered box with the second frame's, -1 for what is no box (corners swapped, not four numbers)."""
    values = _r1_list(rollout)
    if values is None or len(values) != 4 or any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
        return -1.0
    x1, y1, x2, y2 = (float(v) for v in values)
    if not (x1 <= x2 and y1 <= y2):
        return -1.0
    return float(boxes.generalised_iou(boxes.xyxy_to_xywh([x1, y1, x2, y2]), rollout.truth.boxes[1]))


def published_giou(rollout: Rollout) -> float:
    """GIoU by R1-Track's own formula, for which sides may be negative and numbers more than four; -1 where it fails."""
    p, q = _r1_list(rollout), boxes.xywh_to_xyxy(rollout.truth.boxes[1]).tolist()

    def area(left: float, top: float, right: float, bottom: float) -> float:
        return (right - left) * (bottom - top)

    try:
        left, top, right, bottom = max(p[0], q[0]), max(p[1], q[1]), min(p[2], q[2]), min(p[3], q[3])
        shared = max(0, right - left) * max(0, bottom - top)
        union = area(*p[:4]) + area(*q) - shared
        around = area(min(p[0], q[0]), min(p[1], q[1]), max(p[2], q[2]), max(p[3], q[3]))
        return float((shared / union if union else 0.0) - (around - union) / around)
    except (TypeError, IndexError, ZeroDivisionError):
        return -1.0


def shape(value: float) -> float:
    """R1-Track's shaping: (0, 0.4) earns nothing, (0.75, 0.95) is paid 0.2 more, from 0.95 on 0.5 more."""
    if 0 < value < 0.4:
        return 0.0
    return value + (0.5 if value >= 0.95 else 0.2 if value > 0.75 else 0.0)


def shaped_giou(rollout: Rollout) -> float:
    """The GIoU, shaped."""
    return shape(giou(rollout))


def published_shaped_giou(rollout: Rollout) -> float:
    """R1-Track's own GIoU, shaped."""
    return shape(published_giou(rollout))


def length_penalty(rollout: Rollout) -> float:
    """0 up to 448 tokens, then minus one for each 64 more."""
    return min(0.0, (FREE_TOKENS - rollout.length) / TOKENS_PER_POINT)


# ---------------------------------------------------------------- mixes

TERMS: dict[str, Callable[[Rollout], float]] = {
    "format": loose_format,
    "strict_format": strict_format,
    "decision": decision,
    "words": words,
    "sentence": sentence,
    "gain": gain,
    "iou": stepped_iou,
    "json_list": json_list,
    "think_format": think_format,
    "enough_tokens": enough_tokens,
    "giou": giou,
    "shaped_giou": shaped_giou,
    "published_giou": published_giou,
    "published_shaped_giou": published_shaped_giou,
    "length": length_penalty,
}
NEED_TRACKER = frozenset({"gain", "iou"})


@dataclass(frozen=True)
class Mix:
    """Weighted terms. An answer that fails one of `required` earns `otherwise`, and zero in every term.

    A weight of 0 reports a term without paying for it.
    """

    weights: Mapping[str, float]
    required: tuple[str, ...] = ()
    otherwise: float = 0.0

    @property
    def needs_tracker(self) -> bool:
        """Whether a tracker has to be asked at all."""
        return bool(NEED_TRACKER.intersection(self.weights))


PRESETS = {
    # the mini study: at most 3; whether the whole sentence is right is only reported
    "recipe": Mix({"strict_format": 1.0, "decision": 1.0, "words": 1.0, "sentence": 0.0}),
    # as published: the IoU term has weight 0 (the code's names say "removeioureward"), so 0.35 is the most
    "reasoningtrack-paper": Mix({"format": 0.1, "strict_format": 0.1, "iou": 0.0, "gain": 0.15}),
    # the paper's text: the IoU of the tracker is what counts, in full
    "reasoningtrack-iou": Mix({"format": 0.1, "strict_format": 0.1, "iou": 1.0, "gain": 0.15}),
    "r1track-think": Mix(
        {"shaped_giou": 1.0, "think_format": 0.05, "length": 0.1, "giou": 0.0}, ("think_format", "enough_tokens"), -1.0
    ),
    "r1track-nothink": Mix({"shaped_giou": 1.0, "giou": 0.0}, ("json_list",), -1.0),
    "r1track-think-paper": Mix(
        {"published_shaped_giou": 1.0, "think_format": 0.05, "length": 0.1, "published_giou": 0.0},
        ("think_format", "enough_tokens"),
        -1.0,
    ),
    "r1track-nothink-paper": Mix({"published_shaped_giou": 1.0, "published_giou": 0.0}, ("json_list",), -1.0),
}


def mix(preset: str, weights: Mapping[str, float] | None = None) -> Mix:
    """The preset's mix with `weights` laid over its own. BadInput names what is known."""
    if preset not in PRESETS:
        raise BadInput(f"reward preset {preset} is unknown: name one of {', '.join(PRESETS)}.")
    for name in weights or {}:
        if name not in TERMS:
            raise BadInput(f"reward term {name} is unknown: name one of {', '.join(TERMS)}.")
    return replace(PRESETS[preset], weights={**PRESETS[preset].weights, **(weights or {})})


def score(rollout: Rollout, mixed: Mix) -> dict[str, float]:
    """One answer's `overall` and its terms, always the same keys."""
    if any(TERMS[name](rollout) <= 0 for name in mixed.required):
        return {"overall": mixed.otherwise} | dict.fromkeys(mixed.weights, 0.0)
    terms = {name: TERMS[name](rollout) for name in mixed.weights}
    return {"overall": sum(mixed.weights[name] * value for name, value in terms.items())} | terms


def measure(rollouts: Sequence[Rollout], tracker: Tracker) -> tuple[list[Rollout], list[bool]]:
    """Rollouts with the tracker's IoU under both sentences, and which of them could not be measured.

    All questions of the batch go in one call, each distinct one once; answers without the form are not asked about.
    """
    questions: dict[Question, int] = {}
    asked: list[tuple[Question | None, Question] | None] = []
    for rollout in rollouts:
        read, truth = answers.parse(rollout.response), rollout.truth
        if not read.well_formed:
            asked.append(None)
            continue
        sides = tuple(tuple(float(v) for v in box) for box in truth.boxes)
        after = Question(truth.frames, sides, read.sentence or "")  # type: ignore[arg-type]
        before = replace(after, sentence=truth.description) if truth.iou_before is None else None
        for question in (before, after):
            if question is not None:
                questions.setdefault(question, len(questions))
        asked.append((before, after))
    measured = tracker(list(questions)) if questions else []
    if len(measured) != len(questions):
        raise BadInput(
            f"the reward's tracker answered {len(measured)} of {len(questions)} questions: start the same version of it."
        )
    result, failed = [], []
    for rollout, pair in zip(rollouts, asked, strict=True):
        if pair is None:
            result.append(rollout)
            failed.append(False)
            continue
        before = rollout.truth.iou_before if pair[0] is None else measured[questions[pair[0]]]
        after = measured[questions[pair[1]]]
        failed.append(before is None or after is None)
        result.append(rollout if before is None or after is None else replace(rollout, ious=(before, after)))
    return result, failed


def compute_score(
    reward_inputs: Sequence[Mapping[str, Any]],
    preset: str = "recipe",
    weights: Mapping[str, float] | None = None,
    tracker_url: str | None = None,
    on_tracker_failure: str = "zero",
    tracker: Tracker | None = None,
) -> list[dict[str, float]]:
    """EasyR1's batch reward: each input has response, response_length and ground_truth (JSON of `Truth`).

    Every result has the same keys: overall, the mix's terms and, where a tracker is asked, tracker_failed.
    """
    mixed = mix(preset, weights)
    rollouts = [Rollout(str(i["response"]), int(i["response_length"]), Truth.parse(i["ground_truth"])) for i in reward_inputs]
    if not mixed.needs_tracker:
        return [score(rollout, mixed) for rollout in rollouts]
    if tracker is None:
        if tracker_url is None:
            raise BadInput(f"reward preset {preset} asks a tracker: set grpo.easyr1.tracker, or choose another preset.")
        from workflow_scripts.grpo.tracker_client import Client

        tracker = Client(tracker_url)
    rollouts, failed = measure(rollouts, tracker)
    if on_tracker_failure == "error" and any(failed):
        raise BadInput(f"the reward's tracker failed on {sum(failed)} of {len(failed)} answers: read its log.")
    nothing = {"overall": 0.0} | dict.fromkeys(mixed.weights, 0.0)
    return [
        (nothing if lost else score(rollout, mixed)) | {"tracker_failed": float(lost)}
        for rollout, lost in zip(rollouts, failed, strict=True)
    ]
