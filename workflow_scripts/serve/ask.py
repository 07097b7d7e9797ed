"""Ask a model one question: two images and a sentence in; description, decision, think and answer out.

    python -m workflow_scripts.serve.ask --image1 first.jpg --image2 later.jpg --text "the red car"

asks the study's own model; --model names another folder, --url a server that runs already.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from workflow_scripts import answers, console, in_env
from workflow_scripts.console import BadInput


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Ask a model whether a sentence still fits, and which one does.")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--model", type=Path, help="model folder to serve (default: the one that the study merged)")
    asked.add_argument("--url", default="", help="address of a server that runs already")
    parser.add_argument("--image1", type=Path, required=True, help="frame that the sentence describes")
    parser.add_argument("--image2", type=Path, required=True, help="later frame")
    parser.add_argument("--text", required=True, help="the sentence")
    parser.add_argument("--server-log", type=Path, help="what the server writes (default: a temporary file)")
    parser.add_argument("--parameters", help="JSON of the section `serve` (default: params.yaml)")
    a = parser.parse_args()
    in_env.enter("serve")
    from workflow_scripts import images, params
    from workflow_scripts.params.serve import Serve
    from workflow_scripts.serve.client import Client
    from workflow_scripts.serve.server import serving

    parameters = params.section(a.parameters, "serve", Serve)
    # one question, and its answer is shown whatever it is
    life = parameters.life.model_copy(update={"probe": "answers"})
    questions = parameters.questions.model_copy(update={"fall_back_limit": 1.0})
    engine = {"engine": "url", "url": a.url} if a.url else {}
    parameters = parameters.model_copy(update={"life": life, "questions": questions, **engine})
    model = a.model or (Path() if a.url else Path("results", params.load().study, "grpo", "model"))
    first, second = images.read_rgb(a.image1), images.read_rgb(a.image2)
    log = a.server_log or Path(tempfile.gettempdir(), "trackgraph-ask.log")
    with serving(parameters, model, log) as endpoint, Client(endpoint, parameters) as client:
        answer = client.ask([(first, second, a.text)])[0]
    print(f"description: {a.text}")
    for name, tag in (("decision", "d"), ("think", "think"), ("answer", "answer")):
        said = answers.between(answer.text, tag)
        print(f"{name}: {'(none)' if said is None else said.strip()}", flush=True)
    if not answer.well_formed:
        raise BadInput(
            f"the answer has not the form that prompt {parameters.prompt} asks for, and a tracker would not use it: "
            f"{answer.text!r}; ask a model that was taught such pictures and sentences."
        )


if __name__ == "__main__":
    console.run(main)
