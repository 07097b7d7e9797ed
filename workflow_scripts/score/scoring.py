"""One core for files and for arrays: sequence by sequence, boxes become each protocol's curves and counts.

What is kept of one result file is its record: under each protocol in turn, the three curves and then `NUMBERS`. It comes from
the cache; else from the compiled scanner, if that knows the protocols and can read the file; else from NumPy, which scores all
files that are left of a sequence together.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Series
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.console import BadInput
from workflow_scripts.score import curves, results, scanner, summary
from workflow_scripts.score.annotations import Annotation, check_polarity
from workflow_scripts.score.cache import Cache, code, content
from workflow_scripts.score.curves import Ground, Size
from workflow_scripts.score.protocols import Protocol
from workflow_scripts.score.results import Flags, Floats, SequenceResults
from workflow_scripts.score.scanner import Prepared
from workflow_scripts.score.summary import Scores

NUMBERS = ("overlap", "frames", "repaired", "non_finite", "missing", "extra")
PERFECT = bytes(32)  # stands for a result file's hash where the ground truth itself is scored


@dataclass(frozen=True)
class Options:
    """How a run is to behave where protocols leave a choice."""

    thresholds: str = "matlab"
    lenient: bool = False
    published: frozenset[str] = frozenset()  # trackers nobody can run again: what their files lack counts as missed
    reproduce_kit_bugs: bool = False
    image_size: Size | Mapping[str, Size] | None = None  # of all images, or by sequence


@dataclass
class Outcome:
    """Scores under one protocol, what a perfect tracker would get, and what was unusual in the files."""

    scores: Scores
    ceiling: Scores
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Sequence:
    """One sequence under each of P protocols."""

    protocols: Series[Protocol]
    grounds: Series[Ground]
    prepared: Prepared | None  # for the compiled scanner


@dataclass
class _Records:
    """What becomes of one sequence's files."""

    rows: Floats  # [K, R]
    lost: Flags  # [P, K] files that could not be read, or are refused, and count as missed
    perfect: Floats  # [1, R], the ground truth as a tracker
    problems: list[str] = field(default_factory=list)


def _width(protocol: Protocol) -> int:
    return protocol.rules.success_steps + 2 * protocol.rules.error_steps + len(NUMBERS)


def _by_protocol(protocols: Series[Protocol], records: Floats) -> list[Floats]:
    return np.split(records, np.cumsum([_width(p) for p in protocols])[:-1], axis=-1)


def _image_size(annotation: Annotation, options: Options) -> Size | None:
    return options.image_size.get(annotation.name) if isinstance(options.image_size, Mapping) else options.image_size


def _sequence(annotation: Annotation, protocols: Series[Protocol], options: Options) -> _Sequence:
    grounds, size = [], _image_size(annotation, options)
    for p in protocols:
        if p.rules.clip_to_image and size is None:
            raise BadInput(f"{p.name} clips boxes to the image: give {annotation.name}'s size with --image-size.")
        grounds.append(curves.ground_of(annotation.truth, annotation.absent, p.rules, options.thresholds, size))
    return _Sequence(protocols, grounds, scanner.prepare(grounds))


def _record(score: curves.SequenceScore, missing: NDArray[np.int64], extra: NDArray[np.int64]) -> Floats:
    """Records [K, R] under one protocol."""
    frames = np.full(len(missing), score.frames)
    numbers = np.stack([score.overlap, frames, score.repaired, score.non_finite, missing, extra], axis=1)
    return np.concatenate([score.success, score.pixel, score.norm, numbers], axis=1)


def _perfect(sequence: _Sequence) -> Floats:
    """The record [1, R] of the ground truth as a tracker."""
    if sequence.prepared is None:
        nothing = np.zeros(1, dtype=np.int64)
        scores = [curves.score_sequence(g.truth[:, None], g) for g in sequence.grounds]
        return np.concatenate([_record(score, nothing, nothing) for score in scores], axis=1)
    record = np.empty((1, sum(map(_width, sequence.protocols))))
    scanner.score_boxes(sequence.grounds[0].truth, sequence.prepared, record)
    return record


def _score(
    sequence: _Sequence, found: SequenceResults, lenient: Series[bool], sources: Series[str | Path]
) -> tuple[Floats, Flags]:
    """Records [K, R] of boxes that were read, and the lost files [P, K]."""
    records, losses = [], []
    for protocol, ground in zip(sequence.protocols, sequence.grounds, strict=True):
        planes, missed, lost = found.planes, found.missed, found.unreadable
        if protocol.short_is_miss:  # rows that are not there are NaN already, and the first frame is given
            gone = lost & [not Path(source).exists() for source in sources]
            planes, missed = np.where(gone[:, None], 0.0, planes), np.zeros_like(missed)
        if protocol.rules.refuse_invalid:
            with np.errstate(invalid="ignore"):
                bad = ((planes[2:] < 0).any(axis=0) | np.isnan(planes).any(axis=0)) & ~missed
            for k in np.flatnonzero(bad.any(axis=1)).tolist():
                if not lenient[k]:
                    raise BadInput(
                        f"{sources[k]}, line {int(bad[k].argmax()) + 1}: NaN or a negative size, which {protocol.name} "
                        "refuses; mend it, leave the tracker out, or use --lenient to count the sequence as missed."
                    )
            lost = lost | bad.any(axis=1)
            missed = missed | bad.any(axis=1)[:, None]
        records.append(_record(curves.score_sequence(planes, ground, missed), found.missing, found.extra))
        losses.append(lost)
    return np.concatenate(records, axis=1), np.stack(losses)


def _score_paths(
    annotation: Annotation,
    protocols: Series[Protocol],
    paths: Series[Path],
    lenient: Series[bool],
    options: Options,
    cache: Cache | None,
) -> _Records:
    """Records of K trackers' files; what is new and has nothing unusual is put into the cache."""
    frames, width = annotation.truth.shape[1], sum(map(_width, protocols))
    out = _Records(np.empty((len(paths), width)), np.zeros((len(protocols), len(paths)), dtype=bool), np.empty(0))
    key = _key(annotation, protocols, options) if cache else b""
    known = cache.read(key, 8 * width) if cache else {}
    sequence = None if PERFECT in known else _sequence(annotation, protocols, options)
    room = np.empty((4, frames))
    new: dict[int, bytes | None] = {}  # tracker -> hash of its file
    left: dict[int, bytes | None] = {}  # tracker -> bytes of its file
    for k, path in enumerate(paths):
        raw, digest = None, cache.digest(path) if cache else None
        if digest not in known:
            raw, digest = cache.load(path) if cache else (results.read_bytes(path), None)
        if digest in known:
            out.rows[k] = np.frombuffer(known[digest])
            continue
        new[k] = digest
        sequence = sequence or _sequence(annotation, protocols, options)
        if not (raw and sequence.prepared and scanner.score_text(raw, room, sequence.prepared, out.rows[k])):
            left[k] = raw
    if sequence and left:
        chosen = list(left)
        sources, may = [paths[k] for k in chosen], [lenient[k] for k in chosen]
        forgiving = protocols[0].short_is_miss or (options.reproduce_kit_bugs and b"" in left.values())
        found = results.read_sequence(sources, frames, may, options.thresholds, forgiving, list(left.values()))
        out.rows[chosen], out.lost[:, chosen] = _score(sequence, found, may, sources)
        out.problems = found.problems
        new = {k: digest for k, digest in new.items() if k not in left or found.plain[chosen.index(k)]}
    if sequence and PERFECT not in known:
        known[PERFECT] = _perfect(sequence).tobytes()
    out.perfect = np.frombuffer(known[PERFECT])[None]
    if cache and sequence:
        fresh = {digest: out.rows[k].tobytes() for k, digest in new.items() if digest and not out.lost[:, k].any()}
        cache.write(key, {**known, **fresh})
    return out


def _key(annotation: Annotation, protocols: Series[Protocol], options: Options) -> bytes:
    """What records depend on beside their result files: this code, the rules, the thresholds, the image and the annotation."""
    rules = repr([p.rules for p in protocols] + [options.thresholds, _image_size(annotation, options)]).encode()
    return content(code(), rules, annotation.truth.tobytes(), annotation.absent.tobytes())


def _outcomes(
    protocols: Series[Protocol],
    trackers: Series[str],
    annotations: Series[Annotation],
    options: Options,
    done: Series[_Records],
) -> list[Outcome]:
    """Scores and ceiling of all sequences, under each protocol."""
    rows, lost = np.stack([d.rows for d in done], axis=1), np.stack([d.lost for d in done], axis=2)
    parts = zip(
        _by_protocol(protocols, rows), _by_protocol(protocols, np.stack([d.perfect for d in done], axis=1)), strict=True
    )
    problems = [problem for d in done for problem in d.problems]
    found = []
    for protocol, gone, (of_trackers, perfect) in zip(protocols, lost, parts, strict=True):
        scores = _scores(protocol, trackers, annotations, options, of_trackers, gone)
        ceiling = _scores(protocol, ["ceiling"], annotations, options, perfect, np.zeros_like(gone[:1]))
        found.append(
            Outcome(summary.reproduce_break(scores, gone) if options.reproduce_kit_bugs else scores, ceiling, problems)
        )
    return found


def _scores(
    protocol: Protocol,
    trackers: Series[str],
    annotations: Series[Annotation],
    options: Options,
    records: Floats,
    lost: Flags,
) -> Scores:
    """Scores out of records [K, S, R of the protocol] and lost files [K, S]."""
    rules = protocol.rules
    ends = np.cumsum([rules.success_steps, rules.error_steps, rules.error_steps])
    success, pixel, norm, numbers = (np.ascontiguousarray(part) for part in np.split(records, ends, axis=2))
    number = dict(zip(NUMBERS, np.moveaxis(numbers, 2, 0), strict=True))
    of_sequence = [_frame_counts(a, protocol) for a in annotations]
    columns = [[c[name] for c in of_sequence] if name in of_sequence[0] else number[name] for name in summary.COUNTS]
    return Scores(
        protocol=protocol,
        thresholds=curves.success_thresholds(rules, options.thresholds),
        trackers=tuple(trackers),
        sequences=tuple(a.name for a in annotations),
        attributes=tuple(a.attributes for a in annotations),
        success=success,
        pixel=pixel,
        norm=norm,
        overlap=number["overlap"][:, :, None],
        frames=number["frames"][0],
        lost=lost,
        counts=np.stack([np.broadcast_to(c, lost.shape) for c in columns], axis=2).astype(np.int64),
    )


def _frame_counts(annotation: Annotation, protocol: Protocol) -> dict[str, int]:
    """What completeness.csv counts of a sequence whatever the tracker."""
    absent = annotation.absent if protocol.rules.absent_frames == "miss" else np.zeros_like(annotation.absent)
    sized = curves.valid_truth(annotation.truth, "wh > 0, finite") & ~absent
    border = sized & (annotation.truth[:2] <= 0).any(axis=0)
    missing = int(absent.sum())
    invalid = len(absent) - missing - int(sized.sum())
    return {"frames": len(absent), "absent": missing, "invalid_truth": invalid, "border_truth": int(border.sum())}


def _check(annotations: Series[Annotation], options: Options, source: str | Path) -> None:
    if not options.reproduce_kit_bugs:  # the toolkits take inverted flags without a word
        check_polarity(annotations, source)


def score_files(
    chosen: Series[Protocol],
    annotations: Series[Annotation],
    folders: Mapping[str, Path],
    options: Options = Options(),
    source: str | Path = "the annotations",
    cache: Cache | None = None,
) -> list[Outcome]:
    """Score `folders` (tracker -> folder of <sequence>.txt) under each protocol, reading every file at most once.

    With a `cache`, what was scored before is not scored again; the numbers are the same to the last bit.
    """
    _check(annotations, options, source)
    np.empty(31 << 20, dtype=np.uint8)  # once so much was freed, glibc keeps what is freed instead of faulting it in again
    lenient = [options.lenient or tracker in options.published for tracker in folders]
    present = {folder: {p.name for p in folder.iterdir()} if folder.is_dir() else set() for folder in folders.values()}
    done = []
    for annotation in annotations:
        paths = [results.result_path(folder, annotation.name, present[folder]) for folder in folders.values()]
        done.append(_score_paths(annotation, chosen, paths, lenient, options, cache))
    return _outcomes(chosen, list(folders), annotations, options, done)


def score_arrays(
    protocol: Protocol,
    annotations: Series[Annotation],
    boxes: Mapping[str, Series[NDArray[np.float64]]],
    options: Options = Options(),
) -> Outcome:
    """Score boxes in memory: tracker -> one array [M, 4] xywh a sequence, in the annotations' order."""
    _check(annotations, options, "the annotations")
    done = []
    for i, annotation in enumerate(annotations):
        sequence = _sequence(annotation, [protocol], options)
        arrays = [np.asarray(of[i], dtype=np.float64) for of in boxes.values()]
        found = results.fit_arrays(arrays, annotation.truth.shape[1], list(boxes), annotation.name, options.lenient)
        sources = [f"{tracker}, {annotation.name}" for tracker in boxes]
        records = _score(sequence, found, [options.lenient] * len(boxes), sources)
        done.append(_Records(*records, _perfect(sequence), found.problems))
    return _outcomes([protocol], list(boxes), annotations, options, done)[0]
