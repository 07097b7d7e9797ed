"""Score trackers on a benchmark: files in, the toolkit's numbers out.

    python -m workflow_scripts.score.run --protocol lasot --annotations annos --results tracking_results --output scores
    python -m workflow_scripts.score.run --protocol tnllt --index results/mini/data/tnllt.npz --split test \\
        --results results/mini/track/raw/tnllt --trackers kcf,csrt --output results/mini/score/tnllt

Both ways feed one core, `score_files` of scoring.py; `score_arrays` there is the same for boxes that are in memory. What
was scored before is found in a cache, by its content.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence as Series
from pathlib import Path

from workflow_scripts import console, files, manifest, params
from workflow_scripts.console import BadInput
from workflow_scripts.params.score import ScoreRun
from workflow_scripts.score import annotations as truths
from workflow_scripts.score import output, protocols
from workflow_scripts.score.cache import Cache
from workflow_scripts.score.scoring import Options, score_files

RESULT_FOLDER = "{}_tracking_result"


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
    parser.add_argument(
        "--published", default="", help="comma-separated trackers that are lenient alone: their authors' results"
    )
    parser.add_argument("--reproduce-kit-bugs", action="store_true", help="an empty file breaks later trackers' loop too")
    parser.add_argument(
        "--image-size",
        help="WIDTHxHEIGHT, or a file of lines `sequence WIDTHxHEIGHT`, for protocols that clip boxes to the image",
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
        published=frozenset(args.published.split(",")),
        reproduce_kit_bugs=args.reproduce_kit_bugs,
        image_size=parse_size(args.image_size),
    )
    beside = settings.beside if args.beside is None else [n for n in args.beside.split(",") if n]
    chosen = [protocol, *(protocols.get(n) for n in beside if n != protocol.name)]
    folders = tracker_folders(args.results, [t for t in args.trackers.split(",") if t] if args.trackers else None)
    cache = Cache()
    outcomes = score_files(chosen, annotated, folders, options, args.index or args.annotations, cache)
    cache.save()
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
