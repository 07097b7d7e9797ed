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
from workflow_scripts.score.curves import Rules, SequenceScore, score_sequence, success_thresholds, valid_truth
from workflow_scripts.score.protocols import Protocol
from workflow_scripts.score.results import Flags, Floats, SequenceResults
from workflow_scripts.score.summary import Scores

PERFECT = bytes(32)  # stands for a result file's hash where the ground truth itself is scored
Size = tuple[int, int]


@dataclass(frozen=True)
class Options:
    """How a run is to behave where protocols leave a choice."""

    thresholds: str = "matlab"
    lenient: bool = False
    reproduce_kit_bugs: bool = False
    image_size: Size | Mapping[str, Size] | None = None  # of all images, or by sequence


@dataclass
class Outcome:
    """Scores under one protocol, what a perfect tracker would get, and what was unusual in the files."""

    scores: Scores
    ceiling: Scores
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Ground:
    """One sequence's ground truth as one protocol sees it."""

    protocol: Protocol
    truth: Floats  # [4, N]
    absent: Flags  # [N]
    thresholds: Floats
    image_size: Size | None

    def score(self, planes: Floats, missed: Flags | None = None) -> SequenceScore:
        """Curves of boxes [4, K, N]."""
        return score_sequence(planes, self.truth, self.absent, self.protocol.rules, self.thresholds, missed, self.image_size)


def _ground(protocol: Protocol, annotation: Annotation, options: Options) -> _Ground:
    rules = protocol.rules
    size = options.image_size.get(annotation.name) if isinstance(options.image_size, Mapping) else options.image_size
    if rules.clip_to_image and size is None:
        raise BadInput(f"{protocol.name} clips boxes to the image: give {annotation.name}'s size with --image-size.")
    absent = annotation.absent if rules.absent_frames == "miss" else np.zeros_like(annotation.absent)
    thresholds = success_thresholds(rules, options.thresholds)
    return _Ground(protocol, annotation.truth, absent, thresholds, size if rules.clip_to_image else None)


# A record is what is kept of one file under one protocol: its three curves, then these numbers.
_NUMBERS = ("overlap", "frames", "repaired", "non_finite", "missing", "extra")


def _width(ground: _Ground) -> int:
    rules = ground.protocol.rules
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


def _score(ground: _Ground, found: SequenceResults, options: Options, sources: Series[str | Path]) -> tuple[Floats, Flags]:
    """Records [K, R] of one sequence, and the files [K] that could not be read or are refused and count as missed."""
    planes, missed, lost = found.planes, found.missed, found.unreadable
    if ground.protocol.short_is_miss:  # rows that are not there are NaN already, and the first frame is given
        gone = lost & [not Path(source).exists() for source in sources]
        planes, missed = np.where(gone[:, None], 0.0, planes), np.zeros_like(missed)
    if ground.protocol.rules.refuse_invalid:
        with np.errstate(invalid="ignore"):
            bad = ((planes[2:] < 0).any(axis=0) | np.isnan(planes).any(axis=0)) & ~missed
        for k in np.flatnonzero(bad.any(axis=1)):
            row = int(bad[k].argmax()) + 1
            if not options.lenient:
                raise BadInput(
                    f"{sources[k]}, line {row}: NaN or a negative size, which {ground.protocol.name} refuses; mend it, leave "
                    "the tracker out, or use --lenient to count the sequence as missed."
                )
        lost = lost | bad.any(axis=1)
        missed = missed | bad.any(axis=1)[:, None]
    return _record(ground.score(planes, missed), found.missing, found.extra), lost


def _key(ground: _Ground) -> bytes:
    """What records depend on beside their result files: the code, the rules and the ground truth."""
    rules = repr((ground.protocol.rules, ground.image_size)).encode()
    arrays = (a.tobytes() for a in (ground.thresholds, ground.truth, ground.absent))
    return content(code(), rules, *arrays)


def _scores(
    protocol: Protocol,
    trackers: Series[str],
    grounds: Series[_Ground],
    annotations: Series[Annotation],
    rows: Floats,
    lost: Flags,
) -> Scores:
    """Scores out of the records [K, S, R] of all sequences and the lost files [K, S]."""
    (success, pixel, norm), numbers = _split(rows, protocol.rules)
    counts = np.empty((*lost.shape, len(summary.COUNTS)), dtype=np.int64)
    for s, ground in enumerate(grounds):
        sized = ~ground.absent & valid_truth(ground.truth, "wh > 0, finite")
        border = sized & (ground.truth[:2] <= 0).any(axis=0)
        absent = ground.absent.sum()
        constant = {"frames": len(sized), "absent": absent, "border_truth": border.sum()}
        constant["invalid_truth"] = len(sized) - absent - sized.sum()
        for c, name in enumerate(summary.COUNTS):
            counts[:, s, c] = constant[name] if name in constant else numbers[name][:, s]
    return Scores(
        protocol=protocol,
        thresholds=grounds[0].thresholds,
        trackers=tuple(trackers),
        sequences=tuple(a.name for a in annotations),
        attributes=tuple(a.attributes for a in annotations),
        success=np.ascontiguousarray(success),
        pixel=np.ascontiguousarray(pixel),
        norm=np.ascontiguousarray(norm),
        overlap=numbers["overlap"][:, :, None],
        frames=numbers["frames"][0],
        lost=lost,
        counts=counts,
    )


@dataclass
class _Tally:
    """One protocol's growing columns, a sequence at a time."""

    protocol: Protocol
    grounds: list[_Ground] = field(default_factory=list)
    records: list[Floats] = field(default_factory=list)  # [K, R]
    lost: list[Flags] = field(default_factory=list)  # [K]
    perfect: list[Floats] = field(default_factory=list)  # [1, R]

    def add(self, ground: _Ground, records: Floats, lost: Flags, perfect: Floats) -> None:
        """Append a sequence."""
        self.grounds.append(ground)
        self.records.append(records)
        self.lost.append(lost)
        self.perfect.append(perfect)

    def outcome(self, trackers: Series[str], annotations: Series[Annotation], options: Options, problems: list[str]) -> Outcome:
        """Scores and ceiling of all sequences."""
        known = self.grounds, annotations
        lost, perfect = np.stack(self.lost, axis=1), np.stack(self.perfect, axis=1)
        scores = _scores(self.protocol, trackers, *known, np.stack(self.records, axis=1), lost)
        ceiling = _scores(self.protocol, ["ceiling"], *known, perfect, np.zeros_like(lost[:1]))
        if options.reproduce_kit_bugs:
            scores = summary.reproduce_break(scores, lost)
        return Outcome(scores, ceiling, problems)


def _perfect(ground: _Ground) -> Floats:
    """The record [1, R] of the ground truth as a tracker."""
    nothing = np.zeros(1, dtype=np.int64)
    return _record(ground.score(ground.truth[:, None]), nothing, nothing)


def _score_sequence(
    grounds: Series[_Ground], paths: Series[Path], options: Options, forgiving: bool, cache: Cache | None
) -> tuple[list[tuple[Floats, Flags, Floats]], list[str]]:
    """Records, lost files and the perfect tracker's record under each protocol, and what was unusual in the files.

    Only files without anything unusual enter the `cache`, so that a note is never lost, nor an error.
    """
    keys = [_key(g) for g in grounds] if cache else []
    known = [cache.read(key, 8 * _width(g)) for g, key in zip(grounds, keys, strict=True)] if cache else [{} for _ in grounds]
    raws: list[bytes | None] = [None] * len(paths)
    digests: list[bytes | None] = [None] * len(paths)
    for k, path in enumerate(paths):
        if cache is None:
            raws[k] = results.read_bytes(path)
            continue
        digests[k] = cache.digest(path)
        if not all(digests[k] in records for records in known):
            raws[k], digests[k] = cache.load(path)
    fresh = [k for k, digest in enumerate(digests) if not all(digest in records for records in known)]
    sources = [paths[k] for k in fresh]
    found = results.read_sequence(
        sources, grounds[0].truth.shape[1], options.lenient, options.thresholds, forgiving, [raws[k] for k in fresh]
    )
    done = []
    for i, ground in enumerate(grounds):
        records, lost = np.empty((len(paths), _width(ground))), np.zeros(len(paths), dtype=bool)
        for k, digest in enumerate(digests):
            if k not in fresh and digest is not None:
                records[k] = np.frombuffer(known[i][digest])
        if fresh:
            records[fresh], lost[fresh] = _score(ground, found, options, sources)
        perfect = np.frombuffer(known[i][PERFECT])[None] if PERFECT in known[i] else _perfect(ground)
        if cache and (fresh or PERFECT not in known[i]):
            new = {digests[k]: records[k].tobytes() for j, k in enumerate(fresh) if found.plain[j] and not lost[k]}
            cache.write(keys[i], {**known[i], **new, PERFECT: perfect.tobytes()})
        done.append((records, lost, perfect))
    return done, found.problems


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
    tallies = [_Tally(p) for p in chosen]
    problems: list[str] = []
    for annotation in annotations:
        paths = [results.result_path(folder, annotation.name) for folder in folders.values()]
        empty_is_break = options.reproduce_kit_bugs and any(p.exists() and not p.stat().st_size for p in paths)
        grounds = [_ground(p, annotation, options) for p in chosen]
        done, unusual = _score_sequence(grounds, paths, options, empty_is_break or chosen[0].short_is_miss, cache)
        problems += unusual
        for tally, ground, (records, lost, perfect) in zip(tallies, grounds, done, strict=True):
            tally.add(ground, records, lost, perfect)
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
        records, lost = _score(ground, found, options, [f"{t}, {annotation.name}" for t in boxes])
        tally.add(ground, records, lost, _perfect(ground))
    return tally.outcome(list(boxes), annotations, options, [])
