"""The compiled scanner gives the bits of the Python and NumPy code beside it, and nothing depends on it."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_properties import OPTIONS, study

from workflow_scripts import files
from workflow_scripts.score import curves, protocols, results, scanner, scoring
from workflow_scripts.score.annotations import Annotation

pytestmark = pytest.mark.usefixtures("compiled")
quick = settings(max_examples=150, deadline=None)


def scan(raw: bytes) -> np.ndarray | None:
    room = np.full((4, raw.count(b"\n") + raw.count(b"\r") + 1), np.nan)
    rows = scanner.scan_boxes(raw, room)
    return None if rows is None else room[:, :rows].T


def same_bits(ours: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(ours, expected)
    np.testing.assert_array_equal(np.signbit(ours) & ~np.isnan(ours), np.signbit(expected) & ~np.isnan(expected))


numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(-1e4, 1e4).map(repr),
    st.floats(-1e4, 1e4).map(lambda v: f"{v:.4f}"),
    st.floats(-1e9, 1e9).map(lambda v: f"{v:.18e}"),  # NumPy's own format: nineteen digits
    st.integers(-(10**19) + 1, 10**19 - 1).map(str),
    st.tuples(st.integers(0, 10**19 - 1), st.integers(-27, 27)).map(lambda v: f"{v[0]}e{v[1]}"),
    # halfway between two doubles, and next to it: where rounding twice would show
    st.integers(2**52, 2**53 - 1).map(lambda v: str(2 * v + 1)),
    st.tuples(st.integers(2**52, 2**53 - 1), st.integers(1, 3), st.integers(-1, 1)).map(
        lambda v: f"{(2 * v[0] + 1) * 5 ** v[1] + v[2]}e-{v[1]}"
    ),
    st.sampled_from(
        ["nan", "NaN", "inf", "-Inf", "+0", "-0", "-0.0", ".5", "5.", "1E2", "+1.5e+1", "000000000000000000000012.5"]
    ),
)
plain_numbers = numbers.filter(lambda text: sum(c.isdigit() for c in text.lower().split("e")[0].lstrip("+-0.")) <= 19)
separators = st.sampled_from([",", "\t", " ", ";", ", ", " ; ", "   ", " \t"])
line_ends = st.sampled_from(["\n", "\r\n", "\r", "\n\n", " \n", ",\n"])


@quick
@given(rows=st.lists(st.tuples(numbers, numbers, numbers, numbers, separators, line_ends), min_size=1, max_size=6))
def test_every_number_it_reads_has_the_bits_of_float(rows):
    raw = "".join(separator.join(four) + end for *four, separator, end in rows).encode()
    found = scan(raw)
    expected = np.array([[float(v) for v in four] for *four, _, _ in rows])
    if found is not None:
        same_bits(found, expected)
    same_bits(results.parse_boxes(raw, "here").boxes, expected)


@quick
@given(
    value=st.tuples(st.integers(-(10**19) + 1, 10**19 - 1), st.integers(-27, 27)),
    row=st.tuples(plain_numbers, plain_numbers, separators, line_ends),
)
def test_up_to_nineteen_digits_need_nobody_else(value, row):
    digits, exponent = value
    text = f"{digits}e{exponent}"
    found = scan(f"{text}{row[2]}1.25{row[2]}-3{row[2]}7e0{row[3]}".encode())
    same_bits(found, np.array([[float(text), 1.25, -3.0, 7.0]]))


@quick
@given(raw=st.one_of(st.binary(max_size=120), st.text(alphabet="0123456789.,;eE+- \t\r\nnaif", max_size=120).map(str.encode)))
def test_bytes_it_cannot_read_are_left_to_the_careful_reader(raw):
    found = scan(raw)
    if found is not None:
        same_bits(found, results.parse_boxes(raw, "here").boxes)


def test_the_usual_ways_of_writing_boxes_are_all_its_own():
    for separator in (",", "\t", " ", ";", ", ", "   "):
        for end in ("\n", "\r\n", "\r", separator + "\n"):
            raw = "".join(separator.join(("1", "-2.5", "3e1", "4.000")) + end for _ in range(3)).encode()
            for text in (raw, b"\xef\xbb\xbf" + raw, b"\n " + raw + b"\n\n", raw.rstrip()):
                same_bits(scan(text), np.array([[1, -2.5, 30, 4]] * 3))


def test_no_more_rows_are_written_than_there_is_room_for():
    room = np.zeros((4, 5))
    assert scanner.scan_boxes(b"1,2,3,4\n" * 9, room[:, :2]) == 9
    assert (room[:, :2] == [[1] * 2, [2] * 2, [3] * 2, [4] * 2]).all() and not room[:, 2:].any()


odd = st.sampled_from([0.0, -1.0, -0.0, 1e-300, 1e300, np.nan, np.inf, -np.inf, 1.0, 2.5])


def broken(seed: int, values: list[float], integers: bool):
    """A study whose boxes and ground truth hold odd values here and there, with absent first frames."""
    annotations, boxes = study(seed, integers=integers)
    rng = np.random.default_rng(seed)
    for i, value in enumerate(values):
        a = annotations[i % len(annotations)]
        target = a.truth if i % 4 == 0 else list(boxes.values())[i % len(boxes)][i % len(annotations)].T
        target[rng.integers(4), rng.integers(target.shape[1])] = value
    annotations[-1].absent[0] = True
    annotations.append(Annotation("one frame", np.array([[5.0], [6.0], [7.0], [8.0]]), np.zeros(1, dtype=bool)))
    for k, of in enumerate(boxes.values()):
        of.append(np.array([[5.0, 6.0, 7.0, 8.0 + k]]))
    return annotations, boxes


@pytest.mark.parametrize("name", protocols.PROTOCOLS)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), values=st.lists(odd, max_size=24), integers=st.booleans())
def test_both_engines_give_the_same_bits_under_every_protocol(compiled, tmp_path_factory, name, seed, values, integers):
    annotations, boxes = broken(seed, values, integers)
    folders = {tracker: tmp_path_factory.getbasetemp() / "engines" / tracker for tracker in boxes}
    for tracker, of in boxes.items():
        folders[tracker].mkdir(parents=True, exist_ok=True)
        for i, (annotation, found) in enumerate(zip(annotations, of, strict=True)):
            rows = [",".join(map(repr, map(float, row))) for row in found]
            extra = ["1,2,3,4"] * (i % 3)
            (folders[tracker] / f"{annotation.name}.txt").write_text("\n".join(rows[: len(rows) - (i == 1)] + extra))
    chosen = [protocols.get(name), protocols.get("corrected")]
    outcomes = []
    for library in (None, compiled):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scanner, "library", lambda library=library: library)
            outcomes.append(scoring.score_files(chosen, annotations, folders, OPTIONS))
    for ours, theirs in zip(*outcomes, strict=True):
        assert ours.problems == theirs.problems
        for one, other in ((ours.scores, theirs.scores), (ours.ceiling, theirs.ceiling)):
            for field in fields(one):
                a, b = getattr(one, field.name), getattr(other, field.name)
                assert a.tobytes() == b.tobytes() if isinstance(a, np.ndarray) else a == b, field.name


def test_the_toolkits_rules_are_the_compiled_scanners_own():
    annotation = study(0)[0][0]
    for name in ("tnllt", "lasot", "tnl2k", "vasttrack", "corrected"):
        ground = curves.ground_of(annotation.truth, annotation.absent, protocols.get(name).rules)
        assert scanner.prepare([ground]) is not None


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_without_a_compiler_or_with_a_broken_one_numpy_does_the_work(tmp_path, monkeypatch, compiler):
    monkeypatch.setenv("TRACKGRAPH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setattr(scanner, "library", scanner.library.__wrapped__)
    assert scanner.library() is None
    (tmp_path / "seq.txt").write_text("1,2,3,4\n5 6 7 8\n")
    np.testing.assert_array_equal(results.read_boxes(tmp_path / "seq.txt").boxes, [[1, 2, 3, 4], [5, 6, 7, 8]])
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def test_it_is_compiled_once_and_not_where_nothing_can_be_written(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(scanner.subprocess, "run", lambda *command, **how: calls.append(command))
    again = scanner.library.__wrapped__()
    assert again is not None and not calls
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(files, "cache_folder", lambda name: tmp_path / "file" / name)
    assert scanner.library.__wrapped__() is None
