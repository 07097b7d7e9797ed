"""Register entries from Hugging Face (its real client, a small hub on 127.0.0.1), Dropbox folders, Google Drive, addresses."""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import gdown
import pytest
from faulty_server import BODY, PAGE

from workflow_scripts.console import BadInput
from workflow_scripts.data import hubs, register, transfer, unpack
from workflow_scripts.params.data import Fetching

UNKNOWN = {"bytes": "unknown", "hash": "unknown"}
QUICK = Fetching(attempts=2, wait_seconds=0.0, timeout_seconds=1.0)
COMMIT = "c" * 40


def entry(**changes: object) -> register.Source:
    fields = {"what": "x", "used_for": "x", "licence": "x", "by_hand": "ask for it"} | changes
    return register.Source.model_validate(fields if "files" in fields else UNKNOWN | fields)


def zipped(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return packed.getvalue()


class Hub:
    """The few addresses of a hub that a snapshot needs; `lies` are files whose content is not what the tree says."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.missing = files, False
        self.lies: set[str] = set()
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                outer.asked.append(self.path)
                status, headers, body = outer.answer(self.path.split("?")[0])
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        if self.missing:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        kind = {"Content-Type": "application/json"}
        if "/tree/" in path:
            listed = [
                {"type": "file", "path": name, "size": len(body), **self.known(body)} for name, body in self.files.items()
            ]
            return 200, kind, json.dumps(listed).encode()
        if "/api/" in path:
            siblings = [{"rfilename": name} for name in self.files]
            return 200, kind, json.dumps({"id": "a/b", "sha": COMMIT, "siblings": siblings}).encode()
        name = path.partition(f"/resolve/{COMMIT}/")[2]
        body = self.files.get(name)
        if body is None:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        etag = self.known(body).get("lfs", self.known(body))["oid"]  # type: ignore[union-attr, index, call-overload]
        served = body[::-1] if name in self.lies else body
        return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, served

    def known(self, body: bytes) -> dict[str, object]:
        git = hashlib.sha1(f"blob {len(body)}\0".encode() + body).hexdigest()
        large = {"lfs": {"oid": hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 130}}
        return {"oid": git} | (large if len(body) > 1000 else {})


@pytest.fixture
def hub(monkeypatch):
    one = Hub({"config.json": b"{}", "model.safetensors": BODY[:50_000], "data/notes.txt": b"notes"})
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{one.http.server_port}")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    yield one
    one.http.shutdown()
    one.http.server_close()


def hugging_face(folder: Path, *flags: str, **mirror: object) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own: huggingface_hub reads HF_ENDPOINT when it is imported."""
    about = {"kind": "huggingface", "repository": "a/b", "type": "model", "revision": COMMIT} | mirror
    tree = {"sources": {"thing": entry(mirrors=[about]).model_dump(exclude_none=True, exclude={"files"})}}
    (folder / "sources.yaml").write_text(json.dumps(tree))
    command = [sys.executable, "-m", "workflow_scripts.data.fetch", "--source", "thing", "--output", str(folder / "out")]
    command += ["--register-file", str(folder / "sources.yaml"), "--inbox", str(folder / "inbox"), *flags]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_snapshot_holds_the_files_of_the_commit_alone(hub, tmp_path):
    done = hugging_face(tmp_path, "--manifest", str(tmp_path / "out.json"))
    assert done.returncode == 0, done.stderr
    found = {p.relative_to(tmp_path / "out").as_posix(): p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert found == hub.files and all(COMMIT in path or "/api/" in path for path in hub.asked)
    assert json.loads((tmp_path / "out.json").read_text())["facts"] == {"source": "thing", "revision": COMMIT}
    assert sorted(os.listdir(tmp_path)) == ["out", "out.json", "sources.yaml"]


def test_patterns_choose_files_and_archives_are_unpacked(hub, tmp_path):
    hub.files = {"cat.zip": zipped(cat_1=b"1"), "dog.zip": zipped(dog__dog_1=b"2"), "list.txt": b"cat", "README.md": b"no"}
    done = hugging_face(tmp_path, patterns=["*.zip", "*.txt"], unpack=True, type="dataset")
    assert done.returncode == 0, done.stderr
    found = {p.relative_to(tmp_path / "out").as_posix(): p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert found == {"cat/cat_1": b"1", "dog/dog_1": b"2", "list.txt": b"cat"}


def test_a_file_that_is_not_the_hubs_is_not_taken(hub, tmp_path):
    for name in ("model.safetensors", "config.json"):  # one known by SHA-256, one by git's hash
        hub.lies, folder = {name}, tmp_path / name
        folder.mkdir()
        done = hugging_face(folder)
        assert done.returncode == 1 and f"{name} of a/b@ccccccc arrived damaged" in done.stderr
        assert not (folder / "out").exists()
    hub.lies = set()
    assert hugging_face(folder).returncode == 0


def test_what_the_hub_does_not_have_is_told_in_the_steps(hub, tmp_path):
    hub.missing = True
    done = hugging_face(tmp_path)
    assert done.returncode == 1 and "Hugging Face did not give a/b@ccccccc" in done.stderr and "By hand" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_hugging_face_source_wants_a_full_commit(tmp_path):
    mirror = register.HuggingFace(kind="huggingface", repository="a/b", type="model", revision="unknown")
    source = entry(mirrors=[mirror.model_dump()])
    with pytest.raises(BadInput, match="--revision"):
        hubs.hugging_face(mirror, source, tmp_path / "out", None, None)
    with pytest.raises(BadInput, match="no full commit"):
        hubs.hugging_face(mirror, source, tmp_path / "out", None, "main")


def test_unpacking_goes_on_where_it_was_killed(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.zip").write_bytes(zipped(**{"1": name.encode()}))
    (tmp_path / "a").mkdir()  # unpacked, and killed before the archive was removed
    (tmp_path / "a" / "1").write_bytes(b"a")
    (tmp_path / ".b.partial").mkdir()
    (tmp_path / ".b.partial" / "rest").write_bytes(b"half")
    unpack.unpack(tmp_path)
    assert {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == {
        "a/1": b"a",
        "b/1": b"b",
    }
    (tmp_path / "c.zip").write_bytes(zipped(c=b"c" * 1000)[:-5])
    with pytest.raises(BadInput, match=r"c\.zip is damaged"):
        unpack.unpack(tmp_path)


FOLDER = [{"name": "T.md5", **UNKNOWN}, {"name": "T_part_*", **UNKNOWN}]
MEMBERS = {"T.md5": b"0  T\n", "T_part_aa": BODY[:2_000_000], "T_part_ab": BODY[2_000_000:2_500_000]}


@pytest.fixture
def dropbox(server):
    """A shared folder as one zip of unknown length, which knows no Range."""
    server.body = zipped(**{**MEMBERS, "Get started.pdf": b"advertising"})
    server.versioned = False
    return register.Dropbox.model_construct(kind="dropbox", url=server.url("chunked/scl/fo?rlkey=1&dl=0"))


def test_members_of_a_shared_folder_come_with_one_transfer_however_many_jobs_ask(server, dropbox, tmp_path):
    source = entry(files=FOLDER, mirrors=[{"kind": "page", "url": "x"}])

    def job(name: str) -> None:
        hubs.dropbox(dropbox, "thing", source, tmp_path / name, name, QUICK)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(job, MEMBERS))
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == MEMBERS
    assert [request.path.endswith("dl=1") for request in server.requests] == [True]


def test_a_shared_folder_comes_as_a_folder(server, dropbox, tmp_path):
    source = entry(files=FOLDER, mirrors=[{"kind": "page", "url": "x"}])
    hubs.dropbox(dropbox, "thing", source, tmp_path / "out", None, QUICK)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == MEMBERS
    assert os.listdir(tmp_path) == ["out"]


def test_a_shared_folder_without_the_member_or_cut_short_gives_nothing(server, dropbox, tmp_path):
    source = entry(files=FOLDER, mirrors=[{"kind": "page", "url": "x"}])
    with pytest.raises(BadInput, match=r"holds no T_part_zz; it holds T\.md5, T_part_aa, T_part_ab"):
        hubs.dropbox(dropbox, "thing", source, tmp_path / "T_part_zz", "T_part_zz", QUICK)
    server.body = server.body[:-1000]
    for fault in ("chunked", "page"):
        url = server.url(f"{fault}/scl/fo?dl=0")
        mirror = register.Dropbox.model_construct(kind="dropbox", url=url)
        with pytest.raises(transfer.Unavailable, match=r"damaged|web page"):
            hubs.dropbox(mirror, "other", source, tmp_path / "T_part_aa", "T_part_aa", QUICK)
    assert not (tmp_path / "T_part_aa").exists() and not (tmp_path / "T_part_zz").exists()


def drive(monkeypatch, content: dict[str, bytes]) -> None:
    """gdown in the place of Google Drive, which cannot be served here: the folder's list, and files by their id."""
    File = type("File", (), {})

    def listed(**_: object) -> list[object]:
        found = []
        for path in content:
            file = File()
            file.id, file.path = path, path
            found.append(file)
        return found

    def download(id: str, output: str, **manners: object) -> str:
        assert manners["resume"] and manners["retries"] == 1 and manners["timeout"] == 1.0
        if id not in content:
            raise gdown.exceptions.FileURLRetrievalError("Too many users have viewed or downloaded this file recently.")
        Path(output).write_bytes(content[id])
        return output

    monkeypatch.setattr(gdown, "download_folder", listed)
    monkeypatch.setattr(gdown, "download", download)


def test_files_of_a_drive_folder_are_chosen_by_pattern_and_checked(tmp_path, monkeypatch):
    drive(monkeypatch, {"b256/x.pth.tar": b"one", "l384/x.pth.tar": b"two"})
    mirror = {"kind": "google-drive", "id": "i" * 25, "folder": True, "patterns": ["*b256/*.pth.tar"]}
    digest = hashlib.sha256(b"one").hexdigest()
    hubs.fetch(
        "thing", entry(mirrors=[mirror], bytes=3, hash=f"sha256:{digest}"), tmp_path / "out", QUICK, drop=tmp_path / "inbox"
    )
    assert [path.read_bytes() for path in (tmp_path / "out").rglob("*.tar")] == [b"one"]
    for wrong in ({"hash": f"sha256:{'0' * 64}"}, {"bytes": 4}):
        with pytest.raises(BadInput, match="is not the artifact"):
            hubs.fetch("thing", entry(mirrors=[mirror], **wrong), tmp_path / "other", QUICK, drop=tmp_path / "inbox")
    mirror["patterns"] = ["*nothing*"]
    with pytest.raises(BadInput, match=r"did not give anything like \*nothing\*"):
        hubs.fetch("thing", entry(mirrors=[mirror]), tmp_path / "other", QUICK, drop=tmp_path / "inbox")
    assert sorted(os.listdir(tmp_path)) == ["out"]


def test_a_drive_quota_or_its_page_is_no_file(tmp_path, monkeypatch):
    mirror = {"kind": "google-drive", "id": "i" * 25}
    for content, message in (({}, "Too many users"), ({"i" * 25: PAGE}, "web page")):
        drive(monkeypatch, content)
        with pytest.raises(BadInput, match=message):
            hubs.fetch("thing", entry(mirrors=[mirror]), tmp_path / "out.pth", QUICK, drop=tmp_path / "inbox")
    assert os.listdir(tmp_path) == []


def address(folder: Path, **content: str) -> register.Source:
    """A registered folder of files, each with its hash, published as files."""
    folder.mkdir(exist_ok=True)
    pieces = []
    for name, text in content.items():
        (folder / name).write_text(text)
        digest = hashlib.sha256(text.encode()).hexdigest()
        pieces.append({"name": name, "bytes": len(text), "hash": f"sha256:{digest}"})
    return entry(files=pieces, mirrors=[{"kind": "url", "url": f"file:{folder}"}])


def test_a_registered_folder_is_fetched_file_by_file_with_each_hash_and_continued(tmp_path):
    source = address(tmp_path / "up", a="a", b="b")
    arguments = ("thing", source, tmp_path / "out", QUICK)
    (tmp_path / "up" / "b").write_text("c")
    with pytest.raises(BadInput, match="cannot be fetched"):
        hubs.fetch(*arguments, drop=tmp_path / "inbox")
    assert os.listdir(tmp_path / "out") == ["a"]
    (tmp_path / "up" / "b").write_text("b")
    hubs.fetch(*arguments, drop=tmp_path / "inbox")
    assert sorted(os.listdir(tmp_path / "out")) == ["a", "b"]
    (tmp_path / "up" / "a").unlink()
    assert hubs.fetch(*arguments, drop=tmp_path / "inbox") == {}  # all is here: nothing is asked for
    (tmp_path / "out" / "a").write_text("x")
    with pytest.raises(BadInput, match=re.escape(f"{tmp_path / 'out'} exists, but {tmp_path / 'out' / 'a'} has sha256")):
        hubs.fetch(*arguments, drop=tmp_path / "inbox")


def test_mirrors_are_asked_in_order_and_a_full_disk_is_not_blamed_on_them(server, tmp_path, monkeypatch):
    mirrors = [{"kind": "url", "url": server.url("missing/f")}, {"kind": "url", "url": server.url()}]
    hubs.fetch("thing", entry(mirrors=mirrors), tmp_path / "f", QUICK, drop=tmp_path / "inbox")
    assert (tmp_path / "f").read_bytes() == BODY
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(BadInput, match="GB free") as told:
        hubs.fetch("thing", entry(mirrors=mirrors), tmp_path / "g", QUICK, drop=tmp_path / "inbox")
    assert "By hand" not in str(told.value)
