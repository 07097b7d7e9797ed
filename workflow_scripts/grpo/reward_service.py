"""The tracker behind the reward, as a small local service: one process and one device, asked once for a whole rollout.

EasyR1's reward actors see the trainer's GPUs or none, by Ray's version, and there are two of them; a tracker inside would be
loaded twice and fight the model for memory. So it lives here, in the track environment, and the reward is a client.

    POST /iou   {"questions": [{"frames": [path, path], "boxes": [xywh, xywh], "sentence": text}, ...]}
                -> {"ious": [IoU in the second frame, null where the call failed, ...]}
    GET /health -> {"network": name}
"""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from workflow_scripts import boxes, console, images
from workflow_scripts.console import BadInput
from workflow_scripts.grpo.rewards import Question

PAIRS = 32  # pairs of frames in memory and in one pass
THREADS = 4  # that decode them

Pair = tuple[tuple[str, str], tuple[tuple[float, ...], tuple[float, ...]]]  # frames and boxes of a question


class Reader(Protocol):
    """A tracker that reads sentences: boxes of the second frames under each of a pair's sentences (DUTracker.compare)."""

    def compare(
        self, first: Sequence[Any], boxes: Sequence[Any], second: Sequence[Any], sentences: Sequence[Sequence[str]]
    ) -> list[list[Any]]: ...


def measure(tracker: Reader, questions: Sequence[Question], root: Path) -> list[float | None]:
    """IoU of each question's second frame; None (and a line of log) where a frame or a box cannot be used.

    All questions of one pair of frames share what the tracker sees in them.
    """
    pairs: dict[Pair, list[int]] = {}
    for at, question in enumerate(questions):
        pairs.setdefault((question.frames, question.boxes), []).append(at)
    result: list[float | None] = [None] * len(questions)
    every = list(pairs)
    with ThreadPoolExecutor(THREADS) as pool:
        for at in range(0, len(every), PAIRS):
            part = every[at : at + PAIRS]
            names = list(dict.fromkeys(name for frames, _ in part for name in frames))
            pictures = dict(zip(names, pool.map(partial(_read, root), names), strict=True))
            usable = [pair for pair in part if all(pictures[name] is not None for name in pair[0])]
            for pair, found in _compare(tracker, usable, pictures, [[questions[i].sentence for i in pairs[p]] for p in usable]):
                for i, box in zip(pairs[pair], found, strict=True):
                    result[i] = float(boxes.intersection_over_union(box, pair[1][1]))
    return result


def _read(root: Path, name: str) -> images.Image | None:
    try:
        return images.read_rgb(root / name)
    except BadInput as error:
        print(f"a frame cannot be used: {error}", flush=True)
        return None


def _compare(
    tracker: Reader, pairs: list[Pair], pictures: Mapping[str, Any], sentences: list[list[str]]
) -> Iterator[tuple[Pair, list[Any]]]:
    """(pair, boxes) of those that the tracker takes; one that it does not take costs no other."""
    if not pairs:
        return
    try:
        first, second = ([pictures[frames[side]] for frames, _ in pairs] for side in (0, 1))
        starts = [np.asarray(sides[0]) for _, sides in pairs]
        yield from zip(pairs, tracker.compare(first, starts, second, sentences), strict=True)
    except (BadInput, ValueError, RuntimeError) as error:
        if len(pairs) == 1:
            print(f"pair {pairs[0]} failed: {error}", flush=True)
            return
        for pair, texts in zip(pairs, sentences, strict=True):
            yield from _compare(tracker, [pair], pictures, [texts])


def serve(tracker: Reader, name: str, root: Path, port: int) -> ThreadingHTTPServer:
    """A server on the loopback address; the caller runs `serve_forever`. Port 0 takes a free one."""
    lock = threading.Lock()  # one device, one batch at a time

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/health":
                self._send(200, {"network": name})
            else:
                self._send(404, {"error": "ask /health or /iou"})

        def do_POST(self) -> None:
            try:
                asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))["questions"]
                questions = [
                    Question(tuple(q["frames"]), tuple(tuple(box) for box in q["boxes"]), str(q["sentence"])) for q in asked
                ]
            except (ValueError, KeyError, TypeError) as error:
                self._send(400, {"error": str(error)})
                return
            with lock:
                ious = measure(tracker, questions, root)
            self._send(200, {"ious": ious})

        def _send(self, status: int, value: dict[str, Any]) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    try:
        return ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError:
        raise BadInput(f"port {port} is taken: set grpo.easyr1.tracker_port to a free one.") from None


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Serve a tracker's IoU to the reward.")
    parser.add_argument("--network", required=True, help="tracker's name, as in workflow_scripts.track.registry")
    parser.add_argument("--weights", type=Path, help="folder of its weights")
    parser.add_argument("--port", type=int, required=True, help="port on the loopback address")
    parser.add_argument("--device", default="cpu", help="torch device")
    arguments = parser.parse_args()
    from workflow_scripts.track.registry import load_tracker

    tracker = load_tracker(arguments.network, arguments.weights, device=arguments.device)
    if not hasattr(tracker, "compare"):
        raise BadInput(
            f"{arguments.network} reads no sentence, so that none can earn anything: set grpo.easyr1.tracker to a DUTrack."
        )
    server = serve(tracker, arguments.network, Path.cwd(), arguments.port)
    print(f"{arguments.network} on port {server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    console.run(main)
