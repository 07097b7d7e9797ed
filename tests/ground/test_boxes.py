"""Box geometry: properties that hold for every box."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workflow_scripts import boxes

number = st.floats(-500, 500, allow_nan=False)
side = st.floats(0.5, 300, allow_nan=False)
box = st.tuples(number, number, side, side).map(np.array)


@given(box)
def test_corner_form_and_back_is_the_same_box(a):
    np.testing.assert_allclose(boxes.xyxy_to_xywh(boxes.xywh_to_xyxy(a)), a, atol=1e-9)


@given(box, box)
def test_iou_is_symmetric_and_between_0_and_1(a, b):
    value = boxes.intersection_over_union(a, b)
    assert 0 <= value <= 1 + 1e-12
    assert value == boxes.intersection_over_union(b, a)


@given(box)
def test_a_box_overlaps_itself_wholly(a):
    assert abs(boxes.intersection_over_union(a, a) - 1) < 1e-9
    assert abs(boxes.generalised_iou(a, a) - 1) < 1e-9


@given(box, box, st.floats(0.1, 10))
def test_scaling_both_boxes_keeps_iou(a, b, scale):
    np.testing.assert_allclose(
        boxes.intersection_over_union(a * scale, b * scale), boxes.intersection_over_union(a, b), atol=1e-9
    )


@given(box, box)
def test_generalised_iou_is_at_most_iou_and_above_minus_1(a, b):
    value = boxes.generalised_iou(a, b)
    assert -1 <= value <= boxes.intersection_over_union(a, b) + 1e-12


def test_corner_swapped_and_empty_boxes_overlap_nothing():
    good = np.array([100.0, 100, 100, 100])
    assert boxes.intersection_over_union(np.array([200.0, 200, -100, -100]), good) == 0
    assert boxes.intersection_over_union(np.zeros(4), np.zeros(4)) == 0
    assert boxes.generalised_iou(np.zeros(4), np.zeros(4)) == -1


@given(box, st.integers(20, 800), st.integers(20, 800))
def test_clipping_keeps_a_box_inside_with_its_margin(a, width, height):
    x, y, w, h = boxes.clip_to_image(a, width, height)
    assert w >= 10 and h >= 10
    assert 0 <= x <= width - 10 and 0 <= y <= height - 10


def test_centre_error_is_the_distance_of_centres():
    assert boxes.centre_error([0, 0, 10, 10], [3, 4, 10, 10]) == 5
