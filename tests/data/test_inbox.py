"""What a person fetched: the steps, the watched inbox, adoption by link, and what is told of what is here."""

import gzip
import io
import json
import os
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest
from faulty_server import PAGE

from workflow_scripts import console, manifest
from workflow_scripts.console import BadInput
from workflow_scripts.data import checksums, fetch, inbox, integrity, listing, register

UNKNOWN = {"bytes": "unknown", "hash": "unknown"}
BAIDU = {"kind": "baidu", "url": "https://pan.baidu.com/s/1", "code": "abcd"}
PARTS = [{"name": "T.md5", **UNKNOWN}, {"name": "T_part_*", **UNKNOWN}]


def entry(**changes: object) -> register.Source:
    fields = {"what": "x", "used_for": "x", "licence": "x", "by_hand": "ask for it", "mirrors": [BAIDU]} | changes
    return register.Source.model_validate(fields if "files" in fields else UNKNOWN | fields)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A working folder with an inbox, where a file counts as complete when it was left alone for a moment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(inbox, "QUIET_SECONDS", 0.1)
    monkeypatch.setattr(inbox, "LOOK_SECONDS", 0.02)
    (tmp_path / "inbox").mkdir()
    return tmp_path


def put(path: Path, content: str | bytes = "content") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def settle() -> None:
    time.sleep(inbox.QUIET_SECONDS * 1.5)


def adopt(source: register.Source, output: str, member: str | None = None) -> bool:
    return inbox.adopt("thing", source, Path(output), member, Path("inbox"))


def test_the_steps_name_every_address_its_code_and_the_place():
    mirrors = [
        BAIDU,
        {"kind": "huggingface", "repository": "a/b", "type": "dataset", "revision": "unknown"},
        {"kind": "google-drive", "id": "x" * 25, "folder": True},
        {"kind": "page", "url": "http://p"},
    ]
    told = inbox.steps("thing", entry(mirrors=mirrors), Path("out"), "part", Path("inbox"), ["it is down"])
    lines = [line.strip() for line in told.splitlines()]
    assert lines[0] == "thing cannot be fetched by this command (it is down). By hand:"
    assert lines[1] == "- open https://pan.baidu.com/s/1 (code abcd) with a Baidu account"
    assert lines[2:5] == [
        "- or open https://huggingface.co/datasets/a/b",
        f"- or open https://drive.google.com/drive/folders/{'x' * 25}",
        "- or open http://p",
    ]
    assert lines[5] == "- ask for it" and "move it to inbox/thing/part" in lines[6] and "adopts it as out" in lines[6]


@pytest.mark.parametrize("spot", ["inbox/part_aa", "inbox/thing/part_aa"])
def test_what_lies_in_the_inbox_is_linked_and_stays_there(here, spot):
    assert not adopt(entry(), "out/part_aa", "part_aa")
    put(here / spot)
    settle()
    assert adopt(entry(), "out/part_aa", "part_aa")
    assert Path("out/part_aa").is_symlink() and Path("out/part_aa").read_text() == "content" == Path(spot).read_text()


def test_links_within_the_repository_survive_its_move_and_links_to_a_lab_survive_too(here, tmp_path_factory):
    lab = put(tmp_path_factory.mktemp("lab") / "data" / "a").parent
    put(here / "repository" / "inbox" / "thing")
    os.chdir(here / "repository")
    inbox.link(Path("inbox/thing"), Path("out/file"), entry())
    inbox.link(lab, Path("out/folder"), entry())
    os.chdir(here)
    Path("repository").rename("moved")
    assert Path("moved/out/file").read_text() == "content" == Path("moved/out/folder/a").read_text()


def test_a_file_that_is_still_written_is_not_taken(here):
    put(here / "inbox" / "thing")
    with pytest.raises(BadInput, match="still being written"):
        adopt(entry(), "out")
    settle()
    put(here / "inbox" / "thing2" / "a.zip.crdownload")
    settle()
    assert inbox.growing(here / "inbox" / "thing2")
    assert adopt(entry(), "out")


def test_an_old_time_stamp_does_not_make_a_copy_look_complete(here):
    os.utime(put(here / "inbox" / "thing"), (1, 1))
    assert inbox.growing(here / "inbox" / "thing")


def test_what_is_adopted_must_be_what_the_register_says(here):
    put(here / "f")
    with pytest.raises(BadInput, match=r"has md5 .*, not md5 0000"):
        inbox.link(here / "f", Path("out"), entry(hash="md5:" + "0" * 32))
    with pytest.raises(BadInput, match="has 7 bytes, not 8"):
        inbox.link(here / "f", Path("out"), entry(bytes=8))
    put(here / "page.zip", PAGE)
    with pytest.raises(BadInput, match="web page"):
        inbox.link(here / "page.zip", Path("out"), entry())
    assert not os.path.lexists("out")


def test_an_adopted_folder_must_have_the_registered_files(here):
    put(here / "folder" / "T_part_aa")
    with pytest.raises(BadInput, match=r"holds nothing called T\.md5"):
        inbox.link(here / "folder", Path("out"), entry(files=PARTS))
    put(here / "folder" / "T.md5")
    inbox.link(here / "folder", Path("out"), entry(files=PARTS))
    assert sorted(os.listdir("out")) == ["T.md5", "T_part_aa"] and Path("out/T.md5").read_text() == "content"
    files = [{"name": "T.md5", "bytes": 3, "hash": "unknown"}]
    with pytest.raises(BadInput, match="has 7 bytes, not 3"):
        inbox.link(here / "folder", Path("other"), entry(files=files))
    (here / "empty").mkdir()
    with pytest.raises(BadInput, match="is empty"):
        inbox.link(here / "empty", Path("other"), entry())


def test_adoption_replaces_nothing_of_the_user(here):
    put(here / "f")
    put(here / "folder" / "a")
    mine, also = put(here / "out", "mine"), put(here / "outs" / "a", "mine")
    for found, output in ((here / "f", mine), (here / "folder", also.parent)):
        with pytest.raises(BadInput, match="move it away"):
            inbox.link(found, output, entry())
    assert mine.read_text() == also.read_text() == "mine"


def test_a_manifest_of_adopted_folders_covers_what_they_hold(here):
    put(here / "lab" / "class" / "seq" / "img" / "1.jpg")
    inbox.link(here / "lab", Path("out"), entry())
    assert manifest.summary("out") == manifest.summary("lab") and manifest.summary("out")["files"] == 1


def test_the_inbox_is_watched_until_the_right_file_is_complete(here, capsys):
    source = entry(bytes=7)

    def person() -> None:
        put(here / "inbox" / "thing", "wrong")
        settle()
        settle()
        put(here / "inbox" / "thing")

    thread = threading.Thread(target=person)
    thread.start()
    inbox.watch("thing", source, Path("out"), None, Path("inbox"), 30)
    thread.join()
    assert Path("out").read_text() == "content"
    told = capsys.readouterr().err
    assert "waiting for inbox/thing" in told or "still being written" in told
    assert "has 5 bytes, not 7" in told


def test_watching_ends_in_time_with_what_was_awaited(here):
    with pytest.raises(BadInput, match="inbox/thing did not come within 0 s"):
        inbox.watch("thing", entry(), Path("out"), None, Path("inbox"), 0.05)


def test_what_no_command_can_fetch_fails_at_once_where_nobody_watches(here, monkeypatch, capsys):
    tree = {"sources": {"thing": entry().model_dump(exclude_none=True, exclude={"files"})}}
    Path("sources.yaml").write_text(json.dumps(tree))
    flags = ["--source", "thing", "--output", "out", "--inbox", "inbox", "--register-file", "sources.yaml"]
    monkeypatch.setattr(sys, "argv", ["fetch", *flags])
    with pytest.raises(SystemExit) as end:
        console.run(fetch.main)
    assert end.value.code == 1 and "code abcd" in capsys.readouterr().err
    put(here / "lab" / "thing")
    monkeypatch.setattr(sys, "argv", ["fetch", *flags, "--adopt", "lab/thing", "--manifest", "out.json"])
    console.run(fetch.main)
    assert Path("out").is_symlink() and manifest.read("out.json")["facts"] == {"source": "thing"}


def archives(folder: Path) -> dict[str, bytes]:
    """One whole archive of each kind."""
    noise = os.urandom(100_000)
    packed, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a", noise)
    with tarfile.open(fileobj=tarred, mode="w") as tar:
        info = tarfile.TarInfo("a")
        info.size = len(noise)
        tar.addfile(info, io.BytesIO(noise))
    header = json.dumps({"w": {"dtype": "U8", "shape": [len(noise)], "data_offsets": [0, len(noise)]}}).encode()
    tensors = len(header).to_bytes(8, "little") + header + noise
    return {
        "a.zip": packed.getvalue(),
        "model.pth.tar": packed.getvalue(),  # PyTorch's checkpoints are zips, whatever they are called
        "a.tar": tarred.getvalue(),
        "a.tar.gz": gzip.compress(tarred.getvalue()),
        "two.gz": gzip.compress(noise) + gzip.compress(noise) + b"\0" * 100,
        "model.safetensors": tensors,
    }


def test_whole_archives_pass_their_own_check_and_cut_or_damaged_ones_are_named(here):
    for name, content in archives(here).items():
        integrity.check([put(here / name, content)])
        with pytest.raises(BadInput, match=name):
            integrity.check([put(here / name, content[: len(content) // 2])])
        if name != "a.tar" and name != "model.safetensors":  # these two hold no checksum of their content
            middle = len(content) // 2
            with pytest.raises(BadInput, match=name):
                integrity.check([put(here / name, content[:middle] + b"damage" + content[middle + 6 :])])


def test_the_parts_of_an_archive_are_checked_as_one(here):
    whole = gzip.compress(os.urandom(100_000))
    parts = [put(here / f"T_part_a{letter}", whole[n * 40_000 : (n + 1) * 40_000]) for n, letter in enumerate("abc")]
    integrity.check(reversed(parts))
    with pytest.raises(BadInput, match="ends in the middle"):
        integrity.check(parts[:2])
    with pytest.raises(BadInput, match="T_part_ac"):
        integrity.check([parts[0], parts[2]])


def state(source: register.Source, name: str = "thing") -> str:
    return listing.state(name, source, Path("data/mini"), Path("inbox"))


def fetched(path: str, content: str = "content", **facts: str) -> Path:
    """A file and the manifest that fetching writes beside it."""
    made = put(Path(path), content)
    manifest.write(f"{path}.json", [made], facts={"source": "thing", **facts})
    return made


def test_the_list_tells_missing_inbox_partial_present_verified_and_changed(here):
    assert state(entry()) == "missing"
    put(here / "inbox" / "thing")
    assert state(entry()) == "in the inbox (inbox/thing)"
    put(Path("data/mini/.thing.partial"), b"x" * 2_000_000)
    put(Path("data/mini/.thing.partial.json"), json.dumps({"url": "u", "version": "", "total": 8_000_000}))
    assert state(entry()) == "partial, 2.0 MB of 8.0 MB (25%)"
    put(Path("data/mini/.other.packed/a.zip"), b"x" * 2_000_000)
    assert state(entry(), "other") == "partial, 2.0 MB"
    made = fetched("data/mini/checkpoints/thing")
    assert state(entry()) == "present (data/mini/checkpoints/thing; hash not in the register yet)"
    digest = checksums.measure(made)[1].value
    assert state(entry(hash=f"sha256:{digest}")).endswith("; verified)")
    assert state(entry(hash=f"sha256:{'0' * 64}")).endswith("; NOT what the register says)")
    assert state(entry(hash=f"md5:{'0' * 32}")).endswith("; checked when it came)")
    made.unlink()
    made.symlink_to("nowhere")
    assert state(entry()).startswith("lost:")


def test_the_list_tells_adopted_folders_members_and_what_has_no_manifest(here):
    put(here / "lab" / "vocab.txt")
    inbox.link(here / "lab", Path("data/mini/thing"), entry())
    assert state(entry()) == "adopted from lab (data/mini/thing; no manifest)"
    manifest.write("data/mini/thing.json", [Path("data/mini/thing")], facts={"source": "thing"})
    digest = checksums.measure(here / "lab")[1]
    assert digest.algorithm == "sha256" and state(entry(hash=f"sha256:{digest.value}")).endswith("; verified)")
    for name in ("T_part_aa", "T_part_ab"):
        manifest.write(
            f"data/mini/parts/{name}.json", [put(Path("data/mini/parts", name))], facts={"source": "p", "member": name}
        )
    assert state(entry(files=PARTS), "p") == "present, 2 files (data/mini/parts; hash not in the register yet)"
    fetched("data/mini/sft-sources/other", source="elsewhere")
    assert state(entry(), "other") == "missing"


def test_the_list_is_a_table_and_json(here, monkeypatch, capsys):
    Path("params.yaml").write_text("study: mini\n")
    Path("sources.yaml").write_text(
        json.dumps({"sources": {"thing": entry().model_dump(exclude_none=True, exclude={"files"})}})
    )
    fetched("data/full/thing")
    for flags, word in (([], "missing"), (["--study", "full"], "present"), (["--json"], "missing")):
        monkeypatch.setattr(sys, "argv", ["fetch", "--list", "--register-file", "sources.yaml", "--inbox", "inbox", *flags])
        fetch.main()
        told = capsys.readouterr().out
        assert "thing" in told and word in told
    assert json.loads(told)[0]["mirrors"] == "baidu"
