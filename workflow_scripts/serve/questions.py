"""One question to a served model, as bytes: the prompt, the two resized images, the sampling parameters; and its reply."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from workflow_scripts import images, prompts
from workflow_scripts.console import BadInput
from workflow_scripts.params.serve import Sampling, Serve

Image = NDArray[np.uint8]  # [H, W, 3] RGB
TAG = "<image>"
# Sampling that nobody asks for, said all the same: left out, an engine takes it from the model's generation_config.json, and
# Qwen2.5-VL's has a repetition penalty of 1.05.
NEUTRAL = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}


@dataclass(frozen=True)
class Question:
    """A prompt with its images, ready to send. `pictures` are data URLs, in the order of the prompt's tags."""

    prompt: str
    system: str | None
    user: str
    pictures: tuple[str, ...]

    @classmethod
    def build(cls, parameters: Serve, frames: Sequence[Image], **fields: str) -> Question:
        """The study's prompt with its field filled in, and `frames`, each uint8 [H, W, 3] RGB, resized by the one rule."""
        system, user = prompts.build(parameters.prompt, **fields)
        if user.count(TAG) != len(frames):
            raise BadInput(f"prompt {parameters.prompt} asks for {user.count(TAG)} images and {len(frames)} were given.")
        limits = parameters.pixels
        fitted = (images.fit_pixels(frame, limits.min_pixels, limits.max_pixels) for frame in frames)
        pictures = tuple(images.data_url(frame, parameters.questions.image_format) for frame in fitted)
        return cls(parameters.prompt, system, user, pictures)

    def key(self, identity: str, sampling: Sampling) -> str:
        """Hash of all that decides the answer: the model's identity, the prompt, the image bytes, the sampling parameters."""
        version = prompts.PROMPTS[self.prompt].version
        said = [identity, self.prompt, version, self.system, self.user, self.pictures, sampling.model_dump()]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def messages(self) -> list[dict[str, Any]]:
        """Chat messages in OpenAI's form: the text is cut at its image tags and the images stand there."""
        whole = prompts.PROMPTS[self.prompt].tags_as_text
        texts = [*[""] * len(self.pictures), self.user] if whole else self.user.split(TAG)
        content: list[dict[str, Any]] = []
        for number, text in enumerate(texts):
            if number:
                content.append({"type": "image_url", "image_url": {"url": self.pictures[number - 1]}})
            if text:
                content.append({"type": "text", "text": text})
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": content}]


@dataclass(frozen=True)
class Reply:
    """What came back: the text, whether the model ended it itself, and the number of its tokens."""

    text: str
    finished: bool
    tokens: int


def body(question: Question, parameters: Serve, attempt: int = 0) -> dict[str, Any]:
    """The request's JSON. `attempt` counts earlier malformed answers: from 1 on it is sampled, each time with another seed."""
    sampling = parameters.sampling
    warm = parameters.questions.retry_temperature
    return {
        **NEUTRAL,
        "model": parameters.name,
        "messages": question.messages(),
        "temperature": max(sampling.temperature, warm) if attempt else sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed + attempt,
        "max_tokens": sampling.max_tokens,
        "n": 1,
        "stream": False,
    }


def first_choice(response: httpx.Response) -> Reply:
    """The first choice of a chat completion. ValueError if the response is not one, or the server broke it off.

    vLLM, told to end, answers what is in flight with status 200, half a text and the reason "abort".
    """
    try:
        value = response.json()
        choice = value["choices"][0]
        tokens = int(value.get("usage", {}).get("completion_tokens", 0))
        text, reason = choice["message"]["content"] or "", choice["finish_reason"]
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"not a chat completion: {response.text[:200]}") from error
    if reason not in ("stop", "length"):
        raise ValueError(f"broken off ({reason}): {text[:200]!r}")
    return Reply(text, reason == "stop", tokens)
