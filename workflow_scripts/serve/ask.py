"""Ask a model one question: two images and a sentence in; description, decision, think and answer out.

python -m workflow_scripts.serve.ask --model DIR --image1 first.jpg --image2 later.jpg --text "the red car"
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from workflow_scripts import console, images, params
from workflow_scripts.console import BadInput
from workflow_scripts.params.serve import Serve
from workflow_scripts.serve.client import Client
from workflow_scripts.serve.server import serving


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Ask a model whether a sentence still fits, and which one does.")
    parser.add_argument("--model", type=Path, help="model folder to serve (not with --url)")
    parser.add_argument("--url", default="", help="address of a server that runs already, instead of --model")
    parser.add_argument("--image1", type=Path, required=True, help="frame that the sentence describes")
    parser.add_argument("--image2", type=Path, required=True, help="later frame")
    parser.add_argument("--text", required=True, help="the sentence")
    parser.add_argument("--server-log", type=Path, help="what the server writes (default: a temporary file)")
    parser.add_argument("--parameters", help="JSON of the section `serve` (default: params.yaml)")
    a = parser.parse_args()
    parameters = params.section(a.parameters, "serve", Serve)
    if bool(a.model) == bool(a.url):
        raise BadInput("say what to ask: --model with a folder, or --url with a server's address.")
    if a.url:
        parameters = parameters.model_copy(update={"engine": "url", "url": a.url})
    # one question, and its answer is shown whatever it is
    life = parameters.life.model_copy(update={"probe": "answers"})
    questions = parameters.questions.model_copy(update={"fall_back_limit": 1.0})
    parameters = parameters.model_copy(update={"life": life, "questions": questions})
    first, second = images.read_rgb(a.image1), images.read_rgb(a.image2)
    log = a.server_log or Path(tempfile.gettempdir(), "trackgraph-ask.log")
    with serving(parameters, a.model or Path(), log) as endpoint, Client(endpoint, parameters) as client:
        answer = client.ask([(first, second, a.text)])[0]
    print(f"description: {a.text}")
    if not answer.well_formed:
        raise BadInput(f"the answer has not the form that prompt {parameters.prompt} asks for: {answer.text!r}; see {log}.")
    print(f"decision: {answer.decision}\nthink: {answer.think}\nanswer: {answer.sentence}")


if __name__ == "__main__":
    console.run(main)
