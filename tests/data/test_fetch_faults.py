"""Fetching from servers, disks and redirects that fail: the right file or one clear error, never a wrong file."""

import hashlib
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import pytest
from faulty_server import BLOCK, BODY, FAULTS, Server
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workflow_scripts.console import BadInput
from workflow_scripts.data import transfer
from workflow_scripts.data.checksums import Digest
from workflow_scripts.params.data import Fetching

MD5 = Digest("md5", hashlib.md5(BODY).hexdigest())
QUICK = Fetching(attempts=3, wait_seconds=0.0, timeout_seconds=1.0)
ONCE = Fetching(attempts=1, wait_seconds=0.0, timeout_seconds=1.0)
IMPATIENT = Fetching(attempts=3, wait_seconds=0.0, timeout_seconds=0.2)


def refused(server: Server, path: str, folder: Path, message: str, expected: Digest | None = MD5) -> None:
    """This address ends in one sentence and leaves nothing."""
    with pytest.raises(BadInput, match=message) as told:
        transfer.fetch([server.url(path)], folder / "TNLLT_part_aa", expected, settings=IMPATIENT)
    assert "\n" not in str(told.value)
    assert not (folder / "TNLLT_part_aa").exists()


def recovers(server: Server, folder: Path, *script: str, expected: Digest | None = MD5) -> list[int]:
    """After these faults the right file is there; returns the bytes sent by request."""
    server.script = list(script)
    transfer.fetch([server.url()], folder / "f", expected, settings=IMPATIENT)
    assert (folder / "f").read_bytes() == BODY and os.listdir(folder) == ["f"]
    return [request.sent for request in server.requests]


def test_server_errors_that_pass_are_tried_again(server, tmp_path):
    recovers(server, tmp_path, "error-500", "error-500")


def test_server_errors_that_last_end_in_one_sentence(server, tmp_path):
    refused(server, "error-500/f", tmp_path, r"answers 500 \(3 attempts\)")
    assert len(server.requests) == 3 and os.listdir(tmp_path) == []


def test_a_missing_file_is_asked_for_once(server, tmp_path):
    refused(server, "missing/f", tmp_path, "answers 404")
    assert len(server.requests) == 1


def test_waits_double_and_a_busy_server_says_how_long(server, tmp_path):
    waits: list[float] = []
    server.script = ["error-500", "error-500", "error-500", "busy-503"]
    patient = Fetching(attempts=5, wait_seconds=1.0)
    transfer.fetch([server.url()], tmp_path / "f", MD5, settings=patient, sleep=waits.append)
    assert waits == [1.0, 2.0, 4.0, 7.0]


@pytest.mark.parametrize("fault", ["reset", "short", "stalls", "chunked-short"])
def test_resets_short_bodies_and_stalls_are_continued(server, tmp_path, fault):
    sent = recovers(server, tmp_path, fault)
    assert server.requests[1].range
    assert fault == "reset" or sum(sent) <= len(BODY) + transfer.CHUNK  # a reset may overtake what is on its way


@pytest.mark.parametrize(
    ("fault", "message"),
    [("reset", "attempts"), ("short", "attempts"), ("stalls", "no byte for 0.2 s"), ("chunked-short", "attempts")],
)
def test_a_connection_that_always_breaks_is_given_up_and_what_came_is_kept(server, tmp_path, fault, message):
    server.body = BODY[: transfer.GAIN_THAT_COUNTS]
    refused(server, f"{fault}/f", tmp_path, f"{message}.*the same command continues", None)


def test_a_stalling_server_that_brings_something_each_time_is_not_given_up(server, tmp_path):
    server.body = BODY * 4
    server.script = ["short"] * 4  # half of the rest each time: more breaks than attempts
    transfer.fetch([server.url()], tmp_path / "f", settings=QUICK)
    assert (tmp_path / "f").read_bytes() == BODY * 4


def test_a_file_that_changes_at_every_request_is_given_up(server, tmp_path):
    server.script = ["changed", "short", "other-content-range"] * 20
    with pytest.raises(BadInput, match=r"attempts|what it serves"):
        transfer.fetch([server.url("changed/f")], tmp_path / "f", MD5, settings=QUICK)
    assert len(server.requests) < 20


def test_a_body_that_is_short_by_its_own_account_has_not_the_registered_size(server, tmp_path):
    server.body = BODY[:-1]
    with pytest.raises(BadInput, match="bytes, 5120000 are expected"):
        transfer.fetch([server.url()], tmp_path / "f", size=len(BODY), settings=QUICK)
    with pytest.raises(BadInput, match="serves 5119999 bytes"):
        transfer.fetch([server.url("chunked/f")], tmp_path / "f", size=len(BODY), settings=QUICK)
    assert not (tmp_path / "f").exists()


def test_a_wrong_hash_leaves_nothing(server, tmp_path):
    refused(server, "wrong/f", tmp_path, f"not {MD5}")
    assert os.listdir(tmp_path) == []


def test_a_server_that_ignores_range_restarts_the_file(server, tmp_path):
    recovers(server, tmp_path, "short", "ignores-range")


@pytest.mark.parametrize("known", [MD5, None])
def test_a_file_that_changed_between_two_tries_is_not_mixed(server, tmp_path, known):
    server.body, server.etag = b"y" * len(BODY), '"old"'
    server.script = ["short"]
    with pytest.raises(BadInput, match="the same command continues"):
        transfer.fetch([server.url()], tmp_path / "f", known, settings=ONCE)
    server.body, server.etag = BODY, '"new"'
    recovers(server, tmp_path, expected=known)


def test_a_file_that_became_shorter_is_fetched_anew(server, tmp_path):
    server.body = b"y" * (len(BODY) * 3)
    server.versioned = False
    server.script = ["short"]
    with pytest.raises(BadInput):
        transfer.fetch([server.url()], tmp_path / "f", MD5, settings=ONCE)
    server.body = BODY
    recovers(server, tmp_path)
    assert [r.status for r in server.requests] == [200, 416, 200]


@pytest.mark.parametrize("fault", ["bare-416", "other-content-range", "bad-content-range"])
def test_a_range_that_is_answered_with_nonsense_starts_over(server, tmp_path, fault):
    recovers(server, tmp_path, "short", fault)


@pytest.mark.parametrize("path", ["page/f", "hidden-page/f"])
def test_a_web_page_is_never_taken_for_an_archive(server, tmp_path, path):
    refused(server, path, tmp_path, "web page", None)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("path", ["page/f", "hidden-page/f", "gzip/f", "error-500/f", "circle/f"])
def test_a_mirror_that_fails_does_not_cost_what_another_brought(server, tmp_path, path):
    server.script = ["short"]
    mirrors = [server.url(), server.url(path), server.url("third/f")]
    transfer.fetch(mirrors, tmp_path / "f", MD5, settings=ONCE)
    assert (tmp_path / "f").read_bytes() == BODY
    sent = sum(r.sent for r in server.requests if r.path.startswith(("/good", "/third")))
    assert sent <= len(BODY) + transfer.CHUNK


def test_a_transfer_that_was_compressed_on_the_way_is_refused(server, tmp_path):
    refused(server, "gzip/f", tmp_path, "insists on compressing")


def test_redirects_are_followed_but_not_in_circles(server, tmp_path):
    transfer.fetch([server.url("onwards/f")], tmp_path / "f", MD5, settings=QUICK)
    assert (tmp_path / "f").read_bytes() == BODY
    refused(server, "circle/f", tmp_path, "redirects more than")


@pytest.mark.parametrize("hops", [["http://b/f"], ["https://b/f", "http://c/f"], ["https://b/f", "file:///etc/passwd"]])
def test_https_never_falls_to_http(tmp_path, monkeypatch, hops):
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        if request.url.scheme == "https" and hops:
            return httpx.Response(302, headers={"Location": hops.pop(0)})
        return httpx.Response(200, content=BODY)

    real = httpx.Client
    monkeypatch.setattr(transfer.httpx, "Client", lambda **kind: real(transport=httpx.MockTransport(answer), **kind))
    with pytest.raises(BadInput, match=r"from https to (http|file)"):
        transfer.fetch(["https://a/f"], tmp_path / "f", MD5, settings=QUICK)
    assert os.listdir(tmp_path) == [] and all(url.startswith("https:") for url in asked)


def test_nobody_there_and_no_address_are_told_apart(server, tmp_path):
    server.close()
    refused(server, "f", tmp_path, r"refused.*\(3 attempts\)")
    for url, message in (("ftp://a/f", "no kind of address"), ("f", "no kind of address"), ("http://a:b/", "not an address")):
        with pytest.raises(BadInput, match=message):
            transfer.fetch([url], tmp_path / "f", settings=QUICK)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_noticed_before_the_first_byte(server, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(BadInput, match="GB free"):
        transfer.fetch([server.url()], tmp_path / "f", MD5, settings=QUICK)
    assert os.listdir(tmp_path) == []


def test_a_disk_that_fills_on_the_way_keeps_what_came_and_says_so(server, tmp_path):
    command = [sys.executable, "-m", "workflow_scripts.data.fetch", "--url", server.url(), "--output", str(tmp_path / "f")]

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * transfer.CHUNK + 1000, resource.RLIM_INFINITY))

    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=small_files)
    assert done.returncode == 1 and "cannot be written" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "f").exists()
    kept = (tmp_path / ".f.partial").stat().st_size
    assert kept >= 2 * transfer.CHUNK
    transfer.fetch([server.url()], tmp_path / "f", MD5, settings=QUICK)
    assert (tmp_path / "f").read_bytes() == BODY and server.requests[-1].range == f"bytes={kept}-"


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(
    scripts=st.lists(st.lists(st.sampled_from(FAULTS), max_size=6), min_size=1, max_size=3),
    known=st.sampled_from(["hash", "size", "nothing"]),
    versioned=st.booleans(),
)
def test_whatever_faults_follow_each_other_the_file_is_right_or_absent(scripts, known, versioned):
    server = Server()
    body = server.body = BODY[: 5 * BLOCK + 1]
    server.stall_seconds, server.versioned = 0.1, versioned
    quick = Fetching(attempts=3, wait_seconds=0.0, timeout_seconds=0.05)
    bodies = {body, b"x" * len(body)} | {bytes([n]) * len(body) for n in range(40)}  # what a publisher may have meant
    expected = Digest("md5", hashlib.md5(body).hexdigest()) if known == "hash" else None
    size = len(body) if known == "size" else None
    try:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "f"
            for script in scripts:  # one run of the command after the other
                server.script = list(script)
                try:
                    transfer.fetch([server.url(), server.url("mirror/f")], target, expected, size, quick, sleep=lambda _: None)
                except BadInput as error:
                    assert "\n" not in str(error) and not target.exists()
                    continue
                got = target.read_bytes()
                assert got == body if known == "hash" else got in bodies
                break
    finally:
        server.close()
