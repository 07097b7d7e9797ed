"""Box files as they occur in the wild, read to the last bit.

Three readers, the same bits: the compiled scanner where there is one; Arrow for clean files (one delimiter, four plain
numbers a line), those of a sequence's trackers joined in one call; and, line by line through Python's ``float``, for whatever
neither takes. What MATLAB's ``dlmread`` does silently is done here and counted; what would stop it is a BadInput that names
file and line or, when lenient, rows that are marked as missed.

The two dialects differ in one point: a line of text (a header) stops MATLAB, while Octave reads it as a row of zeros and so
shifts every frame by one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence as Series
from collections.abc import Set
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.console import BadInput
from workflow_scripts.score import scanner

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
    problems: tuple[str, ...] = ()  # what was unusual, one sentence each kind


@dataclass
class SequenceResults:
    """All trackers' boxes of one sequence, cut or filled to its N frames."""

    planes: Floats  # [4, K, N]: x, y, w, h
    missed: Flags  # [K, N], rows that count as a miss whatever the box
    unreadable: Flags  # [K], whole file missing or empty
    missing: NDArray[np.int64]  # [K] rows short of N
    extra: NDArray[np.int64]  # [K] rows beyond N
    plain: Flags  # [K], files with nothing to report: four numbers in every line, and a line for every frame
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


def parse_boxes(raw: bytes, path: str | Path, lenient: bool = False, dialect: str = "matlab", remedy: str = "") -> BoxFile:
    """Parse one file line by line. BadInput names `path` and the line that cannot be read, unless `lenient`.

    Short rows are filled with zeros, empty lines skipped, separators may be mixed. `dialect` "octave" reads text as zero.
    `remedy` ends an error's sentence, e.g. ", or use --lenient".
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    rows: list[list[float]] = []
    missed: list[int] = []
    notes: dict[str, list[str]] = {}  # kind -> one sentence a line
    first, widest = 0, 0  # line of the first row, most columns of any
    for number, line in enumerate(_LINE.split(text), start=1):
        fields = _SEPARATOR.split(line.strip())
        while fields and fields[-1] == "":
            fields.pop()
        if not fields:
            continue
        where = f"{path}, line {number}"
        found = [0.0 if f == "" else _number(f) for f in fields]
        unread = next((repr(f) for f, v in zip(fields, found, strict=True) if v is None), None)
        header = not rows and all(v is None for v in found)
        fault = mend = ""
        if unread and dialect != "octave":
            fault, mend = f"{unread} is not a number", "remove the header line" if header else "write four numbers"
        elif len(found) > 4:
            fault, mend = f"{len(found)} columns", "write x, y, w, h"
        elif unread:
            notes.setdefault("text", []).append(f"{where}: {unread} is not a number and was read as 0, as Octave does.")
        elif len(found) < 4 or "" in fields:
            notes.setdefault("short", []).append(f"{where}: fewer than four numbers, filled with 0 as the toolkits do.")
        if fault and not lenient:
            raise BadInput(f"{where}: {fault}; {mend}{remedy}.")
        if fault and header:
            notes.setdefault("header", []).append(f"{where}: header line skipped.")
            continue
        if fault:
            notes.setdefault(mend, []).append(f"{where}: {fault}; the frame counts as missed.")
            missed.append(len(rows))
        first, widest = first or number, max(widest, len(found))
        values = [0.0 if v is None else v for v in found] + [0.0] * (4 - len(found))
        rows.append([math.nan] * 4 if fault else values)
    if rows and widest < 4:
        what = f"{path}, line {first}: no line has four numbers"
        if not lenient:
            raise BadInput(f"{what}; write x, y, w, h{remedy}.")
        notes, missed = {"missed": [f"{what}; every frame counts as missed."]}, list(range(len(rows)))
    boxes = np.array(rows, dtype=np.float64).reshape(-1, 4)
    flags = np.zeros(len(boxes), dtype=bool)
    flags[missed] = True
    return BoxFile(boxes, flags, tuple(n[0] + (f" ({len(n) - 1} more such lines.)" if n[1:] else "") for n in notes.values()))


def clean_rows(raw: bytes) -> tuple[int, int] | None:
    """(number of rows, delimiter byte) of a file that Arrow may read, else None.

    Three separators a row all told: a line with another number of them makes Arrow refuse, so that none can hide.
    """
    separators = raw.translate(None, _PLAIN)
    rows, rest = divmod(len(separators), 3)
    if not rows or rest or separators[0] not in DELIMITERS or separators.count(separators[:1]) != len(separators):
        return None
    return rows, separators[0]


def _parse_clean(raws: Series[bytes | None]) -> list[list[Floats] | None]:
    """Columns [4][M] of each clean file, all read in one call of Arrow; None for the others."""
    import pyarrow as pa  # a tenth of a second, which the compiled scanner saves
    from pyarrow import csv

    raws = [raw.replace(b"\r\n", b"\n") if raw and b"\r" in raw else raw for raw in raws]
    clean = {k: shape for k, raw in enumerate(raws) if raw and (shape := clean_rows(raw))}
    parts = []
    for k, (_, delimiter) in clean.items():
        raw = raws[k] or b""
        parts.append(raw if delimiter == ord(",") else raw.replace(bytes([delimiter]), b","))
        if not raw.endswith(b"\n"):
            parts.append(b"\n")
    joined = b"".join(parts)
    found: list[list[Floats] | None] = [None] * len(raws)
    try:
        table = csv.read_csv(
            pa.BufferReader(joined),
            read_options=csv.ReadOptions(use_threads=False, column_names=list(COLUMNS), block_size=len(joined) + 1),
            parse_options=csv.ParseOptions(delimiter=",", quote_char=False),
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.float64()), null_values=[]),
        )
    except pa.ArrowInvalid:  # something unusual after all, or nothing to read
        return [_parse_clean([raw])[0] for raw in raws] if len(clean) > 1 else found
    if any(c.null_count or c.num_chunks != 1 for c in table.columns) or len(table) != sum(rows for rows, _ in clean.values()):
        return found
    # not to_numpy(), which imports pandas wherever it is installed
    columns = [np.frombuffer(c.chunk(0).buffers()[1], dtype=np.float64, count=len(c)) for c in table.columns]
    start = 0
    for k, (rows, _) in clean.items():
        found[k] = [column[start : start + rows] for column in columns]
        start += rows
    return found


def read_boxes(path: str | Path, lenient: bool = False, dialect: str = "matlab") -> BoxFile:
    """Read one file of boxes (results or ground truth)."""
    return read_all_boxes([Path(path)], lenient, dialect)[0]


def read_all_boxes(paths: Series[Path], lenient: bool = False, dialect: str = "matlab") -> list[BoxFile]:
    """Read files of boxes of any lengths."""
    raws = []
    for path in paths:
        raws.append(read_bytes(path))
        if raws[-1] is None:
            raise BadInput(f"{path} does not exist: put the file there, or leave its sequence out of the list.")
    quick = _parse_clean(raws) if scanner.library() is None else [_scan(raw) for raw in raws if raw is not None]
    found = []
    for path, raw, columns in zip(paths, raws, quick, strict=True):
        if columns is None:
            found.append(parse_boxes(raw or b"", path, lenient, dialect))
        else:
            found.append(BoxFile(np.stack(columns).T, np.zeros(len(columns[0]), dtype=bool)))
    return found


def _scan(raw: bytes) -> list[Floats] | None:
    """Columns [4][M] of one file by the compiled scanner, where it can read it."""
    room = np.empty((4, raw.count(b"\n") + raw.count(b"\r") + 1))
    rows = scanner.scan_boxes(raw, room)
    return None if rows is None else list(room[:, :rows])


def read_flags(path: str | Path) -> Floats:
    """Numbers of a flag file (absence or attributes), one a line or in one row. BadInput on anything else."""
    raw = read_bytes(Path(path))
    if raw is None:
        raise BadInput(f"{path} does not exist: restore it from the benchmark's annotations.")
    usual = np.frombuffer(raw, dtype=np.uint8) - ord("0")  # a digit a line
    if len(usual) and (usual[::2] < 10).all() and (usual[1::2] == (ord("\n") - ord("0")) % 256).all():
        return usual[::2].astype(np.float64)
    values = []
    for number, line in enumerate(re.split(rb"\r\n|\n|\r", raw.removeprefix(b"\xef\xbb\xbf")), start=1):
        for value in re.split(rb"[\s,;]+", line):
            try:
                values += [float(value)] if value else []
            except ValueError:
                what = f"{value.decode('latin-1')!r} is not a number"
                raise BadInput(f"{path}, line {number}: {what}; write one flag a line.") from None
    return np.array(values, dtype=np.float64)


def _blank(count: int, frames: int) -> SequenceResults:
    return SequenceResults(
        planes=np.empty((4, count, frames)),
        missed=np.zeros((count, frames), dtype=bool),
        unreadable=np.zeros(count, dtype=bool),
        missing=np.zeros(count, dtype=np.int64),
        extra=np.zeros(count, dtype=np.int64),
        plain=np.zeros(count, dtype=bool),
    )


def _fit(out: SequenceResults, k: int, rows: int, source: str, forgiving: bool) -> None:
    """Count what tracker k's `rows` have beyond N frames, or mark what they lack (BadInput unless `forgiving`)."""
    frames = out.planes.shape[2]
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


def _place(out: SequenceResults, k: int, columns: Floats) -> None:
    """Put the first N rows of columns [4, M] into tracker k's place; what is missing is NaN."""
    used = min(columns.shape[1], out.planes.shape[2])
    out.planes[:, k, :used] = columns[:, :used]
    out.planes[:, k, used:] = np.nan


def fit_arrays(
    arrays: Series[Floats], frames: int, trackers: Series[str], sequence: str, lenient: bool = False
) -> SequenceResults:
    """Boxes in memory, [M, 4] a tracker, brought to `frames` rows each by the same rules as files."""
    out = _blank(len(arrays), frames)
    for k, (boxes, tracker) in enumerate(zip(arrays, trackers, strict=True)):
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise BadInput(f"{tracker}, {sequence}: boxes of shape {boxes.shape}; give [frames, 4] xywh.")
        _place(out, k, boxes.T)
        _fit(out, k, len(boxes), f"{tracker}, {sequence}", lenient)
        out.unreadable[k] = not len(boxes)
    return out


def _read_fast(raws: Series[bytes | None], planes: Floats) -> list[int | None]:
    """Read files into `planes` [4, K, N], cut to N rows: how many rows each has, or None for what only `parse_boxes` can read
    (whose place then holds anything)."""
    if scanner.library() is not None:
        return [scanner.scan_boxes(raw, planes[:, k]) if raw else None for k, raw in enumerate(raws)]
    frames = planes.shape[2]
    found: list[int | None] = []
    for k, columns in enumerate(_parse_clean(raws)):
        found.append(None if columns is None else len(columns[0]))
        for plane, column in zip(planes, columns or (), strict=columns is not None):
            plane[k, : len(column)] = column[:frames]
    return found


def read_sequence(
    paths: Series[Path],
    frames: int,
    lenient: bool | Series[bool] = False,
    dialect: str = "matlab",
    short_is_miss: bool = False,
    raws: Series[bytes | None] | None = None,
) -> SequenceResults:
    """Read one sequence's files of K trackers and bring them to `frames` rows each.

    Longer files are cut (as every toolkit does). Missing, empty and short ones are a BadInput that names the file, or count
    as missed where `lenient` (for all, or by tracker) or `short_is_miss` (for protocols whose own toolkit does so). `raws` are
    the files' bytes where they were read already (None: there is no file).
    """
    out = _blank(len(paths), frames)
    each = [lenient] * len(paths) if isinstance(lenient, bool) else lenient
    raws = [read_bytes(path) for path in paths] if raws is None else raws
    quick = _read_fast(raws, out.planes)
    for k, (path, raw, rows) in enumerate(zip(paths, raws, quick, strict=True)):
        known = len(out.problems)
        forgiving = each[k] or short_is_miss
        if raw is None:
            rows = 0
        elif rows is None:
            file = parse_boxes(raw, path, each[k], dialect, ", or use --lenient")
            rows = len(file.boxes)
            out.missed[k, :rows] = file.missed[:frames]
            out.problems += file.problems
            _place(out, k, file.boxes.T)
        out.planes[:, k, rows:] = np.nan
        if rows:
            _fit(out, k, rows, str(path), forgiving)
        else:
            what = "does not exist" if raw is None else "is empty"
            if not forgiving:
                raise BadInput(f"{path} {what}: run the tracker on this sequence, or use --lenient to count it as missed.")
            out.unreadable[k], out.missing[k], out.missed[k] = True, frames, True
            out.problems.append(f"{path} {what}; the sequence counts as missed.")
        out.plain[k] = len(out.problems) == known
    return out


def result_path(folder: Path, sequence: str, present: Set[str]) -> Path:
    """A tracker's file of one sequence: <sequence>.txt or, going by the names `present` in its folder, GOT-10k's
    <sequence>/<sequence>_001.txt."""
    nested = sequence in present and f"{sequence}.txt" not in present
    return Path(f"{folder}/{sequence}/{sequence}_001.txt" if nested else f"{folder}/{sequence}.txt")


def read_bytes(path: Path) -> bytes | None:
    """A file's content, None where there is no file; BadInput where it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as handle:
            return handle.readall()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}): check its permissions.") from None
