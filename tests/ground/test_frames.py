"""Frames behave as the list of paths that they stand for, and take little room where names count up."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_scripts.frames import Frames

NAMES = st.lists(st.from_regex(r"[a-z]{0,2}[0-9٣]{0,3}[._-]?[0-9]{0,2}(\.jpg)?", fullmatch=True).filter(bool), max_size=12)
COUNTED = st.builds(
    lambda before, first, width, count, after: [f"{before}{n:0{width}d}{after}" for n in range(first, first + count)],
    st.sampled_from(["", "frame", "a1_"]),
    st.integers(0, 1200),
    st.integers(1, 5),
    st.integers(1, 30),
    st.sampled_from([".jpg", "_x.png", ""]),
)


@given(st.lists(st.one_of(NAMES, COUNTED), max_size=4).map(lambda parts: [name for part in parts for name in part]))
def test_any_names_are_given_back_in_their_order(names):
    frames, paths = Frames.of("f", names), [Path("f") / name for name in names]
    assert frames.names() == names and list(frames) == paths and len(frames) == len(paths) and frames == paths
    assert [frames[i] for i in range(-len(paths), len(paths))] == [*paths, *paths]
    for part in (slice(None), slice(1, None), slice(None, -1), slice(None, None, -2)):
        assert list(frames[part]) == paths[part]
    with pytest.raises(IndexError):
        frames[len(paths)]


@given(COUNTED)
def test_counting_names_are_one_run_however_many_they_are(names):
    assert len(Frames.of("f", names).runs) == (1 if names[0].endswith((".jpg", ".png")) else len(names))


@pytest.mark.parametrize(
    "names",
    [
        ["8.jpg", "9.jpg", "10.jpg", "11.jpg"],
        ["00000009.jpg", "00000010.jpg", "00000100.jpg"],
        ["frame9.png", "frame10.jpg"],
        ["cover.jpg", "0001.jpg"],
        ["img2_v10.jpg", "img1_v11.jpg"],
    ],
)
def test_frames_go_by_the_last_number_of_their_names(names):
    assert Frames.numbered("f", sorted(names)).names() == names


def test_frames_cannot_be_mistaken_for_others():
    assert Frames.of("f", ["1.jpg", "2.jpg"]) != Frames.of("g", ["1.jpg", "2.jpg"])
    assert Frames.of("f", ["1.jpg", "2.jpg"]) != [Path("f/1.jpg")]
    assert Frames.of("f", ["01.jpg", "02.jpg"]) != Frames.of("f", ["1.jpg", "2.jpg"])
    assert not Frames.of("f", []) and repr(Frames.of("f", ["1.jpg"])) == "Frames('f', (('1.jpg', 1),))"
