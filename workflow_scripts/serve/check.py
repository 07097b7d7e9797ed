"""Start the server on the merged model, ask it a fixed pair, stop it, and make sure that nothing of it is left.

The model is what the graph merged: its files' hash is compared with the manifest of the node that made it. The pair and its
answer are kept (`--pair`, with a manifest: the same model gives the same bytes); how long the start took and how much memory
the server held differ from run to run and are written apart (`--output`).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from workflow_scripts import console, files, images, manifest, pairs, params
from workflow_scripts.console import BadInput
from workflow_scripts.params.serve import Serve
from workflow_scripts.serve import processes
from workflow_scripts.serve.beforehand import identity
from workflow_scripts.serve.client import Client
from workflow_scripts.serve.server import Endpoint, serving

PAIR_SEED = 1


def ask_pair(endpoint: Endpoint, parameters: Serve, folder: Path) -> dict[str, Any]:
    """Ask the fixed pair; writes its frames and the answer into `folder` and returns the answer."""
    pair = pairs.samples(PAIR_SEED, 1)[0]
    reference, current = pair.frames
    with Client(endpoint, parameters) as client:
        answer = client.ask([(reference, current, pair.before.sentence)])[0]
        retries = client.retries
    said = {
        "model": endpoint.identity,
        "engine": parameters.engine,
        "prompt": parameters.prompt,
        "sentence": pair.before.sentence,
        "decision": answer.decision,
        "think": answer.think,
        "answer": answer.sentence,
        "truth": {"decision": pair.decision, "answer": pair.after.sentence},
        "retries": retries,
    }
    with files.atomic_folder(folder) as temporary:
        images.write_image(temporary / "reference.png", reference)
        images.write_image(temporary / "current.png", current)
        files.write_json(temporary / "answer.json", said)
    return said


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Start the server on a model, ask it a fixed pair, stop it.")
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--model-manifest", type=Path, required=True, help="manifest of the node that made the model")
    parser.add_argument("--pair", type=Path, required=True, help="folder for the pair and its answer")
    parser.add_argument("--output", type=Path, required=True, help="JSON with start-up seconds, memory and the answer")
    parser.add_argument("--server-log", type=Path, required=True, help="what the server writes")
    parser.add_argument("--parameters", help="JSON of the section `serve` (default: params.yaml)")
    parser.add_argument("--manifest", type=Path, help="where to write the manifest of --pair")
    a = parser.parse_args()
    parameters = params.section(a.parameters, "serve", Serve)
    expected = identity(a.model, a.model_manifest)
    with serving(parameters, a.model, a.server_log) as endpoint:
        print(f"ready after {endpoint.start_seconds:.1f} s", flush=True)
        said = ask_pair(endpoint, parameters, a.pair)
        alive = processes.of_session(endpoint.session) if endpoint.session else []
        stopping = time.monotonic()
    left = processes.of_session(endpoint.session) if endpoint.session else []
    if left:
        names = ", ".join(f"{p.name} ({p.pid})" for p in left)
        raise BadInput(f"the server left processes behind: {names}; end them, and report it with {a.server_log}.")
    if parameters.engine != "url" and endpoint.identity != expected:
        raise BadInput(f"{a.model} changed while it was served: run its node again.")
    files.write_json(
        a.output,
        {
            "engine": parameters.engine,
            "model": endpoint.identity,
            "start_seconds": round(endpoint.start_seconds, 2),
            "stop_seconds": round(time.monotonic() - stopping, 2),
            "restarts": endpoint.restarts,
            "processes": len(alive),
            "resident_mb": round(sum(p.resident for p in alive) / 1e6),
            "answer": said,
        },
    )
    if a.manifest:
        facts = {key: said[key] for key in ("sentence", "decision", "answer", "truth")}
        manifest.write(a.manifest, [a.pair], parameters.model_dump(mode="json"), [a.model_manifest], facts)


if __name__ == "__main__":
    console.run(main)
