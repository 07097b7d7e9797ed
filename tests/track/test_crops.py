"""Crops are those that the authors' checkpoints saw, and boxes come back from them to where they were."""

import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import recipe
from hypothesis import given
from hypothesis import strategies as st

from workflow_scripts.boxes import clip_to_image
from workflow_scripts.console import BadInput
from workflow_scripts.track import crops

GOLDEN = json.loads((Path(__file__).parent / "golden" / "dutrack_256.json").read_text())

coordinates = st.floats(-200, 500, allow_nan=False)
lengths = st.floats(0.5, 400, allow_nan=False)
boxes = st.tuples(coordinates, coordinates, lengths, lengths)


@pytest.mark.parametrize("run", ["dutrack", "reasoningtrack"])
def test_every_recorded_crop_is_equal_to_the_last_bit(run: str) -> None:
    for frame in GOLDEN[run]["frames"]:
        image, _ = recipe.render(frame["frame"])
        search, factor = crops.crop(image, frame["state_before"], 4.0, 256)
        template, _ = crops.crop(image, frame["state_after"], 2.0, 128)
        assert zlib.crc32(search.tobytes()) == frame["search_crop_crc32"]
        assert zlib.crc32(template.tobytes()) == frame["memory_crop_crc32"]
        assert factor == frame["resize_factor"]


@given(boxes, st.sampled_from([2.0, 4.0, 5.0]), st.sampled_from([64, 128, 256]))
def test_a_box_mapped_into_a_crop_and_back_is_the_same_box(box: tuple, factor: float, size: int) -> None:
    resize = size / math.ceil(math.sqrt(box[2] * box[3]) * factor)
    target = np.array([box[0] + 3.25, box[1] - 1.5, box[2] * 1.1, box[3] * 0.8])
    fractions = crops.map_into(target, np.array(box), size, np.array(resize))
    assert crops.map_back(fractions, np.array(box), size, np.array(resize)) == pytest.approx(target, abs=1e-6)


@given(boxes)
def test_the_box_itself_lies_in_the_middle_of_its_crop(box: tuple) -> None:
    side = math.ceil(math.sqrt(box[2] * box[3]) * 4.0)
    fractions = crops.map_into(np.array(box), np.array(box), 128, np.array(128 / side))
    assert fractions[:2] == pytest.approx([0.5, 0.5], abs=1e-9)


@given(boxes, st.integers(40, 90), st.integers(40, 90))
def test_a_crop_is_the_image_shifted_and_black_outside(box: tuple, width: int, height: int) -> None:
    image = np.random.default_rng(0).integers(1, 255, (height, width, 3), dtype=np.uint8)
    side = math.ceil(math.sqrt(box[2] * box[3]) * 2.0)
    crop, factor = crops.crop(image, box, 2.0, side)  # no resize: pixels can be compared
    left, top = round(box[0] + box[2] / 2 - side / 2), round(box[1] + box[3] / 2 - side / 2)
    assert crop.shape == (side, side, 3)
    assert factor == 1.0
    # The last column (row) is lost where the crop reaches the border or beyond, as in the authors' code.
    columns, rows = np.arange(left, left + side), np.arange(top, top + side)
    inside_x = (columns >= 0) & (columns < width - (left + side >= width))
    inside_y = (rows >= 0) & (rows < height - (top + side >= height))
    shifted = image[rows.clip(0, height - 1)][:, columns.clip(0, width - 1)]
    assert (crop == shifted * (inside_y[:, None] & inside_x)[..., None]).all()


@given(boxes, st.integers(20, 400), st.integers(20, 400))
def test_a_clipped_box_touches_the_image_and_has_ten_pixels(box: tuple, width: int, height: int) -> None:
    x, y, w, h = clip_to_image(np.array(box), width, height)
    assert w >= 10
    assert h >= 10
    assert 0 <= x <= width - 10
    assert 0 <= y <= height - 10


def test_normalised_black_is_minus_mean_over_deviation() -> None:
    black = crops.normalise(np.zeros((1, 2, 2, 3), np.uint8))
    expected = -np.array(crops.MEAN) / np.array(crops.STD)
    assert black.shape == (1, 3, 2, 2)
    assert black[0, :, 0, 0].numpy() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("count", [3, crops.WORTH_THREADS + 1])
def test_a_batch_of_crops_equals_the_crops(count: int) -> None:
    images = [recipe.render(i)[0] for i in range(count)]
    around = [np.array(recipe.render(i)[1]) for i in range(count)]
    batch, factors = crops.crop_batch(images, around, 4.0, 96)
    for i in range(count):
        single, factor = crops.crop(images[i], around[i], 4.0, 96)
        assert (batch[i] == single).all()
        assert factors[i] == factor


@pytest.mark.parametrize("box", [[5, 5, 0, 10], [5, 5, float("nan"), 10], [5, 5, 10, -1]])
def test_a_box_without_area_is_refused_with_its_numbers(box: list) -> None:
    with pytest.raises(BadInput, match="no area"):
        crops.crop(np.zeros((50, 50, 3), np.uint8), box, 2.0, 32)
