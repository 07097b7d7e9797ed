"""The authors' published boxes: found in archives of any form, taken byte for byte, with a report of what is not there."""

import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from workflow_scripts import files, manifest, sequences
from workflow_scripts.console import BadInput
from workflow_scripts.track import published

SEQUENCES = [
    sequences.Sequence(
        name=name,
        split="test",
        frames=[Path("frames") / name / f"{k}.jpg" for k in range(4)],
        boxes=np.arange(16.0).reshape(4, 4) + 1,
        present=np.ones(4, dtype=bool),
        sentence="",
    )
    for name in ("Alpha-1", "beta_2", "missing")
]
FORMS = ["folder", "zip", "tar", "archive in a folder"]


def archive_of(folder: Path, members: dict[str, bytes], form: str = "folder") -> Path:
    """The members as a folder, a zip, a tar, or a zip alone in a folder."""
    for name, raw in members.items():
        (folder / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "x" / name).write_bytes(raw)
    if form == "folder":
        return folder / "x"
    if form == "tar":
        with tarfile.open(folder / "x.tar.gz", "w:gz") as opened:
            opened.add(folder / "x", "x")
        return folder / "x.tar.gz"
    (folder / "one").mkdir()
    with zipfile.ZipFile(folder / "one/x.zip", "w") as opened:
        for name, raw in members.items():
            opened.writestr(name, raw)
    return folder / "one" / "x.zip" if form == "zip" else folder / "one"


@pytest.mark.parametrize("form", FORMS)
def test_boxes_are_found_at_any_depth_and_taken_byte_for_byte(tmp_path, form):
    odd = b"1\t2\t3\t4\r\n5 6 7 8\nnan,1,2,3\n9;9;9;9"  # the scorer reads every form and says what is unusual
    members = {
        "results/DUTrack_tracking_result/alpha-1.txt": odd,
        "results/DUTrack_tracking_result/beta_2.txt": b"1,2,3,4\n" * 6,
        "results/DUTrack_tracking_result/beta_2_time.txt": b"0.1\n",
        "results/DUTrack_tracking_result/of_another_split.txt": b"1,2,3,4\n",
        "results/SeqTrack/beta_2.txt": b"5,6,7,8\n" * 4,
    }
    report = published.import_results(archive_of(tmp_path, members, form), "dutrack", SEQUENCES, tmp_path / "raw")
    assert (tmp_path / "raw/Alpha-1.txt").read_bytes() == odd  # under the benchmark's own name
    assert not (tmp_path / "raw/missing.txt").exists()
    assert (report["sequences"], report["of"], report["missing"]) == (2, 3, ["missing"])
    assert report["other_length"] == {"beta_2": [6, 4]}
    assert [Path(p).name for p in report["left_over"]] == ["beta_2_time.txt", "of_another_split.txt"]
    assert files.read_json(tmp_path / "raw/completeness.json") == report
    said = "\n".join(published.sentences(report))
    for expected in ("2 of 3 sequences", "missing: missing", "beta_2: 6 boxes for 4 frames (cut)", "of_another_split.txt"):
        assert expected in said


def test_a_folder_may_be_named_by_several_parts_and_must_be_plain(tmp_path):
    members = {f"{benchmark}/DUTrack/beta_2.txt": b"1,2,3,4\n" * 4 for benchmark in ("tnl2k", "tnllt")}
    archive = archive_of(tmp_path, members)
    with pytest.raises(BadInput, match=r"has beta_2 twice for DUTrack, .*tnl2k.* and .*tnllt.*: name the folder more closely"):
        published.import_results(archive, "DUTrack", SEQUENCES, tmp_path / "raw")
    assert published.import_results(archive, "tnllt/DUTrack", SEQUENCES, tmp_path / "raw")["sequences"] == 1
    with pytest.raises(BadInput, match="no folder SeqTrack; it has DUTrack"):
        published.import_results(archive, "SeqTrack", SEQUENCES, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_a_damaged_or_foreign_archive_ends_with_a_sentence(tmp_path, form):
    archive = archive_of(tmp_path, {"DUTrack/beta_2.txt": b"1.25,2.5,3.75,4.125\n" * 4000}, form)
    raw = bytearray(archive.read_bytes())
    middle = len(raw) // 2
    raw[middle : middle + 40] = bytes(40)
    archive.write_bytes(raw)
    with pytest.raises(BadInput, match=r"is damaged|is neither a folder nor a zip or tar archive"):
        published.import_results(archive, "DUTrack", SEQUENCES, tmp_path / "raw")
    (tmp_path / "page.html").write_text("<html>quota exceeded</html>")
    with pytest.raises(BadInput, match=r"page\.html is neither"):
        published.import_results(tmp_path / "page.html", "DUTrack", SEQUENCES, tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_the_command_writes_a_true_manifest_and_tells_what_is_missing(tmp_path, capsys):
    sequences.write_index(tmp_path / "index.npz", SEQUENCES, "frames", "tnllt")
    archive = archive_of(tmp_path, {"DUTrack/beta_2.txt": b"1,2,3,4\n" * 3})
    arguments = [f"--archive={archive}", "--tracker=DUTrack", f"--index={tmp_path / 'index.npz'}"]
    published.main([*arguments, f"--output={tmp_path / 'raw'}", f"--manifest={tmp_path / 'raw.json'}"])
    manifest.verify(tmp_path / "raw.json")
    said = capsys.readouterr().out
    assert "DUTrack: 1 of 3 sequences" in said and "missing: Alpha-1, missing" in said
    assert "beta_2: 3 boxes for 4 frames (the rest counts as missed)" in said
