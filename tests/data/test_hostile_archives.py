"""Nobody vouches for an archive: whatever is not a plain file inside the target is refused, and a damaged one never passes."""

import gc
import gzip
import hashlib
import os
import random
import tarfile
import tempfile
from pathlib import Path

import pytest
from archives import listing, part, plain, tar, tree
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow_scripts.console import BadInput
from workflow_scripts.data import checksums, members, restore, streams

HOSTILE = {
    "a way to the parent": [plain("../out.txt")],
    "a way to the parent from below": [plain("a/../../out.txt")],
    "an absolute path": [plain("/trackgraph-out.txt")],
    "a backslash": [plain("..\\out.txt")],
    "a name behind a NUL": [plain("a", pax_headers={"path": "a\0/../../out.txt"})],
    "a link and what is written through it": [plain("a", b"", type=tarfile.SYMTYPE, linkname=".."), plain("a/out.txt")],
    "a link to another member": [plain("a"), plain("b", b"", type=tarfile.SYMTYPE, linkname="a")],
    "a hard link": [plain("a", b"", type=tarfile.LNKTYPE, linkname="../parts")],
    "a character device": [plain("a", b"", type=tarfile.CHRTYPE)],
    "a block device": [plain("a", b"", type=tarfile.BLKTYPE)],
    "a fifo": [plain("a", b"", type=tarfile.FIFOTYPE)],
    "a sparse file": [plain("a", b"", type=tarfile.GNUTYPE_SPARSE)],
    "a sparse file of newer kind": [plain("a", b"", pax_headers={"GNU.sparse.map": "0,0", "GNU.sparse.size": "9999999"})],
    "an unknown kind": [plain("a", type=b"Z")],
    "two files of one name": [plain("a"), plain("a", b"y")],
    "two files of one name, spelt ./": [plain("a"), plain("./a", b"y")],
    "two files whose names differ in case": [plain("b/A"), plain("b/a", b"y")],
    "two files whose names differ in how an accent is written": [plain("caf\u00e9"), plain("cafe\u0301", b"y")],
    "a file as folder": [plain("a"), plain("a/b")],
    "a folder as file": [plain("a/b"), plain("a")],
    "a file where a folder was announced": [plain("a", b"", type=tarfile.DIRTYPE), plain("a")],
    "a file without a name": [plain(".")],
    "a name too long": [plain("a" * 300)],
    "a path too long": [plain("/".join(["folder"] * 200))],
    "a header of gigabytes": [plain("a", b"", type=tarfile.XHDTYPE, size=3 << 30)],
    "a size below zero": [plain("a", b"", size=-512)],
    "headers upon headers": [plain("a", b"b\0", type=tarfile.GNUTYPE_LONGNAME)] * 2000,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused_and_nothing_leaves_the_target(kind, tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    with pytest.raises(BadInput, match="do not trust this archive"):
        restore.restore(part(tmp_path / "parts", tar(*HOSTILE[kind])), inner / "out")
    assert sorted(os.listdir(tmp_path)) == ["inner", "parts"] and os.listdir(inner) == [".out.partial"]
    assert not Path("/trackgraph-out.txt").exists()
    assert not any((inner / path).is_symlink() for path in listing(inner))


def test_folders_and_names_that_differ_in_more_than_case_are_no_duplicates(tmp_path):
    members = [plain("./", b"", type=tarfile.DIRTYPE), plain("./b", b"", type=tarfile.DIRTYPE), plain("./b/a"), plain("b/c")]
    restore.restore(part(tmp_path / "parts", tar(*members, plain("b", b"", type=tarfile.DIRTYPE))), tmp_path / "out")
    assert tree(tmp_path / "out") == {"b/a": b"x", "b/c": b"x"}


def test_a_member_cannot_take_the_place_of_the_file_being_written(tmp_path):
    names = ["writing", ".writing", "note.json", "files", "out"]
    restore.restore(part(tmp_path / "parts", tar(*[plain(name, name.encode()) for name in names])), tmp_path / "out")
    assert tree(tmp_path / "out") == {name: name.encode() for name in names}


@pytest.fixture
def small_scale(monkeypatch):
    """Bombs of megabytes, not of hundreds."""
    monkeypatch.setattr(streams, "RATIO_SLACK", 1 << 20)
    monkeypatch.setattr(streams, "BLOCK", 1 << 16)


@pytest.mark.parametrize("honest", [0, 2 << 20], ids=["alone", "behind honest data"])
def test_a_bomb_is_refused_before_it_has_swollen(honest, small_scale, tmp_path):
    before = plain("frames", random.Random(0).randbytes(honest))
    with pytest.raises(BadInput, match=r"unpacks to over 200 times its size.*do not trust it"):
        restore.restore(part(tmp_path / "bomb", tar(before, plain("zeros", bytes(64 << 20)))), tmp_path / "out")
    assert (tmp_path / ".out.partial" / "writing").stat().st_size < 16 << 20


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"hello" * 1000, "no whole tar archive"),
        (tar(plain("a", bytes(3000)))[:2000], "ends in the middle of a"),
        (tar(plain("a"), plain("b"))[:1024], "no whole tar archive"),  # cut between two members: tarfile stops in silence
        (tar(plain("a"), end=b"\1" * 512 + tar(plain("b"))), "no whole tar archive"),  # and here
        (tar(plain("a")) + tar(plain("b")), "goes on after its end"),
        (tar(), "holds no file"),
    ],
    ids=["text", "cut in a file", "cut between files", "a broken header", "two archives joined", "nothing"],
)
def test_what_is_no_whole_tar_archive_is_refused(content, says, tmp_path):
    with pytest.raises(BadInput, match=says):
        restore.restore(part(tmp_path / "part", content), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_several_gzip_members_and_trailing_zeros_are_read(tmp_path):
    whole = tar(plain("a", b"x" * 3000))
    found = part(tmp_path / "two", whole[:700], whole[700:])
    found[0].write_bytes(found[0].read_bytes() + bytes(512))
    restore.restore(found, tmp_path / "out")
    assert tree(tmp_path / "out") == {"a": b"x" * 3000}


def test_headers_that_were_read_take_no_memory():
    stream = streams.Forward(iter([tar(*[plain(f"{n}", b"") for n in range(1000)])]))
    count = sum(1 for _ in members.headers(stream))
    assert count == 1000 and sum(isinstance(thing, members.Header) for thing in gc.get_objects()) < 10


MEMBERS = [plain(f"s/imgs/{n:05d}.jpg", random.Random(n).randbytes(900)) for n in range(4)]
WHOLE = tar(*MEMBERS)
FILES = {member.name: content for member, content in MEMBERS}


@settings(max_examples=60, deadline=None)
@given(st.booleans(), st.integers(min_value=0, max_value=len(WHOLE) - 1), st.integers(min_value=1, max_value=255))
def test_an_archive_with_any_byte_changed_is_refused_or_gives_the_same_files(inside, position, change):
    """In the tar (a publisher's disk) or in the gzip around it (a download); the tar's md5 is known."""
    data = bytearray(WHOLE if inside else gzip.compress(WHOLE, 1, mtime=0))
    data[position % len(data)] ^= change
    published = {"x.tar": checksums.Digest("md5", hashlib.md5(WHOLE).hexdigest())}
    with tempfile.TemporaryDirectory() as folder:
        found = [Path(folder, "part")]
        found[0].write_bytes(gzip.compress(bytes(data), 1, mtime=0) if inside else bytes(data))
        try:
            restore.restore(found, Path(folder, "out"), published)
        except BadInput:
            assert not Path(folder, "out").exists()
        else:
            assert tree(Path(folder, "out")) == FILES
