"""Restoring in one pass: every fault ends in one sentence, every hostile archive outside nothing."""

import gzip
import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from workflow_scripts import manifest
from workflow_scripts.console import BadInput
from workflow_scripts.data import checksums, parts, restore, streams, verify


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def copied(upstream, tmp_path) -> Path:
    shutil.copytree(upstream, tmp_path / "parts")
    return tmp_path / "parts"


def found(folder: Path) -> list[Path]:
    return parts.find(f"{folder}/TNLLT_part_*")


def test_restoring_gives_back_every_file_and_reports_both_md5s(copied, dataset, tmp_path):
    published = checksums.read(copied / "TNLLT_parts.md5")
    result = restore.restore(found(copied), tmp_path / "tnllt", published)
    assert contents(tmp_path / "tnllt") == contents(dataset)
    assert result.matched == "tar and tar.gz" and result.files == len(contents(dataset)) and result.skipped == 0
    joined = b"".join(p.read_bytes() for p in found(copied))
    assert result.tar_gz == hashlib.md5(joined).hexdigest()
    assert result.tar == hashlib.md5(gzip.decompress(joined)).hexdigest()
    assert sorted(os.listdir(tmp_path)) == ["parts", "tnllt"]


@pytest.mark.parametrize("convention", ["tar", "tar.gz"])
def test_an_md5_of_the_tar_or_of_the_tar_gz_is_recognised_whatever_its_name(copied, tmp_path, convention):
    value = checksums.read(copied / "TNLLT_parts.md5")[f"TNLLT.{convention}"]
    result = restore.restore(found(copied), tmp_path / "out", {"TNLLT.tar.gz": value})
    assert result.matched == convention


def test_an_md5_that_fits_neither_is_refused_and_nothing_is_left_as_output(copied, tmp_path):
    with pytest.raises(BadInput, match="fetch the parts again"):
        restore.restore(found(copied), tmp_path / "out", {"TNLLT.tar.gz": checksums.digest("0" * 32)})
    assert not (tmp_path / "out").exists()


def test_a_truncated_part_is_refused(copied, tmp_path):
    last = found(copied)[-1]
    os.truncate(last, last.stat().st_size - 1000)
    with pytest.raises(BadInput, match="cut short"):
        restore.restore(found(copied), tmp_path / "out")
    with pytest.raises(BadInput, match=r"TNLLT_part_ac has md5 .* fetch it again"):
        restore.restore(found(copied), tmp_path / "out", checksums.read(copied / "TNLLT_parts.md5"))


def test_a_damaged_part_is_named(copied, tmp_path):
    middle = found(copied)[1]
    data = bytearray(middle.read_bytes())
    data[5000:5100] = bytes(100)
    middle.write_bytes(bytes(data))
    with pytest.raises(BadInput, match="TNLLT_part_ab"):
        restore.restore(found(copied), tmp_path / "out", checksums.read(copied / "TNLLT_parts.md5"))
    with pytest.raises(BadInput, match="TNLLT_part_ab has md5"):
        verify.verify(found(copied), checksums.read(copied / "TNLLT_parts.md5"))


def test_a_missing_part_is_named(copied, tmp_path):
    (copied / "TNLLT_part_ab").unlink()
    with pytest.raises(BadInput, match="TNLLT_part_ab is missing before TNLLT_part_ac"):
        found(copied)
    (copied / "TNLLT_part_ac").unlink()
    with pytest.raises(BadInput, match=r"TNLLT_part_a[bc] is missing"):
        verify.verify(found(copied), checksums.read(copied / "TNLLT_parts.md5"))
    with pytest.raises(BadInput, match="matches no file"):
        parts.find(f"{tmp_path}/nothing_*")


def test_verified_parts_are_sealed_by_a_manifest(copied, tmp_path):
    seal = tmp_path / "parts.json"
    command = [sys.executable, "-m", "workflow_scripts.data.verify", "--parts", f"{copied}/TNLLT_part_*"]
    command += ["--md5", str(copied / "TNLLT_parts.md5"), "--manifest", str(seal)]
    subprocess.run([*command, "--expect", "3"], check=True, capture_output=True)
    manifest.verify(seal)
    assert set(manifest.read(seal)["facts"]["checked"].values()) == {"md5"}
    wrong = subprocess.run([*command, "--expect", "4"], capture_output=True, text=True)
    assert wrong.returncode == 1 and "matches 3 parts, not 4" in wrong.stderr


def test_a_folder_of_the_user_is_not_overwritten(copied, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(BadInput, match="move it away"):
        restore.restore(found(copied), tmp_path / "out")
    assert (tmp_path / "out" / "mine").read_text() == "mine"


def test_a_killed_restore_continues_with_the_files_it_had(copied, dataset, tmp_path):
    command = [sys.executable, "-m", "workflow_scripts.data.restore", "--parts", f"{copied}/TNLLT_part_*"]
    command += ["--output", str(tmp_path / "out")]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    partial = tmp_path / ".out.partial"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and child.poll() is None and not list(partial.glob("*/imgs/00010.png")):
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    child.wait()
    if partial.exists():  # else the child was quicker than the signal
        held = {p: p.stat().st_mtime_ns for p in partial.rglob("*.png")}
        assert held and not (tmp_path / "out").exists()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        assert f"({len([p for p in held if p.name != '.writing'])}" in done.stdout or "were there already" in done.stdout
        assert all((tmp_path / "out" / p.relative_to(partial)).stat().st_mtime_ns == t for p, t in held.items())
    assert contents(tmp_path / "out") == contents(dataset)
    assert not (tmp_path / ".out.partial").exists() and not (tmp_path / ".out.partial.json").exists()


def test_remains_of_other_parts_are_not_mixed_in(copied, dataset, tmp_path):
    stale = tmp_path / ".out.partial"
    stale.mkdir()
    (stale / "stranger.txt").write_text("of another archive")
    restore.restore(found(copied), tmp_path / "out")
    assert contents(tmp_path / "out") == contents(dataset)


def archive(path: Path, *members: tuple[tarfile.TarInfo, bytes], compress: bool = True) -> list[Path]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    path.write_bytes(gzip.compress(buffer.getvalue(), 1) if compress else buffer.getvalue())
    return [path]


def special(name: str, kind: bytes, link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member, b""


HOSTILE = {
    "parent": [(tarfile.TarInfo("../out.txt"), b"x")],
    "deep parent": [(tarfile.TarInfo("a/../../out.txt"), b"x")],
    "absolute": [(tarfile.TarInfo("/trackgraph-out.txt"), b"x")],
    "symlink": [special("a", tarfile.SYMTYPE, ".."), (tarfile.TarInfo("a/out.txt"), b"x")],
    "hard link": [special("a", tarfile.LNKTYPE, "../out.txt")],
    "device": [special("a", tarfile.CHRTYPE)],
    "fifo": [special("a", tarfile.FIFOTYPE)],
    "twice": [(tarfile.TarInfo("a"), b"x"), (tarfile.TarInfo("./a"), b"y")],
    "file as folder": [(tarfile.TarInfo("a"), b"x"), (tarfile.TarInfo("a/b"), b"y")],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused_and_writes_nothing_outside(kind, tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    with pytest.raises(BadInput, match="do not trust this archive"):
        restore.restore(archive(tmp_path / "bad.tar.gz", *HOSTILE[kind]), inner / "out")
    assert sorted(os.listdir(tmp_path)) == ["bad.tar.gz", "inner"] and not (inner / "out").exists()
    assert not Path("/trackgraph-out.txt").exists() and not (inner / "out.txt").exists()


def test_a_bomb_is_refused_early(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "RATIO_SLACK", 1 << 20)
    with pytest.raises(BadInput, match="times its size"):
        restore.restore(archive(tmp_path / "bomb.tar.gz", (tarfile.TarInfo("zeros"), bytes(64 << 20))), tmp_path / "out")


def test_what_is_no_gzip_or_no_tar_is_refused(tmp_path):
    (tmp_path / "page").write_text("<!DOCTYPE html>")
    with pytest.raises(BadInput, match="does not begin a gzip archive"):
        restore.restore([tmp_path / "page"], tmp_path / "out")
    (tmp_path / "text.gz").write_bytes(gzip.compress(b"hello" * 1000))
    with pytest.raises(BadInput, match="no whole tar archive"):
        restore.restore([tmp_path / "text.gz"], tmp_path / "out")


def test_several_gzip_members_and_trailing_zeros_are_read(tmp_path):
    plain = archive(tmp_path / "plain.tar", (tarfile.TarInfo("a"), b"x" * 3000), compress=False)[0].read_bytes()
    (tmp_path / "two").write_bytes(gzip.compress(plain[:700]) + gzip.compress(plain[700:]) + bytes(512))
    restore.restore([tmp_path / "two"], tmp_path / "out")
    assert (tmp_path / "out" / "a").read_bytes() == b"x" * 3000


def test_checksum_files_are_read_in_both_forms_and_a_broken_line_is_named(tmp_path):
    path = tmp_path / "sums"
    path.write_text(f"{'A' * 32}  a.tar\n{'b' * 64} *dir/b.tar\nMD5 (c.tar) = {'c' * 32}\n")
    known = checksums.read(path)
    assert known["a.tar"].value == "a" * 32 and known["b.tar"].algorithm == "sha256" and known["c.tar"].algorithm == "md5"
    path.write_text("fine\n")
    with pytest.raises(BadInput, match=r"sums, line 1"):
        checksums.read(path)
    with pytest.raises(BadInput, match="no md5 in hexadecimal"):
        checksums.digest("xyz", "md5")
