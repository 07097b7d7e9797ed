"""CPU time of scoring against the recorded Octave run of the kit: 34.6 us a frame and tracker for PR, NPR and SR.

    python -m workflow_scripts.in_env score -- python benchmarks/scoring.py [--size lasot] [--repeats 5]

Seeded data of two sizes is written to a temporary folder in the formats that trackers write (integers, %.4f, %.6e, tabs), then
scored three ways, each time in a fresh process and parsing included: in NumPy and Arrow, compiled, and again from the cache.
Prints the medians: seconds of CPU (user and system) from the first annotation to the overall numbers, the same with the
process's start and imports, microseconds a frame and tracker, the ratio to Octave without and with the start, peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

OCTAVE = 34.6  # us of CPU a frame and tracker, three runs of the kit
SIZES = {"lasot": (280, 12, 2448), "tnllt": (50, 21, 5000)}  # sequences, trackers, frames
ENGINES = ("numpy", "compiled", "cached")
START = (400, 300, 80, 80)  # xywh of the first box
FORMATS = (("%d", ","), ("%.4f", ","), ("%d", "\t"), ("%.2f", "\t"), ("%.6e", ","), ("%.2f", ","))


def write_data(folder: Path, sequences: int, trackers: int, frames: int) -> None:
    """Random walks with a twentieth of the frames absent; every tracker is the truth with its own noise and its own format."""
    import numpy as np

    def write(path: Path, values: np.ndarray, form: str, delimiter: str = ",") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        line = delimiter.join([form] * values.shape[1]) + "\n"
        path.write_text(line * len(values) % tuple(values.ravel()))

    rng = np.random.default_rng(0)
    for s in range(sequences):
        steps = rng.normal(0, [3, 3, 0.5, 0.5], (frames, 4))
        truth = np.maximum(np.cumsum(steps, axis=0) + START, [1, 1, 10, 10]).round()
        absent = rng.random((frames, 1)) < 0.05
        absent[0] = False
        write(folder / "annos" / f"seq_{s:04d}.txt", truth, "%d")
        write(folder / "annos/absent" / f"seq_{s:04d}.txt", absent, "%d")
        for k in range(trackers):
            path = folder / "tracking_results" / f"tracker_{k:02d}_tracking_result" / f"seq_{s:04d}.txt"
            write(path, truth + rng.normal(0, 3 + 2 * k, truth.shape), *FORMATS[k % len(FORMATS)])


def seconds() -> float:
    """CPU time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def score(folder: Path, engine: str) -> None:
    """Score once, as the command does, and print what it took as JSON."""
    from workflow_scripts.score import annotations, protocols, run, scanner, scoring, summary
    from workflow_scripts.score.cache import Cache

    if engine == "numpy":
        scanner.library = lambda: None
    elif scanner.library() is None:
        raise SystemExit("there is no C compiler here: only --engine numpy can run")
    begin = seconds()
    protocol, cache = protocols.get("lasot"), Cache(folder / "cache") if engine == "cached" else None
    known = annotations.from_toolkit(folder / "annos", protocol)
    scores = scoring.score_files([protocol], known, run.tracker_folders(folder), cache=cache)[0].scores
    values, _ = summary.overall(scores)
    if cache:
        cache.save()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"scoring": seconds() - begin, "whole": seconds(), "peak": peak, "sum": float(values.sum())}))


def measure(folder: Path, engine: str) -> dict[str, float]:
    """One scoring in a fresh process."""
    command = [sys.executable, __file__, "--score", str(folder), "--engine", engine]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ}).stdout)


def main() -> None:
    """Write, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--size", choices=list(SIZES), help="LaSOT test's 280 x 12 x 2448, or TNLLT's 50 x 21 x 5000 (default: both)"
    )
    parser.add_argument("--engine", choices=ENGINES, help="default: all")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--score", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.score:
        score(args.score, args.engine)
        return
    for size in [args.size] if args.size else SIZES:
        evaluations = SIZES[size][0] * SIZES[size][1] * SIZES[size][2]
        print(f"{size}: {evaluations / 1e6:.2f} million frames x trackers; the kit under Octave: {OCTAVE} us each")
        with tempfile.TemporaryDirectory() as name:
            write_data(Path(name), *SIZES[size])
            for engine in [args.engine] if args.engine else ENGINES:
                measure(Path(name), engine)  # compiles, fills the caches
                runs = [measure(Path(name), engine) for _ in range(args.repeats)]
                middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
                each, whole = (1e6 * middle[key] / evaluations for key in ("scoring", "whole"))
                print(
                    f"  {engine:9s}{middle['scoring']:6.3f} s CPU, {middle['whole']:.3f} with the start; {each:.4f} us each; "
                    f"ratio {OCTAVE / each:.0f}, {OCTAVE / whole:.0f} with the start; peak {middle['peak']:.0f} MB"
                )


if __name__ == "__main__":
    main()
