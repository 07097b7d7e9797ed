"""Score trackers on a benchmark: files in, the toolkit's numbers out.

    python -m workflow_scripts.score.run --protocol lasot --annotations annos --results tracking_results --output scores
    python -m workflow_scripts.score.run --protocol tnllt --index results/mini/data/tnllt.npz --split test \\
        --results results/mini/track/raw/tnllt --trackers kcf,csrt --output results/mini/score/tnllt

Both ways feed one core (`score_files`); `score_arrays` is the same for boxes that are in memory already.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from collections.abc import Sequence as Series
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workflow_scripts import console, files, manifest, params
from workflow_scripts.console import BadInput
from workflow_scripts.params.score import ScoreRun
from workflow_scripts.score import annotations as truths
from workflow_scripts.score import output, protocols, results, summary
from workflow_scripts.score.annotations import Annotation
from workflow_scripts.score.curves import SequenceScore, score_sequence, success_thresholds, valid_truth
from workflow_scripts.score.protocols import Protocol
from workflow_scripts.score.results import Flags, SequenceResults
from workflow_scripts.score.summary import Scores

RESULT_FOLDER = "{}_tracking_result"


@dataclass(frozen=True)
class Options:
    """How a run is to behave where protocols leave a choice."""

    thresholds: str = "matlab"
    lenient: bool = False
    reproduce_kit_bugs: bool = False
    image_size: tuple[int, int] | Mapping[str, tuple[int, int]] | None = None  # of all images, or by sequence


@dataclass
class Outcome:
    """Scores under one protocol, what a perfect tracker would get, and what was unusual in the files."""

    scores: Scores
    ceiling: Scores
    problems: list[str] = field(default_factory=list)


@dataclass
class _Tally:
    """One protocol's growing columns, a sequence at a time."""

    protocol: Protocol
    trackers: list[SequenceScore] = field(default_factory=list)
    perfect: list[SequenceScore] = field(default_factory=list)
    counts: list[NDArray[np.int64]] = field(default_factory=list)
    lost: list[Flags] = field(default_factory=list)


def _add(tally: _Tally, annotation: Annotation, found: SequenceResults, options: Options, paths: Series[str]) -> None:
    """Score one sequence for all trackers and append it."""
    rules = tally.protocol.rules
    truth, absent = annotation.truth, annotation.absent
    if rules.absent_frames != "miss":
        absent = np.zeros_like(absent)
    thresholds = success_thresholds(rules, options.thresholds)
    size = options.image_size.get(annotation.name) if isinstance(options.image_size, Mapping) else options.image_size
    if rules.clip_to_image and size is None:
        raise BadInput(f"{tally.protocol.name} clips boxes to the image: give {annotation.name}'s size with --image-size.")
    planes, missed, lost = found.planes, found.missed, found.unreadable
    if tally.protocol.short_is_miss:  # rows that are not there are NaN already, and the first frame is given
        gone = lost & [not Path(path).exists() for path in paths]
        planes, missed = np.where(gone[:, None], 0.0, planes), np.zeros_like(missed)
    if rules.refuse_invalid:
        with np.errstate(invalid="ignore"):
            bad = ((planes[2:] < 0).any(axis=0) | np.isnan(planes).any(axis=0)) & ~missed
        for k in np.flatnonzero(bad.any(axis=1)):
            row = int(bad[k].argmax()) + 1
            if not options.lenient:
                raise BadInput(
                    f"{paths[k]}, line {row}: NaN or a negative size, which {tally.protocol.name} refuses; mend it, leave "
                    "the tracker out, or use --lenient to count the sequence as missed."
                )
        lost = lost | bad.any(axis=1)
        missed = missed | bad.any(axis=1)[:, None]
    score = score_sequence(planes, truth, absent, rules, thresholds, missed, size)
    tally.trackers.append(score)
    tally.perfect.append(score_sequence(truth[:, None], truth, absent, rules, thresholds, None, size))
    present = ~absent
    sized = present & valid_truth(truth, "wh > 0, finite")
    constant = [
        truth.shape[1],
        int(absent.sum()),
        int((present & ~sized).sum()),
        int((sized & (truth[:2] <= 0).any(axis=0)).sum()),
    ]
    length, n_absent, n_invalid, n_border = (np.full(len(lost), c) for c in constant)
    columns = (length, found.missing, found.extra, score.repaired, score.non_finite, n_absent, n_invalid, n_border)
    tally.counts.append(np.stack(columns, axis=1))
    tally.lost.append(lost)


def _finish(
    tally: _Tally, trackers: Series[str], annotations: Series[Annotation], options: Options, problems: list[str]
) -> Outcome:
    thresholds = success_thresholds(tally.protocol.rules, options.thresholds)
    names, attributes = [a.name for a in annotations], [a.attributes for a in annotations]
    lost, counts = np.stack(tally.lost, axis=1), np.stack(tally.counts, axis=1)
    scores = summary.stack(tally.protocol, thresholds, trackers, names, attributes, tally.trackers, lost, counts)
    perfect = (tally.perfect, np.zeros((1, len(names)), dtype=bool), np.zeros_like(counts[:1]))
    ceiling = summary.stack(tally.protocol, thresholds, ["ceiling"], names, attributes, *perfect)
    if options.reproduce_kit_bugs:
        scores = summary.reproduce_break(scores, lost)
    return Outcome(scores, ceiling, problems)


def _check(chosen: Series[Protocol], annotations: Series[Annotation], options: Options, source: str | Path) -> None:
    if not options.reproduce_kit_bugs:  # the toolkits take inverted flags without a word
        truths.check_polarity(annotations, source)


def score_files(
    chosen: Series[Protocol],
    annotations: Series[Annotation],
    folders: Mapping[str, Path],
    options: Options = Options(),
    source: str | Path = "the annotations",
) -> list[Outcome]:
    """Score `folders` (tracker -> folder of <sequence>.txt) under each protocol, reading every file once."""
    _check(chosen, annotations, options, source)
    tallies = [_Tally(p) for p in chosen]
    problems: list[str] = []
    forgiving = any(p.short_is_miss for p in chosen[:1])
    for annotation in annotations:
        paths = [result_path(folder, annotation.name) for folder in folders.values()]
        empty_is_break = options.reproduce_kit_bugs and any(p.exists() and not p.stat().st_size for p in paths)
        found = results.read_sequence(
            paths, annotation.truth.shape[1], options.lenient or empty_is_break, options.thresholds, forgiving
        )
        problems += found.problems
        for tally in tallies:
            _add(tally, annotation, found, options, [str(p) for p in paths])
    return [_finish(t, list(folders), annotations, options, problems) for t in tallies]


def score_arrays(
    protocol: Protocol,
    annotations: Series[Annotation],
    boxes: Mapping[str, Series[NDArray[np.float64]]],
    options: Options = Options(),
) -> Outcome:
    """Score boxes in memory: tracker -> one array [M, 4] xywh a sequence, in the annotations' order."""
    _check([protocol], annotations, options, "the annotations")
    tally = _Tally(protocol)
    for i, annotation in enumerate(annotations):
        arrays = [np.asarray(of[i], dtype=np.float64) for of in boxes.values()]
        found = results.fit_arrays(arrays, annotation.truth.shape[1], list(boxes), annotation.name, options.lenient)
        _add(tally, annotation, found, options, [f"{t}, {annotation.name}" for t in boxes])
    return _finish(tally, list(boxes), annotations, options, [])


def result_path(folder: Path, sequence: str) -> Path:
    """A tracker's file of one sequence: <sequence>.txt, or GOT-10k's <sequence>/<sequence>_001.txt."""
    plain = folder / f"{sequence}.txt"
    nested = folder / sequence / f"{sequence}_001.txt"
    return nested if nested.exists() and not plain.exists() else plain


def tracker_folders(root: str | Path, trackers: Series[str] | None = None) -> dict[str, Path]:
    """Tracker -> folder, in the order asked for, else by name. BadInput if one is missing or none is there."""
    root = Path(root)
    base = root / "tracking_results" if (root / "tracking_results").is_dir() else root
    suffix = RESULT_FOLDER.format("")
    if not base.is_dir():
        raise BadInput(f"{root} does not exist: name the folder that holds one folder of results a tracker.")
    if trackers is None:
        trackers = sorted(d.name.removesuffix(suffix) for d in base.iterdir() if d.is_dir() and any(d.iterdir()))
        if not trackers:
            raise BadInput(f"{base} holds no folder of results: name the folder above the trackers' folders.")
    found = {}
    for tracker in trackers:
        candidates = [base / RESULT_FOLDER.format(tracker), base / tracker]
        folder = next((d for d in candidates if d.is_dir()), None)
        if folder is None:
            raise BadInput(f"{base} has no results of {tracker} ({candidates[0].name} or {tracker}): run it, or leave it out.")
        found[tracker] = folder
    return found


def read_names(path: str | Path) -> list[str]:
    """Sequence names of a list file, one a line, with or without a final newline. BadInput if it holds none."""
    try:
        names = [line.strip() for line in Path(path).read_text(encoding="utf-8-sig").splitlines()]
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist: name a file with one sequence a line.") from None
    names = [n for n in names if n]
    if not names:
        raise BadInput(f"{path} names no sequence: write one a line.")
    doubled = next((n for n in names if names.count(n) > 1), None)
    if doubled:
        raise BadInput(f"{path} names {doubled} twice: remove one of the lines.")
    return names


def parse_arguments(arguments: Series[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocol", required=True, help=f"one of {', '.join(protocols.PROTOCOLS)}")
    ground = parser.add_mutually_exclusive_group(required=True)
    ground.add_argument("--annotations", type=Path, help="the toolkit's annotations: <seq>.txt, absent/, att/")
    ground.add_argument("--index", type=Path, help="the study's index (.npz) instead")
    parser.add_argument("--split", help="split of the index")
    parser.add_argument(
        "--results", type=Path, required=True, help="one folder a tracker: <tracker>[_tracking_result]/<seq>.txt"
    )
    parser.add_argument("--trackers", help="comma-separated; default: every folder of --results")
    parser.add_argument("--sequences", type=Path, help="file with one sequence a line; default: all")
    parser.add_argument("--absent-polarity", choices=list(truths.POLARITIES), help="what 1 means, if not the protocol's own")
    parser.add_argument("--thresholds", choices=["matlab", "octave"], help="whose 0:0.05:1 (default: the parameters')")
    parser.add_argument("--lenient", action="store_true", help="count what cannot be read as missed, and say so")
    parser.add_argument("--reproduce-kit-bugs", action="store_true", help="an empty file breaks later trackers' loop too")
    parser.add_argument(
        "--image-size", help="WIDTHxHEIGHT, or a file of lines `sequence WIDTHxHEIGHT`, for protocols that clip boxes to the image"
    )
    parser.add_argument("--beside", help="comma-separated protocols to compute beside (default: the parameters')")
    parser.add_argument("--parameters", help="JSON of score.run (default: params.yaml here, if any)")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    return parser.parse_args(arguments)


def parse_size(text: str | None) -> tuple[int, int] | dict[str, tuple[int, int]] | None:
    """ "1280x720" as (1280, 720); of a file with a line `sequence 1280x720` each, sequence -> size."""
    if text is None:
        return None
    if not Path(text).is_file():
        return _size(text, "--image-size")
    sizes = {}
    for number, line in enumerate(Path(text).read_text(encoding="utf-8-sig").splitlines(), start=1):
        if line.strip():
            name, _, size = line.strip().rpartition(" ")
            sizes[name.strip()] = _size(size, f"{text}, line {number}:")
    return sizes


def _size(text: str, where: str) -> tuple[int, int]:
    width, x, height = text.lower().partition("x")
    if not (x and width.isdigit() and height.isdigit()):
        raise BadInput(f"{where} {text}: write a size as 1280x720.")
    return int(width), int(height)


def main(arguments: Series[str] | None = None) -> None:
    """Score and write; the readable table goes to stdout, unusual files to stderr and problems.txt."""
    args = parse_arguments(arguments)
    if args.parameters is None and not Path("params.yaml").exists():
        settings = ScoreRun()
    else:
        settings = params.section(args.parameters, "score.run", ScoreRun)
    protocol = protocols.get(args.protocol)
    names = read_names(args.sequences) if args.sequences else None
    if args.index:
        annotated = truths.from_index(args.index, protocol, args.split, names)
    else:
        annotated = truths.from_toolkit(args.annotations, protocol, args.absent_polarity, names)
    options = Options(
        thresholds=args.thresholds or settings.thresholds,
        lenient=args.lenient or settings.lenient,
        reproduce_kit_bugs=args.reproduce_kit_bugs,
        image_size=parse_size(args.image_size),
    )
    beside = settings.beside if args.beside is None else [n for n in args.beside.split(",") if n]
    chosen = [protocol, *(protocols.get(n) for n in beside if n != protocol.name)]
    folders = tracker_folders(args.results, args.trackers.split(",") if args.trackers else None)
    outcomes = score_files(chosen, annotated, folders, options, args.index or args.annotations)
    with files.atomic_folder(args.output) as folder:
        output.write(folder, outcomes[0], outcomes[1:], settings.samples, settings.seed)
    for problem in outcomes[0].problems:
        print(f"note: {problem}", file=sys.stderr)
    output.show(outcomes[0])
    if args.manifest:
        facts = {"protocol": protocol.name, "trackers": len(folders), "sequences": len(annotated)}
        manifest.write(args.manifest, [args.output], settings.model_dump(), [args.index] if args.index else [], facts)


if __name__ == "__main__":
    console.run(main)
