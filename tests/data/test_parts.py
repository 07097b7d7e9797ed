"""The parts of an archive: in their order, without a gap, and nothing else among them."""

import itertools
from pathlib import Path

import pytest

from workflow_scripts.console import BadInput
from workflow_scripts.data import packing, parts, verify
from workflow_scripts.data.checksums import digest


def make(folder: Path, *names: str, content: bytes = b"\x1f\x8bpart") -> list[str]:
    for name in names:
        (folder / name).write_bytes(content)
    return list(names)


def found(folder: Path) -> list[str]:
    return [path.name for path in parts.find(f"{folder}/T_part_*")]


@pytest.mark.parametrize("names", [["T_part_aa", "T_part_ab", "T_part_ac"], ["T_part_aaa", "T_part_aab"]])
def test_letters_are_read_as_split_writes_them(names, tmp_path):
    make(tmp_path, *reversed(names))
    assert found(tmp_path) == names


def test_more_parts_than_two_letters_count_stay_in_order():
    many = [f"T_part_{suffix}" for suffix in itertools.islice(packing.suffixes(), 653)]
    assert many[649:] == ["T_part_yz", "T_part_zaaa", "T_part_zaab", "T_part_zaac"]
    assert [path.name for path in parts.in_order([Path(name) for name in reversed(many)])] == many


def test_numbers_are_taken_as_numbers(tmp_path):
    names = [f"T_part_{n}" for n in range(1, 13)]  # by name, 10 would come before 2
    make(tmp_path, *reversed(names))
    assert found(tmp_path) == names
    assert [path.name for path in parts.in_order([Path("x.01"), Path("x.00")])] == ["x.00", "x.01"]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["T_part_aa", "T_part_ac"], "T_part_ab is missing before T_part_ac"),
        (["T_part_ab", "T_part_ac"], "T_part_aa is missing before T_part_ab"),
        (["T_part_1", "T_part_2", "T_part_4"], "part 3 is missing before .*T_part_4"),
        (["T_part_2", "T_part_3"], "part 1 is missing before .*T_part_2"),
        (["T_part_01", "T_part_1", "T_part_2"], "T_part_1 has the number of .*T_part_01"),
        (["T_part_aa", "T_part_ab", "T_part_ab (1)"], r"T_part_ab \(1\) is not numbered as its neighbours"),
        (["T_part_aa", "T_part_ab", "T_part_ab.crdownload"], "T_part_ab.crdownload is not numbered as its neighbours"),
        (["T_part_A", "T_part_B"], "T_part_A is not numbered as its neighbours"),
        (["T_part_1", "T_part_2", "T_part_2.part"], "T_part_2.part is not numbered as its neighbours"),
    ],
)
def test_a_gap_or_a_stranger_among_the_parts_is_named(names, says, tmp_path):
    make(tmp_path, *names)
    with pytest.raises(BadInput, match=says):
        found(tmp_path)


def test_no_part_an_empty_part_and_a_web_page_are_refused(tmp_path):
    with pytest.raises(BadInput, match=r"T_part_\* matches no file: fetch the parts first, and quote the pattern"):
        found(tmp_path)
    make(tmp_path, "T_part_aa", "T_part_ab")
    make(tmp_path, "T_part_ab", content=b"")
    with pytest.raises(BadInput, match="T_part_ab is empty: delete it and fetch it again"):
        found(tmp_path)
    make(tmp_path, "T_part_ab", content=b"\n<!DOCTYPE html><title>Sign in</title>")
    with pytest.raises(BadInput, match="T_part_ab is a web page"):
        found(tmp_path)


def test_manifests_and_checksums_beside_the_parts_are_none(tmp_path):
    make(tmp_path, "T_part_aa", "T_part_aa.json", "T_part_.md5", "T_part_list")
    assert [path.name for path in parts.find(f"{tmp_path}/T_part_*", tmp_path / "T_part_list")] == ["T_part_aa"]


def test_a_part_that_the_publisher_lists_has_to_be_there(tmp_path):
    make(tmp_path, "T_part_aa")
    with pytest.raises(BadInput, match=r"T_part_ab has a published checksum and is missing: fetch it"):
        verify.verify(parts.find(f"{tmp_path}/T_part_*"), {"T_part_ab": digest("0" * 32), "T.tar": digest("0" * 32)})
