"""Frames of every kind that benchmarks hold become RGB of 8 bits; what is not a whole picture is refused."""

import cv2
import numpy as np
import pytest

from workflow_scripts import images
from workflow_scripts.console import BadInput

COLOURS = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)  # RGB


def stored(path, array):
    """Writes the array as it is, without a change of its channels' order."""
    assert cv2.imwrite(str(path), array)
    return path


def test_a_grey_picture_has_three_equal_channels(tmp_path):
    grey = COLOURS[..., 0]
    assert np.array_equal(images.read_rgb(stored(tmp_path / "a.png", grey)), np.dstack([grey] * 3))


def test_transparency_is_dropped(tmp_path):
    rgba = np.dstack([COLOURS[..., ::-1], np.full(COLOURS.shape[:2], 7, np.uint8)])
    assert np.array_equal(images.read_rgb(stored(tmp_path / "a.png", rgba)), COLOURS)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_scaled_to_eight(tmp_path, channels):
    deep = (COLOURS.astype(np.uint16) * 257)[..., :channels][..., ::-1]
    expected = np.dstack([COLOURS[..., :1]] * 3) if channels == 1 else COLOURS
    if channels == 4:
        deep = np.dstack([deep, np.full(COLOURS.shape[:2], 9, np.uint16)])
    assert np.array_equal(images.read_rgb(stored(tmp_path / "a.png", np.ascontiguousarray(deep))), expected)


def test_numbers_that_are_no_pixels_are_refused(tmp_path):
    path = stored(tmp_path / "a.tiff", COLOURS.astype(np.float32))
    with pytest.raises(BadInput, match=r"a\.tiff holds float32 .* 8 or 16 bit"):
        images.read_rgb(path)


@pytest.mark.parametrize("kind", ["jpg", "png", "bmp", "webp"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.97])
def test_a_picture_that_is_cut_off_is_refused(tmp_path, kind, share):
    path = stored(tmp_path / f"a.{kind}", np.kron(COLOURS, np.ones((4, 4, 1), np.uint8)))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(BadInput, match=rf"a\.{kind} cannot be read as an image"):
        images.read_rgb(path)


def test_what_a_camera_wrote_behind_a_picture_does_no_harm(tmp_path):
    path = stored(tmp_path / "a.jpg", COLOURS)
    before = images.read_rgb(path)
    path.write_bytes(path.read_bytes() + bytes(5000))
    assert np.array_equal(images.read_rgb(path), before)


def test_the_end_of_a_thumbnail_is_not_that_of_the_picture(tmp_path):
    path = stored(tmp_path / "a.jpg", COLOURS)
    whole = path.read_bytes()
    thumbnail = b"\xff\xe1" + (2 + len(whole)).to_bytes(2) + whole  # a segment that holds a picture of its own
    path.write_bytes(whole[:2] + thumbnail + whole[2 : len(whole) // 2 + 400])
    with pytest.raises(BadInput, match="truncated"):
        images.read_rgb(path)


def test_a_missing_picture_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"nowhere\.png does not exist"):
        images.read_rgb(tmp_path / "nowhere.png")
