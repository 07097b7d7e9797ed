"""A server that misbehaves as told, for faults that a real engine cannot be made to have on demand. Standard library only.

Its answer to a question is decided by the question alone: the sentence comes back with the md5 of the two images' bytes.
"""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--name", default="stub")
parser.add_argument("--root", default="", help="path of the model that it tells")
parser.add_argument("--context", type=int, default=0, help="longest prompt and answer that it tells")
parser.add_argument("--record", type=Path, help="file that gets one line of JSON a question")
parser.add_argument("--die-at-start", action="store_true")
parser.add_argument("--die-after", type=int, default=0, help="die at this question of a life")
parser.add_argument("--unhealthy", action="store_true")
parser.add_argument("--no-chat", action="store_true", help="404 to every question, as a pooling server does")
parser.add_argument("--errors", type=int, default=0, help="500 to this many first tries of questions after the probe")
parser.add_argument(
    "--aborts", type=int, default=0, help="break off this many first tries of questions after the probe, with 200"
)
parser.add_argument("--refuse", action="store_true", help="400 to every question after the probe")
parser.add_argument("--malformed", default="", help="answer `greedy` or `all` questions after the probe without form")
parser.add_argument("--cut", action="store_true", help="answers after the probe end for length")
parser.add_argument("--seconds", type=float, default=0.0, help="time an answer takes")
parser.add_argument("--stubborn-child", action="store_true", help="a child in a session of its own that ignores SIGTERM")
options = parser.parse_args()

print("the stub starts", flush=True)
if options.stubborn_child:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code, "stubborn"], start_new_session=True, stdout=subprocess.PIPE)
    child.stdout.readline()
if options.die_at_start:
    print("RuntimeError: the weights are of another model", flush=True)
    sys.exit(3)

lock = threading.Lock()
state = {"questions": 0, "errors": 0, "aborts": 0, "flying": 0}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, status: int, value: dict) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        if self.path == "/health":
            self.reply(503 if options.unhealthy else 200, {})
        else:
            told = {"root": options.root, "max_model_len": options.context or None}
            self.reply(200, {"data": [{"id": options.name, **told}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with lock:
            state["questions"] += 1
            state["flying"] += 1
            number, flying = state["questions"], state["flying"]
        time.sleep(options.seconds if number > 1 else 0)
        try:
            self.answer(body, number, flying)
        finally:
            with lock:
                state["flying"] -= 1

    def answer(self, body: dict, number: int, flying: int) -> None:
        after_probe = number > 1
        if options.no_chat:
            return self.reply(404, {"detail": "Not Found"})
        if options.die_after and number > options.die_after:
            os.kill(os.getpid(), signal.SIGKILL)
        if after_probe and options.refuse:
            return self.reply(400, {"error": {"message": "maximum context length is 2048 tokens"}})
        with lock:
            failing = after_probe and state["errors"] < options.errors
            state["errors"] += failing
        if failing:
            return self.reply(500, {"error": {"message": "EngineCore encountered an issue"}})
        content = body["messages"][-1]["content"]
        sentence = next(part["text"] for part in content if part["type"] == "text")
        pictures = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
        if options.record and after_probe:
            with lock, options.record.open("a") as handle:
                handle.write(json.dumps({"body": body, "flying": flying}) + "\n")
        seen = hashlib.md5("".join(pictures).encode()).hexdigest()
        text = f"<think>seen {seen}</think><d>yes</d><answer>{sentence} again</answer>"
        if after_probe and (options.malformed == "all" or (options.malformed == "greedy" and body["temperature"] == 0)):
            text = "The target did not move."
        finish = "length" if options.cut and after_probe else "stop"
        with lock:
            broken = after_probe and state["aborts"] < options.aborts
            state["aborts"] += broken
        if broken:
            text, finish = text[:20], "abort"
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
        return self.reply(200, {"choices": [choice], "usage": {"completion_tokens": 33}})

    def log_message(self, *_) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128


Server(("127.0.0.1", options.port), Handler).serve_forever()
