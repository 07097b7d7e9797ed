"""Rewriting refuses what would break a training later, counts what is odd, and flips nothing but the decision."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import PIXELS, PROMPT, ROWS

from workflow_scripts import files, images
from workflow_scripts.console import BadInput
from workflow_scripts.params.sft import Prompting, Rows
from workflow_scripts.sft import rewrite, rows

NAME = "sft_dataset_rendered"


@pytest.fixture
def source(annotations: Path, tmp_path: Path) -> Path:
    """A copy of the annotations that a test may damage."""
    return Path(shutil.copytree(annotations, tmp_path / "sft with space"))


def run(source: Path, target: Path, chosen: Rows = ROWS, prompt: Prompting = PROMPT) -> dict:
    target.mkdir()
    return rewrite.rewrite(source, source, chosen, prompt, PIXELS, target)


def edit(source: Path, number: int, **changes: object) -> None:
    path = source / f"{NAME}.json"
    listed = files.read_json(path)
    listed[number - 1] |= changes
    files.write_json(path, listed)


def test_paths_are_put_under_the_root_and_the_file_is_registered(source: Path, tmp_path: Path) -> None:
    report = run(source, tmp_path / "out")
    listed = files.read_json(tmp_path / "out" / f"{NAME}.json")
    assert len(listed) == 24 and all(Path(path).is_file() for row in listed for path in row["images"])
    entry = files.read_json(tmp_path / "out" / "dataset_info.json")[NAME]
    assert entry["file_name"] == f"{NAME}.json" and entry["columns"]["images"] == "images"
    assert report["heldout_rows"] == 12 and report["labels"] == "No label was changed."


def test_a_row_whose_image_is_missing_is_refused_with_its_file_and_number(source: Path, tmp_path: Path) -> None:
    shutil.rmtree(source / "images" / "train" / "sample0005")
    with pytest.raises(BadInput, match=rf"{NAME}\.json, row 5 has an image .*sample0005/img1\.png does not exist"):
        run(source, tmp_path / "out")


def test_a_truncated_image_is_refused(source: Path, tmp_path: Path) -> None:
    image = source / "images" / "train" / "sample0002" / "img2.png"
    image.write_bytes(image.read_bytes()[:-20])
    with pytest.raises(BadInput, match=r"row 2 .*cannot be read"):
        run(source, tmp_path / "out")


def test_a_row_with_more_tags_than_images_is_refused(source: Path, tmp_path: Path) -> None:
    edit(source, 3, input="<image><image><image>the red plain circle on the left")
    with pytest.raises(BadInput, match=r"row 3 has 3 <image> tags and 2 images"):
        run(source, tmp_path / "out")


def test_a_path_that_leaves_the_root_is_refused(source: Path, tmp_path: Path) -> None:
    edit(source, 1, images=["/your_root_path/../../etc/a.png", "/your_root_path/b.png"])
    with pytest.raises(BadInput, match="row 1 has the path"):
        run(source, tmp_path / "out")


def test_a_row_that_lacks_a_key_is_refused(source: Path, tmp_path: Path) -> None:
    listed = files.read_json(source / f"{NAME}.json")
    del listed[6]["output"]
    files.write_json(source / f"{NAME}.json", listed)
    with pytest.raises(BadInput, match="row 7 has no output"):
        run(source, tmp_path / "out")


def test_a_file_that_is_cut_off_is_refused_at_its_row(source: Path) -> None:
    path = source / f"{NAME}.json"
    path.write_text(path.read_text()[:-40])
    with pytest.raises(BadInput, match=r"row 24: not valid JSON, or cut off"):
        list(rows.read(path))


def test_rows_larger_than_the_buffer_are_read(tmp_path: Path) -> None:
    written = [{"text": "x" * size, "at": size} for size in (1, rows.CHUNK - 9, 3 * rows.CHUNK, 7)]
    (tmp_path / "rows.json").write_text(json.dumps(written, indent=2))
    assert list(rows.read(tmp_path / "rows.json")) == written
    (tmp_path / "none.json").write_text(" [ ] ")
    assert list(rows.read(tmp_path / "none.json")) == []


def test_noise_flips_the_decision_of_some_rows_and_nothing_else(source: Path, tmp_path: Path) -> None:
    noisy = ROWS.model_copy(update={"label_noise": 0.5})
    run(source, tmp_path / "clean")
    report = run(source, tmp_path / "noised", noisy)
    before, after = (files.read_json(tmp_path / name / f"{NAME}.json") for name in ("clean", "noised"))
    flipped = 0
    for one, other in zip(before, after, strict=True):
        assert {k: v for k, v in one.items() if k != "output"} == {k: v for k, v in other.items() if k != "output"}
        if one["output"] != other["output"]:
            flipped += 1
            yes, no = "<d>yes</d>", "<d>no</d>"
            turned = one["output"].replace(yes, no) if yes in one["output"] else one["output"].replace(no, yes)
            assert other["output"] == turned
    assert 4 <= flipped <= 20
    assert report["labels"].startswith(f"The <d> of {flipped} of 24 training rows was flipped on purpose")
    assert files.read_json(tmp_path / "noised" / "heldout.json") == files.read_json(tmp_path / "clean" / "heldout.json")
    run(source, tmp_path / "again", noisy)
    assert files.read_json(tmp_path / "again" / f"{NAME}.json") == after


def test_a_d_that_the_thought_mentions_is_not_flipped() -> None:
    text = "<think>So <d>no</d>, as <answer>x</answer> says.</think><d>no</d>  \n<answer>a cat</answer>"
    assert rows.flip(text) == "<think>So <d>no</d>, as <answer>x</answer> says.</think><d>yes</d>  \n<answer>a cat</answer>"
    assert rows.flip("no decision") == "no decision"


def test_rows_are_held_out_where_the_source_brings_none(source: Path, tmp_path: Path) -> None:
    (source / "heldout.json").unlink()
    report = run(source, tmp_path / "out", ROWS.model_copy(update={"heldout": 5}))
    trained, held = (files.read_json(tmp_path / "out" / f"{name}.json") for name in (NAME, "heldout"))
    assert (len(trained), len(held), report["training_rows"]) == (19, 5, 19)
    assert not {row["images"][0] for row in trained} & {row["images"][0] for row in held}


def test_oddities_are_counted_and_kept(source: Path, tmp_path: Path) -> None:
    edit(source, 1, instruction="Answer in <think></think> and <answer></answer>.", output="the red circle")
    edit(
        source,
        2,
        instruction="Say <d>.",
        input="<image><image>a cat",
        output="<think>a</think><d>no</d>\n<answer>a dog</answer>",
    )
    report = run(source, tmp_path / "out", prompt=Prompting(style="paper", name="reasoningtrack"))
    found = report["files"][NAME]
    assert found["answer_breaks_format"]["first_rows"] == [1]
    assert found["says_no_but_changes"]["first_rows"] == [2]
    assert found["instruction_without_d"] == 23
    kept = files.read_json(tmp_path / "out" / f"{NAME}.json")
    assert kept[1]["instruction"] == "Say <d>." and kept[1]["input"] == "<image><image>a cat"


def test_an_answer_in_another_format_than_its_instruction_asks_for_is_counted(source: Path, tmp_path: Path) -> None:
    asked = "Think within <think></think>, then <d></d>, then <answer></answer>."
    answered = "<think>a <d>no</d>?</think>{}<answer>a cat</answer>"
    edit(source, 1, instruction=asked, output=answered.format("<d>yes</d>"))
    edit(source, 2, instruction=asked.replace("<d></d>, then ", ""), output=answered.format("<d>yes</d>"))
    edit(source, 3, instruction=asked, output=answered.format(""))
    report = run(source, tmp_path / "out", prompt=Prompting(style="paper", name="reasoningtrack"))
    found = report["files"][NAME]["answer_in_other_format_than_asked"]["first_rows"]
    assert 1 not in found and found[:2] == [2, 3]


def test_all_refused_rows_of_all_files_are_in_the_report(source: Path, tmp_path: Path) -> None:
    shutil.copy(source / f"{NAME}.json", source / "second.json")
    edit(source, 4, input="<image>one picture")
    shutil.rmtree(source / "images" / "train" / "sample0009")
    with pytest.raises(BadInput, match=rf"{NAME}\.json, row 4 has 1 <image> tags .* \(2 more rows .*: {NAME} 9, second 9\)\."):
        (tmp_path / "out").mkdir()
        chosen = Rows(files=[NAME, "second"])
        rewrite.rewrite(source, source, chosen, PROMPT, PIXELS, tmp_path / "out", tmp_path / "report.json")
    report = files.read_json(tmp_path / "report.json")["files"]
    assert report[NAME]["image_count_differs_from_tags"] == {"count": 1, "first_rows": [4]}
    assert list(report[NAME]["refused"]) == ["4", "9"] and list(report["second"]["refused"]) == ["9"]
    assert "sample0009" in report["second"]["refused"]["9"] and report[NAME]["rows"] == 24


def test_originals_are_never_written_and_no_other_folder_is_replaced(source: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "workflow_scripts.sft.rewrite", "--annotations", str(source), "--labels", "clean"]
    command += ["--parameters", ROWS.model_dump_json(), "--prompt", PROMPT.model_dump_json(), "--output"]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("of the user")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for place, why in ((source, "never changed in place"), (source / ".." / source.name, "never"), (mine, "move it away")):
        done = subprocess.run([*command, str(place)], capture_output=True, text=True, check=False)
        assert done.returncode == 1 and why in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for _ in range(2):  # its own dataset is replaced
        assert subprocess.run([*command, str(tmp_path / "out")], capture_output=True, check=False).returncode == 0
    assert all(path.read_bytes() == content for path, content in before.items())


def test_the_consistent_style_asks_with_the_one_prompt_of_all_stages(source: Path, tmp_path: Path) -> None:
    from workflow_scripts import prompts

    edit(source, 1, instruction="Long published rules with <d>.", input="<image><image>a cat")
    run(source, tmp_path / "out", prompt=Prompting(style="consistent", name="reasoningtrack-consistent"))
    row = files.read_json(tmp_path / "out" / f"{NAME}.json")[0]
    assert row["instruction"] == ""
    assert row["input"] == prompts.build("reasoningtrack-consistent", sentence="a cat")[1]


def widen(source: Path) -> None:
    """The second picture of the first row becomes a frame of 320x240."""
    images.write_image(source / "images" / "train" / "sample0001" / "img2.png", np.full((240, 320, 3), 90, np.uint8))


def test_pictures_are_resized_by_the_one_rule_and_those_that_fit_are_left_where_they_are(source: Path, tmp_path: Path) -> None:
    widen(source)
    run(source, tmp_path / "out")
    first, second = files.read_json(tmp_path / "out" / f"{NAME}.json")[0]["images"]
    assert first == (source / "images" / "train" / "sample0001" / "img1.png").as_posix()
    assert second == (tmp_path / "out" / "images" / NAME / "000001_2.jpg").as_posix()
    assert images.read_rgb(second).shape == (56, 56, 3)
    assert len(list((tmp_path / "out" / "images").rglob("*.jpg"))) == 1


def test_the_papers_style_leaves_pictures_to_the_trainers_own_rule(source: Path, tmp_path: Path) -> None:
    widen(source)
    run(source, tmp_path / "out", prompt=Prompting(style="paper", name="reasoningtrack"))
    second = files.read_json(tmp_path / "out" / f"{NAME}.json")[0]["images"][1]
    assert images.read_rgb(second).shape == (240, 320, 3)


def test_a_box_in_a_picture_that_would_be_resized_is_refused(source: Path, tmp_path: Path) -> None:
    talk(source)
    widen(source)
    with pytest.raises(BadInput, match=r"row 1 answers with a box in .*320x240 pixels are resized to 56x56 by sft\.pixels"):
        run(source, tmp_path / "out", Rows(files=["pairs-sharegpt"]))


def talk(source: Path) -> None:
    """The rows once more, as conversations whose answers are boxes."""
    listed = files.read_json(source / f"{NAME}.json")
    conversations = [
        {
            "messages": [{"role": "user", "content": row["input"]}, {"role": "assistant", "content": "[1,2,3,4]"}],
            "images": [path.removeprefix("/your_root_path/") for path in row["images"]],
        }
        for row in listed
    ]
    files.write_json(source / "pairs-sharegpt.json", conversations)


def test_conversations_are_rewritten_and_registered_as_such(source: Path, tmp_path: Path) -> None:
    talk(source)
    run(source, tmp_path / "out", Rows(files=["pairs-sharegpt"]))
    entry = files.read_json(tmp_path / "out" / "dataset_info.json")["pairs-sharegpt"]
    assert entry["formatting"] == "sharegpt" and entry["tags"]["user_tag"] == "user"
    assert Path(files.read_json(tmp_path / "out" / "pairs-sharegpt.json")[0]["images"][1]).is_file()


def test_the_command_refuses_in_one_sentence_and_leaves_nothing_behind(source: Path, tmp_path: Path) -> None:
    (source / "images" / "heldout" / "sample0001" / "img1.png").unlink()
    command = [sys.executable, "-m", "workflow_scripts.sft.rewrite", "--annotations", str(source), "--labels", "clean"]
    values = ["--parameters", ROWS.model_dump_json(), "--prompt", PROMPT.model_dump_json()]
    done = subprocess.run(
        [*command, *values, "--output", str(tmp_path / "out" / "dataset")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "heldout.json, row 1 has an image" in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not list((tmp_path / "out").iterdir())
