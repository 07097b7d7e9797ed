"""A real server killed at random moments under 32 questions in flight: is every answer right, and is nothing left running?

    python -m workflow_scripts.in_env serve -- python benchmarks/server_kills.py [--model DIR] [--engine vllm] [--kills 10]

Asks every question once in peace; then again, and each time a process of the server (the guard, the server, the engine) is
ended at a moment of that time, both chosen at random with a seed. Prints one line a kill, and ends with an error if an answer
differs, a restart took longer than the server may take to start, or a process survives.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from vllm_in_flight import free_of_form, untrained

from workflow_scripts import pairs, params
from workflow_scripts.serve import processes
from workflow_scripts.serve.client import Client
from workflow_scripts.serve.server import Endpoint, serving

IN_FLIGHT, QUESTIONS = 32, 96  # at once, and in a life
WORKING = 100e6  # bytes; smaller processes only look after others


def victim(endpoint: Endpoint, generator: np.random.Generator) -> processes.Process:
    """The guard, or a process that answers."""
    alive = processes.of_session(endpoint.session)
    return generator.choice([p for p in alive if p.pid == endpoint.session or p.resident > WORKING])  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, help="model folder (default: an untrained one)")
    parser.add_argument("--engine", choices=("vllm", "transformers"), default="vllm")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    parameters = free_of_form(params.load(study="mini").serve, IN_FLIGHT)
    life = parameters.life.model_copy(update={"restarts": a.kills})
    parameters = parameters.model_copy(update={"engine": a.engine, "life": life})
    generator, sessions, slowest, wrong = np.random.default_rng(a.seed), set(), 0.0, 0
    drawn = pairs.samples(a.seed, QUESTIONS)
    questions = [(*pair.frames, pair.before.sentence) for pair in drawn]
    with tempfile.TemporaryDirectory() as temporary:
        model = a.model or untrained(Path(temporary))
        with serving(parameters, model, Path(temporary, "log")) as endpoint:
            begin = time.monotonic()
            with Client(endpoint, parameters) as client:
                right = [answer.text for answer in client.ask(questions)]
            peaceful = time.monotonic() - begin
            for kill in range(a.kills):
                sessions.add(endpoint.session)
                chosen, moment = victim(endpoint, generator), generator.uniform(0, peaceful)
                timer = threading.Timer(moment, os.kill, (chosen.pid, signal.SIGKILL))
                begin = time.monotonic()
                timer.start()
                with Client(endpoint, parameters) as client:
                    said = [answer.text for answer in client.ask(questions)]
                timer.join()
                while endpoint.restarts <= kill and time.monotonic() - begin < life.start_seconds:
                    time.sleep(0.05)
                endpoint.wait(life.start_seconds)
                took = time.monotonic() - begin - moment
                slowest, differing = max(slowest, took), sum(one != other for one, other in zip(right, said, strict=True))
                wrong += differing
                role = "guard" if chosen.pid == endpoint.session or chosen.resident < WORKING else chosen.name
                print(
                    f"kill {kill + 1}: {role} after {moment:.2f} s, {client.transport_retries} questions sent again, "
                    f"back after {took:.1f} s, {differing} of {QUESTIONS} answers differ",
                    flush=True,
                )
            sessions.add(endpoint.session)
            restarts = endpoint.restarts
    left = [p for session in sessions for p in processes.of_session(session)]
    print(f"{restarts} restarts, the slowest {slowest:.1f} s of {life.start_seconds:.0f} allowed; {wrong} wrong answers")
    if wrong or left or restarts != a.kills or slowest > life.start_seconds:
        raise SystemExit(f"error: {wrong} wrong answers, {restarts} restarts, left running: {[p.name for p in left]}")


if __name__ == "__main__":
    main()
