"""Fetching against a server on 127.0.0.1 that misbehaves in every way we have met."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from workflow_scripts.console import BadInput
from workflow_scripts.data import transfer
from workflow_scripts.data.checksums import Digest
from workflow_scripts.params.data import Fetching

BODY = bytes(range(256)) * 20000  # 5.1 MB: several chunks
MD5 = Digest("md5", hashlib.md5(BODY).hexdigest())
QUICK = Fetching(attempts=3, wait_seconds=0.0, timeout_seconds=1.0)


class Server:
    """Serves BODY; `fault` says how it misbehaves, `requests` records (path, Range, bytes sent)."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str | None, int]] = []
        self.etag = '"one"'
        self.body = BODY
        self.broken = 0  # answers left that break off half-way
        self.pause = 0.0  # seconds between 64 kB blocks
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                outer.answer(self)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/{path}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path, asked = handler.path.lstrip("/"), handler.headers.get("Range")
        body, start = self.body, 0
        matches = handler.headers.get("If-Range") in (None, self.etag)
        if asked and path != "ignores-range" and matches:
            start = int(asked.removeprefix("bytes=").split("-")[0])
        code = 206 if start else 200
        headers = {"ETag": self.etag} if path != "no-etag" else {}
        if path == "error-500" or (path == "twice-503" and len(self.requests) < 2):
            code, body, start = (500 if path == "error-500" else 503), b"no", 0
        elif path == "missing":
            code, body, start = 404, b"no", 0
        elif path in ("page", "hidden-page"):
            body, start, code = b"<!DOCTYPE html><title>log in</title>", 0, 200
            headers["Content-Type"] = "text/html" if path == "page" else "application/gzip"
        elif path == "circle":
            code, body, headers["Location"] = 302, b"", self.url("circle")
        elif path == "onwards":
            code, body, headers["Location"] = 302, b"", self.url("good")
        elif path == "wrong":
            body = b"x" * len(BODY)
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        rest = body[start:]
        promised = len(rest)
        if self.broken:
            self.broken -= 1
            rest = rest[: len(rest) // 2]
            handler.close_connection = True
        if path == "stalls":
            rest = rest[:100]
        self.requests.append((path, asked, len(rest)))  # before the first byte: the client may be done before the last
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(promised))
        handler.end_headers()
        try:
            for offset in range(0, len(rest), 1 << 16):
                handler.wfile.write(rest[offset : offset + (1 << 16)])
                time.sleep(self.pause)
            if path == "stalls":
                time.sleep(1.5)
        except OSError:
            handler.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.http.shutdown()
    one.http.server_close()


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name.startswith("."))


def test_a_file_arrives_whole_with_its_hash_and_nothing_else(server, tmp_path):
    target = tmp_path / "a folder" / "file.bin"
    assert transfer.fetch([server.url("good")], target, MD5, settings=QUICK) == MD5
    assert target.read_bytes() == BODY and os.listdir(target.parent) == ["file.bin"]


def test_without_an_expected_hash_the_sha256_is_told(server, tmp_path):
    found = transfer.fetch([server.url("good")], tmp_path / "f", settings=QUICK)
    assert found == Digest("sha256", hashlib.sha256(BODY).hexdigest())


@pytest.mark.parametrize("path", ["good", "no-etag"])
def test_a_broken_connection_continues_where_it_broke(server, tmp_path, path):
    server.broken = 1
    transfer.fetch([server.url(path)], tmp_path / "f", MD5, settings=QUICK)
    assert (tmp_path / "f").read_bytes() == BODY
    (_, first, sent), (_, second, more) = server.requests
    assert first is None and second is not None
    assert sent + more <= len(BODY) + transfer.CHUNK


def test_without_version_and_hash_a_broken_transfer_starts_over(server, tmp_path):
    server.broken = 1
    transfer.fetch([server.url("no-etag")], tmp_path / "f", settings=QUICK)
    assert (tmp_path / "f").read_bytes() == BODY and server.requests[1][1] is None


def test_a_server_that_ignores_range_restarts_the_file(server, tmp_path):
    server.broken = 1
    transfer.fetch([server.url("ignores-range")], tmp_path / "f", MD5, settings=QUICK)
    assert (tmp_path / "f").read_bytes() == BODY


def test_a_file_that_changed_between_two_tries_is_not_mixed(server, tmp_path):
    server.broken = 3
    server.body = b"y" * len(BODY)
    with pytest.raises(BadInput, match="the same command continues"):
        transfer.fetch([server.url("good")], tmp_path / "f", settings=Fetching(attempts=1, wait_seconds=0))
    server.broken, server.body, server.etag = 0, BODY, '"two"'
    transfer.fetch([server.url("good")], tmp_path / "f", settings=QUICK)
    assert (tmp_path / "f").read_bytes() == BODY


def test_passing_errors_are_tried_again_and_lasting_ones_end_in_one_sentence(server, tmp_path):
    transfer.fetch([server.url("twice-503")], tmp_path / "f", MD5, settings=QUICK)
    with pytest.raises(BadInput, match=r"answers 500 \(3 attempts\)"):
        transfer.fetch([server.url("error-500")], tmp_path / "g", MD5, settings=QUICK)
    with pytest.raises(BadInput, match="answers 404"):
        transfer.fetch([server.url("missing")], tmp_path / "g", MD5, settings=QUICK)
    assert sum(path == "missing" for path, _, _ in server.requests) == 1
    assert os.listdir(tmp_path) == ["f"]


def test_a_silent_server_is_given_up(server, tmp_path):
    settings = Fetching(attempts=2, wait_seconds=0, timeout_seconds=0.2)
    with pytest.raises(BadInput, match="no byte for"):
        transfer.fetch([server.url("stalls")], tmp_path / "f", MD5, settings=settings)
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize("path", ["page", "hidden-page"])
def test_a_web_page_is_never_taken_for_an_archive(server, tmp_path, path):
    with pytest.raises(BadInput, match="web page"):
        transfer.fetch([server.url(path)], tmp_path / "TNLLT_part_aa", settings=QUICK)
    assert os.listdir(tmp_path) == []


def test_redirects_are_followed_but_not_in_circles(server, tmp_path):
    transfer.fetch([server.url("onwards")], tmp_path / "f", MD5, settings=QUICK)
    with pytest.raises(BadInput, match="redirects more than"):
        transfer.fetch([server.url("circle")], tmp_path / "g", settings=QUICK)


def test_https_never_falls_to_http():
    import httpx

    client = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(302, headers={"Location": "http://b/f"})))
    with pytest.raises(transfer.Refused, match="from https to http"), transfer._open(client, "https://a/f", {}):
        pass


def test_a_wrong_file_is_dropped_and_the_next_mirror_is_asked(server, tmp_path):
    transfer.fetch([server.url("wrong"), server.url("good")], tmp_path / "f", MD5, settings=QUICK)
    assert (tmp_path / "f").read_bytes() == BODY
    with pytest.raises(BadInput, match=f"not {MD5}"):
        transfer.fetch([server.url("wrong")], tmp_path / "g", MD5, settings=QUICK)
    assert os.listdir(tmp_path) == ["f"]


def test_what_one_mirror_began_another_ends(server, tmp_path):
    server.broken = 1
    once = Fetching(attempts=1, wait_seconds=0)
    transfer.fetch([server.url("good"), server.url("other")], tmp_path / "f", MD5, settings=once)
    assert (tmp_path / "f").read_bytes() == BODY and server.requests[1][1] is not None


def test_a_local_file_is_copied_like_any_other(tmp_path, monkeypatch):
    (tmp_path / "up stream").mkdir()
    (tmp_path / "up stream" / "part").write_bytes(BODY)
    monkeypatch.chdir(tmp_path)
    for number, url in enumerate(["file:up stream/part", f"file://{tmp_path}/up%20stream/part"]):
        transfer.fetch([url], tmp_path / str(number), MD5)
        assert (tmp_path / str(number)).read_bytes() == BODY
    with pytest.raises(BadInput, match="does not exist"):
        transfer.fetch(["file:nowhere"], tmp_path / "x", MD5)


def test_a_file_of_the_user_is_not_overwritten(server, tmp_path):
    (tmp_path / "f").write_text("mine")
    with pytest.raises(BadInput, match="move it away"):
        transfer.fetch([server.url("good")], tmp_path / "f", MD5, settings=QUICK)
    assert (tmp_path / "f").read_text() == "mine"


def test_a_full_disk_is_noticed_before_the_first_byte(server, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(BadInput, match="GB free"):
        transfer.fetch([server.url("good")], tmp_path / "f", MD5, settings=QUICK)


def test_two_fetches_of_one_file_do_not_mix(server, tmp_path):
    with transfer._locked(tmp_path / ".f.partial"), pytest.raises(BadInput, match="another fetch"):
        transfer.fetch([server.url("good")], tmp_path / "f", MD5, settings=QUICK)


def test_a_killed_fetch_continues_and_fetches_nothing_twice(server, tmp_path):
    server.pause = 0.02
    command = [sys.executable, "-m", "workflow_scripts.data.fetch", "--url", server.url("good"), "--md5", MD5.value]
    command += ["--output", str(tmp_path / "f")]
    partial = tmp_path / ".f.partial"
    for goal in (1, 3):
        child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not (partial.exists() and partial.stat().st_size >= goal * transfer.CHUNK):
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert not (tmp_path / "f").exists()
    server.pause = 0.0
    kept = partial.stat().st_size
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "f").read_bytes() == BODY and leftovers(tmp_path) == []
    assert server.requests[-1][1:] == (f"bytes={kept}-", len(BODY) - kept)


def test_the_command_reads_a_published_checksum_file_and_says_what_is_wrong(server, tmp_path):
    sums = tmp_path / "sums.md5"
    sums.write_text(f"{MD5.value}  f\n{'0' * 32} *g\n")
    base = [sys.executable, "-m", "workflow_scripts.data.fetch", "--url", server.url("good"), "--checksums", str(sums)]
    assert subprocess.run([*base, "--output", str(tmp_path / "f")], capture_output=True).returncode == 0
    for name, message in (("g", "not md5 000000"), ("h", "lists no checksum of h")):
        done = subprocess.run([*base, "--output", str(tmp_path / name)], capture_output=True, text=True)
        assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
        assert not (tmp_path / name).exists()
