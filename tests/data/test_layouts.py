"""Every layout's quirks, each on a small tree of that layout."""

from pathlib import Path

import numpy as np
import pytest

from workflow_scripts.console import BadInput
from workflow_scripts.data import benchmarks, index, layouts, register
from workflow_scripts.data.layouts import common
from workflow_scripts.sequences import Sequence


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def images(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def rows(count: int, delimiter: str = ",") -> str:
    return "".join(delimiter.join(str(v) for v in (10 + i, 20, 30, 40)) + "\n" for i in range(count))


def read(name: str, root: Path, lists: Path | None = None) -> dict[str, Sequence]:
    return {s.name: s for s in index.read_benchmark(name, root, lists)}


def names(sequence: Sequence) -> list[str]:
    return [frame.name for frame in sequence.frames]


def tnllt(root: Path, flags: str = "1\n0\n1\n") -> Path:
    folder = root / "JE_One_01"
    images(folder / "imgs", ["00001.png", "00002.png", "00003.png"])
    write(folder / "groundtruth.txt", "1,2,3,4\n0,0,0,0\n5,6,7,8\n")
    write(folder / "absent_label.txt", flags)
    write(folder / "language.txt", "the man, in black\nsecond line\n")
    write(folder / "attributes.txt", "1,0,0,0,0,1,0,0,0,0,0,0,0,0,0\n")
    for split, text in (("train", ""), ("val", ""), ("test", "JE_One_01")):
        write(root / f"tnl_lt_{split}_split.txt", text)
    return root


def test_tnllt_flags_one_for_present(tmp_path):
    s = read("tnllt", tnllt(tmp_path))["JE_One_01"]
    assert s.present.tolist() == [True, False, True] and s.split == "test"
    assert s.sentence == "the man, in black" and s.attributes == ("CM", "OV")
    assert s.boxes.tolist()[2] == [5, 6, 7, 8] and names(s) == ["00001.png", "00002.png", "00003.png"]


def test_tnllt_may_lie_one_folder_deeper_with_its_lists_elsewhere(tmp_path):
    tnllt(tmp_path / "TNLLT")
    for path in (tmp_path / "TNLLT").glob("*.txt"):
        path.rename(tmp_path / path.name)
    assert set(read("tnllt", tmp_path)) == {"JE_One_01"}


def test_a_sequence_with_fewer_images_than_boxes_is_refused_in_one_sentence(tmp_path):
    root = tnllt(tmp_path)
    (root / "JE_One_01" / "imgs" / "00003.png").unlink()
    with pytest.raises(BadInput, match=r"imgs holds 2 images, but there are 3 boxes: restore the missing images"):
        read("tnllt", root)


def test_a_list_that_names_what_is_not_there_or_twice_is_refused(tmp_path):
    root = tnllt(tmp_path)
    write(root / "tnl_lt_train_split.txt", "JE_Two_02\n")
    with pytest.raises(BadInput, match="JE_Two_02, which is not in"):
        read("tnllt", root)
    write(root / "tnl_lt_train_split.txt", "JE_One_01\n")
    with pytest.raises(BadInput, match="which the train split has already"):
        read("tnllt", root)
    (root / "tnl_lt_train_split.txt").unlink()
    with pytest.raises(BadInput, match="list of the train split"):
        read("tnllt", root)


def test_a_broken_line_is_named(tmp_path):
    root = tnllt(tmp_path)
    write(root / "JE_One_01" / "groundtruth.txt", "1,2,3,4\n1,2,3\n1,2,3,4\n")
    with pytest.raises(BadInput, match=r"groundtruth.txt, line 2"):
        read("tnllt", root)


def test_an_unknown_benchmark_or_folder_is_refused(tmp_path):
    with pytest.raises(BadInput, match="did you mean tnllt"):
        benchmarks.load("tnlt")
    with pytest.raises(BadInput, match="does not exist"):
        read("tnllt", tmp_path / "nowhere")
    with pytest.raises(BadInput, match="no sequence in the layout"):
        read("got10k", tmp_path)


def test_tnl2k_sorts_by_number_and_reads_flags_of_the_other_polarity(tmp_path):
    one = tmp_path / "test" / "subset_p1" / "Sequence_A"
    images(one / "imgs", ["frame10.jpg", "frame9.png", "frame8.jpg"])
    write(one / "groundtruth.txt", rows(3))
    write(one / "language.txt", "a ship, far away\n")
    write(tmp_path / "annos" / "absent" / "Sequence_A.txt", "0\n1\n0\n0\n")  # one flag more than boxes
    two = tmp_path / "train" / "Sequence_B"
    images(two / "imgs", ["00000000.jpg", "00000001.jpg"])
    write(two / "groundtruth.txt", "-3,1,2,2\n0,0,0,0\n")
    images(tmp_path / "train" / "revised_annotations" / "imgs", [])
    found = read("tnl2k", tmp_path)
    a, b = found["Sequence_A"], found["Sequence_B"]
    assert set(found) == {"Sequence_A", "Sequence_B"}
    assert names(a) == ["frame8.jpg", "frame9.png", "frame10.jpg"] and a.present.tolist() == [True, False, True]
    assert a.sentence == "a ship, far away" and (a.split, b.split) == ("test", "train")
    assert b.present.tolist() == [True, False]  # a box without size


def test_lasot_reads_one_line_flags_and_cuts_images_to_boxes(tmp_path):
    for name in ("air plane-2", "air plane-10", "t-shirt-1"):
        folder = tmp_path / name.rpartition("-")[0] / name
        images(folder / "img", [f"{n:08d}.jpg" for n in range(1, 5)])
        write(folder / "groundtruth.txt", rows(3))
        write(folder / "full_occlusion.txt", "0,1,0")
        write(folder / "out_of_view.txt", "0,0,1")
        write(folder / "nlp.txt", "white airplane landing on ground")
    write(tmp_path / "testing_set.txt", "air plane-10\n")
    found = read("lasot", tmp_path)
    assert list(found) == ["air plane-10", "air plane-2", "t-shirt-1"]
    s = found["air plane-10"]
    assert s.split == "test" and found["t-shirt-1"].split == "train" and len(s) == 3
    assert s.present.tolist() == [True, False, False] and s.sentence.startswith("white airplane")
    assert {s.split for s in read("lasot_ext", tmp_path).values()} == {"test"}


def test_got10k_reads_labels_and_the_one_box_of_the_test_split(tmp_path):
    train, test = tmp_path / "train" / "GOT-10k_Train_000001", tmp_path / "test" / "GOT-10k_Test_000001"
    for folder in (train, test):
        images(folder, [f"{n:08d}.jpg" for n in (1, 2, 3)])
        write(folder.parent / "list.txt", f"{folder.name}\n")
    write(train / "groundtruth.txt", "1.5,2,3,4\n1,2,3,4\n1,2,3,4\n")
    write(train / "absence.label", "0\n1\n0\n")
    write(train / "cover.label", "8\n8\n0\n")
    write(test / "groundtruth.txt", "1.0,2.0,3.0,4.0\n")
    found = read("got10k", tmp_path)
    assert found[train.name].present.tolist() == [True, False, False]
    assert found[test.name].first_frame_only and len(found[test.name]) == 3 and found[test.name].boxes.shape == (1, 4)


@pytest.mark.parametrize("delimiter", [",", "\t", " ", "  ", ", "])
def test_boxes_are_read_with_any_delimiter(tmp_path, delimiter):
    write(tmp_path / "gt.txt", rows(3, delimiter) + "\n")
    assert common.read_boxes(tmp_path / "gt.txt").tolist()[2] == [12, 20, 30, 40]


def test_otb99_starts_where_the_annotation_does(tmp_path):
    for split, name, first, last in (("test", "BlurCar3", 1, 359), ("train", "Board", 1, 4)):
        digits = 5 if name == "Board" else 4
        images(tmp_path / "OTB_videos" / name / "img", [f"{n:0{digits}d}.jpg" for n in range(first, last + 1)])
        write(tmp_path / f"OTB_query_{split}" / f"{name}.txt", f"the {name}\n")
    write(tmp_path / "OTB_videos" / "BlurCar3" / "groundtruth_rect.txt", rows(357, "\t"))
    write(tmp_path / "OTB_videos" / "Board" / "groundtruth_rect.txt", rows(4))
    found = read("otb99", tmp_path)
    assert names(found["BlurCar3"])[0] == "0003.jpg" and len(found["BlurCar3"]) == 357 and found["BlurCar3"].start == 2
    assert found["Board"].split == "train" and found["Board"].sentence == "the Board"


def test_otb2015_splits_folders_of_two_targets_and_omits_tigers_start(tmp_path):
    images(tmp_path / "Jogging" / "img", ["0001.jpg", "0002.jpg"])
    write(tmp_path / "Jogging" / "groundtruth_rect.1.txt", rows(2))
    write(tmp_path / "Jogging" / "groundtruth_rect.2.txt", "9 9 9 9\n8 8 8 8\n")
    images(tmp_path / "Tiger1" / "img", [f"{n:04d}.jpg" for n in range(1, 9)])
    write(tmp_path / "Tiger1" / "groundtruth_rect.txt", rows(8))
    found = read("otb2015", tmp_path)
    assert set(found) == {"Jogging_1", "Jogging_2", "Tiger1"}
    assert found["Jogging_2"].boxes[0].tolist() == [9, 9, 9, 9]
    assert names(found["Tiger1"])[0] == "0006.jpg" and found["Tiger1"].boxes[0, 0] == 15


def test_trackingnet_counts_from_zero_without_padding_and_takes_any_id(tmp_path):
    for chunk, video, boxes in (("TEST", "-f0JLwuyuTM_0", 1), ("TRAIN_10", "EoallCLchmo_0", 12), ("TRAIN_2", "a_b_1", 12)):
        images(tmp_path / chunk / "frames" / video, [f"{n}.jpg" for n in range(12)])
        write(tmp_path / chunk / "anno" / f"{video}.txt", rows(boxes))
    found = read("trackingnet", tmp_path)
    assert list(found) == ["-f0JLwuyuTM_0", "a_b_1", "EoallCLchmo_0"]
    assert names(found["a_b_1"])[9:] == ["9.jpg", "10.jpg", "11.jpg"]
    assert found["-f0JLwuyuTM_0"].first_frame_only and found["a_b_1"].split == "train"


def test_uav123_takes_the_span_of_a_shared_folder_and_nan_for_absent(tmp_path):
    images(tmp_path / "data_seq" / "UAV123" / "bird1", [f"{n:06d}.jpg" for n in range(1, 1500)])
    write(tmp_path / "anno" / "UAV123" / "bird1_2.txt", "1,2,3,4\nNaN,NaN,NaN,NaN\n" + rows(701))
    images(tmp_path / "data_seq" / "UAV123" / "car1_s", ["000001.jpg"])
    write(tmp_path / "anno" / "UAV123" / "car1_s.txt", rows(1))
    found = read("uav123", tmp_path)
    bird = found["bird1_2"]
    assert (names(bird)[0], names(bird)[-1], bird.start) == ("000775.jpg", "001477.jpg", 774)
    assert bird.present[:3].tolist() == [True, False, True] and np.isnan(bird.boxes[1]).all()
    assert len(found["car1_s"]) == 1
    spans = benchmarks.load("uav123").options.spans
    assert sum(first > 1 for first, _ in spans.values()) == 32


def test_nfs_is_read_in_both_forms_and_one_box_too_many_is_cut(tmp_path):
    images(tmp_path / "a" / "sequences" / "ball_3", ["00001.jpg", "00002.jpg"])
    write(tmp_path / "a" / "anno" / "nfs_ball_3.txt", rows(3, "\t"))
    images(tmp_path / "b" / "ball_3" / "30" / "ball_3", ["00001.jpg", "00002.jpg"])
    write(tmp_path / "b" / "ball_3" / "30" / "ball_3_pytracking.txt", rows(2))
    for form in ("a", "b"):
        assert len(read("nfs", tmp_path / form)["ball_3"]) == 2


@pytest.mark.parametrize("name", benchmarks.names())
def test_every_benchmark_has_a_layout_and_registered_sources(name):
    benchmark = benchmarks.load(name)
    assert benchmark.layout in layouts.NAMES
    known = register.load()
    assert benchmark.sources and all(source in known for source in benchmark.sources)
