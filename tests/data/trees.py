"""A small tree of every benchmark's layout, with its quirks, made of empty images. `TREES` makes them by benchmark."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import openpyxl

from workflow_scripts.data import index
from workflow_scripts.sequences import Sequence


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def images(folder: Path, names: Iterable[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def numbered(form: str, first: int, last: int) -> list[str]:
    return [form % n for n in range(first, last + 1)]


def rows(count: int, delimiter: str = ",") -> str:
    return "".join(delimiter.join(str(v) for v in (10 + i, 20, 30, 40)) + "\n" for i in range(count))


def read(name: str, root: Path, lists: Path | None = None) -> dict[str, Sequence]:
    return {s.name: s for s in index.read_benchmark(name, root, lists)}


def names(sequence: Sequence) -> list[str]:
    return [frame.name for frame in sequence.frames]


def tnllt(root: Path, flags: str = "1\n0\n1\n") -> None:
    folder = root / "JE_One_01"
    images(folder / "imgs", numbered("%05d.png", 1, 3))
    write(folder / "groundtruth.txt", "1,2,3,4\n0,0,0,0\n5,6,7,8\n")
    write(folder / "absent_label.txt", flags)
    write(folder / "language.txt", "the man, in black\nsecond line\n")
    write(folder / "attributes.txt", "1,0,0,0,0,1,0,0,0,0,0,0,0,0,0\n")
    for split, text in (("train", ""), ("val", ""), ("test", "JE_One_01")):
        write(root / f"tnl_lt_{split}_split.txt", text)


def tnl2k(root: Path) -> None:
    one, two = root / "test" / "subset_p1" / "Sequence_A", root / "train" / "Sequence_B"
    images(one / "imgs", ["frame10.jpg", "frame9.png", "frame8.jpg"])
    write(one / "groundtruth.txt", rows(3))
    write(one / "language.txt", "a ship, far away\n")
    write(root / "annos" / "absent" / "Sequence_A.txt", "0\n1\n0\n0\n")
    write(root / "annos" / "att" / "Sequence_A_attribute.txt", "0\n" * 15 + "1\n1\n")
    images(two / "imgs", ["00000000.jpg", "00000001.jpg", "00000002.jpg"])
    write(two / "groundtruth.txt", "-3,1,2,2\n0,0,0,0\n4,4,4,4\n")
    images(root / "train" / "revised_annotations" / "imgs", [])


def lasot(root: Path) -> None:
    for name in ("air plane-2", "air plane-10", "t-shirt-1"):
        folder = root / name.rpartition("-")[0] / name
        images(folder / "img", numbered("%08d.jpg", 1, 5))
        write(folder / "groundtruth.txt", "1,2,3,4\n5,6,7,8\n0,0,0,0\n9,9,0,9\n")
        write(folder / "full_occlusion.txt", "0,1,0,0")
        write(folder / "out_of_view.txt", "0,0,1,0")
        write(folder / "nlp.txt", "white airplane landing on ground")
    write(root / "testing_set.txt", "air plane-10\n")


def got10k(root: Path) -> None:
    for split, last in (("train", 2), ("val", 1), ("test", 1)):
        listed = [f"GOT-10k_{split.capitalize()}_{n:06d}" for n in range(last, 0, -1)]
        write(root / split / "list.txt", "\n".join(listed) + "\n")
        for name in listed:
            folder = root / split / name
            images(folder, numbered("%08d.jpg", 1, 3))
            write(folder / "meta_info.ini", "[METAINFO]\nobject_class: dog\n")
            if split == "test":
                write(folder / "groundtruth.txt", "1.0,2.0,3.0,4.0\n")
                continue
            write(folder / "groundtruth.txt", "1.5,2,3,4\n1,2,3,4\n1,2,3,4\n")
            write(folder / "absence.label", "0\n1\n0\n")
            write(folder / "cover.label", "8\n8\n0\n")
            write(folder / "cut_by_image.label", "1\n1\n1\n")


STARTS = {"BlurCar1": 247, "BlurCar3": 3, "BlurCar4": 18, "David": 300}  # images before are in the folder, too


def otb99(root: Path) -> None:
    for number, (name, start) in enumerate(STARTS.items()):
        images(root / "OTB_videos" / name / "img", numbered("%04d.jpg", start - 2, start + 4))
        write(root / "OTB_videos" / name / "groundtruth_rect.txt", rows(5, ("\t", ",", " ", "  ")[number]))
        write(root / "OTB_query_test" / f"{name}.txt", f"the {name}\n")
    for split, name, form in (
        ("train", "Board", "%05d.jpg"),
        ("test", "Human4", "%04d.jpg"),
        ("test", "Skating2-1", "%04d.jpg"),
    ):
        images(root / "OTB_videos" / name / "img", numbered(form, 1, 2))
        write(root / f"OTB_query_{split}" / f"{name}.txt", f"the {name}\n")
    write(root / "OTB_videos" / "Board" / "groundtruth_rect.txt", "1,2,3,4\n5\t6 7,8\n")
    write(root / "OTB_videos" / "Human4" / "groundtruth_rect.2.txt", "7 7 7 7\n8 8 8 8\n")
    write(root / "OTB_videos" / "Skating2-1" / "groundtruth_rect.txt", rows(2))


def otb2015(root: Path) -> None:
    images(root / "Jogging" / "img", numbered("%04d.jpg", 1, 2))
    write(root / "Jogging" / "groundtruth_rect.1.txt", rows(2))
    write(root / "Jogging" / "groundtruth_rect.2.txt", "9 9 9 9\n8 8 8 8\n")
    images(root / "Human4" / "img", numbered("%04d.jpg", 1, 2))
    write(root / "Human4" / "groundtruth_rect.1.txt", "")
    write(root / "Human4" / "groundtruth_rect.2.txt", rows(2))
    images(root / "Tiger1" / "img", numbered("%04d.jpg", 1, 8))
    write(root / "Tiger1" / "groundtruth_rect.txt", rows(8))
    images(root / "Football1" / "img", numbered("%04d.jpg", 70, 80))
    write(root / "Football1" / "groundtruth_rect.txt", rows(5, "\t"))


def trackingnet(root: Path) -> None:
    for chunk, video, boxes in (("TEST", "-f0JLwuyuTM_0", 1), ("TRAIN_10", "EoallCLchmo_0", 12), ("TRAIN_2", "a_b_1", 12)):
        images(root / chunk / "frames" / video, numbered("%d.jpg", 0, 11))
        write(root / chunk / "anno" / f"{video}.txt", rows(boxes))


def uav123(root: Path) -> None:
    images(root / "data_seq" / "UAV123" / "bird1", [*numbered("%06d.jpg", 250, 300), *numbered("%06d.jpg", 770, 780)])
    images(root / "data_seq" / "UAV123" / "bird1", numbered("%06d.jpg", 1475, 1480))
    write(root / "anno" / "UAV123" / "bird1_1.txt", rows(4))
    write(root / "anno" / "UAV123" / "bird1_2.txt", "1,2,3,4\nNaN,NaN,NaN,NaN\n" + rows(7))
    images(root / "data_seq" / "UAV123" / "car1_s", ["000001.jpg"])
    write(root / "anno" / "UAV123" / "car1_s.txt", rows(1))


def nfs(root: Path) -> None:
    images(root / "sequences" / "ball_3", numbered("%05d.jpg", 1, 2))
    write(root / "anno" / "nfs_ball_3.txt", rows(3, "\t"))


def vot2020(root: Path) -> None:
    for name in ("agility", "ants1"):
        images(root / name / "color", numbered("%08d.jpg", 1, 3))
        write(root / name / "sequence", "channels.color=color/%08d.jpg\nfps=25\nformat=default\n")
    write(root / "agility" / "groundtruth.txt", "m10,20,3,2,1,2,2,1\nm10,20,3,2,0,1\nm0,0,0,0,0\n")
    write(root / "agility" / "occlusion.tag", "0\n1\n0\n")
    write(root / "agility" / "motion_change.tag", "0\n0\n0\n")
    write(root / "ants1" / "groundtruth.txt", "1.5,2,3,4\n1,1,5,2,3,9,0,4\nnan,nan,nan,nan\n")
    write(root / "list.txt", "ants1\nagility\n")


def table(path: Path, told: list[tuple[str, str]]) -> None:
    """A table of descriptions (level, text) as MGIT has them."""
    book = openpyxl.Workbook()
    book.active.append(["level", "number", "start_frame", "end_frame", "length", "scene", "description"])
    for number, (level, text) in enumerate(told):
        book.active.append([level, number, 0, 2, 3, "room", text])
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)


def mgit(root: Path) -> None:
    for split, name in (("train", "002"), ("train", "003"), ("test", "001")):
        images(root / "data" / split / name / f"frame_{name}", numbered("%06d.jpg", 0, 10))
        write(root / "attribute" / "groundtruth" / f"{name}.txt", rows(11))
        if split == "train":
            write(root / "attribute" / "absent" / f"{name}.txt", "0\n" * 10 + "1\n")
    write(root / "attribute" / "groundtruth" / "001.txt", "1,2,3,4\n" + "0,0,0,0\n" * 10)
    told = [("action", "A man walks"), ("activity", "He left."), ("story", "A man \t walks, he left.")]
    table(root / "mgit_nlp" / "002.xlsx", told)
    table(root / "mgit_nlp" / "001.xlsx", [("action", "A dog runs")])
    write(root / "mgit.json", json.dumps({"tiny": {"train": ["002"], "val": [], "test": ["001"]}}))


def vasttrack(root: Path) -> None:
    for name in ("Red-Billed Blue Magpie-25", "Red-Billed Blue Magpie-3", "Construction_workers-10"):
        folder = root / name.rpartition("-")[0] / name
        images(folder / "imgs", numbered("%05d.jpg", 1, 3))
        write(folder / "Groundtruth.txt", "1,2,3,4\n0,0,0,0\n1,2,3,4\n")
        write(folder / "nlp.txt", "a bird\n")
    write(root / "vasttrack_test_list.txt", "Construction workers-10\r\nRed-Billed Blue Magpie-25\r\n")
    write(root / "annos" / "att" / "Construction workers-10.txt", "0,1,0,0,0,1,0,0,1,0\n")


TREES: dict[str, Callable[[Path], None]] = {
    "got10k": got10k,
    "lasot": lasot,
    "lasot_ext": lasot,
    "mgit": mgit,
    "nfs": nfs,
    "otb2015": otb2015,
    "otb99": otb99,
    "tnl2k": tnl2k,
    "tnllt": tnllt,
    "trackingnet": trackingnet,
    "uav123": uav123,
    "vasttrack": vasttrack,
    "vot2020": vot2020,
}
