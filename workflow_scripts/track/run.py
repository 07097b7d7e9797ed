"""Run one tracker on one shard of a benchmark's split.

    python -m workflow_scripts.track.run --tracker csrt --index results/mini/data/tnllt.npz \\
        --output results/mini/track/shards/tnllt/csrt/0

Sequences are sealed in a folder beside the output, which becomes the output when all are: a killed job goes on at the
first unsealed one. A tracker that asks a language model owns its server for the time of the job. Output: what runner.py
seals, and summary.json. The manifest counts the boxes alone: times are not the same twice.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
from collections.abc import Iterator
from collections.abc import Sequence as Series
from dataclasses import replace
from pathlib import Path
from typing import Any

from workflow_scripts import console, files, manifest, params, sequences
from workflow_scripts.asking import Question, Reply
from workflow_scripts.console import BadInput
from workflow_scripts.params.serve import Serve
from workflow_scripts.params.track import R1Track, Reasoning, Run
from workflow_scripts.sequences import Sequence
from workflow_scripts.track import describers, load_tracker, runner
from workflow_scripts.track.trackers.base import Tracker

ASKING = ("reasoningtrack", "r1track")  # trackers that ask a language model, whatever describes their targets
IDENTITY = "identity.json"


def unfinished(output: Path, identity: dict[str, Any]) -> Path:
    """The folder beside `output` where sequences are sealed; emptied where it was begun with other inputs or parameters."""
    folder = output.with_name(f".{output.name}.unfinished")
    if folder.exists() and (not (folder / IDENTITY).is_file() or files.read_json(folder / IDENTITY) != identity):
        print(f"{folder} was begun with other inputs: starting anew.", flush=True)
        shutil.rmtree(folder)
    if not folder.exists():
        files.write_json(folder / IDENTITY, identity)
    return folder


@contextlib.contextmanager
def ready_tracker(
    name: str, settings: Serve | None, model: Path | None, trace: Path, log: Path, **given: Any
) -> Iterator[Tracker]:
    """`load_tracker`, and with `settings` a server of `model` for the time of the block.

    The server starts last: weights that do not fit cost none.
    """
    if settings is None:
        yield load_tracker(name, **given)
        return
    if model is None and settings.engine != "url":
        raise BadInput(f"{name} questions a language model: name its folder with --server-model.")
    from workflow_scripts.serve.client import Client
    from workflow_scripts.serve.server import serving

    clients: list[Client] = []

    def ask(asked: Series[Question]) -> list[Reply]:
        try:
            return clients[0].complete(asked)
        except BadInput as error:
            raise runner.Fatal(str(error)) from error  # no other sequence would get an answer either

    tracker = load_tracker(name, ask=ask, **given)
    with serving(settings, model, log) as endpoint, Client(endpoint, settings, trace=trace) as client:
        clients.append(client)
        yield tracker
        print(
            f"questions: {client.calls} asked, {client.cached} known, {client.retries} retries, {client.fall_backs} fall-backs"
        )


def questioning(
    tracker: str, describer: str = "sentence", *, serve: str | None = None, reasoning: str | None = None, own: str | None = None
) -> tuple[Serve | None, dict[str, Any]]:
    """How a tracker's language model is served, None where it asks none, and the options of `load_tracker` for its rule.

    serve, reasoning, own: the sections serve, track.reasoning and track.r1track as JSON; None for params.yaml's.
    """
    options: dict[str, Any] = {}
    if tracker == "reasoningtrack":
        options = params.section(reasoning, "track.reasoning", Reasoning).model_dump(mode="json", exclude={"network"})
    captions_instead = tracker == "reasoningtrack" and describer.startswith("blip")
    if (tracker not in ASKING and describer != "model") or captions_instead:
        return None, options
    settings = params.section(serve, "serve", Serve)
    if tracker == "r1track":
        p = params.section(own, "track.r1track", R1Track)
        asks = p.model_dump(include={"malformed_retries", "fall_back_limit"})
        # the server's first question is ReasoningTrack's, whose form this model was not taught
        own_way = {"sampling": {"max_tokens": p.max_tokens}, "questions": asks, "life": {"probe": "answers"}}
        settings = Serve.model_validate(params.merge(settings.model_dump(mode="json"), own_way))
        options = p.model_dump(exclude={"model", "max_tokens", *asks}) | settings.pixels.model_dump()
    return settings, options


def finish(folder: Path, output: Path, chosen: list[Sequence]) -> dict[str, Any]:
    """Write the summary of a folder in which all sequences are sealed, and put it in the output's place."""
    summary = runner.summarise(folder, chosen)
    (folder / IDENTITY).unlink()
    files.write_json(folder / "summary.json", summary)
    if output.exists():
        shutil.rmtree(output)
    os.replace(folder, output)
    return summary


def track_shard(tracker: Tracker, chosen: list[Sequence], folder: Path, p: Run, in_flight: int, name: str) -> None:
    """Seal every sequence in `folder`; BadInput at the end if some crashed, each reported on its own line."""
    left = [s for s in chosen if not runner.is_sealed(folder, s)]
    if len(left) < len(chosen):
        print(f"{len(chosen) - len(left)} of {len(chosen)} sequences are sealed already", flush=True)
    failures = runner.run_sequences(tracker, left, folder, p.batch, p.readers, p.ahead, in_flight, f"{name}, frames")
    for sequence, why in failures.items():
        print(f"sequence {sequence} failed: {why}", flush=True)
    if failures:
        first, why = next(iter(failures.items()))
        raise BadInput(
            f"{len(failures)} of {len(chosen)} sequences failed, the first {first} ({why}); "
            "repair it and run again: the others are kept."
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--tracker", required=True, help="static, kcf, csrt, mosse, dutrack, seqtrack, a variant, reasoningtrack or r1track"
    )
    parser.add_argument("--index", type=Path, required=True, help="index of the benchmark (.npz)")
    parser.add_argument("--benchmark", default="tnllt", help="whose settings trackers use that have such")
    parser.add_argument("--split", default="test", help="split to track")
    parser.add_argument("--shard", type=int, default=0, help="number of the shard, from 0")
    parser.add_argument("--shards", type=int, default=1, help="how many shards there are")
    parser.add_argument("--weights", type=Path, help="folder of the network, or an authors' checkpoint")
    parser.add_argument("--vocabulary", type=Path, help="vocabulary file (default: the one in the folder of weights)")
    parser.add_argument("--batch", type=int, help="sequences in lockstep (default: track.run.batch)")
    parser.add_argument("--device", help="cpu or cuda (default: track.run.device)")
    parser.add_argument("--describer", default="sentence", choices=describers.NAMES, help="where its words come from")
    parser.add_argument("--captioner", type=Path, help="describer blip: folder of its model")
    parser.add_argument("--server-model", type=Path, help="a tracker that asks: folder of the language model")
    parser.add_argument("--server-log", type=Path, help="a tracker that asks: the server's log (default: beside the output)")
    parser.add_argument("--server-parameters", help="a tracker that asks: section serve as JSON (default: params.yaml)")
    parser.add_argument("--reasoning-parameters", help="reasoningtrack: section track.reasoning as JSON (default: params.yaml)")
    parser.add_argument("--r1track-parameters", help="r1track: section track.r1track as JSON (default: params.yaml)")
    parser.add_argument("--parameters", help="track.run as JSON (default: params.yaml)")
    parser.add_argument("--output", type=Path, required=True, help="folder of the shard's results")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    arguments = parser.parse_args()
    given = {k: v for k, v in {"batch": arguments.batch, "device": arguments.device}.items() if v is not None}
    p = params.section(arguments.parameters, "track.run", Run).model_copy(update=given)

    chosen = sequences.read_index(arguments.index, split=arguments.split)
    chosen = runner.shard_of(chosen, arguments.shard, arguments.shards)
    describer = describers.on_benchmark(arguments.describer, arguments.benchmark)
    chosen = [replace(s, sentence=describers.first_words(s, arguments.benchmark, describer)) for s in chosen]
    runner.check_sequences(chosen, p.readers)
    identity: dict[str, Any] = {
        "tracker": arguments.tracker,
        "benchmark": arguments.benchmark,
        "split": arguments.split,
        "shard": [arguments.shard, arguments.shards],
        "index": files.sha256(arguments.index),
        "weights": arguments.weights and manifest.summary(arguments.weights)["sha256"],
        "describer": describer,
        **p.model_dump(include={"batch", "device", "precision", "compiled"}),
    }
    if arguments.vocabulary:
        identity["vocabulary"] = files.sha256(arguments.vocabulary)
    if arguments.captioner:
        identity["captioner"] = manifest.summary(arguments.captioner)["sha256"]
    settings, options = questioning(
        arguments.tracker,
        describer,
        serve=arguments.server_parameters,
        reasoning=arguments.reasoning_parameters,
        own=arguments.r1track_parameters,
    )
    if options:
        identity["rule"] = options
    if settings is not None:
        identity["serve"] = settings.model_dump(mode="json")
        identity["model"] = arguments.server_model and manifest.summary(arguments.server_model)["sha256"]
    folder = unfinished(arguments.output, identity)
    trace = folder / "answers.jsonl"
    log = arguments.server_log or arguments.output.with_name(f"{arguments.output.name}.server.log")
    given = {
        "weights": arguments.weights,
        "benchmark": arguments.benchmark,
        "vocabulary": arguments.vocabulary,
        "describer": describer,
        "captioner": arguments.captioner,
        "rows": p.batch,
        **p.model_dump(include={"device", "precision", "compiled"}),
        **options,
    }
    in_flight = settings.questions.in_flight if settings else 0
    with ready_tracker(arguments.tracker, settings, arguments.server_model, trace, log, **given) as tracker:
        track_shard(tracker, chosen, folder, p, in_flight, arguments.tracker)
    summary = finish(folder, arguments.output, chosen)
    rate = summary["frames"] / max(summary["seconds"], 1e-9)
    print(f"{summary['frames']} frames in {summary['seconds']:.1f} s: {rate:.1f} a second", flush=True)
    if arguments.manifest:
        facts = {k: summary[k] for k in ("sequences", "frames", "vlm_calls", "fall_backs")}
        inputs = [arguments.index]
        manifest.write(
            arguments.manifest,
            [arguments.output / f"{s.name}.txt" for s in chosen],
            {k: v for k, v in identity.items() if k not in ("index", "weights", "vocabulary", "captioner", "model")},
            inputs,
            facts,
        )


if __name__ == "__main__":
    console.run(main)
