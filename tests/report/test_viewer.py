"""The page with sequences: all that it shows is in it, nothing that it shows can break it."""

import base64
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workflow_scripts import sequences
from workflow_scripts.console import BadInput
from workflow_scripts.report import scored, viewer


def write(study: Path, output: Path, *more: str, **look) -> str:
    sources = [f"--scores={study / 'scores'}", f"--raw={study / 'raw'}", f"--index={study / 'index.npz'}", "--title=A & <b>"]
    viewer.main([*sources, "--parameters", json.dumps(look), f"--output={output}", *more])
    return output.read_text()


def data_of(page: str) -> dict:
    return json.loads(re.search(r"^const data = (.*);$", page, re.MULTILINE).group(1))


def test_the_page_holds_everything_it_shows(small, tmp_path):
    page = write(small, tmp_path / "page.html", sequences=2, frames=10, width=64)
    assert not re.search(r"(src|href)=|url\(|https?:|@import", page)
    data = data_of(page)
    assert [s["name"] for s in data["sequences"]] == scored.read(small / "scores").apart(2)
    known = {s.name: s for s in sequences.read_index(small / "index.npz")}
    for shown in data["sequences"]:
        s = known[shown["name"]]
        assert shown["size"] == [320, 240] and shown["length"] == len(s) and shown["sentence"] == s.sentence
        assert shown["frames"][0] == 0 and shown["frames"][-1] == len(s) - 1 and len(shown["frames"]) == 10
        picture = Image.open(io.BytesIO(base64.b64decode(shown["pictures"][3])))
        assert picture.format == "JPEG" and picture.size == (64, 48)
        assert [t["name"] for t in shown["trackers"]] == scored.read(small / "scores").trackers
        at = shown["frames"][3]
        np.testing.assert_allclose(shown["truth"][3], s.boxes[at], atol=0.051)
        written = np.loadtxt(small / f"raw/low/{s.name}.txt", delimiter=",")
        np.testing.assert_allclose(shown["trackers"][-1]["boxes"][3], written[at], atol=0.051)


def test_a_sentence_that_changes_is_shown_from_its_frame_on_and_cannot_break_the_page(small, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(small, study)
    name = scored.read(study / "scores").apart(1)[0]
    notes = [{"frame": 4, "asked": "?"}, {"frame": 7, "sentence": "</script><script>alert(1)"}]
    (study / f"raw/high/{name}.trace.jsonl").write_text("".join(json.dumps(n) + "\n" for n in notes))
    page = write(study, tmp_path / "page.html", sequences=1, frames=100)
    assert page.count("</script>") == 1
    (shown,) = data_of(page)["sequences"]
    said = next(t["sentences"] for t in shown["trackers"] if t["name"] == "high")
    assert said[:7] == [shown["sentence"]] * 7 and set(said[7:]) == {"</script><script>alert(1)"}
    assert all(t["sentences"] == [] for t in shown["trackers"] if t["name"] != "high")


def test_the_same_study_gives_the_same_page_and_lost_boxes_are_left_out(small, tmp_path):
    assert write(small, tmp_path / "one.html") == write(small, tmp_path / "other.html")
    study = tmp_path / "study"
    shutil.copytree(small, study)
    name = scored.read(study / "scores").apart(1)[0]
    path = study / f"raw/low/{name}.txt"
    path.write_text("\n".join(["nan,1,2,3", *path.read_text().splitlines()[1:5]]) + "\n")
    (shown,) = data_of(write(study, tmp_path / "page.html", sequences=1))["sequences"]
    (low,) = [t for t in shown["trackers"] if t["name"] == "low"]
    assert low["boxes"][0] is None and low["boxes"][1] is not None and low["boxes"][5] is None
    absent = [i for i, box in enumerate(shown["truth"]) if box is None]
    assert all(low["overlap"][i] is None for i in absent) and low["overlap"][0] == 0


def test_sequences_and_trackers_may_be_chosen_and_must_exist(small, tmp_path):
    page = write(small, tmp_path / "page.html", "--sequences=object_04", "--trackers=low", frames=2)
    assert [s["name"] for s in data_of(page)["sequences"]] == ["object_04"]
    with pytest.raises(BadInput, match="nobody has no scores"):
        write(small, tmp_path / "no.html", "--trackers=nobody")
    with pytest.raises(BadInput, match="no sequence called nothing"):
        write(small, tmp_path / "no.html", "--sequences=nothing")
    assert not (tmp_path / "no.html").exists()


def test_a_frame_that_is_gone_or_broken_ends_with_a_sentence(small, tmp_path):
    look = viewer.Viewer()
    with pytest.raises(BadInput, match=r"gone\.jpg does not exist"):
        viewer.frame(tmp_path / "gone.jpg", look)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    with pytest.raises(BadInput, match=r"broken\.jpg cannot be read as an image"):
        viewer.frame(tmp_path / "broken.jpg", look)
