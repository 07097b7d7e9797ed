"""Your own sequence: pictures and a box in, boxes, a trace and a video out."""

import csv
import subprocess
import sys

import numpy as np
import pytest

from workflow_scripts import files, images
from workflow_scripts.track import follow


def run(sequence, output, *more):
    folder = sequence.frames[0].parent
    box = ",".join(str(v) for v in sequence.boxes[0])
    flags = ["--frames", str(folder), "--box", box, "--sentence", sequence.sentence, "--output", str(output), *more]
    return subprocess.run([sys.executable, "-m", "workflow_scripts.track.follow", *flags], capture_output=True, text=True)


@pytest.mark.parametrize("video", ["video.mp4", "video.gif"])
def test_following_writes_boxes_a_trace_a_video_and_the_auc(draw, tmp_path, video):
    sequence = draw("mine", frames=12)
    truth = tmp_path / "truth.txt"
    np.savetxt(truth, sequence.boxes, delimiter="\t")
    done = run(sequence, tmp_path / "my output", "--tracker", "csrt", "--truth", str(truth), "--video", video)
    assert done.returncode == 0, done.stderr
    assert "AUC" in done.stdout
    rows = list(csv.DictReader((tmp_path / "my output" / "trace.csv").open()))
    assert len(rows) == 12 and rows[3]["sentence"] == sequence.sentence and float(rows[3]["milliseconds"]) > 0
    assert len((tmp_path / "my output" / "boxes.txt").read_text().splitlines()) == 12
    assert files.read_json(tmp_path / "my output" / "metrics.json")["auc"] > 0.6
    assert (tmp_path / "my output" / video).stat().st_size > 1000


def test_frames_are_taken_in_the_order_of_their_numbers(tmp_path):
    for name in ("img10.png", "img2.png", "img1.png"):
        images.write_image(tmp_path / name, np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "notes.txt").write_text("no picture")
    assert [p.name for p in follow.list_frames(tmp_path)] == ["img1.png", "img2.png", "img10.png"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--box", "1,2,3"], "left,top,width,height"),
        (["--box", "900,900,10,10"], "outside"),
        (["--tracker", "dutrack"], "needs weights"),
        (["--frames", "nowhere"], "holds no pictures"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(draw, tmp_path, flags, message):
    done = run(draw("mine"), tmp_path / "out", *flags)
    assert done.returncode == 1
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
