"""A small server for a vision-language model with transformers and the standard library, in OpenAI's chat form.

    python -m workflow_scripts.serve.transformers_server --model DIR --served-model-name NAME --port PORT

GET /health, GET /v1/models, POST /v1/chat/completions with images as data URLs; no streaming. HTTP threads put requests
into a queue; one thread owns the model and decodes greedy requests that wait together as one batch, padded on the left.
Sampled requests run alone, so that their seed decides their answer.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import queue
import threading
import time
import uuid
from concurrent.futures import Future
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

GATHER_SECONDS = 0.01  # how long a batch waits for company


class Refused(Exception):
    """A request that is wrong: answered with a 4xx status and never retried."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Request:
    """One question, parsed. `texts` is the chat template's output."""

    text: str
    pictures: list[Image.Image]
    temperature: float
    top_p: float
    seed: int | None
    max_tokens: int
    result: Future[dict[str, Any]] = field(default_factory=Future)


class Model:
    """The model and its processor; `answer` is called from one thread only."""

    def __init__(self, folder: Path, name: str, device: str, dtype: str, pixels: tuple[int, int]) -> None:
        self.name, self.device = name, device
        self.processor = AutoProcessor.from_pretrained(folder, min_pixels=pixels[0], max_pixels=pixels[1], use_fast=False)
        self.processor.tokenizer.padding_side = "left"
        self.model = AutoModelForImageTextToText.from_pretrained(folder, dtype=getattr(torch, dtype)).to(device).eval()
        # what the request does not say must not come from the model's own generation_config.json
        ends = self.model.generation_config.eos_token_id
        self.ends = [ends] if isinstance(ends, int) else list(ends)
        self.pad = self.processor.tokenizer.pad_token_id
        self.known = len(self.processor.tokenizer)  # a model's head may be padded to more ids, which have no text

    def parse(self, body: dict[str, Any]) -> Request:
        """A request's JSON; Refused where it is wrong."""
        if body.get("model") != self.name:
            raise Refused(404, f"The model `{body.get('model')}` does not exist. It is called {self.name}.")
        pictures: list[Image.Image] = []
        messages: list[dict[str, Any]] = []
        for message in body["messages"]:
            content = message["content"]
            parts: list[dict[str, Any]] = [{"type": "text", "text": content}] if isinstance(content, str) else content
            said = []
            for part in parts:
                if part["type"] == "image_url":
                    url = part["image_url"]["url"]
                    if not url.startswith("data:"):
                        raise Refused(400, "only data: URLs are read")
                    pictures.append(Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1]))).convert("RGB"))
                    said.append({"type": "image"})
                else:
                    said.append({"type": "text", "text": part["text"]})
            messages.append({"role": str(message["role"]), "content": said})
        return Request(
            text=self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False),
            pictures=pictures,
            temperature=float(body.get("temperature", 0.0)),
            top_p=float(body.get("top_p", 1.0)),
            seed=body.get("seed"),
            max_tokens=int(body.get("max_tokens") or 512),
        )

    @torch.inference_mode()
    def answer(self, requests: list[Request]) -> list[dict[str, Any]]:
        """Completions of requests that share their sampling parameters, decoded as one batch."""
        first = requests[0]
        pictures = [p for r in requests for p in r.pictures]
        inputs = self.processor(text=[r.text for r in requests], images=pictures or None, padding=True, return_tensors="pt").to(
            self.device
        )
        prompt = inputs["input_ids"].shape[1]
        if first.temperature > 0:
            torch.manual_seed(first.seed or 0)
            sampling: dict[str, Any] = {"do_sample": True, "temperature": first.temperature, "top_p": first.top_p, "top_k": 0}
        else:
            sampling = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        output = self.model.generate(
            **inputs,
            **sampling,
            repetition_penalty=1.0,
            max_new_tokens=first.max_tokens,
            eos_token_id=self.ends,
            pad_token_id=self.pad,
            use_cache=True,
        )
        return [self._completion(row[prompt:].tolist(), prompt) for row in output]

    def _completion(self, tokens: list[int], prompt: int) -> dict[str, Any]:
        end = next((i for i, token in enumerate(tokens) if token in self.ends), None)
        kept = [token for token in tokens[:end] if token < self.known]
        text = self.processor.tokenizer.decode(kept, skip_special_tokens=True)
        used = len(tokens) if end is None else end + 1
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self.name,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": "length" if end is None else "stop",
                }
            ],
            "usage": {"prompt_tokens": prompt, "completion_tokens": used, "total_tokens": prompt + used},
        }


def work(model: Model, waiting: queue.Queue[Request], largest: int) -> None:
    """The model's thread: take what waits, answer it as one batch if it is greedy, for ever."""
    held: Request | None = None
    while True:
        batch = [held or waiting.get()]
        held = None
        deadline = time.monotonic() + GATHER_SECONDS
        while batch[0].temperature == 0 and len(batch) < largest:
            try:
                another = waiting.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if another.temperature or another.max_tokens != batch[0].max_tokens:
                held = another
                break
            batch.append(another)
        try:
            for request, completion in zip(batch, model.answer(batch), strict=True):
                request.result.set_result(completion)
        except Exception as error:  # the batch's requests get it as their answer; the server lives on
            for request in batch:
                request.result.set_exception(error)


def handler(model: Model, waiting: queue.Queue[Request]) -> type[BaseHTTPRequestHandler]:
    """The request handler of this model."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1  # one packet an answer

        def reply(self, status: int, value: dict[str, Any]) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            if self.path == "/health":
                self.reply(200, {})
            elif self.path == "/v1/models":
                self.reply(200, {"object": "list", "data": [{"id": model.name, "object": "model", "owned_by": "local"}]})
            else:
                self.reply(404, {"error": {"message": "Not Found"}})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path != "/v1/chat/completions":
                return self.reply(404, {"error": {"message": "Not Found"}})
            try:
                request = model.parse(json.loads(body))
            except Refused as error:
                return self.reply(error.status, {"error": {"message": str(error)}})
            except Exception as error:  # whatever is wrong with it, it is the request's fault
                return self.reply(400, {"error": {"message": repr(error)}})
            waiting.put(request)
            try:
                return self.reply(200, request.result.result())
            except Exception as error:
                return self.reply(500, {"error": {"message": repr(error)}})

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


class Server(ThreadingHTTPServer):
    """Many connections may wait to be accepted at once."""

    request_queue_size = 128
    daemon_threads = True


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Serve a vision-language model with transformers.")
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--served-model-name", required=True, help="name that requests must give")
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1")
    parser.add_argument("--device", default="cpu", help="torch device")
    parser.add_argument("--dtype", default="float32", help="precision of the weights")
    parser.add_argument("--min-pixels", type=int, required=True, help="smallest area of an image")
    parser.add_argument("--max-pixels", type=int, required=True, help="largest area of an image")
    parser.add_argument("--batch", type=int, default=8, help="requests decoded at once")
    a = parser.parse_args()
    model = Model(a.model, a.served_model_name, a.device, a.dtype, (a.min_pixels, a.max_pixels))
    waiting: queue.Queue[Request] = queue.Queue()
    threading.Thread(target=work, args=(model, waiting, a.batch), daemon=True).start()
    print(f"serving {a.model} as {a.served_model_name} on port {a.port}", flush=True)
    Server(("127.0.0.1", a.port), handler(model, waiting)).serve_forever()


if __name__ == "__main__":
    main()
