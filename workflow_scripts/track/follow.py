"""Track your own sequence: a folder of frames, a first box, a sentence.

    python -m workflow_scripts.track.follow --frames FOLDER --box 10,20,30,40 --sentence "the red car" \\
        --tracker csrt --output OUT

Output: boxes.txt (x,y,w,h a frame), trace.csv (box, confidence, sentence and milliseconds a frame) and video.mp4 or
video.gif with the box drawn. With --truth the AUC against a file of boxes is printed and written to metrics.json.
"""

from __future__ import annotations

import argparse
import csv
import re
import tempfile
from collections.abc import Iterator
from collections.abc import Sequence as Series
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from workflow_scripts import console, files, images
from workflow_scripts.console import BadInput
from workflow_scripts.images import Image
from workflow_scripts.sequences import Sequence
from workflow_scripts.track import measure, runner
from workflow_scripts.track.run import questioning, ready_tracker

PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
YELLOW, GREEN = (255, 220, 0), (0, 220, 60)


def list_frames(folder: Path) -> list[Path]:
    """Pictures of a folder in the order of the numbers in their names. BadInput where there are none."""
    found = [p for p in folder.iterdir() if p.suffix.lower() in PICTURES] if folder.is_dir() else []
    if not found:
        raise BadInput(f"{folder} holds no pictures ({', '.join(sorted(PICTURES))}): name the folder of the frames.")
    return sorted(found, key=lambda p: ([int(n) for n in re.findall(r"\d+", p.stem)], p.name))


def parse_box(text: str) -> np.ndarray:
    """`x,y,w,h` as float64 [4]."""
    try:
        box = np.array([float(v) for v in re.split(r"[\s,]+", text.strip())])
    except ValueError:
        box = np.empty(0)
    if box.shape != (4,):
        raise BadInput(f"--box {text!r} is not left,top,width,height: give four numbers with commas.")
    return box


def read_truth(path: Path, frames: int) -> np.ndarray:
    """Boxes [N, 4] of a ground-truth file with commas, tabs or spaces; BadInput unless there is one for every frame."""
    try:
        rows = [[float(v) for v in re.split(r"[\s,]+", line.strip())] for line in path.read_text().splitlines() if line.strip()]
        truth = np.array(rows, dtype=np.float64).reshape(-1, 4)
    except (OSError, ValueError):
        raise BadInput(f"{path} is not a file of boxes, x,y,w,h a line: correct it, or leave --truth out.") from None
    if len(truth) != frames:
        raise BadInput(f"{path} has {len(truth)} boxes for {frames} frames: give the ground truth of these frames.")
    return truth


def drawn(frames: Series[Path], boxes: np.ndarray, notes: Series[str], truth: np.ndarray | None) -> Iterator[Image]:
    """Frames [H, W, 3] with the tracker's box, the ground truth's where given, and a line of text."""
    for number, (path, box) in enumerate(zip(frames, boxes, strict=True)):
        frame = images.read_rgb(path)
        shown = [(box, YELLOW)] if truth is None else [(truth[number], GREEN), (box, YELLOW)]
        for (x, y, w, h), colour in shown:
            cv2.rectangle(frame, (round(x), round(y)), (round(x + w), round(y + h)), colour, 2)
        cv2.putText(frame, f"{number} {notes[number]}", (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, YELLOW, 1, cv2.LINE_AA)
        yield frame


def write_video(path: Path, pictures: Iterator[Image], size: tuple[int, int], fps: float) -> None:
    """Write an .mp4 through OpenCV or a .gif through Pillow, of `size` (width, height); other frames are resized to it."""
    with files.atomic_path(path) as temporary:
        part = temporary.with_name(f"{temporary.name}{path.suffix}")  # the writers choose the format by the ending
        fitted = (p if p.shape[1::-1] == size else cv2.resize(p, size) for p in pictures)
        if path.suffix == ".gif":
            from PIL import Image as Pillow

            stills = [Pillow.fromarray(p).quantize(128) for p in fitted]
            stills[0].save(part, save_all=True, append_images=stills[1:], duration=round(1000 / fps), loop=0)
        else:
            writer = cv2.VideoWriter(str(part), cv2.VideoWriter_fourcc(*"mp4v"), fps, size)
            if not writer.isOpened():
                raise BadInput(f"this OpenCV cannot write {path.suffix} files: give --video video.gif.")
            for picture in fitted:
                writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            writer.release()
        part.replace(temporary)


def follow(tracker: Any, sequence: Sequence, output: Path) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Track one sequence. Returns boxes [N, 4] and a row a frame for trace.csv; BadInput with the frame where it fails."""
    runner.check_sequences([sequence])
    with tempfile.TemporaryDirectory(dir=output) as folder:
        failures = runner.run_sequences(tracker, [sequence], Path(folder), batch=1, description="frames")
        if failures:
            raise BadInput(f"{sequence.name}: {failures[sequence.name]}")
        return runner.read_boxes(Path(folder) / f"{sequence.name}.txt"), runner.read_rows(Path(folder), sequence)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--frames", type=Path, required=True, help="folder of the frames, numbered in their names")
    parser.add_argument("--box", help="first box: left,top,width,height in pixels (r1track can do with the sentence alone)")
    parser.add_argument("--sentence", default="", help="what the target is")
    parser.add_argument(
        "--tracker", default="csrt", help="static, kcf, csrt, mosse, dutrack, seqtrack, reasoningtrack, r1track"
    )
    parser.add_argument("--weights", type=Path, help="folder of the network, or an authors' checkpoint")
    parser.add_argument("--vocabulary", type=Path, help="vocabulary file (default: the one in the folder of weights)")
    parser.add_argument("--server-model", type=Path, help="a tracker that asks: folder of the language model")
    parser.add_argument("--server-parameters", help="a tracker that asks: section serve as JSON (default: params.yaml)")
    parser.add_argument("--r1track-parameters", help="r1track: section track.r1track as JSON (default: params.yaml)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--truth", type=Path, help="ground truth, a box a line: prints the AUC")
    parser.add_argument("--video", default="video.mp4", help="name of the video: .mp4 or .gif")
    parser.add_argument("--fps", type=float, default=25.0, help="frames a second of the video")
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    arguments = parser.parse_args()
    frames = list_frames(arguments.frames)
    box = arguments.box and parse_box(arguments.box)
    if box is None and (arguments.tracker != "r1track" or not arguments.sentence.strip()):
        raise BadInput("a tracker starts from a first box: give --box (r1track can do with --sentence alone).")
    truth = read_truth(arguments.truth, len(frames)) if arguments.truth else None
    present = np.ones(len(frames), dtype=bool)

    def sequence(box: np.ndarray) -> Sequence:
        return Sequence("followed", "own", frames, box[None], present, arguments.sentence)

    if box is not None:
        runner.check_sequences([sequence(box)])
    settings, options = questioning(arguments.tracker, serve=arguments.server_parameters, own=arguments.r1track_parameters)
    with files.atomic_folder(arguments.output) as output:
        trace, log = output / "answers.jsonl", output / "server.log"
        given = {name: getattr(arguments, name) for name in ("weights", "device", "vocabulary")}
        with ready_tracker(arguments.tracker, settings, arguments.server_model, trace, log, **given, **options) as tracker:
            if box is None:
                box = tracker.locate([images.read_rgb(frames[0])], [arguments.sentence])[0]
            boxes, rows = follow(tracker, sequence(box), output)
        files.write_text(output / "boxes.txt", "".join(",".join(map(repr, b)) + "\n" for b in boxes.tolist()))
        with open(output / "trace.csv", "w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        height, width = images.read_rgb(frames[0]).shape[:2]
        notes = [str(row["sentence"]) for row in rows]
        write_video(output / arguments.video, drawn(frames, boxes, notes, truth), (width, height), arguments.fps)
        seconds = sum(row["milliseconds"] for row in rows) / 1e3
        metrics: dict[str, Any] = {"tracker": arguments.tracker, "frames": len(frames), "seconds": round(seconds, 3)}
        if truth is not None:
            metrics["auc"] = round(measure.auc(boxes, truth, (truth[:, 2:] > 0).all(axis=1)), 4)
        files.write_json(output / "metrics.json", metrics)
    said = f", AUC {100 * metrics['auc']:.1f}" if truth is not None else ""
    print(f"{arguments.tracker}: {len(frames)} frames, {len(frames) / max(seconds, 1e-9):.1f} a second{said}", flush=True)


if __name__ == "__main__":
    console.run(main)
