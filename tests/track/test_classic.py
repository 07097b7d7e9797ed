"""Trackers without training."""

import subprocess
import sys

import numpy as np
import pytest

from workflow_scripts import images
from workflow_scripts.console import BadInput
from workflow_scripts.track import load_tracker, measure


def follow(name, sequence):
    tracker = load_tracker(name)
    frames = [images.read_rgb(f) for f in sequence.frames]
    states = tracker.start(frames[:1], [sequence.boxes[0]], [sequence.sentence])
    boxes, outputs = [sequence.boxes[0]], []
    for frame in frames[1:]:
        states, outputs = tracker.step(states, [frame])
        boxes.append(outputs[0].box)
    return np.array(boxes), outputs[0]


@pytest.mark.parametrize("name", ["kcf", "csrt"])
def test_opencv_trackers_follow_a_moving_square(draw, name):
    sequence = draw("square", frames=15)
    boxes, last = follow(name, sequence)
    assert measure.auc(boxes, sequence.boxes) > 0.6
    assert last.confidence == 1.0
    assert last.sentence == sequence.sentence


def test_a_lost_target_keeps_its_last_box_without_confidence(draw):
    sequence = draw("square")
    tracker = load_tracker("mosse")
    states = tracker.start([images.read_rgb(sequence.frames[0])], [sequence.boxes[0]], [""])
    _, outputs = tracker.step(states, [np.zeros((120, 160, 3), np.uint8)])
    assert outputs[0].confidence == 0.0
    assert (outputs[0].box == sequence.boxes[0]).all()


def test_static_repeats_the_first_box(draw):
    sequence = draw("square")
    boxes, _ = follow("static", sequence)
    assert (boxes == sequence.boxes[0]).all()


def test_a_first_box_that_leaves_the_frame_is_cut_for_opencv(draw):
    sequence = draw("square")
    tracker = load_tracker("kcf")
    frame = images.read_rgb(sequence.frames[0])
    states = tracker.start([frame], [np.array([-10.0, -10.0, 30.0, 30.0])], [""])
    _, outputs = tracker.step(states, [frame])
    assert np.isfinite(outputs[0].box).all()


def test_classic_trackers_need_no_torch():
    code = (
        "import sys; from workflow_scripts.track import load_tracker; load_tracker('csrt'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_tracker_is_refused_with_the_known_names():
    with pytest.raises(BadInput, match="static, kcf, csrt, mosse"):
        load_tracker("ksf")
