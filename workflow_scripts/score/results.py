"""Box files as they occur in the wild, read to the last bit.

Two ways through: a clean file (one delimiter, four plain numbers a line) is joined with the clean files of the other trackers
of its sequence and parsed by Arrow in one call; anything else goes line by line through Python's ``float``. Both give the
same bits. What MATLAB's ``dlmread`` does silently is done here and counted; what would stop it is a BadInput that names
file and line or, when lenient, rows that are marked as missed.

The two dialects differ in one point: a line of text (a header) stops MATLAB, while Octave reads it as a row of zeros and so
shifts every frame by one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence as Series
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from workflow_scripts.console import BadInput

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

COLUMNS = ("x", "y", "w", "h")
DELIMITERS = b",\t ;"
_PLAIN = b"0123456789.+-eEnNaAiIfF\n"  # what a clean file holds beside its delimiter: numbers, nan, inf
_LINE = re.compile(r"\r\n|\n|\r")
_SEPARATOR = re.compile(r"[ \t]*[,;][ \t]*|[ \t]+")  # a comma or semicolon with blanks around it, or a run of blanks


@dataclass(frozen=True)
class BoxFile:
    """One file's boxes as written, before any repair."""

    boxes: Floats  # [M, 4] xywh
    missed: Flags  # [M], rows that could not be read (lenient only)
    problems: tuple[str, ...] = ()  # what was unusual, one sentence each


@dataclass
class SequenceResults:
    """All trackers' boxes of one sequence, cut or filled to its N frames."""

    planes: Floats  # [4, K, N]: x, y, w, h
    missed: Flags  # [K, N], rows that count as a miss whatever the box
    unreadable: Flags  # [K], whole file missing or empty
    missing: NDArray[np.int64]  # [K] rows short of N
    extra: NDArray[np.int64]  # [K] rows beyond N
    problems: list[str] = field(default_factory=list)


def _number(text: str) -> float | None:
    """A field as ``float`` reads it; also Fortran exponents (1D3) and complex numbers, whose imaginary part makes them NaN."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        value = complex(re.sub(r"(?<=\d)i$", "j", text))
        return value.real if value.imag == 0 else float("nan")
    except ValueError:
        pass
    try:
        return float(re.sub(r"(?<=[\d.])[dD](?=[+-]?\d)", "e", text))
    except ValueError:
        return None


def parse_boxes(raw: bytes, path: str | Path, lenient: bool = False, dialect: str = "matlab") -> BoxFile:
    """Parse one file line by line. BadInput names `path` and the line that cannot be read, unless `lenient`.

    Short rows are filled with zeros, empty lines skipped, separators may be mixed. `dialect` "octave" reads text as zero.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    rows: list[list[float]] = []
    missed: list[bool] = []
    problems: list[str] = []
    for number, line in enumerate(_LINE.split(text), start=1):
        fields = _SEPARATOR.split(line.strip())
        while fields and fields[-1] == "":
            fields.pop()
        if not fields:
            continue
        values = [0.0 if f == "" else _number(f) for f in fields]
        if None in values:
            bad = fields[values.index(None)]
            header = not rows and all(v is None for v in values)
            if dialect == "octave":
                values = [0.0 if v is None else v for v in values]
                problems.append(f"{path}, line {number}: {bad!r} is not a number and was read as 0, as Octave does.")
            elif not lenient:
                remedy = "remove the header line" if header else "write four numbers"
                raise BadInput(f"{path}, line {number}: {bad!r} is not a number; {remedy}, or use --lenient.")
            elif header:
                problems.append(f"{path}, line {number}: header line skipped.")
                continue
            else:
                problems.append(f"{path}, line {number}: {bad!r} is not a number; the frame counts as missed.")
                rows.append([float("nan")] * 4)
                missed.append(True)
                continue
        if len(values) > 4:
            if not lenient:
                raise BadInput(f"{path}, line {number}: {len(values)} columns; write x, y, w, h, or use --lenient.")
            problems.append(f"{path}, line {number}: {len(values)} columns; the frame counts as missed.")
            rows.append([float("nan")] * 4)
            missed.append(True)
            continue
        rows.append([v for v in values if v is not None] + [0.0] * (4 - len(values)))
        missed.append(False)
    boxes = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return BoxFile(boxes, np.array(missed, dtype=bool), tuple(problems))


def clean_rows(raw: bytes) -> tuple[int, int] | None:
    """(number of rows, delimiter byte) of a file that Arrow may read, else None."""
    separators = raw.translate(None, _PLAIN)
    rows = raw.count(b"\n") + (not raw.endswith(b"\n"))
    if not separators or separators[0] not in DELIMITERS or len(separators) != 3 * rows:
        return None
    if separators.count(separators[:1]) != len(separators) or raw.startswith(b"\n") or b"\n\n" in raw:
        return None
    return rows, separators[0]


def _parse_clean(files: Series[tuple[bytes, int]]) -> list[Floats] | None:
    """Columns [4][sum of rows] of clean files, (bytes, delimiter) each; None where Arrow finds something unusual after all."""
    parts = []
    for raw, delimiter in files:
        parts.append(raw if delimiter == ord(",") else raw.replace(bytes([delimiter]), b","))
        if not raw.endswith(b"\n"):
            parts.append(b"\n")
    joined = b"".join(parts)
    try:
        table = csv.read_csv(
            pa.BufferReader(joined),
            read_options=csv.ReadOptions(use_threads=False, column_names=list(COLUMNS), block_size=len(joined) + 1),
            parse_options=csv.ParseOptions(delimiter=",", quote_char=False),
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.float64()), null_values=[]),
        )
    except pa.ArrowInvalid:
        return None
    if any(column.null_count for column in table.columns):
        return None
    return [column.to_numpy() for column in table.columns]


def read_boxes(path: str | Path, lenient: bool = False, dialect: str = "matlab") -> BoxFile:
    """Read one file of boxes (results or ground truth)."""
    raw = _bytes(Path(path))
    if raw is None:
        raise BadInput(f"{path} does not exist: put the file there, or leave its sequence out of the list.")
    clean = clean_rows(raw)
    columns = _parse_clean([(raw, clean[1])]) if clean else None
    if columns is None or len(columns[0]) != clean[0]:
        return parse_boxes(raw, path, lenient, dialect)
    return BoxFile(np.stack(columns, axis=1), np.zeros(len(columns[0]), dtype=bool))


def read_flags(path: str | Path) -> Floats:
    """Numbers of a flag file (absence or attributes), one a line or in one row. BadInput on anything else."""
    raw = _bytes(Path(path))
    if raw is None:
        raise BadInput(f"{path} does not exist: restore it from the benchmark's annotations.")
    if raw.replace(b"\n", b"").isdigit() and re.fullmatch(rb"(?:\d\n+)*\d\n*", raw):  # the usual file: a digit a line
        digits = np.frombuffer(raw, dtype=np.uint8)
        return (digits[digits != 10] - 48).astype(np.float64)
    try:
        return np.array([float(v) for v in re.split(rb"[\s,;]+", raw.strip(b" \t\r\n,;")) if v], dtype=np.float64)
    except ValueError:
        raise BadInput(f"{path}: holds something that is not a number; write one flag a line.") from None


def _blank(count: int, frames: int) -> SequenceResults:
    return SequenceResults(
        planes=np.full((4, count, frames), np.nan),
        missed=np.zeros((count, frames), dtype=bool),
        unreadable=np.zeros(count, dtype=bool),
        missing=np.zeros(count, dtype=np.int64),
        extra=np.zeros(count, dtype=np.int64),
    )


def _place(out: SequenceResults, k: int, columns: Series[Floats], source: str, forgiving: bool) -> None:
    """Put tracker k's columns [4][M] into place: cut to N frames, or the rest missed (BadInput unless `forgiving`)."""
    rows, frames = len(columns[0]), out.planes.shape[2]
    used = min(rows, frames)
    for plane, column in zip(out.planes, columns, strict=True):
        plane[k, :used] = column[:used]
    out.extra[k] = max(0, rows - frames)
    if rows < frames:
        if not forgiving:
            raise BadInput(
                f"{source}, line {rows}: ends here, but the sequence has {frames} frames; "
                "track it to the end, or use --lenient to count the rest as missed."
            )
        out.missing[k] = frames - rows
        out.missed[k, rows:] = True
        out.problems.append(f"{source}: {rows} boxes for {frames} frames; the rest counts as missed.")


def fit_arrays(
    arrays: Series[Floats], frames: int, trackers: Series[str], sequence: str, lenient: bool = False
) -> SequenceResults:
    """Boxes in memory, [M, 4] a tracker, brought to `frames` rows each by the same rules as files."""
    out = _blank(len(arrays), frames)
    for k, (boxes, tracker) in enumerate(zip(arrays, trackers, strict=True)):
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise BadInput(f"{tracker}, {sequence}: boxes of shape {boxes.shape}; give [frames, 4] xywh.")
        _place(out, k, boxes.T, f"{tracker}, {sequence}", lenient)
        out.unreadable[k] = not len(boxes)
    return out


def read_sequence(
    paths: Series[Path], frames: int, lenient: bool = False, dialect: str = "matlab", short_is_miss: bool = False
) -> SequenceResults:
    """Read one sequence's files of K trackers and bring them to `frames` rows each.

    Longer files are cut (as every toolkit does). Missing, empty and short ones are a BadInput that names the file, or count
    as missed where `lenient` or `short_is_miss` (for protocols whose own toolkit does so).
    """
    out = _blank(len(paths), frames)
    forgiving = lenient or short_is_miss
    raws = [_bytes(path) for path in paths]
    clean = [clean_rows(raw) if raw else None for raw in raws]
    together = [(raw, c[1]) for raw, c in zip(raws, clean, strict=True) if raw and c]
    columns = _parse_clean(together) if together else None
    if columns is not None and len(columns[0]) != sum(c[0] for c in clean if c):
        columns = None
    start = 0
    for k, (path, raw, plain) in enumerate(zip(paths, raws, clean, strict=True)):
        if raw is None or not raw.strip():
            what = "does not exist" if raw is None else "is empty"
            if not forgiving:
                raise BadInput(f"{path} {what}: run the tracker on this sequence, or use --lenient to count it as missed.")
            out.unreadable[k], out.missing[k], out.missed[k] = True, frames, True
            out.problems.append(f"{path} {what}; the sequence counts as missed.")
        elif columns is not None and plain:
            _place(out, k, [c[start : start + plain[0]] for c in columns], str(path), forgiving)
            start += plain[0]
        else:
            file = parse_boxes(raw, path, lenient, dialect)
            out.missed[k, : len(file.missed)] = file.missed[:frames]
            out.problems += file.problems
            _place(out, k, file.boxes.T, str(path), forgiving)
    return out


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}): check its permissions.") from None
