"""Lockstep running: sealed results, resume, crashes in one sequence, shards, collection."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from workflow_scripts import files, images, manifest, sequences
from workflow_scripts.console import BadInput
from workflow_scripts.track import collect, load_tracker, run, runner
from workflow_scripts.track.trackers.base import Output

SLOW = """
import time
from workflow_scripts.track.trackers import {module}
step = {module}.{name}.step
def slow(*arguments, **options):
    time.sleep(0.02)
    return step(*arguments, **options)
{module}.{name}.step = slow
from workflow_scripts import console
from workflow_scripts.track import run
console.run(run.main)
"""


@dataclass
class Moving:
    """A tracker in lockstep whose box moves by one pixel a frame; it fails on the sequence called `bad`, at frame 3."""

    lockstep: bool = True
    batches: tuple = ()

    def start(self, frames, boxes, sentences):
        return [(np.asarray(b), s, 0) for b, s in zip(boxes, sentences, strict=True)]

    def step(self, states, frames):
        self.batches += (len(states),)
        new = [(box + np.array([1.0, 0, 0, 0]), sentence, number + 1) for box, sentence, number in states]
        if any(sentence == "bad" and number == 3 for _, sentence, number in new):
            raise RuntimeError("lost my mind")
        return new, [Output(box, 0.5, sentence, {"asked": sentence} if n == 2 else None) for box, sentence, n in new]


def command(index: Path, output: Path, *more: str, tracker: str = "kcf", code: str = "") -> list[str]:
    start = ["-c", code] if code else ["-m", "workflow_scripts.track.run"]
    batch = {"kcf": 1}.get(tracker, 2)
    flags = ["--tracker", tracker, "--index", str(index), "--batch", str(batch), "--parameters", "{}", "--output", str(output)]
    return [sys.executable, *start, *flags, *more]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> dict[str, Path]:
    """Folders of small untrained networks, by tracker."""
    import recipe
    import torch

    from workflow_scripts.track import checkpoints, texts
    from workflow_scripts.track.convert import network_of

    folders = {}
    for kind in ("dutrack", "seqtrack"):
        network = network_of(f"{kind}_small")
        recipe.fill(network, kind)
        if kind == "dutrack":
            with torch.no_grad():
                network.box_head.conv3_ctr.weight *= 3  # maps with clear maxima
        folders[kind] = tmp_path_factory.mktemp(kind)
        checkpoints.save(folders[kind], network, texts.small_vocabulary())
    return folders


def test_sequences_run_in_lockstep_and_places_are_refilled(draw, tmp_path):
    tracker = Moving()
    chosen = [draw(f"s{n}", frames=4 + 3 * n) for n in range(4)]
    assert runner.run_sequences(tracker, chosen, tmp_path / "out", batch=2) == {}
    assert max(tracker.batches) == 2
    for s in chosen:
        boxes = runner.read_boxes(tmp_path / "out" / f"{s.name}.txt")
        assert np.array_equal(boxes[:, 0], s.boxes[0, 0] + np.arange(len(s)))
        assert len((tmp_path / "out" / f"{s.name}.time.txt").read_text().split()) == len(s)


def test_a_crash_in_one_sequence_is_reported_and_the_rest_finished(draw, tmp_path):
    chosen = [draw("good"), replace(draw("worse"), sentence="bad"), draw("other")]
    failures = runner.run_sequences(Moving(), chosen, tmp_path / "out", batch=3)
    assert list(failures) == ["worse"]
    assert "frame 3: RuntimeError: lost my mind" in failures["worse"]
    assert sorted(p.name for p in (tmp_path / "out").glob("*.txt") if "." not in p.stem) == ["good.txt", "other.txt"]


def test_a_truncated_frame_costs_its_sequence_only(draw, tmp_path):
    chosen = [draw("whole"), draw("torn")]
    torn = chosen[1].frames[5]
    torn.write_bytes(torn.read_bytes()[:200])
    failures = runner.run_sequences(Moving(), chosen, tmp_path / "out")
    assert list(failures) == ["torn"] and "00006.png" in failures["torn"]
    assert runner.is_sealed(tmp_path / "out", chosen[0])


def test_what_is_fatal_for_one_is_fatal_for_all(draw, tmp_path):
    class Gone(Moving):
        def step(self, states, frames):
            raise runner.Fatal("the server is gone")

    with pytest.raises(runner.Fatal, match="the server is gone"):
        runner.run_sequences(Gone(), [draw("a"), draw("b")], tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.frames[4].unlink(), "00005.png does not exist"),
        (lambda s: s.frames[0].write_bytes(b"\x89PNG"), "00001.png"),
        (lambda s: s.boxes.__setitem__((0, slice(2, 4)), 0.0), "positive width and height"),
        (lambda s: s.boxes.__setitem__((0, 0), 500.0), "outside"),
        (lambda s: s.frames.clear(), "no frames"),
    ],
)
def test_bad_sequences_are_named_before_any_work(draw, change, message):
    sequence = draw("mine")
    change(sequence)
    with pytest.raises(BadInput, match=message) as caught:
        runner.check_sequences([sequence])
    assert "mine" in str(caught.value)


@pytest.mark.parametrize("name", ["static", "kcf", "csrt", "mosse"])
def test_a_sequence_of_one_frame_gets_its_first_box(draw, tmp_path, name):
    sequence = draw("short", frames=1)
    runner.check_sequences([sequence])
    assert runner.run_sequences(load_tracker(name), [sequence], tmp_path / "out") == {}
    assert np.array_equal(runner.read_boxes(tmp_path / "out" / "short.txt"), sequence.boxes)


@pytest.mark.parametrize("name", ["kcf", "csrt", "dutrack", "seqtrack"])
def test_frames_of_a_sequence_may_change_their_size(draw, tmp_path, weights, name):
    sequence = draw("growing", frames=6)
    for number, path in enumerate(sequence.frames):
        images.write_image(path, np.pad(images.read_rgb(path), ((0, 5 * number), (0, 7 * number), (0, 0))))
    runner.check_sequences([sequence])
    tracker = load_tracker(name, weights=weights.get(name))
    assert runner.run_sequences(tracker, [sequence], tmp_path / "out") == {}
    assert np.isfinite(runner.read_boxes(tmp_path / "out" / "growing.txt")).all()


def test_grey_transparent_and_deep_frames_are_tracked_like_others(draw, tmp_path):
    chosen = [draw(kind, frames=4) for kind in ("plain", "grey", "transparent", "deep")]
    for sequence in chosen[1:]:
        for path in sequence.frames:
            rgb = images.read_rgb(path)
            changed = {"grey": rgb[..., 0], "transparent": np.dstack([rgb[..., ::-1], rgb[..., 0]])}
            cv2.imwrite(str(path), changed.get(sequence.name, rgb[..., ::-1].astype(np.uint16) * 257))
    runner.check_sequences(chosen)
    assert runner.run_sequences(load_tracker("kcf"), chosen, tmp_path / "out") == {}
    boxes = {s.name: runner.read_boxes(tmp_path / "out" / f"{s.name}.txt") for s in chosen}
    assert (boxes["deep"] == boxes["plain"]).all() and (boxes["transparent"] == boxes["plain"]).all()


@pytest.mark.parametrize("sentence", ["", "the red square " * 2000, "two\nlines, \u00fcber \U0001f600"])
def test_any_sentence_is_tracked_and_kept(draw, tmp_path, weights, sentence):
    sequence = replace(draw("told", frames=4), sentence=sentence)
    runner.check_sequences([sequence])
    assert runner.run_sequences(load_tracker("dutrack", weights=weights["dutrack"]), [sequence], tmp_path / "out") == {}
    assert {row["sentence"] for row in runner.read_rows(tmp_path / "out", sequence)} == {sentence}


def test_a_sentence_that_the_tracker_changes_is_kept_from_its_frame_on(draw, tmp_path, weights):
    captions = iter(["one", "two", "two", "three"])
    tracker = load_tracker("dutrack", weights=weights["dutrack"], describer=lambda frames, _: [next(captions)])
    sequence = draw("told", frames=5)
    assert runner.run_sequences(tracker, [sequence], tmp_path / "out", batch=1) == {}
    rows = runner.read_rows(tmp_path / "out", sequence)
    assert [row["sentence"] for row in rows] == [sequence.sentence, "one", "two", "two", "three"]


def test_shards_are_stable_and_cover_everything_once(draw):
    chosen = [draw(f"s{n}", frames=2) for n in range(5)]
    shards = [runner.shard_of(chosen, n, 2) for n in range(2)]
    assert [s.name for s in shards[0]] == ["s0", "s2", "s4"]
    assert sorted(s.name for part in shards for s in part) == [s.name for s in chosen]
    with pytest.raises(BadInput, match="shards count from 0"):
        runner.shard_of(chosen, 2, 2)


@pytest.mark.parametrize(
    ("tracker", "module", "name"),
    [("kcf", "classic", "Classic"), ("dutrack", "dutrack", "DUTracker"), ("seqtrack", "seqtrack", "SeqTrackTracker")],
)
def test_a_killed_shard_redoes_no_finished_sequence_and_gives_the_same_boxes(index, tmp_path, weights, tracker, module, name):
    more = ["--weights", str(weights[tracker])] if tracker in weights else []
    subprocess.run(command(index, tmp_path / "whole", *more, tracker=tracker), check=True, capture_output=True)
    output = tmp_path / "shard"
    unfinished = output.with_name(".shard.unfinished")
    slowly = command(index, output, *more, tracker=tracker, code=SLOW.format(module=module, name=name))
    killed = subprocess.Popen(slowly, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    first = unfinished / "test_0.txt"
    deadline = time.monotonic() + 60
    while not first.is_file() and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert first.is_file() and not (unfinished / "test_3.txt").is_file() and not output.exists()
    sealed = {p.name: p.stat().st_mtime_ns for p in unfinished.glob("*.txt")}
    done = subprocess.run(command(index, output, *more, tracker=tracker), check=True, capture_output=True, text=True)
    assert "sealed already" in done.stdout
    assert not unfinished.exists()
    for name, when in sealed.items():
        assert (output / name).stat().st_mtime_ns == when
    for n in range(4):
        assert (output / f"test_{n}.txt").read_bytes() == (tmp_path / "whole" / f"test_{n}.txt").read_bytes()


def test_a_crash_ends_the_job_with_one_sentence_and_a_repair_continues(index, tmp_path):
    victim = sequences.read_index(index, split="test")[1].frames[3]
    whole = victim.read_bytes()
    victim.write_bytes(whole[:150])
    failed = subprocess.run(command(index, tmp_path / "out"), capture_output=True, text=True)
    assert failed.returncode == 1
    assert "error: 1 of 4 sequences failed, the first test_1" in failed.stderr and not (tmp_path / "out").exists()
    victim.write_bytes(whole)
    again = subprocess.run(command(index, tmp_path / "out"), check=True, capture_output=True, text=True)
    assert "3 of 4 sequences are sealed already" in again.stdout


def test_results_of_another_index_are_not_continued(index, tmp_path):
    folder = run.unfinished(tmp_path / "out", {"index": "a"})
    (folder / "x.txt").write_text("1,2,3,4\n")
    assert (run.unfinished(tmp_path / "out", {"index": "a"}) / "x.txt").exists()
    assert not (run.unfinished(tmp_path / "out", {"index": "b"}) / "x.txt").exists()


def test_the_manifest_is_the_same_for_the_same_boxes(index, tmp_path):
    for name in ("a", "b"):
        output = tmp_path / name / "0"
        more = ["--manifest", str(tmp_path / name / "0.json")]
        subprocess.run(command(index, output, *more), check=True, capture_output=True)
    assert (tmp_path / "a" / "0.json").read_bytes() == (tmp_path / "b" / "0.json").read_bytes()
    manifest.verify(tmp_path / "a" / "0.json")
    said = manifest.read(tmp_path / "a" / "0.json")["parameters"]
    assert {k: said[k] for k in ("batch", "precision", "compiled")} == {"batch": 1, "precision": "fp32", "compiled": False}


def test_collected_shards_hold_every_sequence_once(index, tmp_path):
    chosen = sequences.read_index(index, split="test")
    for n in range(2):
        runner.run_sequences(Moving(), runner.shard_of(chosen, n, 2), tmp_path / str(n))
    summary = collect.collect([tmp_path / "0", tmp_path / "1"], chosen, tmp_path / "raw")
    assert summary["sequences"] == 4 and summary["frames"] == sum(map(len, chosen))
    assert summary["vlm_calls"] == 4 and summary["fall_backs"] == 0
    assert files.read_json(tmp_path / "raw" / "summary.json") == summary
    with pytest.raises(BadInput, match="test_1 is in no shard"):
        collect.collect([tmp_path / "0"], chosen, tmp_path / "raw")
    with pytest.raises(BadInput, match="is in 2 shards"):
        collect.collect([tmp_path / "0", tmp_path / "0", tmp_path / "1"], chosen, tmp_path / "raw")


def test_a_questioning_tracker_without_a_model_is_refused_before_any_work(index, tmp_path):
    flags = ["--tracker", "reasoningtrack", "--weights", str(index), "--reasoning-parameters", "{}"]
    flags += ["--server-parameters", '{"engine": "vllm", "pixels": {"min_pixels": 3136, "max_pixels": 4704}}']
    done = subprocess.run([*command(index, tmp_path / "out"), *flags], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: reasoningtrack questions a language model: name its folder with --server-model.\n"


@pytest.mark.parametrize(
    ("tracker", "kind", "parameters", "message"),
    [
        ("reasoningtrack", "seqtrack", "{}", "holds weights of seqtrack"),
        ("seqtrack", "dutrack", "{}", "holds weights of dutrack"),
        ("dutrack_384_full", "dutrack", "{}", "not of dutrack_384_full"),
        ("dutrack", "dutrack", '{"precision": "fp8"}', "precision"),
        ("dutrack", "dutrack", '{"device": "cuda:77"}', "no device cuda:77 here"),
    ],
)
def test_weights_and_devices_that_do_not_fit_are_named_before_a_server_starts(
    index, tmp_path, weights, monkeypatch, tracker, kind, parameters, message
):
    serve = '{"engine": "url", "url": "http://127.0.0.1:9", "pixels": {"min_pixels": 3136, "max_pixels": 4704}}'
    flags = ["--weights", str(weights[kind]), "--reasoning-parameters", "{}", "--server-parameters", serve]
    flags += ["--parameters", parameters]
    monkeypatch.setattr(sys, "argv", [*command(index, tmp_path / "out", tracker=tracker)[2:], *flags])
    with pytest.raises(BadInput, match=message):
        run.main()
