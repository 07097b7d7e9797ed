"""CPU time of scoring against the recorded Octave run of the kit: 34.6 us a frame and tracker for PR, NPR and SR.

    python -m workflow_scripts.in_env score -- python benchmarks/scoring.py [--sequences 280 --trackers 12 --frames 2448]

Data of LaSOT test's size is written to a temporary folder in the formats that trackers write (integers, %.4f, %.6e, tabs), then
scored as the command does it, parsing included. Prints microseconds a frame and tracker, the ratio, and the peak memory.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from workflow_scripts.score import annotations, protocols, run, scoring, summary

OCTAVE = 34.6  # us of CPU a frame and tracker, three runs of the kit
START = np.array([400, 300, 80, 80])  # xywh of the first box
FORMATS = (("%d", ","), ("%.4f", ","), ("%d", "\t"), ("%.2f", "\t"), ("%.6e", ","), ("%.2f", ","))


def write_data(folder: Path, sequences: int, trackers: int, frames: int) -> None:
    """Random walks with a twentieth of the frames absent; every tracker is the truth with its own noise and its own format."""
    rng = np.random.default_rng(0)
    for s in range(sequences):
        steps = rng.normal(0, [3, 3, 0.5, 0.5], (frames, 4))
        truth = np.maximum(np.cumsum(steps, axis=0) + START, [1, 1, 10, 10]).round()
        absent = rng.random(frames) < 0.05
        absent[0] = False
        for name, values in (("", truth), ("absent/", absent.astype(int)[:, None])):
            path = folder / "annos" / f"{name}seq_{s:04d}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savetxt(path, values, fmt="%d", delimiter=",")
        for k in range(trackers):
            form, delimiter = FORMATS[k % len(FORMATS)]
            path = folder / "tracking_results" / f"tracker_{k:02d}_tracking_result" / f"seq_{s:04d}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savetxt(path, truth + rng.normal(0, 3 + 2 * k, truth.shape), fmt=form, delimiter=delimiter)


def main() -> None:
    """Write, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=280)
    parser.add_argument("--trackers", type=int, default=12)
    parser.add_argument("--frames", type=int, default=2448)
    parser.add_argument("--repeats", type=int, default=1, help="scorings of the same files; the fastest counts")
    args = parser.parse_args()
    protocol = protocols.get("lasot")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, args.sequences, args.trackers, args.frames)
        spent = []
        for _ in range(args.repeats):
            start = time.process_time()
            known = annotations.from_toolkit(folder / "annos", protocol)
            outcome = scoring.score_files([protocol], known, run.tracker_folders(folder))[0]
            summary.overall(outcome.scores)
            spent.append(time.process_time() - start)
    evaluations = args.sequences * args.trackers * args.frames
    each = min(spent) / evaluations * 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{evaluations / 1e6:.2f} million frames x trackers in {min(spent):.2f} s CPU: {each:.3f} us each, peak {peak:.0f} MB"
    )
    print(f"the kit under Octave: {OCTAVE} us each; ratio {OCTAVE / each:.0f}")


if __name__ == "__main__":
    main()
