"""Your own sequence, and the authors' published boxes."""

import csv
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest

from workflow_scripts import files, images
from workflow_scripts.console import BadInput
from workflow_scripts.track import follow, published


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


def write_results(folder, chosen, separator):
    for s in chosen:
        path = folder / "results" / "DUTrack" / f"{s.name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(separator.join(str(int(v)) for v in box) + "\n" for box in s.boxes))
        path.with_name(f"{s.name}_time.txt").write_text("0.1\n")


@pytest.mark.parametrize("form", ["folder", "zip", "tar"])
def test_published_boxes_are_found_at_any_depth_and_in_any_form(draw, tmp_path, form):
    chosen = [draw("a"), draw("b"), draw("missing")]
    write_results(tmp_path / "x", chosen[:2], "\t" if form == "zip" else ",")
    archive = tmp_path / "x"
    if form == "zip":
        archive = tmp_path / "x.zip"
        with zipfile.ZipFile(archive, "w") as opened:
            for path in (tmp_path / "x").rglob("*.txt"):
                opened.write(path, path.relative_to(tmp_path))
    elif form == "tar":
        archive = tmp_path / "x.tar.gz"
        with tarfile.open(archive, "w:gz") as opened:
            opened.add(tmp_path / "x", "x")
    report = published.import_results(archive, "dutrack", chosen, tmp_path / "raw")
    assert report == {"sequences": 2, "missing": ["missing"], "other_length": {}}
    assert files.read_json(tmp_path / "raw" / "completeness.json") == report
    lines = (tmp_path / "raw" / "a.txt").read_text().splitlines()
    assert [float(v) for v in lines[2].split(",")] == chosen[0].boxes[2].tolist()


def test_a_published_file_that_is_no_box_file_is_named_with_its_line(draw, tmp_path):
    sequence = draw("a")
    write_results(tmp_path / "x", [sequence], ",")
    (tmp_path / "x" / "results" / "DUTrack" / "a.txt").write_text("1,2,3,4\nnan here\n")
    with pytest.raises(BadInput, match=r"a\.txt, line 2"):
        published.import_results(tmp_path / "x", "DUTrack", [sequence], tmp_path / "raw")
    with pytest.raises(BadInput, match="no folder SeqTrack; it has DUTrack"):
        published.import_results(tmp_path / "x", "SeqTrack", [sequence], tmp_path / "raw")
    assert not (tmp_path / "raw").exists()
