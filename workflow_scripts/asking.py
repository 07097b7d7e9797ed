"""What a stage asks of a vision-language model, and what it gets: shared by trackers and the client of the served model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from workflow_scripts.images import Image


@dataclass(frozen=True)
class Question:
    """Pictures and the fields of a prompt.

    images: uint8 [H, W, 3] RGB of any size, in the order of the prompt's ``<image>`` tags.
    usable: whether a text has the form that the asker can read; the client asks again where it has not.
    prompt: its name in prompts.PROMPTS; None for the one that the parameter serve.prompt names.
    """

    images: tuple[Image, ...]
    fields: Mapping[str, str]
    usable: Callable[[str], bool]
    prompt: str | None = None


@dataclass(frozen=True)
class Reply:
    """A model's text. Not `usable`: it was cut off or broke the form, also when it was asked again."""

    text: str
    usable: bool = True
