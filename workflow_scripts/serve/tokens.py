"""Verb: what the served engine makes of frames that the client sends (see workflow_scripts.tokens).

An engine tells the length of the whole prompt only. The tokens of a picture are what it is longer than with the smallest
pictures, which are one token each.
"""

from __future__ import annotations

import argparse
import base64
import tempfile
from pathlib import Path

import cv2
import httpx
import numpy as np

from workflow_scripts import console, images, params, tokens
from workflow_scripts.console import BadInput
from workflow_scripts.params.serve import Serve
from workflow_scripts.serve.questions import Question, body
from workflow_scripts.serve.server import Endpoint, serving

SMALLEST = np.zeros((images.TOKEN_SIDE, images.TOKEN_SIDE, 3), np.uint8)


def prompt_tokens(endpoint: Endpoint, parameters: Serve, question: Question) -> int:
    """Length of the question's prompt, as the engine tells it with its answer."""
    address, seconds = f"{endpoint.url}/v1/chat/completions", parameters.questions.timeout
    response = httpx.post(address, json=body(question, parameters), timeout=seconds, trust_env=False)
    if response.status_code != 200:
        raise BadInput(f"the server refuses a question ({response.status_code}: {response.text[:300]}); see {endpoint.log}.")
    return int(response.json()["usage"]["prompt_tokens"])


def see(flags: argparse.Namespace, frames: list[Path]) -> list[tokens.Seen]:
    """A question with each frame twice, asked of the engine that `serve` names."""
    parameters = params.section(flags.parameters, "serve", Serve)
    short = {"sampling": parameters.sampling.model_copy(update={"max_tokens": 8})}
    parameters = parameters.model_copy(update=short | {"life": parameters.life.model_copy(update={"probe": "answers"})})
    least = parameters.model_copy(update={"pixels": parameters.pixels.model_copy(update={"min_pixels": images.LEAST_PIXELS})})
    seen = []
    with tempfile.TemporaryDirectory() as scratch, serving(parameters, flags.model, Path(scratch, "log")) as endpoint:
        one_each = Question.build(least, (SMALLEST, SMALLEST), sentence=tokens.SENTENCE)
        base = prompt_tokens(endpoint, parameters, one_each)
        for frame in frames:
            picture = images.read_rgb(frame)
            question = Question.build(parameters, (picture, picture), sentence=tokens.SENTENCE)
            count = prompt_tokens(endpoint, parameters, question)
            seen.append(tokens.Seen(frame.stem, sent_size(question), (count - base) // 2 + 1, count))
    return seen


def sent_size(question: Question) -> str:
    """Width x height of the first picture as it is sent."""
    data = np.frombuffer(base64.b64decode(question.pictures[0].split(",", 1)[1]), np.uint8)
    height, width = cv2.imdecode(data, cv2.IMREAD_COLOR).shape[:2]
    return f"{width}x{height}"


def main() -> None:
    """Command line."""
    tokens.stage(__doc__ or "", "serve", see)


if __name__ == "__main__":
    console.run(main)
