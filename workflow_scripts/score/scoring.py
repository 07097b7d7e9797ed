"""One core for files and for arrays: sequence by sequence, boxes become each protocol's curves and counts.

`score_files` reads every result file once, whatever the number of protocols, and with a `Cache` only those that changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Series
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.console import BadInput
from workflow_scripts.score import results, summary
from workflow_scripts.score.annotations import Annotation, check_polarity
from workflow_scripts.score.cache import Cache, code, content
from workflow_scripts.score.curves import (
    Ground,
    Rules,
    SequenceScore,
    Size,
    ground_of,
    score_sequence,
    success_thresholds,
    valid_truth,
)
from workflow_scripts.score.protocols import Protocol
from workflow_scripts.score.results import Flags, Floats, SequenceResults
from workflow_scripts.score.summary import Scores

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


def _ground(protocol: Protocol, annotation: Annotation, options: Options) -> Ground:
    """One sequence's ground truth as one protocol sees it."""
    size = options.image_size.get(annotation.name) if isinstance(options.image_size, Mapping) else options.image_size
    if protocol.rules.clip_to_image and size is None:
        raise BadInput(f"{protocol.name} clips boxes to the image: give {annotation.name}'s size with --image-size.")
    return ground_of(annotation.truth, annotation.absent, protocol.rules, options.thresholds, size)


# A record is what is kept of one file under one protocol: its three curves, then these numbers.
_NUMBERS = ("overlap", "frames", "repaired", "non_finite", "missing", "extra")


def _width(rules: Rules) -> int:
    return rules.success_steps + 2 * rules.error_steps + len(_NUMBERS)


def _record(score: SequenceScore, missing: NDArray[np.int64], extra: NDArray[np.int64]) -> Floats:
    """Records [K, R]."""
    frames = np.full(len(missing), score.frames)
    numbers = np.stack([score.overlap, frames, score.repaired, score.non_finite, missing, extra], axis=1)
    return np.concatenate([score.success, score.pixel, score.norm, numbers], axis=1)


def _split(records: Floats, rules: Rules) -> tuple[list[Floats], dict[str, Floats]]:
    """The three curves of records [..., R], and their numbers by name."""
    *curves, numbers = np.split(records, np.cumsum([rules.success_steps, rules.error_steps, rules.error_steps]), axis=-1)
    return curves, dict(zip(_NUMBERS, np.moveaxis(numbers, -1, 0), strict=True))


def _score(
    protocol: Protocol, ground: Ground, found: SequenceResults, lenient: Series[bool], sources: Series[str | Path]
) -> tuple[Floats, Flags]:
    """Records [K, R] of one sequence, and the files [K] that could not be read or are refused and count as missed."""
    planes, missed, lost = found.planes, found.missed, found.unreadable
    if protocol.short_is_miss:  # rows that are not there are NaN already, and the first frame is given
        gone = lost & [not Path(source).exists() for source in sources]
        planes, missed = np.where(gone[:, None], 0.0, planes), np.zeros_like(missed)
    if protocol.rules.refuse_invalid:
        with np.errstate(invalid="ignore"):
            bad = ((planes[2:] < 0).any(axis=0) | np.isnan(planes).any(axis=0)) & ~missed
        for k in np.flatnonzero(bad.any(axis=1)):
            row = int(bad[k].argmax()) + 1
            if not lenient[k]:
                raise BadInput(
                    f"{sources[k]}, line {row}: NaN or a negative size, which {protocol.name} refuses; mend it, leave "
                    "the tracker out, or use --lenient to count the sequence as missed."
                )
        lost = lost | bad.any(axis=1)
        missed = missed | bad.any(axis=1)[:, None]
    return _record(score_sequence(planes, ground, missed), found.missing, found.extra), lost


def _perfect(ground: Ground) -> Floats:
    """The record [1, R] of the ground truth as a tracker."""
    nothing = np.zeros(1, dtype=np.int64)
    return _record(score_sequence(ground.truth[:, None], ground), nothing, nothing)


def _frame_counts(annotation: Annotation, rules: Rules) -> dict[str, int]:
    """What is counted of a sequence whatever the tracker."""
    absent = annotation.absent if rules.absent_frames == "miss" else np.zeros_like(annotation.absent)
    sized = valid_truth(annotation.truth, "wh > 0, finite") & ~absent
    border = sized & (annotation.truth[:2] <= 0).any(axis=0)
    missing = int(absent.sum())
    invalid = len(absent) - missing - int(sized.sum())
    return {"frames": len(absent), "absent": missing, "invalid_truth": invalid, "border_truth": int(border.sum())}


@dataclass
class _Tally:
    """One protocol's growing columns, a sequence at a time."""

    protocol: Protocol
    records: list[Floats] = field(default_factory=list)  # [K, R] of each sequence
    lost: list[Flags] = field(default_factory=list)  # [K]
    perfect: list[Floats] = field(default_factory=list)  # [1, R]

    def add(self, records: Floats, lost: Flags, perfect: Floats) -> None:
        """Append a sequence."""
        self.records.append(records)
        self.lost.append(lost)
        self.perfect.append(perfect)

    def outcome(self, trackers: Series[str], annotations: Series[Annotation], options: Options, problems: list[str]) -> Outcome:
        """Scores and ceiling of all sequences."""
        lost = np.stack(self.lost, axis=1)
        scores = _scores(self.protocol, trackers, annotations, options, self.records, lost)
        ceiling = _scores(self.protocol, ["ceiling"], annotations, options, self.perfect, np.zeros_like(lost[:1]))
        if options.reproduce_kit_bugs:
            scores = summary.reproduce_break(scores, lost)
        return Outcome(scores, ceiling, problems)


def _scores(
    protocol: Protocol,
    trackers: Series[str],
    annotations: Series[Annotation],
    options: Options,
    records: Series[Floats],
    lost: Flags,
) -> Scores:
    """Scores out of each sequence's records [K, R] and the lost files [K, S]."""
    (success, pixel, norm), numbers = _split(np.stack(records, axis=1), protocol.rules)
    of_sequence = [_frame_counts(a, protocol.rules) for a in annotations]
    columns = [[c[name] for c in of_sequence] if name in of_sequence[0] else numbers[name] for name in summary.COUNTS]
    return Scores(
        protocol=protocol,
        thresholds=success_thresholds(protocol.rules, options.thresholds),
        trackers=tuple(trackers),
        sequences=tuple(a.name for a in annotations),
        attributes=tuple(a.attributes for a in annotations),
        success=np.ascontiguousarray(success),
        pixel=np.ascontiguousarray(pixel),
        norm=np.ascontiguousarray(norm),
        overlap=numbers["overlap"][:, :, None],
        frames=numbers["frames"][0],
        lost=lost,
        counts=np.stack([np.broadcast_to(c, lost.shape) for c in columns], axis=2).astype(np.int64),
    )


@dataclass
class _Recalled:
    """What the cache holds of one sequence: nothing of the `fresh` files."""

    keys: list[bytes]  # of each protocol
    records: list[dict[bytes, bytes]]  # the same, by the hash of the result file
    digests: list[bytes | None]  # of each tracker's file
    fresh: list[int]  # trackers
    raws: list[bytes | None]  # bytes of their files

    def rows(self, protocol: int, width: int) -> Floats:
        """Records [K, R] under one protocol; those of the fresh are to be filled in."""
        out = np.empty((len(self.digests), width))
        for k, digest in enumerate(self.digests):
            if digest in self.records[protocol]:
                out[k] = np.frombuffer(self.records[protocol][digest])
        return out


def _recall(cache: Cache | None, grounds: Series[Ground], annotation: Annotation, paths: Series[Path]) -> _Recalled:
    """Look up a sequence. Files that are not known to be unchanged are read, and then known by their content."""
    if cache is None:
        raws = [results.read_bytes(path) for path in paths]
        return _Recalled([], [{} for _ in grounds], [None] * len(paths), list(range(len(paths))), raws)
    written = content(annotation.truth.tobytes(), annotation.absent.tobytes())
    keys = [content(code(), repr((g.rules, g.image_size)).encode(), g.thresholds[0].tobytes(), written) for g in grounds]
    records = [cache.read(key, 8 * _width(g.rules)) for key, g in zip(keys, grounds, strict=True)]
    found = _Recalled(keys, records, [cache.digest(path) for path in paths], [], [])
    for k, path in enumerate(paths):
        raw = None
        if not all(found.digests[k] in of for of in records):
            raw, found.digests[k] = cache.load(path)
        if not all(found.digests[k] in of for of in records):
            found.fresh.append(k)
            found.raws.append(raw)
    return found


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

    With a `cache`, what was scored before is not scored again; the numbers are the same to the last bit. Only files with
    nothing unusual enter it, so that no note is lost, nor an error.
    """
    _check(annotations, options, source)
    np.empty(31 << 20, dtype=np.uint8)  # once so much was freed, glibc keeps what is freed instead of faulting it in again
    tallies = [_Tally(p) for p in chosen]
    problems: list[str] = []
    lenient = [options.lenient or tracker in options.published for tracker in folders]
    present = {folder: {p.name for p in folder.iterdir()} if folder.is_dir() else set() for folder in folders.values()}
    for annotation in annotations:
        paths = [results.result_path(folder, annotation.name, present[folder]) for folder in folders.values()]
        grounds = [_ground(p, annotation, options) for p in chosen]
        known = _recall(cache, grounds, annotation, paths)
        empty_is_break = options.reproduce_kit_bugs and b"" in known.raws
        fresh = known.fresh
        found = results.read_sequence(
            [paths[k] for k in fresh],
            annotation.truth.shape[1],
            [lenient[k] for k in fresh],
            options.thresholds,
            empty_is_break or chosen[0].short_is_miss,
            known.raws,
        )
        problems += found.problems
        for i, (tally, ground) in enumerate(zip(tallies, grounds, strict=True)):
            rows, lost = known.rows(i, _width(ground.rules)), np.zeros(len(paths), dtype=bool)
            if fresh:
                sources = [str(paths[k]) for k in fresh]
                rows[fresh], lost[fresh] = _score(tally.protocol, ground, found, [lenient[k] for k in fresh], sources)
            perfect = known.records[i].get(PERFECT)
            ceiling = _perfect(ground) if perfect is None else np.frombuffer(perfect)[None]
            tally.add(rows, lost, ceiling)
            if cache and (fresh or perfect is None):
                usual = {known.digests[k]: rows[k].tobytes() for j, k in enumerate(fresh) if found.plain[j] and not lost[k]}
                cache.write(known.keys[i], {**known.records[i], **usual, PERFECT: ceiling.tobytes()})
    return [t.outcome(list(folders), annotations, options, problems) for t in tallies]


def score_arrays(
    protocol: Protocol,
    annotations: Series[Annotation],
    boxes: Mapping[str, Series[NDArray[np.float64]]],
    options: Options = Options(),
) -> Outcome:
    """Score boxes in memory: tracker -> one array [M, 4] xywh a sequence, in the annotations' order."""
    _check(annotations, options, "the annotations")
    tally = _Tally(protocol)
    for i, annotation in enumerate(annotations):
        ground = _ground(protocol, annotation, options)
        arrays = [np.asarray(of[i], dtype=np.float64) for of in boxes.values()]
        found = results.fit_arrays(arrays, annotation.truth.shape[1], list(boxes), annotation.name, options.lenient)
        sources = [f"{tracker}, {annotation.name}" for tracker in boxes]
        tally.add(*_score(protocol, ground, found, [options.lenient] * len(boxes), sources), _perfect(ground))
    return tally.outcome(list(boxes), annotations, options, [])
