"""One switch over what SFT rows, RL rows and clients ask with, which stands in three sections.

consistent   all three ask with the one prompt that sft.prompt.name names (of crops, RL rows ask as the r1track tracker does)
paper        as published: SFT rows keep their own instructions, RL rows and clients ask with a prompt each

A section may still name its prompt itself; under `consistent` a name that differs from the others' is refused, and so are
limits of a picture's area that differ: a model is served what it was taught with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from workflow_scripts.prompts import PROMPTS, of_r1track

if TYPE_CHECKING:
    from workflow_scripts.params import Params

PAPER_RL, PAPER_SERVE = "reasoningtrack-paper-rl", "reasoningtrack-paper-eval"


def defaults(flat: Mapping[str, Any]) -> dict[str, Any]:
    """What the sections of one study mean where they name no prompt, in the form of the parameter tree."""
    style = flat["prompt_style"]
    name = _at(flat, "sft", "prompt", "name") or "reasoningtrack"
    taught, served = (PAPER_RL, PAPER_SERVE) if style == "paper" else (name, name)
    if _at(flat, "grpo", "pairs", "source") == "crops":
        taught = of_r1track(_at(flat, "track", "r1track", "prompt") or "new")
    return {
        "sft": {"prompt": {"style": style, "name": name}},
        "grpo": {"pairs": {"prompt": taught}},
        "serve": {"prompt": served},
    }


def _at(tree: Any, *keys: str) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def mismatches(chosen: Params) -> Iterator[str]:
    """Sentences on prompts that nobody knows, and on prompts or pixels that differ although `prompt_style` is consistent."""
    wanted = chosen.sft.prompt.name
    asks = {"sft.prompt.name": wanted, "grpo.pairs.prompt": chosen.grpo.pairs.prompt, "serve.prompt": chosen.serve.prompt}
    for where, name in asks.items():
        if name not in PROMPTS:
            yield f"{where} names {name}, which is no prompt: name one of {', '.join(PROMPTS)}"
    if chosen.sft.prompt.style != chosen.prompt_style:
        yield f"sft.prompt.style follows prompt_style, which is {chosen.prompt_style}: remove it"
    if chosen.prompt_style == "paper":
        return
    by_stage = {"serve.prompt": (asks["serve.prompt"], "sft.prompt.name", wanted)}
    by_stage["grpo.pairs.prompt"] = (asks["grpo.pairs.prompt"], "sft.prompt.name", wanted)
    if chosen.grpo.pairs.source == "crops":
        asked = of_r1track(chosen.track.r1track.prompt)
        by_stage["grpo.pairs.prompt"] = (asks["grpo.pairs.prompt"], "the prompt of track.r1track", asked)
    for where, (name, other, expected) in by_stage.items():
        if name != expected:
            yield (
                f"{where} is {name} and {other} is {expected}, but a model is asked as it was taught under prompt_style "
                f"consistent: remove {where}, or set prompt_style to paper"
            )
    taught, pairs = chosen.sft.pixels.model_dump(), chosen.grpo.pairs
    limits = {"serve.pixels": chosen.serve.pixels.model_dump()}
    if pairs.source != "crops":  # they have a size of their own
        limits["grpo.pairs"] = {"min_pixels": pairs.min_pixels, "max_pixels": pairs.max_pixels}
    for where, found in limits.items():
        if found != taught:
            numbers = f"{tuple(found.values())} than sft.pixels {tuple(taught.values())}"
            yield f"{where} has other min_pixels and max_pixels {numbers}: set the same"
