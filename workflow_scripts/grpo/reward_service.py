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
from collections.abc import Sequence
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from workflow_scripts import boxes, console, images
from workflow_scripts.console import BadInput
from workflow_scripts.grpo.rewards import Question

BATCH = 32  # questions in one forward pass
KEPT_FRAMES = 256  # decoded frames: all answers to one pair share two


def measure(tracker: Any, questions: Sequence[Question], root: Path) -> list[float | None]:
    """IoU of each question's second frame; None (and a line of log) where a frame or a box cannot be used."""
    read = _reader(root)
    result: list[float | None] = [None] * len(questions)
    for at in range(0, len(questions), BATCH if tracker.lockstep else 1):
        batch = list(range(at, min(len(questions), at + (BATCH if tracker.lockstep else 1))))
        for part in (batch, *([i] for i in batch)):  # one bad question must not cost its batch
            if all(result[i] is not None for i in part):
                continue
            try:
                asked = [questions[i] for i in part]
                first = [read(q.frames[0]) for q in asked]
                states = tracker.start(first, [np.asarray(q.boxes[0]) for q in asked], [q.sentence for q in asked])
                _, outputs = tracker.step(states, [read(q.frames[1]) for q in asked])
            except (BadInput, ValueError, RuntimeError) as error:
                if len(part) == 1:
                    print(f"question {questions[part[0]]} failed: {error}", flush=True)
                continue
            for i, output in zip(part, outputs, strict=True):
                result[i] = float(boxes.intersection_over_union(output.box, questions[i].boxes[1]))
    return result


@lru_cache(maxsize=1)
def _reader(root: Path) -> Any:
    @lru_cache(maxsize=KEPT_FRAMES)
    def read(path: str) -> images.Image:
        return images.read_rgb(root / path)

    return read


def serve(tracker: Any, name: str, root: Path, port: int) -> ThreadingHTTPServer:
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
    server = serve(tracker, arguments.network, Path.cwd(), arguments.port)
    print(f"{arguments.network} on port {server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    console.run(main)
