"""Sentences to token ids: BERT's WordPiece, from a vocabulary file with one word a line.

A sentence always becomes exactly 16 ids, ``[CLS] pieces [SEP] [PAD]...``: padding takes part in attention, so a shorter
list would be another input. At most 14 pieces survive. An empty sentence is ``[CLS] [SEP]`` and padding.
The small network's vocabulary is made here too, from the words that the rendered sentences can hold.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.console import BadInput

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LENGTH = 16
LONGEST_WORD = 100  # a longer one is unknown, as in BERT

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "cyan", "white")
TEXTURES = ("plain", "striped", "dotted", "checkered")
SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond")
OTHERS = ("track", "the", "a", "an", "that", "moves", "moving", "over", "background", "object", "target", "tracking")
GRAMMAR = (*COLOURS, *TEXTURES, *SHAPES, *OTHERS)


class Tokenizer:
    """Immutable; call it with sentences."""

    def __init__(self, words: Iterable[str], cased: bool = False, source: str = "the vocabulary") -> None:
        self.words = list(words)
        self.cased = cased
        self.ids = {word: i for i, word in enumerate(self.words)}
        missing = [word for word in ("[PAD]", "[UNK]", "[CLS]", "[SEP]") if word not in self.ids]
        if missing or self.ids["[PAD]"] != 0:
            raise BadInput(f"{source} lacks {', '.join(missing) or '[PAD] as its first line'}: give a BERT vocabulary file.")

    @classmethod
    def from_file(cls, path: Path | str, cased: bool = False) -> Tokenizer:
        """Vocabulary with one word a line; the line's number, from 0, is the id."""
        path = Path(path)
        if not path.is_file():
            raise BadInput(f"{path}: no such vocabulary file; give the one the network was trained with.")
        return cls(path.read_text(encoding="utf-8").splitlines(), cased, str(path))

    def __len__(self) -> int:
        return len(self.words)

    def __call__(self, sentences: Iterable[str], length: int = LENGTH) -> NDArray[np.int64]:
        """Ids [B,length]."""
        rows = []
        for sentence in sentences:
            pieces = [p for word in split_words(sentence, self.cased) for p in self.pieces(word)][: length - 2]
            row = [self.ids["[CLS]"], *(self.ids[p] for p in pieces), self.ids["[SEP]"]]
            rows.append(row + [0] * (length - len(row)))
        return np.array(rows, np.int64).reshape(-1, length)

    def pieces(self, word: str) -> list[str]:
        """Longest known pieces from the left; ``[UNK]`` for the whole word where no piece fits."""
        found: list[str] = []
        start = 0
        while start < len(word) <= LONGEST_WORD:
            prefix = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((e for e in ends if prefix + word[start:e] in self.ids), None)
            if end is None:
                return ["[UNK]"]
            found.append(prefix + word[start:end])
            start = end
        return found if start == len(word) else ["[UNK]"]


def split_words(sentence: str, cased: bool = False) -> list[str]:
    """BERT's basic tokenisation: words at white space, punctuation and ideographs on their own, no control characters."""
    if not cased:
        decomposed = unicodedata.normalize("NFD", sentence.lower())
        sentence = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
    out = []
    for c in sentence:
        if c in "\t\n\r" or unicodedata.category(c) == "Zs":
            out.append(" ")
        elif c in "\0\ufffd" or unicodedata.category(c).startswith("C"):
            continue
        else:
            out.append(f" {c} " if _stands_alone(c) else c)
    return "".join(out).split()


def _stands_alone(c: str) -> bool:
    """Punctuation (all ASCII that is neither letter nor digit, and Unicode's P) and CJK ideographs."""
    code = ord(c)
    if 33 <= code <= 126:
        return not c.isalnum()
    ideograph = any(
        low <= code <= high
        for low, high in (
            (0x4E00, 0x9FFF),
            (0x3400, 0x4DBF),
            (0x20000, 0x2A6DF),
            (0x2A700, 0x2B73F),
            (0x2B740, 0x2B81F),
            (0x2B820, 0x2CEAF),
            (0xF900, 0xFAFF),
            (0x2F800, 0x2FA1F),
        )
    )
    return ideograph or unicodedata.category(c).startswith("P")


def small_vocabulary(sentences: Iterable[str] = ()) -> list[str]:
    """Vocabulary of the small network: the rendered grammar's words, and whatever else the sentences hold."""
    extra = {word for sentence in sentences for word in split_words(sentence)} - set(GRAMMAR)
    return [*SPECIAL, *GRAMMAR, *sorted(extra)]
