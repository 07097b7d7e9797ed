"""VOT's regions: the box that encloses a mask, a rectangle or a polygon, and lines that are none of them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from trees import TREES, images, names, read, write

from workflow_scripts.console import BadInput
from workflow_scripts.data.layouts import vot


def as_text(mask: np.ndarray, left: int, top: int) -> str:
    """A mask in VOT's text form: its window, then runs of zeros and ones by turns, zeros first."""
    runs, value = [0], 0
    for pixel in mask.ravel().tolist():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return f"m{left},{top},{mask.shape[1]},{mask.shape[0]}," + ",".join(map(str, runs))


@given(arrays(np.int8, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, 1)), st.integers(-3, 9))
def test_a_masks_box_is_the_one_that_numpy_finds(mask, left):
    box = vot.enclosing_box(as_text(mask, left, 20))
    if not mask.any():
        assert np.isnan(box).all()
        return
    ys, xs = np.nonzero(mask)
    assert box == (left + xs.min(), 20 + ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1)


@pytest.mark.parametrize(
    ("region", "box"),
    [
        ("m5,7,3,2,2,2,2", (5, 7, 3, 2)),  # one run over the end of a row: both sides
        ("m5,7,3,2,0,6", (5, 7, 3, 2)),
        ("m5,7,3,2,4,1", (6, 8, 1, 1)),  # the last zeros may lack
        ("m5,7,3,2,1,1,0,1", (6, 7, 2, 1)),  # a long run split by an empty one
        ("1,2,3,4", (1, 2, 3, 4)),
        ("4,1,1,5,2,0", (1, 0, 3, 5)),
    ],
)
def test_a_regions_box_is_the_one_that_encloses_it(region, box):
    assert vot.enclosing_box(region) == box


@given(st.lists(st.tuples(st.floats(-50, 500), st.floats(-50, 500)), min_size=3, max_size=8))
def test_a_polygons_box_encloses_its_corners_and_no_more(corners):
    x, y, width, height = vot.enclosing_box(",".join(f"{v!r}" for corner in corners for v in corner))
    xs, ys = np.array(corners).T
    assert (x, y, width, height) == (xs.min(), ys.min(), xs.max() - xs.min(), ys.max() - ys.min())


def test_a_sequence_holds_boxes_absence_tags_and_its_rate(tmp_path):
    TREES["vot2020"](tmp_path)
    found = read("vot2020", tmp_path)
    assert list(found) == ["ants1", "agility"]  # list.txt gives the order
    masks, others = found["agility"], found["ants1"]
    assert masks.boxes[:2].tolist() == [[11, 20, 2, 2], [10, 20, 1, 1]]
    assert masks.present.tolist() == [True, True, False] and masks.attributes == ("occlusion",) and masks.fps == 25
    assert others.boxes[:2].tolist() == [[1.5, 2, 3, 4], [0, 1, 5, 8]] and others.present.tolist() == [True, True, False]
    assert names(masks)[0] == "00000001.jpg"


def test_earlier_years_keep_images_beside_the_annotation_and_have_no_list(tmp_path):
    images(tmp_path / "bag", ["00000001.jpg", "00000002.jpg"])
    write(tmp_path / "bag" / "groundtruth.txt", "1,2,3,4\n0\n")
    write(tmp_path / "bag" / "camera_motion.label", "1\n1\n")
    s = read("vot2020", tmp_path)["bag"]
    assert len(s) == 2 and s.present.tolist() == [True, False] and s.attributes == ("camera_motion",) and s.fps == 30


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("1,2,3,4,5", "has 5 numbers, which is neither a rectangle nor a polygon"),
        ("1,2", "has 2 numbers"),
        ("one,2,3,4", "is no mask, rectangle or polygon"),
        ("m1,2,3", "is a mask without its window"),
        ("m1,2,-3,4,5", "is a mask without its window"),
        ("m0,0,2,2,1,9", "is a mask whose runs go beyond its window of 2x2"),
        ("m0,0,2,2,1.5,2", "is no mask, rectangle or polygon"),
    ],
)
def test_a_line_that_is_no_region_is_named(tmp_path: Path, line, why):
    TREES["vot2020"](tmp_path)
    write(tmp_path / "ants1" / "groundtruth.txt", f"1,2,3,4\n{line}\n")
    with pytest.raises(BadInput, match=rf"groundtruth\.txt, line 2: '{line}' {why}.*; mend or restore the file"):
        read("vot2020", tmp_path)


def test_a_list_that_names_what_is_not_there_is_refused_with_its_line(tmp_path):
    TREES["vot2020"](tmp_path)
    write(tmp_path / "list.txt", "ants1\nbag\n")
    with pytest.raises(BadInput, match=r"list\.txt, line 2 names bag"):
        read("vot2020", tmp_path)
