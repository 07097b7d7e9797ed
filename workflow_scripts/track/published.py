"""Bring the authors' published boxes into the study: one folder a tracker, any of the usual text forms.

    python -m workflow_scripts.track.published --archive TNLLT_results.zip --tracker DUTrack \\
        --index results/full/data/tnllt.npz --output results/full/track/raw/tnllt/dutrack-published

Archives in the wild differ in depth, separators and names; what is missing or short is listed in completeness.json, and
missing sequences are left out rather than made up.
"""

from __future__ import annotations

import argparse
import re
import tarfile
import zipfile
from collections.abc import Iterator
from collections.abc import Sequence as Series
from pathlib import Path, PurePosixPath

import numpy as np

from workflow_scripts import console, files, manifest, sequences
from workflow_scripts.console import BadInput
from workflow_scripts.sequences import Sequence

SEPARATORS = re.compile(r"[\s,;]+")
NOT_BOXES = re.compile(r"_(time|all_boxes|all_scores|scores?)$")


def texts(archive: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Path and bytes of every .txt file of a folder, a zip or a tar archive. BadInput if it is none of them."""
    if archive.is_dir():
        inside = [p for p in sorted(archive.rglob("*")) if p.is_file()]
        if len(inside) == 1 and inside[0].suffix != ".txt":  # what was fetched is one archive in a folder
            yield from texts(inside[0])
            return
        for path in inside:
            if path.suffix == ".txt":
                yield PurePosixPath(path.relative_to(archive.parent).as_posix()), path.read_bytes()
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for name in sorted(opened.namelist()):
                if name.endswith(".txt"):
                    yield PurePosixPath(name), opened.read(name)
    elif archive.is_file() and tarfile.is_tarfile(archive):
        with tarfile.open(archive) as opened:
            for member in opened:
                if member.isfile() and member.name.endswith(".txt"):
                    yield PurePosixPath(member.name), opened.extractfile(member).read()
    else:
        raise BadInput(f"{archive} is neither a folder nor a zip or tar archive: fetch the authors' results again.")


def parse(raw: bytes, source: str) -> np.ndarray:
    """Boxes [N, 4] of a text with commas, tabs or spaces. BadInput names the first line that is not four numbers."""
    rows = []
    for number, line in enumerate(raw.decode("utf-8-sig", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = [float(v) for v in SEPARATORS.split(line.strip(" \t\r,;"))]
        except ValueError:
            row = []
        if len(row) != 4:
            raise BadInput(f"{source}, line {number}: {line[:60]!r} is not a box; fetch the authors' results again.")
        rows.append(row)
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def choose(found: dict[PurePosixPath, bytes], tracker: str, chosen: Series[Sequence]) -> dict[str, PurePosixPath]:
    """The file of each sequence: named like it, in a folder called `tracker` at any depth. BadInput names folders there are."""
    mine = {p: raw for p, raw in found.items() if tracker.lower() in (part.lower() for part in p.parts[:-1])}
    if not mine:
        folders = sorted({p.parent.name for p in found})
        raise BadInput(f"the archive has no folder {tracker}; it has {', '.join(folders[:12]) or 'no text files'}.")
    by_name: dict[str, PurePosixPath] = {}
    for path in mine:
        if not NOT_BOXES.search(path.stem):
            by_name.setdefault(path.stem.lower(), path)
    return {s.name: by_name[s.name.lower()] for s in chosen if s.name.lower() in by_name}


def import_results(archive: Path, tracker: str, chosen: Series[Sequence], output: Path) -> dict:
    """Write `output` and return the completeness report: missing sequences, and those with another number of boxes."""
    found = dict(texts(archive))
    paths = choose(found, tracker, chosen)
    report = {"sequences": len(paths), "missing": [s.name for s in chosen if s.name not in paths], "other_length": {}}
    frames = 0
    with files.atomic_folder(output) as folder:
        for s in chosen:
            if s.name not in paths:
                continue
            boxes = parse(found[paths[s.name]], str(paths[s.name]))
            frames += len(boxes)
            if len(boxes) != len(s.frames):
                report["other_length"][s.name] = [len(boxes), len(s.frames)]
            files.write_text(folder / f"{s.name}.txt", "".join(",".join(map(repr, box)) + "\n" for box in boxes.tolist()))
        summary = {"sequences": len(paths), "frames": frames, "seconds": None, "vlm_calls": None, "fall_backs": None}
        files.write_json(folder / "summary.json", summary)
        files.write_json(folder / "completeness.json", report)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--archive", type=Path, required=True, help="folder, zip or tar archive with a folder a tracker")
    parser.add_argument("--tracker", required=True, help="the tracker's folder in the archive")
    parser.add_argument("--index", type=Path, required=True, help="index of the benchmark (.npz)")
    parser.add_argument("--split", default="test", help="split that was tracked")
    parser.add_argument("--output", type=Path, required=True, help="folder of the tracker's results")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    arguments = parser.parse_args()
    chosen = sequences.read_index(arguments.index, split=arguments.split)
    report = import_results(arguments.archive, arguments.tracker, chosen, arguments.output)
    print(f"{report['sequences']} of {len(chosen)} sequences, {len(report['other_length'])} of another length", flush=True)
    for name in report["missing"][:20]:
        print(f"missing: {name}", flush=True)
    if arguments.manifest:
        manifest.write(arguments.manifest, [arguments.output], {"tracker": arguments.tracker}, [arguments.index], report)


if __name__ == "__main__":
    console.run(main)
