"""Restoring in one pass: what comes out, what a killed run keeps, and the sentence that every fault ends in."""

import fcntl
import gzip
import hashlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from archives import listing, part, plain, tar, tree

from workflow_scripts import manifest
from workflow_scripts.console import BadInput
from workflow_scripts.data import checksums, disk, inventory, meter, parts, restore, verify

KILLS = 20
OURS = {".out.partial", ".out.partial/lock", ".out.partial/note.json", ".out.partial/writing", "parts"}


@pytest.fixture
def copied(upstream, tmp_path) -> Path:
    shutil.copytree(upstream, tmp_path / "parts")
    return tmp_path / "parts"


def found(folder: Path) -> list[Path]:
    return parts.find(f"{folder}/TNLLT_part_*")


def command(folder: Path, output: Path, *flags: str | Path) -> subprocess.CompletedProcess[str]:
    line = [
        sys.executable,
        "-m",
        "workflow_scripts.data.restore",
        "--parts",
        f"{folder}/TNLLT_part_*",
        "--output",
        output,
        *flags,
    ]
    return subprocess.run(line, capture_output=True, text=True)


# What comes out


def test_restoring_gives_back_every_file_and_reports_both_md5s(copied, dataset, tmp_path):
    published = checksums.read(copied / "TNLLT_parts.md5")
    result = restore.restore(found(copied), tmp_path / "tnllt", published)
    assert tree(tmp_path / "tnllt") == tree(dataset)
    assert result.matched == "tar and tar.gz" and result.files == len(tree(dataset)) and result.skipped == 0
    joined = b"".join(p.read_bytes() for p in found(copied))
    assert result.tar_gz == hashlib.md5(joined).hexdigest()
    assert result.tar == hashlib.md5(gzip.decompress(joined)).hexdigest()
    assert sorted(os.listdir(tmp_path)) == ["parts", "tnllt"]


def test_the_command_says_what_was_found_and_seals_it(copied, dataset, tmp_path):
    flags = [
        "--md5",
        copied / "TNLLT_parts.md5",
        "--inventory",
        copied / "TNLLT_inventory.txt",
        "--manifest",
        tmp_path / "t.json",
    ]
    done = command(copied, tmp_path / "tnllt", *flags)
    count = len(tree(dataset))
    assert done.returncode == 0 and f"{count} files" in done.stdout and "is of: tar and tar.gz" in done.stdout
    assert "as the inventory lists them" in done.stdout
    manifest.verify(tmp_path / "t.json")
    assert manifest.read(tmp_path / "t.json")["facts"]["files"] == count


def test_progress_has_a_rate_and_the_time_left(copied, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(meter, "LINE_EVERY_SECONDS", 0)
    restore.restore(found(copied), tmp_path / "out")
    lines = capsys.readouterr().err.splitlines()
    total = sum(p.stat().st_size for p in found(copied)) / 1e6
    assert lines[-1].startswith(f"restoring: {total:.0f} of {total:.0f} MB, 0 s left, ") and lines[-1].endswith(" MB/s")


def test_no_joined_archive_touches_the_disk(tmp_path, monkeypatch):
    """While each member is written, the hidden folder holds members and nothing else."""
    seen = []
    replace = os.replace

    def look(source: Path, target: Path) -> None:
        seen.append([name for name in listing(tmp_path) if not name.startswith(".out.partial/files")])
        replace(source, target)

    members = [plain(f"{n}", random.Random(n).randbytes(5000)) for n in range(5)]
    archive = part(tmp_path / "parts", tar(*members))
    monkeypatch.setattr("workflow_scripts.data.members.os.replace", look)
    restore.restore(archive, tmp_path / "out")
    while_writing = [names for names in seen if ".out.partial/writing" in names]
    assert len(while_writing) == 5
    assert all(set(names) == OURS for names in while_writing)


# The publisher's md5 and inventory


@pytest.mark.parametrize("convention", ["tar", "tar.gz"])
def test_an_md5_of_the_tar_or_of_the_tar_gz_is_recognised_whatever_its_name(copied, tmp_path, convention):
    value = checksums.read(copied / "TNLLT_parts.md5")[f"TNLLT.{convention}"]
    result = restore.restore(
        found(copied), tmp_path / "out", {"TNLLT_restored": value, "annos.zip": checksums.digest("0" * 32)}
    )
    assert result.matched == convention


def test_an_md5_that_fits_neither_is_refused_and_nothing_is_left_as_output(copied, tmp_path):
    with pytest.raises(BadInput, match=r"published is md5 0{32} of TNLLT.tar.gz, but the tar.gz has .* fetch the parts again"):
        restore.restore(found(copied), tmp_path / "out", {"TNLLT.tar.gz": checksums.digest("0" * 32)})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "digest", "says"),
    [
        ("OTHER_part_aa", "0" * 32, "OTHER_part_aa has a published checksum and is missing"),
        ("TNLLT_part_ad", "0" * 32, "TNLLT_part_ad has a published checksum and is missing"),
        ("TNLLT.tar.gz", "0" * 64, "TNLLT.tar.gz is published with sha256, and only md5 is known here"),
    ],
)
def test_a_checksum_file_of_something_else_is_refused_before_the_pass(name, digest, says, copied, tmp_path):
    with pytest.raises(BadInput, match=says):
        restore.restore(found(copied), tmp_path / "out", {name: checksums.digest(digest)})
    assert os.listdir(tmp_path) == ["parts"]


def test_files_are_counted_and_measured_against_the_inventory(copied, dataset, tmp_path):
    listed = inventory.read(copied / "TNLLT_inventory.txt")
    assert listed == {name: len(content) for name, content in tree(dataset).items()}
    name = next(name for name in listed if name.endswith("00002.png"))
    lacking = {key: size for key, size in listed.items() if key != name}
    for wrong, says in (
        (listed | {name: 1}, f"holds {name} with {listed[name]} bytes, its inventory 1"),
        (listed | {"z.txt": 1}, "lacks z.txt, which its inventory lists"),
        (lacking, f"holds {name} with {listed[name]} bytes, its inventory no such file"),
    ):
        with pytest.raises(BadInput, match=says):
            restore.restore(found(copied), tmp_path / "out", None, wrong)
        assert not (tmp_path / "out").exists()
    restore.restore(found(copied), tmp_path / "out", None, listed)
    assert tree(tmp_path / "out") == tree(dataset)


def test_a_broken_line_of_an_inventory_is_named(tmp_path):
    path = tmp_path / "list"
    for text, says in (
        ("5  a\nb\n", "list, line 2: not an entry"),
        ("5  a\n6  a\n", "list, line 2: a is listed with two sizes"),
    ):
        path.write_text(text)
        with pytest.raises(BadInput, match=says):
            inventory.read(path)
    with pytest.raises(BadInput, match="does not exist"):
        inventory.read(tmp_path / "none")


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


# Damaged parts


def test_a_truncated_part_is_refused(copied, tmp_path):
    last = found(copied)[-1]
    os.truncate(last, last.stat().st_size - 1000)
    with pytest.raises(BadInput, match=r"ends in the middle of TNLLT_part_ac: a part is missing or cut short"):
        restore.restore(found(copied), tmp_path / "out")
    with pytest.raises(BadInput, match=r"TNLLT_part_ac has md5 .* fetch it again"):
        restore.restore(found(copied), tmp_path / "out", checksums.read(copied / "TNLLT_parts.md5"))


def test_a_damaged_part_is_named_by_its_md5_whatever_noticed_it(copied, tmp_path):
    middle = found(copied)[1]
    data = bytearray(middle.read_bytes())
    data[5000:5100] = bytes(100)
    middle.write_bytes(bytes(data))
    with pytest.raises(BadInput, match=r"TNLLT_part_ab has md5"):
        restore.restore(found(copied), tmp_path / "out", checksums.read(copied / "TNLLT_parts.md5"))
    with pytest.raises(BadInput, match=r"TNLLT_part_ab has md5"):
        verify.verify(found(copied), checksums.read(copied / "TNLLT_parts.md5"))
    with pytest.raises(BadInput, match="compare the parts' sizes and md5 with the publisher's"):
        restore.restore(found(copied), tmp_path / "out")


def test_a_part_with_another_md5_is_refused_though_it_unpacks(copied, tmp_path):
    first = found(copied)[0]
    data = bytearray(first.read_bytes())
    data[4] ^= 1  # the time in gzip's header
    first.write_bytes(bytes(data))
    with pytest.raises(BadInput, match=r"TNLLT_part_aa has md5 .* delete it and fetch it again"):
        restore.restore(found(copied), tmp_path / "out", checksums.read(copied / "TNLLT_parts.md5"))
    assert restore.restore(found(copied), tmp_path / "out").matched == "nothing published"


def test_parts_in_a_wrong_order_are_refused(copied, tmp_path):
    first, second, third = found(copied)
    with pytest.raises(BadInput, match="TNLLT_part_ab does not begin a gzip archive"):
        restore.restore([second, first, third], tmp_path / "out")
    with pytest.raises(BadInput, match=r"damaged|no whole tar archive"):
        restore.restore([first, third, second], tmp_path / "out")


def test_verified_parts_are_sealed_by_a_manifest(copied, tmp_path):
    seal = tmp_path / "parts.json"
    line = [sys.executable, "-m", "workflow_scripts.data.verify", "--parts", f"{copied}/TNLLT_part_*"]
    line += ["--md5", str(copied / "TNLLT_parts.md5"), "--manifest", str(seal)]
    subprocess.run([*line, "--expect", "3"], check=True, capture_output=True)
    manifest.verify(seal)
    assert set(manifest.read(seal)["facts"]["checked"].values()) == {"md5"}
    wrong = subprocess.run([*line, "--expect", "4"], capture_output=True, text=True)
    assert wrong.returncode == 1 and "matches 3 parts, not 4" in wrong.stderr


# Killed, stopped, continued


def inodes(folder: Path) -> dict[str, tuple[int, int]]:
    """What tells that a file was written again."""
    return {name: ((folder / name).stat().st_ino, (folder / name).stat().st_mtime_ns) for name in tree(folder)}


def in_child(action, *arguments) -> int:
    """Process id of a child that does something and leaves."""
    child = os.fork()
    if child == 0:
        try:
            action(*arguments)
        finally:
            os._exit(0)
    return child


def test_a_restore_killed_at_any_moment_ends_as_an_undisturbed_one_and_writes_no_finished_file_again(tmp_path):
    rng = random.Random(0)
    members = [plain(f"s{n % 3}/imgs/{n:05d}.jpg", rng.randbytes(rng.randrange(20_000))) for n in range(200)]
    archive, content = part(tmp_path / "parts", tar(*members)), {member.name: data for member, data in members}
    partial, output = tmp_path / ".out.partial", tmp_path / "out"
    began = time.monotonic()
    os.waitpid(in_child(restore.restore, archive, output), 0)
    longest, struck, amidst = time.monotonic() - began, 0, 0
    while struck < KILLS:
        shutil.rmtree(output)
        child = in_child(restore.restore, archive, output)
        time.sleep(rng.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        if os.waitpid(child, 0)[1] == 0:
            longest *= 0.9  # it was quicker than the signal
            continue
        struck += 1
        held = inodes(output if output.exists() else partial / "files")
        if (partial / "note.json").exists() or not output.exists():
            restore.restore(archive, output)
        after = inodes(output)
        assert all(after[name] == was for name, was in held.items())
        assert tree(output) == content and set(tree(partial)) <= {"lock"}
        amidst += 0 < len(held) < len(content)
    assert amidst > 0


@pytest.mark.parametrize("step", ["os.replace", "manifest.write", "Path.unlink"])
def test_a_restore_killed_at_its_last_steps_is_finished_by_the_same_command(step, copied, dataset, tmp_path, monkeypatch):
    seal, output = tmp_path / "seal.json", tmp_path / "out"
    last = {"os.replace": output, "manifest.write": seal, "Path.unlink": tmp_path / ".out.partial" / "note.json"}[step]
    owner, name = step.split(".")
    real = getattr(getattr(restore, owner), name)

    def die(path, *arguments, **options):
        if last in (path, *arguments):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(path, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(f"workflow_scripts.data.restore.{step}", die)
        child = in_child(restore.restore, found(copied), output, None, None, seal)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
    held = inodes(output if output.exists() else tmp_path / ".out.partial" / "files")
    result = restore.restore(found(copied), output, None, None, seal)
    assert tree(output) == tree(dataset) and inodes(output) == held and result.files == len(held)
    manifest.verify(seal)
    assert sorted(os.listdir(tmp_path)) == ["out", "parts", "seal.json"]


def test_files_of_other_parts_are_not_mixed_in(copied, dataset, tmp_path):
    last = found(copied)[-1]
    whole = last.read_bytes()
    last.write_bytes(whole[:-1000])
    with pytest.raises(BadInput, match="cut short"):
        restore.restore(found(copied), tmp_path / "out")
    stranger = tmp_path / ".out.partial" / "files" / "stranger.txt"
    stranger.write_text("of the broken archive")
    last.write_bytes(whole)
    result = restore.restore(found(copied), tmp_path / "out")
    assert tree(tmp_path / "out") == tree(dataset) and result.skipped == 0


@pytest.mark.parametrize("place", ["out", ".out.partial"])
def test_a_folder_of_the_user_is_neither_overwritten_nor_deleted(place, copied, tmp_path):
    (tmp_path / place).mkdir()
    (tmp_path / place / "mine").write_text("mine")
    with pytest.raises(BadInput, match="move it away"):
        restore.restore(found(copied), tmp_path / "out")
    assert (tmp_path / place / "mine").read_text() == "mine" and sorted(os.listdir(tmp_path)) == sorted([place, "parts"])


def test_two_restores_do_not_write_into_one_folder(copied, dataset, tmp_path):
    (tmp_path / ".out.partial").mkdir()
    with open(tmp_path / ".out.partial" / "lock", "wb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(BadInput, match="being written by another restore: wait for it to end"):
            restore.restore(found(copied), tmp_path / "out")
    restore.restore(found(copied), tmp_path / "out")
    assert tree(tmp_path / "out") == tree(dataset)


def test_a_full_disk_is_said_and_the_same_command_continues(tmp_path):
    members = [plain(f"{n:02d}", random.Random(n).randbytes(1000 * n)) for n in range(1, 40)]
    archive, limits = part(tmp_path / "parts", tar(*members)), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # a quota: what is full and what is too large fail alike
    try:
        with pytest.raises(BadInput, match=r"/21 could not be written \(File too large\): see to the disk, .* continues"):
            restore.restore(archive, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    held = inodes(tmp_path / ".out.partial" / "files")
    result = restore.restore(archive, tmp_path / "out")
    assert result.skipped == len(held) == 20 and inodes(tmp_path / "out").items() >= held.items()
    assert tree(tmp_path / "out") == {member.name: content for member, content in members}


def test_a_disk_too_small_is_noticed_before_the_first_byte(copied, tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "SPARE_BYTES", 1 << 60)
    with pytest.raises(BadInput, match="GB free"):
        restore.restore(found(copied), tmp_path / "out")
    assert not tree(tmp_path / ".out.partial" / "files")
