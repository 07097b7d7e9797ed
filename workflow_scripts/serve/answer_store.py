"""Answers kept as lines of JSON, so that a rerun asks only what is missing.

One line an answer, appended whole under a file lock: several jobs may share a file, and one that is killed leaves at most
a broken last line, which counts as missing.
"""

from __future__ import annotations

import fcntl
import json
import threading
from pathlib import Path
from typing import Any


class AnswerStore:
    """Answers by request hash, in memory and in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.Lock()
        self.known: dict[str, dict[str, Any]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                self._learn(line)

    def _learn(self, line: str) -> None:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            return  # cut off by a kill
        # an unusable answer is missing: it is asked for again
        if isinstance(record, dict) and "text" in record and not record.get("fall_back", True):
            self.known[record["request"]] = record

    def get(self, request: str) -> dict[str, Any] | None:
        """The record of a request that has a usable answer."""
        return self.known.get(request)

    def add(self, record: dict[str, Any]) -> None:
        """Append one record; `request` and `fall_back` are among its keys."""
        line = json.dumps(record, ensure_ascii=False) + "\n"
        with self.lock, self.path.open("a+b") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            size = handle.seek(0, 2)
            if size:
                handle.seek(size - 1)
                if handle.read(1) != b"\n":
                    line = "\n" + line
            handle.write(line.encode())
            handle.flush()
            if not record["fall_back"]:
                self.known[record["request"]] = record
