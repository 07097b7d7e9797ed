"""One page that shows sequences: frames with the boxes of ground truth and trackers, overlap along time, the sentence in force.

    python -m workflow_scripts.report.viewer --scores results/mini/score/tnllt --raw results/mini/track/raw/tnllt \\
        --index results/mini/data/tnllt.npz --output results/mini/report/viewer/tnllt.html

The page holds everything it shows (frames as JPEG, boxes as numbers) and needs nothing else: it opens from a mail or a
report, offline. The code it runs is viewer.html beside this file.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
from collections.abc import Sequence as Series
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from workflow_scripts import console, files, manifest, params, sequences
from workflow_scripts.console import BadInput
from workflow_scripts.params.report import Viewer
from workflow_scripts.report import scored, style, timeline
from workflow_scripts.sequences import Sequence

TEMPLATE = Path(__file__).with_name("viewer.html")
TRUTH = "#FFFFFF"


def frame(path: Path, look: Viewer) -> tuple[str, tuple[int, int]]:
    """(a frame as base64 JPEG, its size before it was made smaller). BadInput if it cannot be read."""
    try:
        with Image.open(path) as opened:
            size = opened.size
            picture = opened.convert("RGB")
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist: restore the dataset again.") from None
    except (UnidentifiedImageError, OSError) as error:
        raise BadInput(f"{path} cannot be read as an image ({error}): restore the dataset again.") from None
    picture.thumbnail((look.width, look.width * size[1]))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=look.quality, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode(), size


def sentences(raw: Path, tracker: str, s: Sequence, chosen: Series[int]) -> list[str]:
    """The sentence that a tracker followed on each of the `chosen` frames, from the trace it left."""
    path = raw / tracker / f"{s.name}.trace.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    changed = {note["frame"]: note["sentence"] for note in map(json.loads, lines) if "sentence" in note}
    current, by_frame = s.sentence, []
    for i in range(len(s)):
        current = changed.get(i, current)
        by_frame.append(current)
    return [by_frame[i] for i in chosen]


def sequence(s: Sequence, trackers: Series[str], raw: Path, look: Viewer) -> dict[str, Any]:
    """What the page shows of one sequence."""
    chosen = np.unique(np.linspace(0, len(s) - 1, min(len(s), look.frames)).round().astype(int)).tolist()
    pictures = [frame(s.frames[i], look) for i in chosen]
    boxes = {t: timeline.read_boxes(raw / t / f"{s.name}.txt", len(s))[chosen] for t in trackers}
    truth, present = s.boxes[chosen], s.present[chosen]
    found = []
    for rank, tracker in enumerate(trackers):
        overlap = np.where(present, timeline.overlap(boxes[tracker], truth), np.nan)
        said = sentences(raw, tracker, s, chosen)
        found.append(
            {
                "name": tracker,
                "colour": style.line_style(rank)["color"],
                "boxes": [None if np.isnan(b).any() else b.round(1).tolist() for b in boxes[tracker]],
                "overlap": [None if np.isnan(v) else round(float(v), 3) for v in overlap],
                "sentences": said if any(t != s.sentence for t in said) else [],
            }
        )
    return {
        "name": s.name,
        "sentence": s.sentence,
        "attributes": list(s.attributes),
        "size": pictures[0][1],
        "frames": chosen,
        "length": len(s),
        "pictures": [picture for picture, _ in pictures],
        "truth": [b.round(1).tolist() if p else None for b, p in zip(truth, present, strict=True)],
        "trackers": found,
    }


def page(title: str, shown: Series[dict[str, Any]]) -> str:
    """The whole page."""
    data = json.dumps({"title": title, "truth": TRUTH, "sequences": list(shown)}, ensure_ascii=False, separators=(",", ":"))
    text = TEMPLATE.read_text(encoding="utf-8")
    return text.replace("{{data}}", data.replace("<", "\\u003c"))  # no sentence can end the script


def main(arguments: Series[str] | None = None) -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scores", type=Path, required=True, help="folder of a scoring run")
    parser.add_argument("--raw", type=Path, required=True, help="the trackers' collected results")
    parser.add_argument("--index", type=Path, required=True, help="index of the benchmark (.npz)")
    parser.add_argument("--split", default="test", help="split that was tracked (default: test)")
    parser.add_argument("--sequences", help="comma-separated; default: those on which trackers differ most")
    parser.add_argument("--trackers", help="comma-separated; default: the best")
    parser.add_argument("--title", default="Trackers", help="heading of the page")
    parser.add_argument("--parameters", help="JSON of report.viewer (default: params.yaml)")
    parser.add_argument("--output", type=Path, required=True, help="page to write (.html)")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    args = parser.parse_args(arguments)
    look = params.section(args.parameters, "report.viewer", Viewer)
    found = scored.read(args.scores)
    names = args.sequences.split(",") if args.sequences else found.apart(look.sequences)
    trackers = args.trackers.split(",") if args.trackers else found.trackers[: look.trackers]
    unknown = next((t for t in trackers if t not in found.trackers), None)
    if unknown:
        raise BadInput(f"{unknown} has no scores in {args.scores}; there are {', '.join(found.trackers)}.")
    known = {s.name: s for s in sequences.read_index(args.index, split=args.split, names=names)}
    shown = [sequence(known[name], trackers, args.raw, look) for name in names]
    files.write_text(args.output, page(args.title, shown))
    print(f"{args.output}: {len(shown)} sequences, {args.output.stat().st_size / 1e6:.1f} MB")
    if args.manifest:
        manifest.write(args.manifest, [args.output], look.model_dump(), [args.index])


if __name__ == "__main__":
    console.run(main)
