"""The client of a served model: many questions in flight, two kinds of retry, and nothing plausible made up.

A server that fails to answer (refused, reset, time-out, 5xx) is a matter of transport: wait, and send the question again;
when that does not help, the job fails. An answer that breaks the form is a matter of content: ask again with sampling and
another seed, and count it; after the last time it is a fall-back, an answer that is not `well_formed`, and too large a
share of those fails the job. Each answer is one line of the trace, and the trace of an earlier run is used before anyone
is asked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from workflow_scripts import answers, asking
from workflow_scripts.answers import Answer
from workflow_scripts.console import BadInput
from workflow_scripts.params.serve import Serve
from workflow_scripts.serve.answer_store import AnswerStore
from workflow_scripts.serve.questions import Question, Reply, body, first_choice
from workflow_scripts.serve.server import Endpoint

Image = NDArray[np.uint8]  # [H, W, 3] RGB
LONGEST_BACKOFF = 8.0  # seconds


class Client:
    """Asks one endpoint. Use as a context manager, or call `close` at the end: the share of fall-backs is judged there too.

    Counters: `calls` answers that were asked for and not known, `cached` answers that were known, `retries` questions sent
    again (`transport_retries` of them because the server failed), `fall_backs` answers that stayed unusable.
    """

    def __init__(self, endpoint: Endpoint, parameters: Serve, trace: Path | None = None, cache: Path | None = None) -> None:
        self.endpoint, self.parameters = endpoint, parameters
        self.stores = [AnswerStore(path) for path in (trace, cache) if path is not None]
        self.calls = self.cached = self.retries = self.transport_retries = self.fall_backs = 0
        self.lock = threading.Lock()
        flying = parameters.questions.in_flight
        self.pool = ThreadPoolExecutor(flying, thread_name_prefix="question")
        self.http = httpx.Client(
            timeout=parameters.questions.timeout,
            limits=httpx.Limits(max_connections=flying, max_keepalive_connections=flying),
            trust_env=False,  # a proxy of the environment has no business with a local server
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, _: TracebackType | None) -> None:
        self.close(judge=kind is None)

    def close(self, judge: bool = True) -> None:
        """Let go of the connections; BadInput if the share of fall-backs is over the limit."""
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.http.close()
        if judge:
            self._judge(least=1)

    def ask(self, questions: Sequence[tuple[Image, Image, str]]) -> list[Answer]:
        """Answers to (reference, current, sentence), in their order; frames are uint8 [H, W, 3] RGB of any size.

        An answer without usable form has `well_formed` False and no sentence: the caller keeps the one it has.
        """
        replies = self.complete(
            asking.Question((reference, current), {"sentence": sentence}, answers.well_formed)
            for reference, current, sentence in questions
        )
        return [answers.parse(r.text) if r.usable else Answer(r.text, None, None, None, False) for r in replies]

    def complete(self, questions: Iterable[asking.Question]) -> list[asking.Reply]:
        """Replies to questions, in their order. May be called by several threads at once; all share what is in flight."""
        waiting = [self.pool.submit(self._answer, question) for question in questions]
        try:
            replies = [future.result() for future in waiting]
        except BaseException:
            for future in waiting:
                future.cancel()
            raise
        self._judge(least=self.parameters.questions.fall_back_after)
        return replies

    def _answer(self, asked: asking.Question) -> asking.Reply:
        parameters = self.parameters.model_copy(update={"prompt": asked.prompt or self.parameters.prompt})
        question = Question.build(parameters, asked.images, **asked.fields)
        request = question.key(self.endpoint.identity, parameters.sampling)
        for store in self.stores:
            if known := store.get(request):
                with self.lock:
                    self.cached += 1
                return asking.Reply(known["text"])
        started = time.monotonic()
        attempt, resent = 0, 0
        while True:
            reply, failures = self._send(question, attempt)
            resent += failures
            good = reply.finished and asked.usable(reply.text)
            if good or attempt == self.parameters.questions.malformed_retries:
                break
            attempt += 1
        milliseconds = (time.monotonic() - started) * 1000
        with self.lock:
            self.calls += 1
            self.retries += attempt + resent
            self.transport_retries += resent
            self.fall_backs += not good
        self._record(request, dict(asked.fields), reply, good, milliseconds, attempt + resent)
        return asking.Reply(reply.text, good)

    def _record(
        self,
        request: str,
        fields: dict[str, str],
        reply: Reply,
        good: bool,
        milliseconds: float,
        retries: int,
    ) -> None:
        read = answers.parse(reply.text)
        record: dict[str, Any] = {
            "request": request,
            **fields,
            "text": reply.text,
            "think": read.think,
            "decision": read.decision,
            "answer": read.sentence,
            "tokens": reply.tokens,
            "milliseconds": round(milliseconds, 1),
            "retries": retries,
            "fall_back": not good,
        }
        for store in self.stores:
            store.add(record)

    def _send(self, question: Question, attempt: int) -> tuple[Reply, int]:
        """One answer, and how often the server failed to give it. BadInput when it refuses or keeps failing."""
        rule = self.parameters.questions
        request = body(question, self.parameters, attempt)
        problem = ""
        for failures in range(rule.transport_retries + 1):
            # a server that is being started again: wait for it, rather than spend the retries
            self.endpoint.wait(self.parameters.life.start_seconds * (self.parameters.life.restarts + 1))
            try:
                response = self.http.post(f"{self.endpoint.url}/v1/chat/completions", json=request)
                if response.status_code == 200:
                    return first_choice(response), failures
                problem = f"{response.status_code}: {response.text[:300]}"
                if response.status_code < 500 and response.status_code not in (408, 429):
                    raise BadInput(
                        f"the server at {self.endpoint.url} refuses a question ({problem}); see {self.endpoint.log}."
                    )
            except (httpx.TransportError, ValueError) as error:
                if isinstance(error, BadInput):
                    raise
                problem = f"{type(error).__name__}: {error}"
            if failures < rule.transport_retries:
                time.sleep(min(LONGEST_BACKOFF, rule.backoff * 2**failures))
        raise BadInput(
            f"the server at {self.endpoint.url} failed to answer a question {rule.transport_retries + 1} times "
            f"(last: {problem}); see {self.endpoint.log}."
        )

    def _judge(self, least: int) -> None:
        """BadInput if `least` answers are there and too many of them are fall-backs."""
        limit = self.parameters.questions.fall_back_limit
        total = self.calls + self.cached
        if total >= least and self.fall_backs > limit * total:
            raise BadInput(
                f"{self.fall_backs} of {total} answers have not the form that was asked for, over the limit of {limit:.0%}: "
                "train the model further, or raise fall_back_limit."
            )
