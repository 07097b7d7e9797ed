"""Annotation rows: the two published forms, a file read and written one row at a time, and what one row must hold.

- Alpaca form (ReasoningTrack): instruction, input (begins with an <image> tag a picture), output, images
- ShareGPT form (R1-Track): messages [{role: user, content}, {role: assistant, content}], images
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from workflow_scripts.console import BadInput

PLACEHOLDER = "/your_root_path/"  # how the published files begin every image path
IMAGE = "<image>"
CHUNK = 1 << 16
# the decision itself, before the answer: published thoughts now and then mention a <d>, too
DECISION = re.compile(r"(<d>\s*)(yes|no)(\s*</d>\s*<answer>)")
FORMS = {"alpaca": ("instruction", "input", "output", "images"), "sharegpt": ("messages", "images")}

Row = Mapping[str, Any]


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON array without holding the file. BadInput names the file and the row that breaks."""
    decoder, text, number = json.JSONDecoder(), "", 0
    if not path.is_file():
        raise BadInput(f"{path} does not exist: make or fetch the annotation files first.")
    with path.open(encoding="utf-8") as handle:
        text = handle.read(CHUNK).lstrip()
        if not text.startswith("["):
            raise BadInput(f"{path} is not a JSON list of rows: fetch it again.")
        text = text[1:]
        while True:
            text = text.lstrip().removeprefix(",").lstrip()
            try:
                row, end = decoder.raw_decode(text)
            except json.JSONDecodeError:
                if text.startswith("]"):
                    return
                more = handle.read(max(CHUNK, len(text)))  # doubling keeps long rows linear
                if not more:
                    raise BadInput(f"{path}, row {number + 1}: not valid JSON, or cut off; fetch the file again.") from None
                text += more
                continue
            if not isinstance(row, dict):
                raise BadInput(f"{path}, row {number + 1}: not an object; fetch the file again.")
            number += 1
            yield row
            text = text[end:]


class Writer:
    """Writes rows to an open file as an indented JSON array."""

    def __init__(self, handle: IO[str]) -> None:
        self.handle, self.count = handle, 0

    def add(self, row: Row) -> None:
        """Append one row."""
        self.handle.write("[\n" if self.count == 0 else ",\n")
        self.handle.write(json.dumps(row, indent=1, ensure_ascii=False))
        self.count += 1

    def close(self) -> None:
        """End the array."""
        self.handle.write("\n]\n" if self.count else "[]\n")


def form(row: Row) -> str:
    """``alpaca`` or ``sharegpt``; ValueError names the keys that are missing."""
    kind = "sharegpt" if "messages" in row else "alpaca"
    if missing := [key for key in FORMS[kind] if key not in row]:
        raise ValueError(f"has no {', '.join(missing)}")
    if kind == "sharegpt" and [m.get("role") for m in row["messages"]][-2:] != ["user", "assistant"]:
        raise ValueError("does not end with a message of user and one of assistant")
    return kind


def question(row: Row) -> str:
    """All text that the model is asked with."""
    if "messages" in row:
        return "\n".join(message["content"] for message in row["messages"][:-1])
    return "\n".join(part for part in (row["instruction"], row["input"]) if part)


def response(row: Row) -> str:
    """The text that the model shall answer."""
    return row["messages"][-1]["content"] if "messages" in row else row["output"]


def sentence(row: Row) -> str:
    """The description an Alpaca row is asked with: its input without the picture tags."""
    return row["input"].replace(IMAGE, "").strip()


def flip(text: str) -> str:
    """The answer with its <d> turned from yes to no or back, and every other character kept."""
    found = list(DECISION.finditer(text))
    if not found:
        return text
    start, end = found[-1].span(2)
    return text[:start] + {"yes": "no", "no": "yes"}[text[start:end]] + text[end:]


def registration(names: Mapping[str, str], systems: frozenset[str] = frozenset()) -> dict[str, Any]:
    """dataset_info.json for files by name and form; `systems` are those whose rows carry a system text."""
    info: dict[str, Any] = {}
    for name, kind in names.items():
        entry: dict[str, Any] = {"file_name": f"{name}.json", "formatting": kind}
        if kind == "alpaca":
            entry["columns"] = {"prompt": "instruction", "query": "input", "response": "output", "images": "images"}
        else:
            entry["columns"] = {"messages": "messages", "images": "images"}
            entry["tags"] = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
        if name in systems:
            entry["columns"]["system"] = "system"
        info[name] = entry
    return info
