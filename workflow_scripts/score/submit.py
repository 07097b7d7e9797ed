"""Submissions to the benchmarks that only their servers can score: checked first, explained where wrong, then packed.

    python -m workflow_scripts.score.submit --benchmark got10k --index results/full/data/got10k.npz \\
        --results results/full/track/raw/got10k/dutrack_256_full --output dutrack.zip
    python -m workflow_scripts.score.submit --benchmark trackingnet --index results/full/data/trackingnet.npz \\
        --check packed_elsewhere.zip

The servers don't say what is wrong with a file: GOT-10k's shows no scores, TrackingNet's counts a video it cannot find as
boxes of zeros. So every file is compared here with what the benchmark asks for, and each fault is shown as a small diff
(- expected, + found). Result files go into the zip byte for byte and are never touched; times are written in seconds.
"""

from __future__ import annotations

import argparse
import difflib
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Series
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from workflow_scripts import console, files, manifest, sequences
from workflow_scripts.console import BadInput
from workflow_scripts.sequences import Sequence

Members = Mapping[str, bytes]  # path inside the zip -> content
BENCHMARKS = ("got10k", "trackingnet")
SHOWN = 3  # faults of one kind that are explained; the others are counted
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf(inity)?)", re.IGNORECASE)


@dataclass(frozen=True)
class Fault:
    """Something the server would not take: where, what, and the lines it expected and found."""

    kind: str
    where: str
    what: str
    expected: tuple[str, ...] = ()
    found: tuple[str, ...] = ()

    def __str__(self) -> str:
        diff = [*(f"  - {line}" for line in self.expected), *(f"  + {line}" for line in self.found)]
        return "\n".join([f"{self.where}: {self.what}", *diff])


def gather(benchmark: str, folder: Path, chosen: Series[Sequence]) -> dict[str, bytes]:
    """The files of one tracker under the names the server asks for; what is not there is left to `check`.

    Read are this study's own results (<sequence>.txt, and <sequence>.time.txt in milliseconds) and, for GOT-10k, its
    toolkit's (<sequence>/<sequence>_001.txt to _003.txt and <sequence>_time.txt). BadInput if the folder is not there.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} does not exist: name the folder with one tracker's results.")
    found: dict[str, bytes] = {}
    for s in chosen:
        plain, times, own = folder / f"{s.name}.txt", folder / f"{s.name}.time.txt", folder / s.name
        if benchmark == "trackingnet":
            sources = {f"{s.name}.txt": plain}
        elif own.is_dir():
            sources = {f"{s.name}/{p.name}": p for p in sorted(own.glob(f"{s.name}_*.txt"))}
        else:
            sources = {f"{s.name}/{s.name}_001.txt": plain}
            if times.is_file():
                found[f"{s.name}/{s.name}_time.txt"] = _seconds(times)
        found |= {name: path.read_bytes() for name, path in sources.items() if path.is_file()}
    return found


def _seconds(path: Path) -> bytes:
    """A file of milliseconds as one of seconds."""
    try:
        return b"".join(b"%.8f\n" % (float(line) / 1e3) for line in path.read_text(encoding="utf-8").split())
    except ValueError:
        raise BadInput(f"{path}: holds something that is not a number; run the tracker again.") from None


def unpack(path: Path) -> tuple[dict[str, bytes], list[Fault]]:
    """(members of a zip, names that it holds twice). BadInput if it is no zip or damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [i.filename for i in archive.infolist() if not i.is_dir()]
            doubled = sorted({n for n in names if names.count(n) > 1})
            faults = [Fault("doubled", n, "is in the zip twice; pack it again.") for n in doubled]
            return {n: archive.read(n) for n in names}, faults
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist: name the zip to check.") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise BadInput(f"{path} is not a zip that can be read ({error}): pack it again.") from None


def check(benchmark: str, chosen: Series[Sequence], members: Members) -> list[Fault]:
    """Everything about `members` that the server of `benchmark` would not take, in the order of the sequences."""
    members, faults = _at_root(benchmark, members)
    for s in chosen:
        stem = s.name if benchmark == "trackingnet" else f"{s.name}/{s.name}_"
        endings = ("",) if benchmark == "trackingnet" else ("001", "002", "003")
        runs = [name for e in endings if (name := f"{stem}{e}.txt") in members]
        for name in runs:
            faults += check_boxes(name, members[name], s)
        if benchmark == "got10k" and runs and f"{stem}time.txt" in members:
            faults += check_times(f"{stem}time.txt", members[f"{stem}time.txt"], len(s), len(runs))
    return [*_names(benchmark, chosen, members), *faults]


def _at_root(benchmark: str, members: Members) -> tuple[dict[str, bytes], list[Fault]]:
    """Members without the folders around them, and a fault where the server would not look into those."""
    depth = 1 if benchmark == "trackingnet" else 2
    texts = [n for n in members if n.endswith(".txt") and not n.startswith("__MACOSX/")]
    around = {PurePosixPath(n).parts[:-depth] for n in texts}
    folder = "/".join(next(iter(around))) + "/" if len(around) == 1 else "/"
    if folder == "/":
        return dict(members), []
    bare = {n.removeprefix(folder): raw for n, raw in members.items()}
    if benchmark == "got10k" and folder.count("/") == 1:
        return bare, []  # its server takes one folder, named after the tracker
    what = f"lies in the folder {folder}; pack what is inside it, not the folder."
    return bare, [Fault("folder", min(texts), what, (min(texts).removeprefix(folder),), (min(texts),))]


def _names(benchmark: str, chosen: Series[Sequence], members: Members) -> Iterator[Fault]:
    """Files that are missing and files that nobody asked for."""
    if benchmark == "trackingnet":
        wanted, optional = {f"{s.name}.txt" for s in chosen}, set()
    else:
        wanted = {f"{s.name}/{s.name}_{end}.txt" for s in chosen for end in ("001", "time")}
        optional = {f"{s.name}/{s.name}_{run}.txt" for s in chosen for run in ("002", "003")}
    missing, extra = sorted(wanted - set(members)), sorted(set(members) - wanted - optional)
    total = f"{len(chosen)} sequences, {len(wanted)} files"
    for i, name in enumerate(missing):
        near = difflib.get_close_matches(name, extra, n=1, cutoff=0.5) if i < SHOWN else []
        yield Fault("missing", name, f"is missing (the benchmark has {total}).", (name,), tuple(near))
    for name in extra:
        yield Fault("unasked", name, f"is not among what the benchmark asks for ({total}); leave it out.", (), (name,))


def check_boxes(name: str, raw: bytes, sequence: Sequence) -> Iterator[Fault]:
    """Faults of one file of boxes: separator, numbers, sizes, count and first line; of each kind the first one."""
    lines = _lines(raw)
    kinds = set()
    for number, line in enumerate(lines, start=1):
        fault = _line_fault(f"{name}, line {number}", line)
        if fault and fault.kind not in kinds:
            kinds.add(fault.kind)
            yield fault
    if len(lines) != len(sequence):
        last = (f"line {len(lines)}: {_shown(lines[-1])}",) if lines else ("an empty file",)
        what = f"has {len(lines)} lines for {len(sequence)} frames; track the sequence again, one box a frame."
        yield Fault("count", name, what, (f"line {len(sequence)}: the last box",), last)
    if lines and not kinds and not _is_start(lines[0], sequence.boxes[0]):
        start = ",".join(f"{v:g}" for v in sequence.boxes[0])
        yield Fault("start", f"{name}, line 1", "is not the box the sequence starts with.", (start,), (_shown(lines[0]),))


def _lines(raw: bytes) -> list[str]:
    """Lines of a text; empty ones at its end do not count."""
    lines = re.split(r"\r\n|\n|\r", raw.decode("utf-8", errors="replace"))
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def _shown(line: str) -> str:
    return line if len(line) <= 60 else f"{line[:60]}..."


def _line_fault(where: str, line: str) -> Fault | None:
    """What is wrong with one line of boxes, if anything."""
    fields = [f.strip() for f in line.split(",")]
    if len(fields) != 4 or not all(_NUMBER.fullmatch(f) for f in fields):
        other = [f for f in re.split(r"[\s,;]+", line.strip()) if f]
        if len(other) == 4 and all(_NUMBER.fullmatch(f) for f in other):
            return Fault("separator", where, "is not separated by commas.", (",".join(other),), (_shown(line),))
        return Fault("numbers", where, "is not four numbers.", ("x,y,w,h",), (_shown(line),))
    values = np.array(fields, dtype=np.float64)
    if not np.isfinite(values).all():
        return Fault("finite", where, "is not finite.", ("four finite numbers",), (_shown(line),))
    if (values[2:] <= 0).any():
        return Fault("size", where, "has no width or no height.", ("w and h above 0",), (_shown(line),))
    return None


def _is_start(line: str, box: np.ndarray) -> bool:
    """Whether a line is `box` to the digits it is written with."""
    for text, value in zip(line.split(","), box, strict=True):
        number, _, exponent = text.strip().lower().partition("e")
        digit = 10.0 ** (int(exponent or 0) - len(number.partition(".")[2]))
        if abs(float(text) - value) > digit / 2 + 1e-9:
            return False
    return True


def check_times(name: str, raw: bytes, frames: int, runs: int) -> Iterator[Fault]:
    """Faults of GOT-10k's file of times: seconds a frame, a line a frame and a column a run."""
    lines = _lines(raw)
    example = ",".join(["0.03125000"] * runs)
    for number, line in enumerate(lines, start=1):
        fields = [f.strip() for f in line.split(",")]
        good = len(fields) == runs and all(_NUMBER.fullmatch(f) for f in fields)
        if not good or not all(0 <= float(f) < np.inf for f in fields):
            what = f"is not {'the' if runs == 1 else runs} time{'s' * (runs > 1)} of a frame in seconds, one for each run."
            yield Fault("time", f"{name}, line {number}", what, (example,), (_shown(line),))
            break
    if len(lines) != frames:
        what = f"has {len(lines)} lines for {frames} frames; write a time a frame."
        yield Fault("times", name, what, (f"{frames} lines",), (f"{len(lines)} lines",))


def explain(faults: Series[Fault]) -> str:
    """The faults as text: the first few of each kind with their diffs, the others counted."""
    kinds: dict[str, list[Fault]] = {}
    for fault in faults:
        kinds.setdefault(fault.kind, []).append(fault)
    parts = ["- expected, + found"]
    for of in kinds.values():
        parts += [str(f) for f in of[:SHOWN]]
        if len(of) > SHOWN:
            parts.append(f"... and {len(of) - SHOWN} more like this, up to {of[-1].where}")
    return "\n".join(parts)


def pack(path: Path, members: Members) -> None:
    """Write the zip, whole or not at all; the same files give the same bytes."""
    with (
        files.atomic_path(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
    ):
        for name in sorted(members):
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            info.create_system = 3  # Unix, on every machine
            archive.writestr(info, members[name])


def main(arguments: Series[str] | None = None) -> None:
    """Check a tracker's results and pack them, or check a zip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", required=True, choices=BENCHMARKS, help="whose server it is for")
    parser.add_argument("--index", type=Path, required=True, help="the benchmark's index (.npz): names, frames and first boxes")
    parser.add_argument("--split", default="test", help="split that the server scores (default: test)")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--results", type=Path, help="folder of one tracker's results, to check and pack")
    what.add_argument("--check", type=Path, help="a zip packed elsewhere, to check alone")
    parser.add_argument("--output", type=Path, help="zip to write")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    args = parser.parse_args(arguments)
    if args.results and args.output is None:
        parser.error("--results needs --output, the zip to write")
    chosen = sequences.read_index(args.index, split=args.split)
    if not chosen:
        raise BadInput(f"{args.index} has no sequence of split {args.split!r}: choose another --split.")
    if args.check:
        members, faults = unpack(args.check)
    else:
        members, faults = gather(args.benchmark, args.results, chosen), []
    source = args.check or args.results
    faults += check(args.benchmark, chosen, members)
    if faults:
        print(explain(faults), flush=True)
        outcome = "" if args.check else "; nothing was packed"
        raise BadInput(f"{source}: {len(faults)} fault{'s' * (len(faults) > 1)}, explained above{outcome}.")
    if args.results:
        pack(args.output, members)
        size = f"{len(chosen)} sequences, {len(members)} files, {args.output.stat().st_size / 1e6:.1f} MB"
        print(f"{args.output}: {size}, as {args.benchmark}'s server asks for")
    else:
        print(f"{args.check}: {len(chosen)} sequences, {len(members)} files, nothing to mend")
    if args.manifest and args.results:
        facts = {"sequences": len(chosen), "files": len(members)}
        manifest.write(args.manifest, [args.output], {"benchmark": args.benchmark, "split": args.split}, [args.index], facts)


if __name__ == "__main__":
    console.run(main)
