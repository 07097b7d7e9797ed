"""Bring the authors' published boxes into the study: one folder a tracker, any of the usual text forms.

    python -m workflow_scripts.track.published --archive TNLLT_results.zip --tracker DUTrack \\
        --index results/full/data/tnllt.npz --output results/full/track/raw/tnllt/dutrack-published

Archives in the wild differ in depth, separators and names. Files are taken byte for byte, since the scorer reads every form
and says what is unusual; completeness.json tells beforehand what is missing, short or long, and what lies there besides.
Missing sequences are left out rather than made up.
"""

from __future__ import annotations

import argparse
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from collections.abc import Sequence as Series
from pathlib import Path, PurePosixPath
from typing import Any

from workflow_scripts import console, files, manifest, sequences
from workflow_scripts.console import BadInput
from workflow_scripts.sequences import Sequence

SUFFIX = "_tracking_result"  # what the MATLAB kits append to a tracker's folder
NOT_BOXES = re.compile(r"_(time|all_boxes|all_scores|scores?)$")
SHOWN = 20  # names of a list that are printed


def texts(archive: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Path and bytes of every .txt file of a folder, a zip or a tar archive. BadInput if it is none of them, or damaged."""
    if archive.is_dir():
        inside = [p for p in sorted(archive.rglob("*")) if p.is_file()]
        if len(inside) == 1 and inside[0].suffix != ".txt":  # what was fetched is one archive in a folder
            yield from texts(inside[0])
            return
        for path in inside:
            if path.suffix == ".txt":
                yield PurePosixPath(path.relative_to(archive.parent).as_posix()), path.read_bytes()
        return
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                yield from ((PurePosixPath(n), opened.read(n)) for n in sorted(opened.namelist()) if n.endswith(".txt"))
            return
        if archive.is_file() and tarfile.is_tarfile(archive):
            with tarfile.open(archive) as opened:
                for member in opened:
                    if member.isfile() and member.name.endswith(".txt"):
                        yield PurePosixPath(member.name), opened.extractfile(member).read()
            return
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise BadInput(f"{archive} is damaged ({error}): fetch the authors' results again.") from None
    raise BadInput(f"{archive} is neither a folder nor a zip or tar archive: fetch the authors' results again.")


def in_folder(path: PurePosixPath, tracker: str) -> bool:
    """Whether `path` lies in the folder `tracker` (one name or several, ``DUTrack/tnl2k``) at any depth, in any case."""
    wanted = [part.lower() for part in PurePosixPath(tracker).parts]
    parts = [part.lower().removesuffix(SUFFIX) for part in path.parts[:-1]]
    return any(parts[i : i + len(wanted)] == wanted for i in range(len(parts)))


def choose(found: Series[PurePosixPath], tracker: str, chosen: Series[Sequence]) -> tuple[dict[str, PurePosixPath], list[str]]:
    """(the file of each sequence, named like it; files of the folder that belong to none). BadInput if there is no such folder,
    or two files for one sequence."""
    mine = [p for p in found if in_folder(p, tracker)]
    if not mine:
        folders = sorted({p.parent.name.removesuffix(SUFFIX) for p in found})
        raise BadInput(f"the archive has no folder {tracker}; it has {', '.join(folders[:12]) or 'no text files'}.")
    names = {s.name.lower(): s.name for s in chosen}
    paths: dict[str, PurePosixPath] = {}
    others = []
    for path in mine:
        name = names.get(path.stem.lower())
        if name is None or NOT_BOXES.search(path.stem):
            others.append(str(path))
        elif name in paths:
            raise BadInput(
                f"the archive has {name} twice for {tracker}, {paths[name]} and {path}: name the folder more closely."
            )
        else:
            paths[name] = path
    return paths, others


def import_results(archive: Path, tracker: str, chosen: Series[Sequence], output: Path) -> dict[str, Any]:
    """Write `output` and return the completeness report: what is missing, of another length, or left over."""
    found = dict(texts(archive))
    paths, others = choose(list(found), tracker, chosen)
    lines = {name: sum(bool(line.strip()) for line in found[path].splitlines()) for name, path in paths.items()}
    report = {
        "tracker": tracker,
        "sequences": len(paths),
        "of": len(chosen),
        "missing": [s.name for s in chosen if s.name not in paths],
        "other_length": {s.name: [lines[s.name], len(s)] for s in chosen if s.name in paths and lines[s.name] != len(s)},
        "left_over": others,
    }
    with files.atomic_folder(output) as folder:
        for name, path in paths.items():
            (folder / f"{name}.txt").write_bytes(found[path])
        summary = {
            "sequences": len(paths),
            "frames": sum(lines.values()),
            "seconds": None,
            "vlm_calls": None,
            "fall_backs": None,
        }
        files.write_json(folder / "summary.json", summary)
        files.write_json(folder / "completeness.json", report)
    return report


def sentences(report: dict[str, Any]) -> Iterator[str]:
    """The completeness report for people."""
    yield f"{report['tracker']}: {report['sequences']} of {report['of']} sequences"
    if report["missing"]:
        yield f"missing: {_some(report['missing'])} (counts as missed)"
    for name, (found, frames) in report["other_length"].items():
        yield f"{name}: {found} boxes for {frames} frames ({'cut' if found > frames else 'the rest counts as missed'})"
    if report["left_over"]:
        yield f"not of this split: {_some(report['left_over'])}"


def _some(names: Series[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def main(arguments: Series[str] | None = None) -> None:
    """Import one tracker's results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, required=True, help="folder, zip or tar archive with a folder a tracker")
    parser.add_argument("--tracker", required=True, help="the tracker's folder in the archive, e.g. DUTrack or DUTrack/tnl2k")
    parser.add_argument("--index", type=Path, required=True, help="index of the benchmark (.npz)")
    parser.add_argument("--split", default="test", help="split that was tracked")
    parser.add_argument("--output", type=Path, required=True, help="folder of the tracker's results")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    args = parser.parse_args(arguments)
    chosen = sequences.read_index(args.index, split=args.split)
    report = import_results(args.archive, args.tracker, chosen, args.output)
    for line in sentences(report):
        print(line, flush=True)
    if args.manifest:
        manifest.write(args.manifest, [args.output], {"tracker": args.tracker}, [args.index], report)


if __name__ == "__main__":
    console.run(main)
