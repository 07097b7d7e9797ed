"""Reading box files: every way trackers write them, the same bits as float(), and never a silent wrong value."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow_scripts.console import BadInput
from workflow_scripts.score import annotations, protocols, results

pytestmark = pytest.mark.usefixtures("engine")

BOXES = [[45.0, 43.0, 22.0, 29.0], [7.5, -31.25, 18.0, 32.0], [1e3, 0.125, 27.0, 37.0]]


def write(folder: Path, text: str, name: str = "seq.txt") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def lines(separator: str, end: str = "\n") -> str:
    return "".join(separator.join(map(repr, box)) + end for box in BOXES)


WAYS = {
    "comma": lines(","),
    "tab": lines("\t"),
    "blank": lines(" "),
    "semicolon": lines(";"),
    "comma and blank": lines(", "),
    "aligned blanks": lines("   "),
    "CRLF": lines(",", "\r\n"),
    "old Macintosh": lines(",", "\r"),
    "no last newline": lines(",").rstrip("\n"),
    "trailing comma": lines(",", ",\n"),
    "leading blanks": "  " + lines(",", "\n  "),
    "blank lines": "\n" + lines(",", "\n\n"),
    "mixed": "45,43\t22 29\n7.5;-31.25;18;32\n1E3, 0.125 ,27.0e0,+37\n",
    "byte order mark": "\ufeff" + lines(","),
    "exponents": "4.5e1,43,2.2E+01,29\n7.5,-3.125e1,18,32\n1e3,1.25e-1,27,37\n",
    "Fortran exponents": "4.5D1,43,22,29\n7.5,-31.25,18,32\n1d3,0.125,27,37\n",
}


@pytest.mark.parametrize("text", WAYS.values(), ids=WAYS.keys())
def test_every_common_way_of_writing_boxes_reads_the_same(tmp_path, text):
    path = write(tmp_path, text)
    np.testing.assert_array_equal(results.read_boxes(path).boxes, BOXES)
    found = results.read_sequence([path, write(tmp_path, lines(","), "clean.txt")], 3)
    np.testing.assert_array_equal(found.planes[:, 0], found.planes[:, 1])
    assert not found.missed.any()


def test_nan_infinity_and_short_rows_are_kept_as_the_toolkits_read_them(tmp_path):
    boxes = results.read_boxes(write(tmp_path, "nan,NaN,1,2\n-Inf,inf,3,4\n5,6,7\n1+2i,5,6,7\n8+0i,1,2,3\n")).boxes
    assert np.isnan(boxes[0, :2]).all() and np.isinf(boxes[1, :2]).all()
    assert list(boxes[2]) == [5, 6, 7, 0]  # a missing field is 0, so the box is repaired later
    assert math.isnan(boxes[3, 0]) and boxes[4, 0] == 8


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x,y,w,h\n1,2,3,4\n", "line 1: 'x' is not a number; remove the header line"),
        ("1,2,3,4\n1,2,oops,4\n", "line 2: 'oops' is not a number"),
        ("1,2,3,4\n1,2,3,4,5\n", "line 2: 5 columns"),
        ("1,2,3,4\n1,2,3,4\n", "line 2: ends here, but the sequence has 3 frames"),
        ("1,2,3\n1,2\n1,2,3\n", "line 1: no line has four numbers"),
        ("\n1,2,3,4\n1,2,3,4\n1,2,3,4e\n", "line 4: '4e' is not a number"),
        ("1,2,3,4\n1,2,3,4 # lost\n", "line 2: '#' is not a number"),
        ("1,2,3,4\r\n1 2 3,x\r\n", "line 2: 'x' is not a number"),
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("\ufeff\n,,\n", "is empty"),
    ],
)
def test_what_would_stop_the_toolkit_is_refused_with_file_and_line(tmp_path, text, said):
    with pytest.raises(BadInput, match=r"seq\.txt") as refused:
        results.read_sequence([write(tmp_path, text)], 3)
    assert said in str(refused.value)


def test_lenient_counts_what_cannot_be_read_as_missed_and_says_so(tmp_path):
    paths = [
        write(tmp_path, "x,y,w,h\n1,2,3,4\n1,2,3,4\n1,2,3,4\n", "header.txt"),
        write(tmp_path, "1,2,3,4\n1,2,oops,4\n1,2,3,4,5\n", "words.txt"),
        write(tmp_path, "1,2,3,4\n", "short.txt"),
        write(tmp_path, "", "empty.txt"),
        tmp_path / "missing.txt",
        write(tmp_path, "1,2,3,4\n" * 5, "long.txt"),
    ]
    found = results.read_sequence(paths, 3, lenient=True)
    assert found.missed.tolist() == [[False] * 3, [False, True, True], [False, True, True], [True] * 3, [True] * 3, [False] * 3]
    assert found.missing.tolist() == [0, 0, 2, 3, 3, 0] and found.extra.tolist() == [0, 0, 0, 0, 0, 2]
    assert found.unreadable.tolist() == [False, False, False, True, True, False]
    assert len(found.problems) == 6


def test_what_the_toolkits_fill_in_silently_is_filled_in_and_told(tmp_path):
    path = write(tmp_path, "1,2,3,4\n5,,7,8\n9,10\n11,12,13\n")
    found = results.read_sequence([path], 4)
    np.testing.assert_array_equal(found.planes[:, 0].T, [[1, 2, 3, 4], [5, 0, 7, 8], [9, 10, 0, 0], [11, 12, 13, 0]])
    assert found.problems == [
        f"{path}, line 2: fewer than four numbers, filled with 0 as the toolkits do. (2 more such lines.)"
    ]
    assert not found.plain.any() and not found.missed.any()


BAD = {
    "empty": "",
    "words": "lost\n" * 3,
    "header": "x,y,w,h\n" + lines(","),
    "short": "1,2,3,4\n",
    "long": lines(",") * 4,
    "narrow": "1,2,3\n" * 3,
    "wide": "1,2,3,4,5\n" * 3,
    "no number": "nan,nan,nan,nan\n" * 3,
    "another delimiter": lines(";"),
    "two delimiters": "1,2;3,4\n" * 3,
    "no numbers of Arrow's": "+1,+2,+3,+4\n" * 3,
    "many digits": "0.30000000000000000000000000001,1,2,3\n" * 3,
    "line break inside": "1,2\n3,4,5,6\n7,8,9,10,11,12\n",
    "zero bytes": "1,2,3,4\n\0\n1,2,3,4\n",
    "binary": "\x89PNG\r\n\x1a\n",
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_one_trackers_bad_file_never_changes_what_is_read_of_another(tmp_path, bad):
    good = [write(tmp_path, lines(s), f"good{i}.txt") for i, s in enumerate((",", "\t", " "))]
    alone = results.read_sequence(good, 3)
    beside = results.read_sequence([good[0], write(tmp_path, bad, "bad.txt"), *good[1:]], 3, lenient=True)
    np.testing.assert_array_equal(beside.planes[:, [0, 2, 3]], alone.planes)
    assert not beside.missed[[0, 2, 3]].any() and beside.plain[[0, 2, 3]].all()


def test_octave_reads_a_header_as_a_row_of_zeros_and_shifts_every_frame(tmp_path):
    path = write(tmp_path, "x,y,w,h\n" + lines(","))
    boxes = results.read_boxes(path, dialect="octave").boxes
    np.testing.assert_array_equal(boxes, [[0, 0, 0, 0], *BOXES])


def test_flags_read_one_a_line_or_in_a_row(tmp_path):
    for text in ("0\n1\n1\n0\n", "0,1,1,0", "0 1 1 0\n", "0\r\n1\r\n1\r\n0", "0.0\n1.0\n1\n0\n"):
        assert list(results.read_flags(write(tmp_path, text))) == [0, 1, 1, 0]
    for text in ("\ufeff0\n1\n", "0;1;", "\n0\n\n1\n\n", "0\r1\r"):
        assert list(results.read_flags(write(tmp_path, text))) == [0, 1]
    with pytest.raises(BadInput, match=r"seq\.txt, line 2: 'yes' is not a number"):
        results.read_flags(write(tmp_path, "0\nyes\n"))


def test_ground_truth_without_a_box_or_with_a_bad_line_is_refused_by_name(tmp_path):
    (tmp_path / "annos").mkdir()
    for text, said in (("\n", "holds no box"), ("1,2,3,4\nx,2,3,4\n", "line 2: 'x' is not a number; write four numbers.")):
        write(tmp_path / "annos", text)
        with pytest.raises(BadInput, match=r"seq\.txt") as refused:
            annotations.from_toolkit(tmp_path, protocols.get("otb"))
        assert said in str(refused.value)


number = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True).map(repr),
    st.floats(min_value=-1e6, max_value=1e6).map(lambda v: f"{v:.4f}"),
    st.floats(min_value=-1e300, max_value=1e300).map(lambda v: f"{v:.6e}"),
    st.integers(-(10**20), 10**20).map(str),
    st.from_regex(r"[+-]?[0-9]{0,25}\.?[0-9]{0,25}([eE][+-]?[0-9]{1,3})?", fullmatch=True),
)


def as_float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(number, number, number, number), min_size=1, max_size=8), separator=st.sampled_from(",\t ;"))
def test_a_number_is_read_as_float_reads_it_or_refused(tmp_path_factory, rows, separator):
    path = write(tmp_path_factory.getbasetemp(), "".join(separator.join(row) + "\n" for row in rows), "fuzz.txt")
    expected = [[as_float(v) for v in row] for row in rows]
    if any(v is None for row in expected for v in row):
        text = [v for row in rows for v in row if as_float(v) is None and v]
        if text:
            with pytest.raises(BadInput, match=r"fuzz\.txt, line \d+"):
                results.read_boxes(path)
        return
    read = results.read_boxes(path).boxes
    np.testing.assert_array_equal(read, np.array(expected))
    assert (np.signbit(read) == np.signbit(np.array(expected)))[~np.isnan(read)].all()


anything = st.one_of(st.binary(max_size=200), st.text(alphabet="0123456789.,;eE+- \t\r\nnaif", max_size=200).map(str.encode))


@settings(max_examples=150, deadline=None)
@given(raw=anything)
def test_any_bytes_are_read_or_refused_with_a_sentence(tmp_path_factory, raw):
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(raw)
    for lenient in (False, True):
        try:
            boxes = results.read_boxes(path, lenient=lenient).boxes
        except BadInput as refused:
            assert "any.txt, line " in str(refused) and not lenient
        else:
            slow = results.parse_boxes(raw, path, lenient=lenient).boxes
            np.testing.assert_array_equal(boxes, slow)


@settings(max_examples=150, deadline=None)
@given(raws=st.lists(anything, min_size=1, max_size=4), frames=st.integers(1, 6))
def test_files_of_anything_are_brought_to_the_sequences_length_or_refused_by_name(tmp_path_factory, raws, frames):
    paths = [tmp_path_factory.getbasetemp() / f"any{k}.txt" for k in range(len(raws))]
    for path, raw in zip(paths, raws, strict=True):
        path.write_bytes(raw)
    found = results.read_sequence(paths, frames, lenient=True)
    for k, (path, raw) in enumerate(zip(paths, raws, strict=True)):
        file = results.parse_boxes(raw, path, lenient=True)
        rows = min(len(file.boxes), frames)
        np.testing.assert_array_equal(found.planes[:, k, :rows].T, file.boxes[:rows])
        np.testing.assert_array_equal(found.missed[k], [*file.missed[:rows], *[True] * (frames - rows)])
        assert np.isnan(found.planes[:, k, rows:]).all() and found.unreadable[k] == (not rows)
        assert (found.missing[k], found.extra[k]) == (frames - rows, max(0, len(file.boxes) - frames))
    try:
        strict = results.read_sequence(paths, frames)
    except BadInput as refused:
        assert any(path.name in str(refused) for path in paths)
    else:
        assert not strict.missed.any()
