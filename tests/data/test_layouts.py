"""Every layout's quirks, each on a small tree of that layout."""

from pathlib import Path

import numpy as np
import pytest
from trees import STARTS, TREES, images, lasot, names, numbered, read, rows, table, tnllt, write

from workflow_scripts.console import BadInput
from workflow_scripts.data import benchmarks, layouts, register
from workflow_scripts.data.layouts import common


def test_tnllt_flags_one_for_present_and_its_validation_list_is_empty(tmp_path):
    tnllt(tmp_path)
    s = read("tnllt", tmp_path)["JE_One_01"]
    assert s.present.tolist() == [True, False, True] and s.split == "test"
    assert s.sentence == "the man, in black" and s.attributes == ("CM", "OV")
    assert s.boxes.tolist()[2] == [5, 6, 7, 8] and names(s) == ["00001.png", "00002.png", "00003.png"]


def test_tnllt_counts_every_flag_but_zero_as_present(tmp_path):
    tnllt(tmp_path, "1\n0\n2\n")
    assert read("tnllt", tmp_path)["JE_One_01"].present.tolist() == [True, False, True]


def test_tnllt_may_lie_one_folder_deeper_with_its_lists_elsewhere(tmp_path):
    tnllt(tmp_path / "TNLLT")
    (tmp_path / "lists").mkdir()
    for path in (tmp_path / "TNLLT").glob("*.txt"):
        path.rename(tmp_path / "lists" / path.name)
    assert set(read("tnllt", tmp_path, tmp_path / "lists")) == {"JE_One_01"}


def test_a_sequence_with_fewer_images_than_boxes_is_refused_in_one_sentence(tmp_path):
    tnllt(tmp_path)
    (tmp_path / "JE_One_01" / "imgs" / "00003.png").unlink()
    with pytest.raises(BadInput, match=r"imgs holds 2 images, but there are 3 boxes: restore the missing images"):
        read("tnllt", tmp_path)


def test_a_list_that_names_what_is_not_there_or_twice_is_refused_with_its_line(tmp_path):
    tnllt(tmp_path)
    write(tmp_path / "tnl_lt_train_split.txt", "\nJE_Two_02\n")
    with pytest.raises(BadInput, match=r"tnl_lt_train_split\.txt, line 2 names JE_Two_02, which is not in"):
        read("tnllt", tmp_path)
    write(tmp_path / "tnl_lt_train_split.txt", "JE_One_01\n")
    with pytest.raises(BadInput, match=r"line 1 names JE_One_01, which the train split has already"):
        read("tnllt", tmp_path)
    (tmp_path / "tnl_lt_train_split.txt").unlink()
    with pytest.raises(BadInput, match="list of the train split"):
        read("tnllt", tmp_path)


def test_two_folders_of_one_name_are_refused(tmp_path):
    lasot(tmp_path)
    images(tmp_path / "copy" / "t-shirt-1" / "img", [])
    with pytest.raises(BadInput, match=r"are both called t-shirt-1: move one"):
        read("lasot", tmp_path)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("1,2,3,4\n1,2,3\n1,2,3,4\n", 2),
        ("1,2,3\n1,2,3,4,5\n1,2,3,4\n", 1),  # as many numbers as boxes have, but not in rows
        ("1,2,3,4\n\n1,2,3,4\n", 2),
        ("1,2,3,4\n1,2,3,4\n1,2,three,4\n", 3),
        ("x y w h\n1 2 3 4\n1 2 3 4\n", 1),
    ],
)
def test_a_broken_line_is_named(tmp_path, text, line):
    tnllt(tmp_path)
    write(tmp_path / "JE_One_01" / "groundtruth.txt", text)
    with pytest.raises(BadInput, match=rf"groundtruth\.txt, line {line}: .* is no box x,y,w,h; mend or restore"):
        read("tnllt", tmp_path)


def test_flags_that_are_no_numbers_or_too_few_are_refused_with_their_line(tmp_path):
    tnllt(tmp_path, "1\nabsent\n1\n")
    with pytest.raises(BadInput, match=r"absent_label\.txt, line 2: 'absent' is no flag"):
        read("tnllt", tmp_path)
    tnllt(tmp_path, "1\n")
    with pytest.raises(BadInput, match=r"absent_label\.txt, line 2: the file ends, after 1 flags for 3 boxes"):
        read("tnllt", tmp_path)
    tnllt(tmp_path)
    write(tmp_path / "JE_One_01" / "attributes.txt", "1,0\n")
    with pytest.raises(BadInput, match=r"attributes\.txt, line 1: 2 flags, not the 15 of CM,"):
        read("tnllt", tmp_path)


def test_an_unknown_benchmark_or_folder_is_refused(tmp_path):
    with pytest.raises(BadInput, match="did you mean tnllt"):
        benchmarks.load("tnlt")
    with pytest.raises(BadInput, match="does not exist"):
        read("tnllt", tmp_path / "nowhere")
    with pytest.raises(BadInput, match="no sequence in the layout"):
        read("got10k", tmp_path)


def test_tnl2k_sorts_by_number_and_reads_flags_of_the_other_polarity(tmp_path):
    TREES["tnl2k"](tmp_path)
    found = read("tnl2k", tmp_path)
    a, b = found["Sequence_A"], found["Sequence_B"]
    assert set(found) == {"Sequence_A", "Sequence_B"}  # revised_annotations is none
    assert names(a) == ["frame8.jpg", "frame9.png", "frame10.jpg"] and (a.split, b.split) == ("test", "train")
    assert a.present.tolist() == [True, False, True]  # one flag more than boxes
    assert a.sentence == "a ship, far away" and a.attributes == ("TC", "MS")
    assert b.present.tolist() == [True, False, True] and b.boxes[0, 0] == -3  # no flags: a box without size
    assert b.sentence == "" and names(b)[0] == "00000000.jpg"


def test_a_box_more_than_flags_counts_as_present(tmp_path):
    TREES["tnl2k"](tmp_path)
    write(tmp_path / "annos" / "absent" / "Sequence_A.txt", "0\n1\n")
    assert read("tnl2k", tmp_path)["Sequence_A"].present.tolist() == [True, False, True]
    tnllt(tmp_path / "tnllt", "1\n0\n")
    assert read("tnllt", tmp_path / "tnllt")["JE_One_01"].present.tolist() == [True, False, True]


def test_lasot_reads_one_line_flags_and_cuts_images_to_boxes(tmp_path):
    lasot(tmp_path)
    found = read("lasot", tmp_path)
    assert list(found) == ["air plane-10", "air plane-2", "t-shirt-1"]  # the test list first
    s = found["air plane-10"]
    assert s.split == "test" and found["t-shirt-1"].split == "train" and len(s) == 4
    assert s.present.tolist() == [True, False, False, True]  # the flags count: a box that is absent, none that is present
    assert s.sentence.startswith("white airplane")


def test_lasot_ext_needs_no_list_and_goes_by_number(tmp_path):
    lasot(tmp_path)
    (tmp_path / "testing_set.txt").unlink()
    found = read("lasot_ext", tmp_path)
    assert list(found) == ["air plane-2", "air plane-10", "t-shirt-1"] and {s.split for s in found.values()} == {"test"}


def test_got10k_reads_labels_and_the_one_box_of_the_test_split(tmp_path):
    TREES["got10k"](tmp_path)
    found = read("got10k", tmp_path)
    assert list(found)[:2] == ["GOT-10k_Train_000002", "GOT-10k_Train_000001"]  # list.txt gives the order
    assert found["GOT-10k_Val_000001"].present.tolist() == [True, False, False]
    test = found["GOT-10k_Test_000001"]
    assert test.first_frame_only and len(test) == 3 and test.boxes.shape == (1, 4) and test.sentence == ""
    write(tmp_path / "val" / "list.txt", "GOT-10k_Val_000001\nGOT-10k_Val_000002\n")
    with pytest.raises(BadInput, match=r"list\.txt, line 2 names GOT-10k_Val_000002"):
        read("got10k", tmp_path)


@pytest.mark.parametrize("delimiter", [",", "\t", " ", "  ", ", ", ";"])
def test_boxes_are_read_with_any_delimiter(tmp_path, delimiter):
    write(tmp_path / "gt.txt", rows(3, delimiter) + "\n")
    assert common.read_boxes(tmp_path / "gt.txt").tolist()[2] == [12, 20, 30, 40]


@pytest.mark.parametrize("text", ["0,1,0", "0\n1\n0\n", "0 1 0\r\n", "0.0\n1.0\n0.0\n", "0, 1, 0,\n", "\ufeff0\n1\n0"])
def test_flags_are_read_on_one_line_or_one_a_line(tmp_path, text):
    write(tmp_path / "flags.txt", text)
    assert common.read_flags(tmp_path / "flags.txt").tolist() == [0, 1, 0]


def test_images_are_told_from_other_files_whatever_the_case_of_their_endings(tmp_path):
    images(tmp_path, ["2.JPG", "1.png", "10.Jpeg", "3.bmp", "Thumbs.db", ".4.jpg", "list.txt"])
    assert common.frames(tmp_path).names() == ["1.png", "2.JPG", "3.bmp", "10.Jpeg"]


def test_otb99_starts_where_the_annotation_does(tmp_path):
    TREES["otb99"](tmp_path)
    found = read("otb99", tmp_path)
    for name, start in STARTS.items():
        assert names(found[name]) == [f"{n:04d}.jpg" for n in range(start, start + 5)]
        assert found[name].start == start - 1 and found[name].boxes.shape == (5, 4)
    spans = benchmarks.load("otb99").options.spans
    assert [spans[name] for name in STARTS] == [(247, 988), (3, 359), (18, 397), (300, 770)]
    assert found["Board"].split == "train" and found["Board"].sentence == "the Board"
    assert names(found["Board"]) == ["00001.jpg", "00002.jpg"] and found["Board"].boxes[1].tolist() == [5, 6, 7, 8]
    assert found["Human4"].boxes[0, 0] == 7 and len(found["Skating2-1"]) == 2


def test_otb2015_splits_folders_of_two_targets_and_omits_starts_and_ends(tmp_path):
    TREES["otb2015"](tmp_path)
    found = read("otb2015", tmp_path)
    assert set(found) == {"Jogging_1", "Jogging_2", "Human4_2", "Tiger1", "Football1"}
    assert found["Jogging_2"].boxes[0].tolist() == [9, 9, 9, 9]
    assert names(found["Tiger1"])[0] == "0006.jpg" and found["Tiger1"].boxes[0, 0] == 15 and found["Tiger1"].start == 5
    assert names(found["Football1"])[-1] == "0074.jpg"


def test_trackingnet_counts_from_zero_without_padding_and_takes_any_id(tmp_path):
    TREES["trackingnet"](tmp_path)
    found = read("trackingnet", tmp_path)
    assert list(found) == ["-f0JLwuyuTM_0", "a_b_1", "EoallCLchmo_0"]
    assert names(found["a_b_1"]) == [f"{n}.jpg" for n in range(12)]
    assert found["-f0JLwuyuTM_0"].first_frame_only and found["a_b_1"].split == "train"


def test_uav123_takes_the_span_of_a_shared_folder_and_nan_for_absent(tmp_path):
    TREES["uav123"](tmp_path)
    found = read("uav123", tmp_path)
    bird = found["bird1_2"]
    assert (names(bird)[0], names(bird)[-1], bird.start) == ("000775.jpg", "001477.jpg", 774)
    assert bird.present[:3].tolist() == [True, False, True] and np.isnan(bird.boxes[1]).all()
    assert names(found["bird1_1"])[-1] == "000253.jpg" and len(found["car1_s"]) == 1
    spans = benchmarks.load("uav123").options.spans
    assert sum(first > 1 for first, _ in spans.values()) == 32


def test_nfs_is_read_in_all_three_forms_and_one_box_too_many_is_cut(tmp_path):
    TREES["nfs"](tmp_path / "flat")
    images(tmp_path / "commas" / "ball_3" / "30" / "ball_3", numbered("%05d.jpg", 1, 2))
    write(tmp_path / "commas" / "ball_3" / "30" / "ball_3_pytracking.txt", rows(2))
    published = tmp_path / "published" / "ball_3" / "30" / "ball_3.txt"
    images(published.with_suffix(""), numbered("%05d.jpg", 1, 3))
    write(published, "".join(f'0 {n} 10 {n + 5} 30 {n} 0 0 0 "ball"\n' for n in range(17)))
    for form in ("flat", "commas"):
        assert len(read("nfs", tmp_path / form)["ball_3"]) == 2
    assert read("nfs", tmp_path / "published")["ball_3"].boxes.tolist() == [[n, 10, 5, 20] for n in (0, 8, 16)]
    write(published, "0 1 2 3 4 0 0 0 0\n0 1 two 3 4 1 0 0 0\n")
    with pytest.raises(BadInput, match=r"ball_3\.txt, line 2: .* is not id left top right bottom"):
        read("nfs", tmp_path / "published")


def test_mgit_reads_what_the_toolkit_lists_with_its_stories(tmp_path):
    TREES["mgit"](tmp_path)
    found = read("mgit", tmp_path)
    assert list(found) == ["002", "001"]  # 003 is VideoCube's alone
    assert found["002"].present.tolist() == [True] * 10 + [False] and found["002"].sentence == "A man walks, he left."
    assert names(found["002"])[0] == "000000.jpg" and names(found["002"])[-1] == "000010.jpg"
    test = found["001"]
    assert test.first_frame_only and test.boxes.tolist() == [[1, 2, 3, 4]] and test.sentence == "A dog runs" and len(test) == 11
    (tmp_path / "mgit.json").unlink()
    assert list(read("mgit", tmp_path)) == ["002", "003", "001"]


def test_mgit_is_also_read_as_trackers_authors_pass_it_on_with_its_tables_elsewhere(tmp_path):
    TREES["mgit"](tmp_path)
    (tmp_path / "data" / "test").rename(tmp_path / "MGIT-Test")
    (tmp_path / "toolkit").mkdir()
    for name in ("mgit.json", "mgit_nlp"):
        (tmp_path / name).rename(tmp_path / "toolkit" / name)
    found = read("mgit", tmp_path, tmp_path / "toolkit")
    assert list(found) == ["002", "001"] and found["001"].sentence == "A dog runs"


def test_a_damaged_table_or_list_of_mgit_is_refused(tmp_path):
    TREES["mgit"](tmp_path)
    told = tmp_path / "mgit_nlp" / "002.xlsx"
    whole = told.read_bytes()
    for damaged in (b"no table", whole[: len(whole) // 2]):
        told.write_bytes(damaged)
        with pytest.raises(BadInput, match=r"002\.xlsx is no table with a column description on line 1: fetch it"):
            read("mgit", tmp_path)
    table(told, [])
    with pytest.raises(BadInput, match=r"002\.xlsx, line 2: no description"):
        read("mgit", tmp_path)
    told.unlink()
    assert read("mgit", tmp_path)["002"].sentence == ""
    write(tmp_path / "mgit.json", '{"tiny": {"train": ["002", "999"]}}')
    with pytest.raises(BadInput, match=r"mgit\.json, line 1 names 999 \(train\)"):
        read("mgit", tmp_path)
    for text in ("[]", '{"tiny": ["001"]}', '{"full": {}}'):
        write(tmp_path / "mgit.json", text)
        with pytest.raises(BadInput, match=r"mgit\.json, line 1: no lists of sequences under 'tiny'"):
            read("mgit", tmp_path)


def test_vasttrack_splits_names_at_the_last_dash_and_takes_underscores_for_blanks(tmp_path):
    TREES["vasttrack"](tmp_path)
    found = read("vasttrack", tmp_path)
    assert list(found) == ["Construction workers-10", "Red-Billed Blue Magpie-25", "Red-Billed Blue Magpie-3"]
    s = found["Construction workers-10"]
    assert s.split == "test" and found["Red-Billed Blue Magpie-3"].split == "train"
    assert s.present.tolist() == [True, False, True] and s.sentence == "a bird" and s.attributes == ("SV", "INV", "BC")
    assert s.frames[0] == tmp_path / "Construction_workers" / "Construction_workers-10" / "imgs" / "00001.jpg"


def test_vasttrack_may_lie_in_a_train_and_a_test_folder_without_a_list(tmp_path):
    TREES["vasttrack"](tmp_path)
    (tmp_path / "vasttrack_test_list.txt").unlink()
    with pytest.raises(BadInput, match=r"vasttrack_test_list\.txt, the list of the test split, does not exist"):
        read("vasttrack", tmp_path)
    for split, group in (("train", "Red-Billed Blue Magpie"), ("test", "Construction_workers")):
        (tmp_path / split).mkdir()
        (tmp_path / group).rename(tmp_path / split / group)
    found = read("vasttrack", tmp_path)
    assert {name: s.split for name, s in found.items()} == {
        "Construction_workers-10": "test",
        "Red-Billed Blue Magpie-3": "train",
        "Red-Billed Blue Magpie-25": "train",
    }


@pytest.mark.parametrize("name", benchmarks.names())
def test_every_benchmark_has_a_layout_registered_sources_and_a_tree_that_is_read(name, tmp_path):
    benchmark = benchmarks.load(name)
    assert benchmark.layout in layouts.NAMES
    known = register.load()
    assert benchmark.sources and all(source in known for source in benchmark.sources)
    assert f"`{name}`" in (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()
    TREES[name](tmp_path)
    for s in read(name, tmp_path).values():
        assert len(s.boxes) == len(s.present) and s.present[0] and all(frame.is_file() for frame in s.frames)


def test_every_refusal_of_a_missing_annotation_names_it(tmp_path):
    tnllt(tmp_path)
    (tmp_path / "JE_One_01" / "groundtruth.txt").unlink()
    with pytest.raises(BadInput, match=r"groundtruth\.txt does not exist: restore the dataset"):
        read("tnllt", tmp_path)
    write(tmp_path / "JE_One_01" / "groundtruth.txt", rows(3))
    folder = tmp_path / "JE_One_01" / "imgs"
    for frame in folder.iterdir():
        frame.unlink()
    with pytest.raises(BadInput, match="JE_One_01 holds 0 images"):
        read("tnllt", tmp_path)
