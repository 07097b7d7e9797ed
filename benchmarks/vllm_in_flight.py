"""What it brings that a served model gets many questions at once: vLLM's CPU build with one and with eight in flight.

    python -m workflow_scripts.in_env serve -- python benchmarks/vllm_in_flight.py [--model DIR] [--questions 48] [--repeats 3]

The server is started as the mini study starts it (params.yaml), on the given model or on an untrained one of the mini study's
size, whose answers run to their longest. Each repeat asks other pairs, first one by one, then eight at a time in another
order; prints answers per second and the ratio of the medians, and ends with an error if an answer differs.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from workflow_scripts import pairs, params
from workflow_scripts.params.serve import Serve
from workflow_scripts.serve.client import Client
from workflow_scripts.serve.server import Endpoint, serving

IN_FLIGHT = (1, 8)


def untrained(folder: Path) -> Path:
    """A model of the mini study's size with random weights."""
    model = folder / "model"
    run = [sys.executable, "-m", "workflow_scripts.in_env", "sft", "--", "python", "-m", "workflow_scripts.sft.base_model"]
    subprocess.run([*run, "--output", str(model), "--parameters", '{"tiny": {}}'], check=True, stdout=subprocess.DEVNULL)
    return model


def free_of_form(parameters: Serve, in_flight: int) -> Serve:
    """The parameters for a model that keeps no form, which is asked each question once all the same."""
    questions = {"malformed_retries": 0, "fall_back_limit": 1.0, "in_flight": in_flight}
    changes = {"questions": parameters.questions.model_copy(update=questions)}
    return parameters.model_copy(update=changes | {"life": parameters.life.model_copy(update={"probe": "answers"})})


def ask(endpoint: Endpoint, parameters: Serve, in_flight: int, questions: list) -> tuple[float, list[str]]:
    """Seconds that the questions take, and the texts of their answers."""
    with Client(endpoint, free_of_form(parameters, in_flight)) as client:
        begin = time.perf_counter()
        answers = client.ask(questions)
        return time.perf_counter() - begin, [answer.text for answer in answers]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, help="model folder (default: an untrained one)")
    parser.add_argument("--questions", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    parameters = params.load(study="mini").serve
    seconds: dict[int, list[float]] = {number: [] for number in IN_FLIGHT}
    differing = 0
    with tempfile.TemporaryDirectory() as temporary:
        model = arguments.model or untrained(Path(temporary))
        with serving(free_of_form(parameters, 1), model, Path(temporary, "log")) as endpoint:
            print(f"ready after {endpoint.start_seconds:.1f} s", flush=True)
            for repeat in range(arguments.repeats):
                drawn = pairs.samples(repeat + 100, arguments.questions)
                questions = [(*pair.frames, pair.before.sentence) for pair in drawn]
                texts = []
                for number in IN_FLIGHT:
                    took, answered = ask(endpoint, parameters, number, questions)
                    seconds[number].append(took)
                    texts.append(answered)
                    print(f"{number} in flight: {len(questions) / took:.1f} answers per second", flush=True)
                differing += sum(one != other for one, other in zip(*texts, strict=True))
    alone, together = (arguments.questions / statistics.median(seconds[number]) for number in IN_FLIGHT)
    print(f"medians of {arguments.repeats}: {alone:.1f} and {together:.1f} answers per second, {together / alone:.2f} times")
    if differing:
        raise SystemExit(f"error: {differing} answers differ")


if __name__ == "__main__":
    main()
