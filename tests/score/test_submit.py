"""Submissions: what is packed passes its own check, every fault is explained with what was expected and found."""

import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow_scripts import files, manifest, sequences
from workflow_scripts.console import BadInput
from workflow_scripts.score import submit

SEQUENCES = [
    sequences.Sequence(
        name=f"GOT-10k_Test_{i:06d}",
        split="test",
        frames=[Path("data") / f"{i}" / f"{k:08d}.jpg" for k in range(5 + i)],
        boxes=np.array([[10.5 + i, 20.25, 30.125, 41.0]]),
        present=np.array([True]),
        sentence="",
        first_frame_only=True,
    )
    for i in range(1, 4)
]
both = pytest.mark.parametrize("benchmark", submit.BENCHMARKS)


def good(benchmark: str) -> dict[str, bytes]:
    """Members that a server would take."""
    members = {}
    for s in SEQUENCES:
        boxes = "".join(",".join(f"{v + k:.4f}" for v in s.boxes[0]) + "\n" for k in range(len(s))).encode()
        if benchmark == "trackingnet":
            members[f"{s.name}.txt"] = boxes
        else:
            members |= {f"{s.name}/{s.name}_001.txt": boxes, f"{s.name}/{s.name}_time.txt": b"0.03125\n" * len(s)}
    return members


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """An index, and a tracker's results as this study writes them."""
    sequences.write_index(tmp_path / "index.npz", SEQUENCES, "data", "test")
    for s in SEQUENCES:
        boxes = "".join(",".join(repr(float(v + k)) for v in s.boxes[0]) + "\n" for k in range(len(s)))
        files.write_text(tmp_path / f"raw/{s.name}.txt", boxes)
        files.write_text(tmp_path / f"raw/{s.name}.time.txt", "31.2500\n" * len(s))
        files.write_text(tmp_path / f"raw/{s.name}.trace.jsonl", "")
    files.write_json(tmp_path / "raw/summary.json", {})
    return tmp_path


def call(study: Path, benchmark: str, *more: str) -> None:
    submit.main(["--benchmark", benchmark, f"--index={study / 'index.npz'}", *more])


@both
def test_what_is_packed_passes_the_check_and_sources_stay_as_they_were(study, benchmark, capsys):
    before = {p: p.read_bytes() for p in (study / "raw").iterdir()}
    call(study, benchmark, f"--results={study / 'raw'}", f"--output={study / 'x.zip'}", f"--manifest={study / 'x.json'}")
    assert {p: p.read_bytes() for p in (study / "raw").iterdir()} == before
    call(study, benchmark, f"--check={study / 'x.zip'}")
    assert "nothing to mend" in capsys.readouterr().out
    manifest.verify(study / "x.json")
    with zipfile.ZipFile(study / "x.zip") as archive:
        name = SEQUENCES[0].name
        inside = f"{name}.txt" if benchmark == "trackingnet" else f"{name}/{name}_001.txt"
        assert archive.read(inside) == before[study / f"raw/{name}.txt"]  # byte for byte
        assert not any("trace" in n or "summary" in n for n in archive.namelist())
        if benchmark == "got10k":  # milliseconds become the seconds that its server divides by
            assert archive.read(f"{name}/{name}_time.txt") == b"0.03125000\n" * len(SEQUENCES[0])


def test_the_got10k_toolkits_own_folders_are_packed_with_all_their_runs(study):
    for s in SEQUENCES:
        raw = (study / f"raw/{s.name}.txt").read_bytes()
        for run in ("001", "002", "003"):
            (study / f"kit/{s.name}").mkdir(parents=True, exist_ok=True)
            (study / f"kit/{s.name}/{s.name}_{run}.txt").write_bytes(raw)
        (study / f"kit/{s.name}/{s.name}_time.txt").write_text("0.1,0.2,0.1\n" * len(s))
    call(study, "got10k", f"--results={study / 'kit'}", f"--output={study / 'x.zip'}")
    with zipfile.ZipFile(study / "x.zip") as archive:
        assert len(archive.namelist()) == 4 * len(SEQUENCES)


@both
@settings(max_examples=20, deadline=None)
@given(order=st.randoms(use_true_random=False))
def test_the_same_files_give_the_same_bytes_in_any_order(tmp_path_factory, benchmark, order):
    folder, members = tmp_path_factory.getbasetemp(), list(good(benchmark).items())
    submit.pack(folder / "one.zip", dict(members))
    order.shuffle(members)
    submit.pack(folder / "other.zip", dict(members))
    assert (folder / "one.zip").read_bytes() == (folder / "other.zip").read_bytes()


def test_got10k_takes_one_folder_around_and_trackingnet_none():
    around = {b: {f"tracker/{n}": raw for n, raw in good(b).items()} for b in submit.BENCHMARKS}
    assert submit.check("got10k", SEQUENCES, around["got10k"]) == []
    (fault,) = submit.check("trackingnet", SEQUENCES, around["trackingnet"])
    first = SEQUENCES[0].name
    assert str(fault) == (
        f"tracker/{first}.txt: lies in the folder tracker/; pack what is inside it, not the folder.\n"
        f"  - {first}.txt\n  + tracker/{first}.txt"
    )


def edited(line: int, text: str):
    """A change of one line of a file."""

    def change(raw: bytes) -> bytes:
        lines = raw.decode().splitlines()
        lines[line] = text
        return ("\n".join(lines) + "\n").encode()

    return change


CASES = [
    ("tabs", edited(1, "1\t2\t3\t4"), ["line 2: is not separated by commas", "- 1,2,3,4", "+ 1\t2\t3\t4"]),
    ("header", lambda raw: b"x,y,w,h\n" + raw, ["line 1: is not four numbers", "- x,y,w,h", "+ x,y,w,h"]),
    ("five columns", edited(2, "1,2,3,4,5"), ["line 3: is not four numbers", "+ 1,2,3,4,5"]),
    ("NaN", edited(3, "nan,2,3,4"), ["line 4: is not finite", "+ nan,2,3,4"]),
    ("infinity", edited(3, "1,2,inf,4"), ["line 4: is not finite", "+ 1,2,inf,4"]),
    ("no width", edited(1, "1,2,0,4"), ["line 2: has no width or no height", "- w and h above 0", "+ 1,2,0,4"]),
    ("short", lambda raw: b"".join(raw.splitlines(True)[:-2]), ["has 5 lines for 7 frames", "- line 7", "+ line 5: 1"]),
    ("long", lambda raw: raw + b"1,2,3,4\n", ["has 8 lines for 7 frames", "- line 7", "+ line 8: 1,2,3,4"]),
    ("empty", lambda raw: b"", ["has 0 lines for 7 frames", "+ an empty file"]),
    (
        "other start",
        edited(0, "12.5,20.25,30.125,42"),
        ["line 1: is not the box the sequence starts with", "- 12.5,20.25,30.125,41"],
    ),
    ("no text", lambda raw: b"\xff\xfe\x00", ["line 1: is not four numbers"]),
]


@both
@pytest.mark.parametrize(("change", "said"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_fault_is_explained_by_what_was_expected_and_found(benchmark, change, said):
    members, name = good(benchmark), SEQUENCES[1].name
    path = f"{name}.txt" if benchmark == "trackingnet" else f"{name}/{name}_001.txt"
    text = submit.explain(submit.check(benchmark, SEQUENCES, {**members, path: change(members[path])}))
    assert text.startswith("- expected, + found")
    for expected in (path, *said):
        assert expected in text, text


def test_the_first_line_may_be_rounded_to_the_digits_it_is_written_with():
    sequence = SEQUENCES[0]  # 11.5, 20.25, 30.125, 41
    for line in (b"11.5,20.25,30.125,41", b"11.500,20.250,30.125,41.000", b"12,20,30,41", b"1.15e1,20.25,30.1,4.1e+1"):
        raw = line + b"\n" + b"1,2,3,4\n" * (len(sequence) - 1)
        assert list(submit.check_boxes("a.txt", raw, sequence)) == [], line
    raw = b"11.5,20.25,30.13,41.01\n" + b"1,2,3,4\n" * (len(sequence) - 1)
    assert [f.kind for f in submit.check_boxes("a.txt", raw, sequence)] == ["start"]


def test_missing_doubled_and_unasked_files_are_named(study):
    members, name = good("got10k"), SEQUENCES[2].name
    raw = members.pop(f"{name}/{name}_001.txt")
    text = submit.explain(submit.check("got10k", SEQUENCES, {**members, f"{name}/{name}_1.txt": raw}))
    assert f"{name}/{name}_001.txt: is missing (the benchmark has 3 sequences, 6 files)" in text
    assert f"  + {name}/{name}_1.txt" in text and "leave it out" in text
    del members[f"{name}/{name}_time.txt"]
    assert len(submit.check("got10k", SEQUENCES, members)) == 2
    with zipfile.ZipFile(study / "twice.zip", "w") as archive, pytest.warns(UserWarning):
        for _ in range(2):
            archive.writestr("a.txt", "1,2,3,4\n")
    assert [f.kind for f in submit.unpack(study / "twice.zip")[1]] == ["doubled"]


def test_times_are_seconds_a_frame_with_a_column_a_run():
    members, name = good("got10k"), SEQUENCES[0].name
    members |= {f"{name}/{name}_00{run}.txt": members[f"{name}/{name}_001.txt"] for run in (2, 3)}
    text = submit.explain(submit.check("got10k", SEQUENCES, members))
    assert "_time.txt, line 1: is not 3 times of a frame in seconds" in text and "- 0.03125000,0.03125000,0.03125000" in text
    for bad in (b"0.1\n" * 5 + b"-1\n", b"0.1\n" * 4, b"nan\n" * 6, b"fast\n" * 6):
        assert list(submit.check_times("a_time.txt", bad, 6, 1)), bad


def test_many_faults_of_one_kind_are_counted_not_repeated(study, capsys):
    for path in (study / "raw").glob("*.time.txt"):
        path.unlink()
    with pytest.raises(BadInput, match=r"raw: 3 faults, explained above; nothing was packed"):
        call(study, "got10k", f"--results={study / 'raw'}", f"--output={study / 'x.zip'}")
    assert not (study / "x.zip").exists()
    faults = [submit.Fault("missing", f"{i}.txt", "is missing.", (f"{i}.txt",)) for i in range(180)]
    assert len(submit.explain(faults).splitlines()) == 1 + 2 * submit.SHOWN + 1
    assert "... and 177 more like this, up to 179.txt" in submit.explain(faults)


def test_what_is_no_zip_no_folder_or_no_split_ends_with_a_sentence(study):
    (study / "x.zip").write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(BadInput, match=r"x\.zip is not a zip that can be read"):
        call(study, "got10k", f"--check={study / 'x.zip'}")
    with pytest.raises(BadInput, match="does not exist: name the folder"):
        call(study, "got10k", f"--results={study / 'nothing'}", f"--output={study / 'x.zip'}")
    with pytest.raises(BadInput, match="no sequence of split 'val'"):
        call(study, "got10k", f"--check={study / 'x.zip'}", "--split=val")


def broken(members: dict[str, bytes], rng: random.Random) -> tuple[dict[str, bytes], str]:
    """The members with one fault somewhere, and the file it is in."""
    name = rng.choice([n for n in members if not n.endswith("_time.txt")])
    raw = members[name]
    lines = raw.splitlines(True)
    at = rng.randrange(len(lines))
    fields = lines[at].strip().split(b",")
    field = rng.randrange(4)
    value = rng.choice([b"nan", b"-inf", b"", b"1.2.3", b"one", b"0x1F", b"1 2", b"\xc3\xa9"])
    size = rng.choice([b"0", b"-3", b"-0.0"])
    changes = {
        "value": [*lines[:at], b",".join([*fields[:field], value, *fields[field + 1 :]]) + b"\n", *lines[at + 1 :]],
        "size": [*lines[:at], b",".join([*fields[:2], size, fields[3]]) + b"\n", *lines[at + 1 :]],
        "separator": [*lines[:at], rng.choice([b"\t", b" ", b";", b", ,"]).join(fields) + b"\n", *lines[at + 1 :]],
        "lost line": lines[:at] + lines[at + 1 :],
        "line more": [*lines[:at], lines[at], *lines[at:]],
        "blank line": [*lines[: at + 1], b"\n", *lines[at + 1 :]] if at + 1 < len(lines) else lines[:-1],
        "cut": [raw[: rng.randrange(len(raw) - len(lines[-1]))]],
    }
    kind = rng.choice([*changes, "renamed", "moved", "lost file"])
    others = {n: r for n, r in members.items() if n != name}
    if kind in changes:
        return {**members, name: b"".join(changes[kind])}, name
    where = {"renamed": name.replace(".txt", ".TXT"), "moved": f"deep/deeper/{name}"}
    return ({**others, where[kind]: raw} if kind in where else others), name


@both
@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_any_broken_file_is_found_named_and_explained(benchmark, seed):
    members = good(benchmark)
    assert submit.check(benchmark, SEQUENCES, members) == []
    changed, name = broken(members, random.Random(seed))
    faults = submit.check(benchmark, SEQUENCES, changed)
    assert any(name in f.where for f in faults), changed.get(name, "gone")
    assert all(f.expected or f.found for f in faults)
    assert name in submit.explain(faults)
