"""Unchanged files are not scored again, and no answer is ever stale: what comes from the cache has a cold run's bits."""

import os
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from test_properties import study

from workflow_scripts.console import BadInput
from workflow_scripts.score import cache, protocols, results, scanner, scoring
from workflow_scripts.score.cache import Cache
from workflow_scripts.score.scoring import Options

pytestmark = pytest.mark.usefixtures("engine")

CHOSEN = [protocols.get("tnllt"), protocols.get("corrected")]
OPTIONS = Options(lenient=True)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Annotations, folders of results and an empty cache; files of this instant count as settled."""
    monkeypatch.setattr(cache, "SETTLED", 0.0)
    annotations, boxes = study(1)
    for tracker, of in boxes.items():
        (tmp_path / tracker).mkdir()
        for annotation, values in zip(annotations, of, strict=True):
            np.savetxt(tmp_path / tracker / f"{annotation.name}.txt", values, fmt="%d", delimiter=",")
    return annotations, {tracker: tmp_path / tracker for tracker in boxes}, tmp_path / "cache"


def run(files, chosen=CHOSEN, options=OPTIONS, cached=True):
    """Outcomes, and which result files were scored, by either engine."""
    annotations, folders, where = files
    path_of = {path.read_bytes(): str(path) for folder in folders.values() for path in folder.iterdir()}
    scored: list[str] = []

    def spy(module, name, paths_of):
        real = getattr(module, name)
        patch.setattr(module, name, lambda *given: (scored.extend(paths_of(given)), real(*given))[1])

    with pytest.MonkeyPatch.context() as patch:
        spy(results, "read_sequence", lambda given: map(str, given[0]))
        spy(scanner, "score_text", lambda given: [path_of[given[0]]])
        store = Cache(where) if cached else None
        outcomes = scoring.score_files(chosen, annotations, folders, options, cache=store)
        if store:
            store.save()
    return outcomes, sorted(set(scored))


def same_bits(one, other) -> None:
    for a, b in zip(one, other, strict=True):
        assert a.problems == b.problems
        for ours, theirs in ((a.scores, b.scores), (a.ceiling, b.ceiling)):
            for field in fields(ours):
                x, y = getattr(ours, field.name), getattr(theirs, field.name)
                assert x.tobytes() == y.tobytes() if isinstance(x, np.ndarray) else x == y, field.name


def test_a_second_run_scores_no_file_reads_none_and_has_the_first_ones_bits(files, monkeypatch):
    cold, scored = run(files)
    assert len(scored) == 4 * 5
    monkeypatch.setattr(cache, "read_bytes", lambda path: pytest.fail(f"{path} was read again"))
    warm, scored = run(files)
    assert not scored
    same_bits(warm, cold)
    same_bits(run(files, cached=False)[0], cold)


@pytest.mark.parametrize("disguise", ["as it comes", "same times", "another file of the same times"])
def test_one_digit_scores_one_file_again(files, disguise):
    run(files)
    path = files[1]["tracker 2"] / "seq 3.txt"
    before, text = path.stat(), path.read_text()
    row = text.splitlines()[5]
    changed = text.replace(row, row[:-1] + ("1" if row[-1] != "1" else "2"), 1)
    assert len(changed) == len(text)
    if disguise.startswith("another"):
        (path.parent / "new").write_text(changed)
        os.replace(path.parent / "new", path)
    else:
        path.write_text(changed)
    if disguise != "as it comes":
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    warm, scored = run(files)
    assert scored == [str(path)]
    same_bits(warm, run(files, cached=False)[0])
    path.write_text(text)  # the old content is still known
    assert not run(files)[1]


def test_touched_moved_and_equal_files_are_known_by_their_content(files):
    cold, _ = run(files)
    annotations, folders, where = files
    for path in folders["tracker 0"].iterdir():
        path.touch()
    folders["tracker 1"].rename(folders["tracker 1"].with_name("renamed"))
    moved = {t: f.with_name("renamed") if t == "tracker 1" else f for t, f in folders.items()}
    warm, scored = run((annotations, moved, where))
    assert not scored
    same_bits(warm, cold)


def test_a_file_that_has_just_changed_is_always_read(files, monkeypatch):
    monkeypatch.setattr(cache, "SETTLED", 3600.0)
    run(files)
    loaded = []
    monkeypatch.setattr(cache, "read_bytes", lambda path: (loaded.append(path), results.read_bytes(path))[1])
    assert not run(files)[1] and len(loaded) == 4 * 5


def test_another_annotation_rule_threshold_size_or_code_is_another_score(files, monkeypatch):
    annotations, folders, where = files
    run(files)
    flags = annotations[0].absent.copy()
    flags[-1] = ~flags[-1]
    truth = annotations[1].truth.copy()
    truth[0, -1] += 1
    edited = [replace(annotations[0], absent=flags), replace(annotations[1], truth=truth), *annotations[2:]]
    warm, scored = run((edited, folders, where))
    assert {Path(p).stem for p in scored} == {annotations[0].name, annotations[1].name}
    same_bits(warm, run((edited, folders, where), cached=False)[0])
    for chosen, options in (
        ([protocols.get("otb")], OPTIONS),
        (CHOSEN, replace(OPTIONS, thresholds="octave")),
        ([protocols.get("got10k")], replace(OPTIONS, image_size=(320, 240))),
        ([protocols.get("got10k")], replace(OPTIONS, image_size=(100, 90))),
    ):
        warm, scored = run(files, chosen, options)
        assert len(scored) == 4 * 5
        same_bits(warm, run(files, chosen, options, cached=False)[0])
    monkeypatch.setattr(scoring, "code", lambda: b"edited")
    assert len(run(files)[1]) == 4 * 5


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "garbled"])
def test_damaged_records_are_computed_again(files, damage):
    cold, _ = run(files)
    for path in [p for p in files[2].rglob("*") if p.is_file()]:
        raw = bytearray(path.read_bytes())
        if damage == "flipped":
            for at in range(7, len(raw), 97):
                raw[at] ^= 16
        path.write_bytes({"cut": raw[: len(raw) // 2], "flipped": raw, "emptied": b"", "garbled": raw[5:] + raw[:5]}[damage])
    warm, scored = run(files)
    assert scored
    same_bits(warm, cold)
    assert not run(files)[1]


def test_what_is_unusual_is_told_every_time(files):
    _, folders, _ = files
    (folders["tracker 0"] / "seq 0.txt").write_text("1,2,3,4\n")
    (folders["tracker 1"] / "seq 1.txt").unlink()
    first, _ = run(files)
    second, scored = run(files)
    assert len(first[0].problems) == 2 and len(scored) == 2
    same_bits(second, first)
    with pytest.raises(BadInput, match=r"seq 0\.txt, line 1"):
        run(files, options=Options())


def test_a_cache_that_cannot_be_written_changes_nothing(files):
    cold, _ = run(files, cached=False)
    files[2].write_text("a file where the folder would be")
    for _ in range(2):
        found, scored = run(files)
        assert len(scored) == 4 * 5
        same_bits(found, cold)


def test_the_oldest_records_leave_when_there_are_too_many(files, monkeypatch):
    run(files)
    size = sum(p.stat().st_size for p in files[2].rglob("*") if p.is_file())
    for path in files[2].rglob("*"):
        os.utime(path, (1, 1))
    monkeypatch.setattr(cache, "LIMIT", size)
    run(files, [protocols.get("otb")])
    kept = [p.stat() for p in files[2].rglob("*") if p.is_file()]
    assert sum(s.st_size for s in kept) <= size and sum(s.st_mtime > 1 for s in kept) >= 5
    monkeypatch.setattr(cache, "LIMIT", 0)
    run(files, [protocols.get("uav123")])
    assert not [p for p in files[2].rglob("*") if p.is_file()]
