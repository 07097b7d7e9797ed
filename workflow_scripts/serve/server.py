"""A server that belongs to one job: `with serving(parameters, model, log) as endpoint: ...`.

It is ready only when its process lives, /health answers, /v1/models lists the exact name and a real question with two
images is answered: vLLM is healthy also when its first answer would kill it or when it cannot answer at all. It is
started again a bounded number of times when it dies under its questions, and nothing of it is left when the block ends,
however it ends: every process belongs to a session of its own, led by a guard (`guard.py`) that ends with the caller.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import httpx

from workflow_scripts import answers, in_env, pairs
from workflow_scripts.console import BadInput
from workflow_scripts.params.serve import Serve
from workflow_scripts.serve import engines, processes
from workflow_scripts.serve.beforehand import check_memory, check_model, identity
from workflow_scripts.serve.questions import Question, body, first_choice

POLL_SECONDS = 0.1
LOG_LINES = 12  # of the log's end, in the message of a server that does not start


@dataclass
class Endpoint:
    """Where to ask. `url` may change when the server is started again: read it for every question."""

    url: str
    name: str
    identity: str  # hash of the model's files; of a server that is not ours, its address and model name
    log: Path | None = None
    session: int = 0  # session id of the server's processes; 0: not ours
    start_seconds: float = 0.0  # of the first start, until the first answer
    restarts: int = 0
    failure: str = ""  # set when it will not come back
    ready: threading.Event = field(default_factory=threading.Event)

    def wait(self, seconds: float) -> None:
        """Wait until the server answers questions. BadInput if it will not, or not in time."""
        if not self.ready.wait(seconds):
            raise BadInput(f"the server at {self.url} is not back after {seconds:.0f} s; see {self.log}.")
        if self.failure:
            raise BadInput(self.failure)


@contextlib.contextmanager
def serving(parameters: Serve, model: Path, log: Path) -> Iterator[Endpoint]:
    """Serve the model folder with the engine that `parameters` name, for the time of the block.

    Yields the endpoint once it has answered. The server writes to `log`. Engine `url` starts nothing: the server there is
    asked the same first question. BadInput, in one sentence with the end of the log, when it does not get ready.
    """
    if parameters.engine == "url":
        url = parameters.url.rstrip("/").removesuffix("/v1")
        started = time.monotonic()
        if problem := probe(url, parameters):
            raise BadInput(f"the server at {url} {problem}: start it, or correct serve.url and serve.name.")
        told = models(url)[parameters.name]
        longest = told.get("max_model_len") or parameters.longest_request
        if longest < parameters.longest_request:
            raise BadInput(
                f"the server at {url} takes {longest} tokens and a question with its answer may have "
                f"{parameters.longest_request}: start it with a larger --max-model-len, or lower serve.pixels.max_pixels."
            )
        # all that such a server says of its model: another one under the same name is known if its path differs
        endpoint = Endpoint(url, parameters.name, identity=f"{url} {parameters.name} {told.get('root') or ''}")
        endpoint.start_seconds = time.monotonic() - started
        endpoint.ready.set()
        yield endpoint
        return
    check_model(model)
    if parameters.engine == "vllm" and parameters.device == "cuda":
        check_memory(parameters, model)
    stamps = file_stamps(model)
    known = identity(model)

    def command(port: int) -> engines.Command:
        if file_stamps(model) != stamps:  # a server started again must not answer with another model
            raise BadInput(f"{model} was changed while it was served: run again, with the new model from the start.")
        return engines.command(parameters, model, port)

    with owned(command, parameters, known, log) as endpoint:
        yield endpoint


def file_stamps(model: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of change of a model's files."""
    return sorted((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in model.iterdir())


@contextlib.contextmanager
def owned(command: Callable[[int], engines.Command], parameters: Serve, identity: str, log: Path) -> Iterator[Endpoint]:
    """Own the server that `command(port)` starts, for the time of the block."""
    server = Server(command, parameters, identity, log)
    with _terminated_as_exception():
        try:
            server.start()
            yield server.endpoint
        finally:
            server.stop()


class Server:
    """One server at a time under a guard, and the thread that starts it again."""

    def __init__(self, command: Callable[[int], engines.Command], parameters: Serve, identity: str, log: Path) -> None:
        self.command, self.parameters, self.life, self.log = command, parameters, parameters.life, log
        self.endpoint = Endpoint("", parameters.name, identity, log)
        self.guard: subprocess.Popen[bytes] | None = None
        self.scratch: Path | None = None
        self.stopping = threading.Event()
        self.watcher = threading.Thread(target=self._watch, name="server-watcher", daemon=True)

    def start(self) -> None:
        """Start, wait until the first answer, then watch. BadInput if it does not get ready."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_bytes(b"")
        started = time.monotonic()
        self._launch()
        problem = self._until_ready()
        if problem and "address already in use" in self._tail().lower():  # someone took the port in between
            self._end()
            self._launch()
            problem = self._until_ready()
        if problem:
            raise BadInput(self._sentence(problem))
        self.endpoint.start_seconds = time.monotonic() - started
        self.endpoint.ready.set()
        self.watcher.start()

    def stop(self) -> None:
        """End the server and everything it started; the guard removes its temporary folder."""
        self.stopping.set()
        self._end()
        if self.watcher.ident is not None:
            self.watcher.join()
            self._end()  # what the watcher may have started in between

    def _launch(self) -> None:
        port = free_port()
        started = self.command(port)
        scratch = self.scratch = Path(tempfile.mkdtemp(prefix="trackgraph-"))
        guard = [sys.executable, "-m", "workflow_scripts.serve.guard", "--parent", str(os.getpid())]
        guard += ["--scratch", str(scratch), "--grace", str(self.life.stop_seconds), "--", *started.line]
        with self.log.open("ab") as handle:
            self.guard = subprocess.Popen(
                guard,
                cwd=in_env.ROOT,
                env=engines.child_environment(started.variables, scratch),
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.endpoint.url = f"http://127.0.0.1:{port}"
        self.endpoint.session = self.guard.pid

    def _until_ready(self) -> str:
        """Poll until the server answers; returns what went wrong, or nothing."""
        deadline = time.monotonic() + self.life.start_seconds
        problem = "has not started"
        while time.monotonic() < deadline and not self.stopping.is_set():
            if self.guard is None or self.guard.poll() is not None:
                return f"ended with status {self.guard.returncode if self.guard else '?'} before it was ready"
            if healthy(self.endpoint.url):
                problem = probe(self.endpoint.url, self.parameters, max(1.0, deadline - time.monotonic()))
                if not problem or not problem.startswith("did not answer"):
                    return problem
            time.sleep(POLL_SECONDS)
        return f"was not ready after {self.life.start_seconds:.0f} s ({problem})"

    def _watch(self) -> None:
        """Start the server again when it dies, until the bound."""
        while not self.stopping.wait(POLL_SECONDS):
            if self.guard is None or self.guard.poll() is None:
                continue
            self.endpoint.ready.clear()
            status, problem = self.guard.returncode, ""
            self._end()
            while not self.stopping.is_set() and self.endpoint.restarts < self.life.restarts:
                self.endpoint.restarts += 1
                self._note(f"ended with status {status}; start {self.endpoint.restarts} of {self.life.restarts} more")
                try:
                    self._launch()
                except BadInput as error:
                    self.endpoint.failure = str(error)
                    break
                problem = self._until_ready()
                if not problem:
                    break
                self._end()
            else:
                problem = problem or f"ended with status {status}"
                self.endpoint.failure = self._sentence(f"{problem} after {self.endpoint.restarts} restarts")
            self.endpoint.ready.set()
            if self.endpoint.failure:
                return

    def _end(self) -> None:
        """Tell the guard to stop, wait, and make sure of it."""
        guard = self.guard
        if guard is None:
            return
        if guard.poll() is None:
            processes.send(guard.pid, signal.SIGTERM)
            try:
                guard.wait(self.life.stop_seconds + 5)
            except subprocess.TimeoutExpired:
                guard.kill()
                guard.wait()
        # a guard that was killed itself leaves both behind
        processes.kill_session(guard.pid)
        if self.scratch is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def _tail(self) -> str:
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return "\n".join(lines[-LOG_LINES:])

    def _note(self, text: str) -> None:
        with self.log.open("a") as handle:
            handle.write(f"[trackgraph] the server {text}\n")

    def _sentence(self, problem: str) -> str:
        return f"the {self.parameters.engine} server {problem}; mend what the end of {self.log} says:\n{self._tail()}"


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        return int(probe_socket.getsockname()[1])


def healthy(url: str) -> bool:
    """Whether /health answers 200."""
    try:
        # no certificates are looked at: loading them would cost more than the question, ten times a second
        return httpx.get(f"{url}/health", timeout=2.0, trust_env=False, verify=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def models(url: str, seconds: float = 60.0) -> dict[str, dict[str, Any]]:
    """What /v1/models says of each model, by name. httpx's errors, or ValueError, KeyError, TypeError for another form."""
    listed = httpx.get(f"{url}/v1/models", timeout=seconds, trust_env=False)
    return {entry["id"]: entry for entry in listed.json()["data"]} if listed.status_code == 200 else {}


def probe(url: str, parameters: Serve, seconds: float = 60.0) -> str:
    """Ask for the model's name and put one real question; returns what is wrong, as the end of a sentence, or nothing."""
    pair = pairs.samples(seed=0, count=1)[0]
    question = Question.build(parameters, pair.frames, sentence=pair.before.sentence)
    try:
        names = models(url, seconds)
        if parameters.name not in names:
            return f"serves {', '.join(names) or 'nothing'} and not {parameters.name}"
        request = body(question, parameters)
        reply = httpx.post(f"{url}/v1/chat/completions", json=request, timeout=seconds, trust_env=False)
    except httpx.HTTPError as error:
        return f"did not answer ({type(error).__name__}: {error})"
    except (ValueError, KeyError, TypeError) as error:
        return f"lists its models in no known form ({error!r})"
    if reply.status_code != 200:
        return f"refused a question with two images ({reply.status_code}: {reply.text[:300]})"
    try:
        text = first_choice(reply).text
    except ValueError as error:
        return f"did not answer ({error})"
    if parameters.life.probe == "parses" and not answers.parse(text).well_formed:
        return f"answered a rendered pair with {text[:200]!r}, which has not the form that serve.prompt asks for"
    return "" if text else "gave an empty answer to a question with two images"


@contextlib.contextmanager
def _terminated_as_exception() -> Iterator[None]:
    """SIGTERM unwinds the caller's stack, so that the server is stopped before the caller ends.

    Only where nobody handles the signal already and in the main thread; elsewhere the guard notices the caller's death.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    usable = threading.current_thread() is threading.main_thread()
    if not usable or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
