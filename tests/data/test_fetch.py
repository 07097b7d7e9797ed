"""Fetching one file from servers that behave: resuming, mirrors, hashes, the command."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from faulty_server import BODY, Server

from workflow_scripts import console, manifest
from workflow_scripts.console import BadInput
from workflow_scripts.data import fetch, transfer
from workflow_scripts.data.checksums import Digest
from workflow_scripts.params.data import Fetching

MD5 = Digest("md5", hashlib.md5(BODY).hexdigest())
SHA256 = Digest("sha256", hashlib.sha256(BODY).hexdigest())
QUICK = Fetching(attempts=3, wait_seconds=0.0, timeout_seconds=1.0)
ONCE = Fetching(attempts=1, wait_seconds=0.0, timeout_seconds=1.0)


def begin(server: Server, target: Path, fault: str = "short", **known: object) -> int:
    """A transfer that breaks off; returns the bytes that came."""
    server.script = [fault]
    with pytest.raises(BadInput, match="the same command continues"):
        transfer.fetch([server.url()], target, settings=ONCE, **known)
    return target.with_name(f".{target.name}.partial").stat().st_size


def test_a_file_arrives_whole_with_its_hash_and_nothing_else(server, tmp_path):
    target = tmp_path / "a folder" / "file.bin"
    assert transfer.fetch([server.url()], target, MD5, settings=QUICK) == MD5
    assert target.read_bytes() == BODY and os.listdir(target.parent) == ["file.bin"]


@pytest.mark.parametrize("path", ["good/f", "chunked/f"])
def test_without_an_expected_hash_the_sha256_is_told(server, tmp_path, path):
    assert transfer.fetch([server.url(path)], tmp_path / "f", settings=QUICK) == SHA256
    assert (tmp_path / "f").read_bytes() == BODY


def test_an_empty_file_is_a_file(server, tmp_path):
    server.body = b""
    transfer.fetch([server.url()], tmp_path / "f", settings=QUICK)
    assert (tmp_path / "f").read_bytes() == b"" and os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize(("versioned", "known"), [(True, MD5), (True, None), (False, MD5)])
def test_a_broken_transfer_continues_where_it_broke(server, tmp_path, versioned, known):
    server.versioned = versioned
    kept = begin(server, tmp_path / "f", expected=known)
    found = transfer.fetch([server.url()], tmp_path / "f", known, settings=QUICK)
    assert (tmp_path / "f").read_bytes() == BODY and found == (known or SHA256)
    last = server.requests[-1]
    assert (last.range, last.if_range, last.sent) == (f"bytes={kept}-", '"one"' if versioned else None, len(BODY) - kept)


def test_without_version_and_hash_a_broken_transfer_starts_over(server, tmp_path):
    server.versioned = False
    begin(server, tmp_path / "f")
    transfer.fetch([server.url()], tmp_path / "f", settings=QUICK)
    assert (tmp_path / "f").read_bytes() == BODY and server.requests[-1].range is None


def test_a_transfer_that_was_whole_before_its_rename_asks_for_no_byte_again(server, tmp_path):
    partial = tmp_path / ".f.partial"
    partial.write_bytes(BODY)
    note = f'{{"url": "{server.url()}", "version": "x", "total": {len(BODY)}}}'
    partial.with_name(".f.partial.json").write_text(note)
    transfer.fetch([server.url()], tmp_path / "f", MD5, settings=QUICK)
    assert (tmp_path / "f").read_bytes() == BODY and server.requests == [] and os.listdir(tmp_path) == ["f"]


def test_bytes_without_a_note_are_not_trusted(server, tmp_path):
    (tmp_path / ".f.partial").write_bytes(b"?" * 1000)
    transfer.fetch([server.url()], tmp_path / "f", settings=QUICK)
    assert (tmp_path / "f").read_bytes() == BODY and server.requests[0].range is None


def test_bytes_that_were_damaged_on_disk_cost_one_clean_try(server, tmp_path):
    begin(server, tmp_path / "f", expected=MD5)
    with open(tmp_path / ".f.partial", "r+b") as handle:
        handle.write(b"damaged")
    transfer.fetch([server.url()], tmp_path / "f", MD5, settings=QUICK)
    assert (tmp_path / "f").read_bytes() == BODY and server.requests[-1].range is None


def test_what_one_mirror_began_another_ends(server, tmp_path):
    server.script = ["short"]
    transfer.fetch([server.url("good/f"), server.url("other/f")], tmp_path / "f", MD5, settings=ONCE)
    assert (tmp_path / "f").read_bytes() == BODY
    assert server.requests[1].range and server.sent <= len(BODY) + transfer.CHUNK


def test_a_wrong_file_is_dropped_and_the_next_mirror_is_asked(server, tmp_path):
    transfer.fetch([server.url("wrong/f"), server.url()], tmp_path / "f", MD5, settings=QUICK)
    assert (tmp_path / "f").read_bytes() == BODY


def test_each_byte_is_hashed_once_however_often_the_transfer_breaks(server, tmp_path, monkeypatch):
    hashed = []

    class Counting:
        def __init__(self, algorithm: str) -> None:
            self.inner = hashlib.md5()

        def update(self, data: bytes) -> None:
            hashed.append(len(data))
            self.inner.update(data)

        def hexdigest(self) -> str:
            return self.inner.hexdigest()

    monkeypatch.setattr(transfer.hashlib, "new", Counting)
    server.script = ["short", "short"]
    transfer.fetch([server.url()], tmp_path / "f", MD5, settings=QUICK)
    assert sum(hashed) == len(BODY)


def test_a_local_file_is_copied_like_any_other(tmp_path, monkeypatch):
    (tmp_path / "up stream").mkdir()
    (tmp_path / "up stream" / "part").write_bytes(BODY)
    monkeypatch.chdir(tmp_path)
    for number, url in enumerate(["file:up stream/part", f"file://{tmp_path}/up%20stream/part"]):
        transfer.fetch([url], tmp_path / str(number), MD5)
        assert (tmp_path / str(number)).read_bytes() == BODY
    with pytest.raises(BadInput, match="does not exist"):
        transfer.fetch(["file:nowhere"], tmp_path / "x", MD5)


def test_a_file_of_the_user_is_not_overwritten_and_one_that_fits_is_not_fetched_again(server, tmp_path):
    (tmp_path / "f").write_text("mine")
    with pytest.raises(BadInput, match="move it away"):
        transfer.fetch([server.url()], tmp_path / "f", MD5, settings=QUICK)
    assert (tmp_path / "f").read_text() == "mine"
    (tmp_path / "f").write_bytes(BODY)
    assert transfer.fetch([server.url()], tmp_path / "f", MD5, settings=QUICK) == MD5 and server.requests == []


def test_two_fetches_of_one_file_do_not_mix(server, tmp_path):
    with transfer._locked(tmp_path / ".f.partial"), pytest.raises(BadInput, match="another fetch"):
        transfer.fetch([server.url()], tmp_path / "f", MD5, settings=QUICK)


@pytest.fixture
def command(monkeypatch, capsys):
    """The command in this process: (exit status, what it printed, its last word)."""

    def run(*flags: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fetch", *map(str, flags)])
        try:
            console.run(fetch.main)
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def test_the_command_fetches_checks_and_writes_a_manifest(server, tmp_path):
    target, seal = tmp_path / "f", tmp_path / "f.json"
    flags = [
        "--url",
        server.url("missing/f"),
        "--url",
        server.url(),
        "--output",
        target,
        "--md5",
        MD5.value,
        "--manifest",
        seal,
    ]
    start = [sys.executable, "-m", "workflow_scripts.data.fetch"]
    done = subprocess.run([*start, *map(str, flags)], capture_output=True, text=True)
    assert done.returncode == 0 and "answers 404" in done.stderr and f"{len(BODY)} bytes" in done.stdout
    manifest.verify(seal)


def test_the_command_ends_in_one_sentence(server, tmp_path, command):
    status, _, told = command("--url", server.url(), "--output", tmp_path / "g", "--sha256", "0" * 64)
    assert status == 1 and told.splitlines()[-1].startswith("error: g could not be fetched")
    assert not (tmp_path / "g").exists()
    assert "--output" in command("--url", server.url())[2]
    assert command()[0] == 2


def test_the_command_reads_a_published_checksum_file_and_says_what_is_wrong(server, tmp_path, command):
    sums = tmp_path / "sums.md5"
    sums.write_text(f"{MD5.value}  f\n{'0' * 32} *g\n")
    base = ["--url", server.url(), "--checksums", sums]
    assert command(*base, "--output", tmp_path / "f")[0] == 0
    for name, message in (("g", "not md5 000000"), ("h", "lists no checksum of h")):
        status, _, told = command(*base, "--output", tmp_path / name)
        assert status == 1 and message in told and not (tmp_path / name).exists()
