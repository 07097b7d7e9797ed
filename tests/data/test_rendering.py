"""What the mini study's sequences promise."""

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from workflow_scripts import images
from workflow_scripts.data import packing, render
from workflow_scripts.data.rendering import attributes, scene
from workflow_scripts.drawing import sprites


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(dataset, small, tmp_path):
    render.render_dataset(tmp_path / "again", small.model_copy(update={"workers": 2}))
    render.render_dataset(tmp_path / "other", small.model_copy(update={"seed": 8, "train_sequences": 0}))

    def contents(folder: Path) -> dict[str, bytes]:
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    assert contents(dataset) == contents(tmp_path / "again")
    frame = "Mini_test_00_LANG/imgs/00001.png"
    assert contents(dataset)[frame] != contents(tmp_path / "other")[frame]


def children(process: int) -> list[int]:
    """Processes that `process` started."""
    stats = {int(p.name): p / "stat" for p in Path("/proc").iterdir() if p.name.isdigit()}
    parents = {pid: stat.read_text().rpartition(")")[2].split()[1] for pid, stat in stats.items() if stat.exists()}
    return [pid for pid, parent in parents.items() if int(parent) == process]


def test_a_killed_rendering_takes_its_drawing_processes_along(small, tmp_path):
    given = small.model_copy(update={"workers": 2, "train_sequences": 200}).model_dump_json()
    command = [sys.executable, "-m", "workflow_scripts.data.render", "--parameters", given, "--output", tmp_path / "archive"]
    job = subprocess.Popen(command)
    end = time.monotonic() + 60
    while len(started := children(job.pid)) < 3:  # two that draw, and the one that counts what they share
        assert job.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    time.sleep(1)  # they draw
    job.kill()
    job.wait()
    while any(Path(f"/proc/{pid}").exists() for pid in started):
        assert time.monotonic() < end, "a drawing process outlived its job"
        time.sleep(0.05)


def test_train_and_test_share_no_frame(dataset):
    seen = {
        split: {hashlib.md5(p.read_bytes()).digest() for p in dataset.glob(f"Mini_{split}_*/imgs/*.png")}
        for split in ("train", "test")
    }
    assert seen["train"] and seen["test"] and not seen["train"] & seen["test"]


def test_the_layout_is_tnllts_with_one_for_present(dataset):
    for folder in sorted(p for p in dataset.iterdir() if p.is_dir()):
        frames = sorted(p.name for p in (folder / "imgs").iterdir())
        assert frames == [f"{n:05d}.png" for n in range(1, len(frames) + 1)] and 40 <= len(frames) <= 44
        boxes = np.loadtxt(folder / "groundtruth.txt", delimiter=",")
        present = np.loadtxt(folder / "absent_label.txt")
        assert boxes.shape == (len(frames), 4) and present.shape == (len(frames),)
        assert present[0] == 1 and ((boxes == 0).all(axis=1) == (present == 0)).all()
        assert (boxes[present == 1, 2:] > 1).all()
        flags = (folder / "attributes.txt").read_text().strip().split(",")
        assert len(flags) == 15 and set(flags) <= {"0", "1"}
        assert (folder / "language.txt").read_text().count("\n") == 1
    assert (dataset / "tnl_lt_val_split.txt").read_text() == ""
    assert (dataset / "tnl_lt_test_split.txt").read_text().split("\n") == ["Mini_test_00_LANG", "Mini_test_01_SV_CM"]


def test_at_least_half_of_the_test_sequences_need_their_sentence():
    recipes = [scene.RECIPES[number % len(scene.RECIPES)] for number in range(20)]
    assert sum("LANG" in recipe for recipe in recipes) >= 10


def test_look_alikes_differ_in_colour_alone_and_the_first_frames_hide_it():
    sequence = scene.render((3, 1, 0), ("LANG",), 0, (50, 60), 320, 240)
    target, others = sequence.facts["target"], sequence.facts["look_alikes"]
    assert 2 <= len(others) <= 4
    for other in others:
        assert other["colour"] != target["colour"]
        assert (other["texture"], other["shape"]) == (target["texture"], target["shape"])
    night = sequence.facts["grey_frames"]
    assert 5 <= night <= 10
    grey = [bool((frame == frame[..., :1]).all()) for frame in sequence.frames]
    assert all(grey[:night]) and not any(grey[night:])
    assert sequence.flags["FOC"] and sequence.flags["BC"] and not sequence.present.all()


@pytest.mark.parametrize("colour", sprites.LANGUAGE_COLOURS)
def test_language_colours_of_one_luminance_are_one_grey(colour):
    patch = sprites.with_luminance(sprites.COLOURS[colour], 130)
    assert patch.min() >= 0 and patch.max() <= 255
    pixel = np.round(patch).astype(np.uint8)[None, None]
    assert abs(int(cv2.cvtColor(pixel, cv2.COLOR_RGB2GRAY)[0, 0]) - 130) <= 1


def test_the_sentence_follows_the_grammar():
    rng = np.random.default_rng(0)
    look = sprites.Look("red", "striped", "circle")
    ends = ("", " that moves", " moving over the background")
    allowed = {f"{t}{a} red striped circle{e}" for t in ("", "track ") for a in ("the", "a") for e in ends}
    assert {sprites.sentence(look, rng) for _ in range(300)} == allowed


@pytest.mark.parametrize("shape", sprites.SHAPES)
@pytest.mark.parametrize("angle", [0.0, 0.4])
def test_the_box_is_the_one_of_the_drawn_pixels(shape, angle):
    sprite = sprites.paint(sprites.Look("red", "plain", shape))
    linear = sprites.linear_part(44, 1.2, angle)
    centre = np.array([61.3, 57.8])
    patch, x, y = sprites.warp(sprite, centre, linear)
    rows, columns = np.nonzero(patch[..., 3] > 0.5)
    x0, y0, width, height = sprites.box_of(sprite, centre, linear)
    drawn = np.array([x + columns.min(), y + rows.min(), x + columns.max() + 1, y + rows.max() + 1])
    assert np.abs(drawn - [x0, y0, x0 + width, y0 + height]).max() < 2.0  # corners thin out below half a pixel


def test_flags_are_measured_not_planned():
    frames = 30
    boxes = np.tile([50.0, 50, 40, 40], (frames, 1))
    calm = attributes.Measured(
        boxes=boxes,
        present=np.ones(frames, bool),
        in_view=np.ones(frames),
        hidden=np.zeros(frames),
        camera=np.zeros((frames, 2)),
        angle=np.zeros(frames),
        gain=np.ones(frames),
        blur=np.zeros(frames),
        nearest_alike=np.full(frames, np.inf),
        shrink=1.0,
    )
    assert not any(attributes.compute(calm).values())

    def changed(**fields: np.ndarray) -> set[str]:
        return {k for k, v in attributes.compute(attributes.Measured(**{**vars(calm), **fields})).items() if v}

    late = np.arange(frames) > 20
    assert changed(hidden=np.where(late, 1.0, 0)) == {"FOC"}
    assert changed(hidden=np.where(late, 0.5, 0)) == {"POC"}
    assert changed(in_view=np.where(late, 0.2, 1)) == {"OV"}
    assert changed(gain=np.where(late, 0.5, 1)) == {"IV"}
    assert changed(boxes=np.where(late[:, None], [50.0, 50, 10, 40], boxes)) == {"SV", "ARC"}
    assert changed(boxes=np.where(late[:, None], [90.0, 50, 40, 40], boxes)) == {"FM"}
    assert changed(nearest_alike=np.where(late, 1.5, np.inf)) == {"BC"}
    assert changed(blur=np.where(late, 5.0, 0)) == {"MB"}
    assert changed(angle=np.where(late, 0.5, 0)) == {"ROT"}
    assert attributes.line(attributes.compute(calm)) == ",".join("0" * 15) + "\n"


def test_the_archive_has_the_asked_number_of_parts_and_true_md5s(upstream):
    names = packing.part_names("TNLLT", 3)
    assert names == ["TNLLT_part_aa", "TNLLT_part_ab", "TNLLT_part_ac"]
    listed = dict(reversed(line.split()) for line in (upstream / "TNLLT_parts.md5").read_text().splitlines())
    parts = [(upstream / name).read_bytes() for name in names]
    for name, part in zip(names, parts, strict=True):
        assert part and listed[name] == hashlib.md5(part).hexdigest()
    assert listed["TNLLT.tar.gz"] == hashlib.md5(b"".join(parts)).hexdigest()


def test_frames_are_read_back_as_they_were_drawn(dataset, small):
    job = next(job for job in render.jobs(small) if job.name == "Mini_test_01_SV_CM")
    sequence = scene.render((7, 1, 1), job.recipe, 0, (40, 44), 160, 120)
    stored = images.read_rgb(dataset / job.name / "imgs" / "00010.png")
    assert (stored == sequence.frames[9]).all()
