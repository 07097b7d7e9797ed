"""What a check of a dataset finds, what it lets pass, and what it says of it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from trees import TREES, lasot, read, write

from workflow_scripts import images, sequences
from workflow_scripts.data import check
from workflow_scripts.params.data import Checking

TRAIN, TEST, OTHER = "Mini_train_00_LANG", "Mini_test_00_LANG", "Mini_test_01_SV_CM"


@pytest.fixture
def copied(dataset, tmp_path) -> Path:
    shutil.copytree(dataset, tmp_path / "data set")
    return tmp_path / "data set"


def run(*flags: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "workflow_scripts.data.check", *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True)


def found(name: str, root: Path, level: str = "error", **settings: object) -> set[tuple[str, str]]:
    report = check.check(name, root, Checking(**{"images": "none"} | settings))
    return {(p.sequence, p.kind) for p in report.problems if p.level == level}


def test_a_sound_dataset_has_no_error_and_its_command_ends_well(copied, tmp_path):
    flags = ["--output", tmp_path / "c.json", "--csv", tmp_path / "c.csv", "--manifest", tmp_path / "c.m.json"]
    done = run("--benchmark", "tnllt", "--root", copied, "--images", "all", *flags)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "c.json").read_text())
    assert (report["errors"], report["warnings"], report["sequences"]) == (0, 0, 3)
    assert report["splits"] == {"test": 2, "train": 1} and report["opened"] == report["frames"]
    assert (tmp_path / "c.csv").read_text() == "sequence,level,kind,text\n"


def test_every_fault_of_a_dataset_is_reported_at_once(copied, tmp_path):
    one, two, three = (copied / name for name in (TRAIN, TEST, OTHER))
    sorted((one / "imgs").iterdir())[-1].unlink()
    frame = two / "imgs" / "00001.png"
    frame.write_bytes(frame.read_bytes()[:2000])
    shutil.copy(one / "imgs" / "00001.png", three / "imgs" / "00001.png")
    lines = (three / "groundtruth.txt").read_text().splitlines()
    lines[1], lines[2], lines[3] = "1,1,0,5", "nan,1,2,3", "900,900,5,5"
    (three / "groundtruth.txt").write_text("\n".join(lines) + "\n")
    assert found("tnllt", copied, images="all") == {
        (one.name, "counts"),
        (two.name, "unreadable frame"),
        (three.name, "leakage"),
        (three.name, "box without size"),
        (three.name, "NaN box"),
        (three.name, "box outside"),
    }
    flags = ("--csv", tmp_path / "c.csv", "--output", tmp_path / "c.json", "--manifest", tmp_path / "m.json")
    done = run("--benchmark", "tnllt", "--root", copied, *flags)
    assert done.returncode == 1 and "errors, the first:" in done.stderr and "Traceback" not in done.stderr
    assert "counts" in (tmp_path / "c.csv").read_text() and not (tmp_path / "m.json").exists()
    assert json.loads((tmp_path / "c.json").read_text())["errors"] >= 5


def test_a_box_beyond_a_frame_that_is_not_opened_is_found_by_the_size_of_the_first(copied):
    lines = (copied / TEST / "groundtruth.txt").read_text().splitlines()
    lines[7] = "161,10,5,5"
    write(copied / TEST / "groundtruth.txt", "\n".join(lines) + "\n")
    assert (TEST, "box outside") in found("tnllt", copied, images="ends")


def test_a_frame_of_another_size_is_warned_of(copied):
    last = sorted((copied / TEST / "imgs").iterdir())[-1]
    images.write_image(last, images.read_rgb(last)[:-20])
    assert (TEST, "image size") in found("tnllt", copied, "warning", images="ends")


def test_flags_of_the_wrong_polarity_are_refused_unless_told_so(copied):
    for path in copied.glob("*/absent_label.txt"):
        path.write_text("".join(f"{1 - int(line)}\n" for line in path.read_text().split()))
    kinds = {kind for _, kind in found("tnllt", copied)}
    assert {"absent first frame", "absent share", "polarity"} <= kinds
    told = ("--images", "none", "--allow-absent-first", "--max-absent-share", "1")
    done = run("--benchmark", "tnllt", "--root", copied, *told)
    assert "absent first frame" not in done.stdout and "absent share" not in done.stdout and "polarity" in done.stdout
    for path in copied.glob("*/groundtruth.txt"):
        path.write_text("".join("5,5,9,9\n" for _ in path.read_text().split()))
    assert run("--benchmark", "tnllt", "--root", copied, *told).returncode == 0
    assert run("--benchmark", "tnllt", "--root", copied, "--max-absent-share", "2").returncode == 1


def test_one_sequence_that_is_mostly_absent_is_only_warned_of(copied):
    count = len((copied / TEST / "absent_label.txt").read_text().split())
    (copied / TEST / "absent_label.txt").write_text("1\n" * 10 + "0\n" * (count - 10))
    assert found("tnllt", copied) == set()
    assert (TEST, "absent share") in found("tnllt", copied, "warning")


def test_flaws_of_the_published_annotation_are_warned_of_but_not_in_the_first_frame(tmp_path):
    lasot(tmp_path)
    folder = tmp_path / "air plane"
    write(folder / "air plane-2" / "groundtruth.txt", "0,0,0,0\n5,6,7,8\n0,0,0,0\n9,9,9,9\n")
    assert ("air plane-10", "box without size") in found("lasot", tmp_path, "warning")
    assert found("lasot", tmp_path) == {("air plane-2", "box without size")}


def test_an_unreadable_annotation_does_not_hide_the_other_sequences(copied):
    (copied / TEST / "groundtruth.txt").unlink()
    report = check.check("tnllt", copied, Checking(images="none"))
    assert report.sequences == 2
    (problem,) = report.problems
    assert problem.kind == "unreadable annotation" and "groundtruth.txt does not exist" in problem.text


def test_gaps_and_missing_sentences_are_warned_of(copied):
    folder = copied / TEST
    (folder / "imgs" / "00003.png").unlink()
    (folder / "imgs" / "00007.png").rename(folder / "imgs" / "00900.png")
    (copied / OTHER / "language.txt").unlink()
    report = check.check("tnllt", copied, Checking(images="none"))
    assert {p.kind: p.text for p in report.problems if p.level == "warning"} == {
        "gap": "3 in the images' numbers, the first: 00004.png follows 00002.png",
        "no sentence": "no language annotation, which others have",
    }


def test_names_that_count_on_are_no_gap_whatever_their_form(tmp_path):
    TREES["tnl2k"](tmp_path)
    assert not any(kind == "gap" for _, kind in found("tnl2k", tmp_path, "warning"))


def test_a_frame_that_occurs_twice_in_a_sequence_is_found_when_all_are_opened(copied):
    folder = copied / TEST / "imgs"
    shutil.copy(folder / "00005.png", folder / "00009.png")
    assert found("tnllt", copied, "warning", images="ends") == set()
    report = check.check("tnllt", copied, Checking(images="all"))
    (problem,) = report.problems
    assert (problem.sequence, problem.kind, problem.level) == (TEST, "duplicate frame", "warning")
    assert problem.text == "1 frames repeat an earlier one, the first: frame 9 is frame 5"


def test_frames_and_names_of_another_benchmarks_training_split_are_leakage(copied, tmp_path):
    other = tmp_path / "lasot"
    lasot(other)
    for name, source in (("air plane-2", TEST), ("air plane-10", OTHER), ("t-shirt-1", TRAIN)):
        folder = other / name.rpartition("-")[0] / name / "img"
        for number, frame in enumerate(sorted((copied / source / "imgs").iterdir())[:4], start=1):
            (folder / f"{number:08d}.jpg").write_bytes(frame.read_bytes())
    # a frame that three have: what is named is the one in the other split, not the one in between
    first = (other / "air plane" / "air plane-2" / "img" / "00000001.jpg").read_bytes()
    (other / "air plane" / "air plane-10" / "img" / "00000004.jpg").write_bytes(first)
    theirs = list(read("lasot", other).values())
    sequences.write_index(tmp_path / "lasot.npz", theirs, other, "lasot")
    (copied / TRAIN).rename(copied / "air plane-10")
    write(copied / "tnl_lt_train_split.txt", "air plane-10\n")
    done = run("--benchmark", "tnllt", "--root", copied, "--against", tmp_path / "lasot.npz", "--output", tmp_path / "c.json")
    report = json.loads((tmp_path / "c.json").read_text())
    assert done.returncode == 1 and report["opened"] == 6
    assert sorted((p["sequence"], p["level"], p["kind"]) for p in report["problems"]) == [
        (TEST, "error", "leakage"),
        (OTHER, "warning", "shared frame"),
        ("air plane-10", "error", "leakage"),  # a name of lasot's test split
        ("air plane-10", "warning", "shared frame"),
    ]
    assert any("are also in air plane-2 in the train split of lasot" in p["text"] for p in report["problems"])
    shutil.rmtree(other)
    done = run("--benchmark", "tnllt", "--root", copied, "--against", tmp_path / "lasot.npz")
    assert done.returncode == 1 and "Or leave out --against lasot's index" in done.stderr


def test_one_file_that_two_sequences_share_is_no_finding(tmp_path):
    folder = tmp_path / "data_seq" / "UAV123" / "car1"
    for number in (750, 751, 752):
        images.write_image(folder / f"{number:06d}.png", np.full((60, 60, 3), number % 256, np.uint8))
    for name in ("car1_1", "car1_2"):
        write(tmp_path / "anno" / "UAV123" / f"{name}.txt", "1,2,3,4\n1,2,3,4\n")
    assert read("uav123", tmp_path)["car1_1"].frames[-1] == read("uav123", tmp_path)["car1_2"].frames[0]
    assert found("uav123", tmp_path, "warning", images="all") == set()
    shutil.copy(folder / "000750.png", folder / "000752.png")
    assert found("uav123", tmp_path, "warning", images="all") == {("car1_2", "shared frame")}
