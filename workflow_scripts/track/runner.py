"""Run a tracker over many sequences in lockstep: B at a time, refilled as they end, frames decoded ahead by threads.

A tracker that asks a model does not wait for it: a sequence whose answer is on its way is parked with its frame, and
others step in its place. `in_flight` more sequences than B are open for that. Which sequences share a step then depends on
the answers' timing; boxes do not, where a tracker's passes have a fixed number of rows.

A finished sequence is sealed: <name>.time.txt (milliseconds a frame), <name>.confidence.txt, <name>.trace.jsonl (what the
tracker says it did besides, e.g. a question and its answer, and the sentence where it changed) and, last, <name>.txt (a box
`x,y,w,h` a frame, floats as repr). What is sealed is never run again. A sequence that crashes is reported and the others
go on. Decoding is not timed; a step's time is shared evenly by the sequences in it, and the time in which none could step
by those whose answers ended it.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Sequence as Series
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from workflow_scripts import console, files, images
from workflow_scripts.asking import Question, Reply
from workflow_scripts.console import BadInput
from workflow_scripts.images import Image
from workflow_scripts.sequences import Sequence
from workflow_scripts.track.trackers.base import Output, Tracker, ask_for, check_start


class Fatal(BadInput):
    """Something that no other sequence would survive either, e.g. a server that is gone: the run ends."""


@dataclass(eq=False)
class Slot:
    """A sequence that is being tracked, with the frame that comes next and the answer that it needs for it."""

    sequence: Sequence
    frames: Iterator[Image]
    state: Any = None
    frame: Image | None = None
    reply: Future[Reply] | None = None  # None where nothing was asked
    spent: float = 0.0  # milliseconds on the coming frame so far
    boxes: list[list[float]] = field(default_factory=list)  # [frames so far][4] xywh
    milliseconds: list[float] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    trace: list[dict[str, Any]] = field(default_factory=list)
    sentence: str = ""  # in force

    @property
    def parked(self) -> bool:
        return self.reply is not None and not self.reply.done()

    @property
    def finished(self) -> bool:
        return len(self.boxes) == len(self.sequence.frames)

    def record(self, output: Output, milliseconds: float) -> None:
        trace = dict(output.note or {})
        if output.sentence != self.sentence:
            trace["sentence"] = self.sentence = output.sentence
        if trace:
            self.trace.append({"frame": len(self.boxes), **trace})
        self.boxes.append([float(v) for v in output.box])
        self.milliseconds.append(self.spent + milliseconds)
        self.confidences.append(output.confidence)
        self.frame, self.reply, self.spent = None, None, 0.0


def shard_of(sequences: Series[Sequence], shard: int, shards: int) -> list[Sequence]:
    """Every `shards`-th sequence in the index's order from number `shard` on: stable, and long neighbours are spread."""
    if not 0 <= shard < shards:
        raise BadInput(f"there is no shard {shard} of {shards}: shards count from 0.")
    return list(sequences[shard::shards])


def check_sequences(sequences: Iterable[Sequence], readers: int = 2) -> None:
    """BadInput names the first sequence that cannot be tracked, before a model is loaded or a server started."""
    listings: dict[Path, set[str]] = {}
    for s in sequences:
        if not s.frames:
            raise BadInput(f"sequence {s.name} has no frames: restore the dataset and index it again.")
        if len(s.boxes) == 0:
            raise BadInput(f"sequence {s.name} has no first box: index the dataset again.")
        for frame in s.frames:
            if frame.parent not in listings:
                listings[frame.parent] = {f.name for f in frame.parent.iterdir()} if frame.parent.is_dir() else set()
            if frame.name not in listings[frame.parent]:
                raise BadInput(f"{frame} does not exist: restore the dataset again.")

    def check_first(s: Sequence) -> None:
        try:
            check_start([images.read_rgb(s.frames[0])], [s.boxes[0]], [s.sentence])
        except BadInput as error:
            raise BadInput(f"sequence {s.name}, {s.frames[0]}: {error}") from None

    with ThreadPoolExecutor(readers) as pool:
        list(pool.map(check_first, sequences))


def run_sequences(
    tracker: Tracker,
    sequences: Series[Sequence],
    folder: Path,
    batch: int = 8,
    readers: int = 2,
    ahead: int = 3,
    in_flight: int = 8,
    description: str = "frames",
) -> dict[str, str]:
    """Track all `sequences` that are not yet sealed in `folder`. Returns what went wrong, by sequence name (empty: nothing).

    `in_flight` is how many questions a tracker that asks may have open at once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    waiting = deque(s for s in sequences if not is_sealed(folder, s))
    ticks = console.progress(range(sum(map(len, waiting))), description)
    places = batch + in_flight * hasattr(tracker, "questions")
    failures: dict[str, str] = {}
    slots: list[Slot] = []  # those that waited longest come first
    with ThreadPoolExecutor(readers, thread_name_prefix="frames") as pool, asking_threads(in_flight) as asking:
        while waiting or slots:
            while waiting and len(slots) < places and sum(not s.parked for s in slots) < batch:
                sequence = waiting.popleft()
                slot = Slot(sequence, read_ahead(sequence.frames, pool, ahead), sentence=sequence.sentence)
                prepare(tracker, slot, asking, failures)
                slots += [slot] if sequence.name not in failures else []
            turn = [s for s in slots if not s.parked][:batch]
            if not turn:
                wait_for_one(slots)
                continue
            for _ in range(advance(tracker, turn, failures)):
                next(ticks, None)
            for slot in turn:
                if slot.finished:
                    seal(folder, slot)
                elif slot.sequence.name not in failures:
                    prepare(tracker, slot, asking, failures)
            slots = [s for s in slots if s not in turn] + turn
            slots = [s for s in slots if not s.finished and s.sequence.name not in failures]
    return failures


@contextlib.contextmanager
def asking_threads(number: int) -> Iterator[Executor]:
    """A pool for questions; when a run breaks off, those that are not yet on their way are dropped."""
    with ThreadPoolExecutor(max(1, number), thread_name_prefix="asking") as pool:
        try:
            yield pool
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def prepare(tracker: Tracker, slot: Slot, asking: Executor, failures: dict[str, str]) -> None:
    """Fetch a slot's next frame and send off the question that it raises, if any."""

    def call(members: list[Slot]) -> None:
        slot.frame = next(slot.frames)
        if slot.boxes and hasattr(tracker, "questions"):
            begin = time.perf_counter()
            question = tracker.questions([slot.state], [slot.frame])[0]
            slot.spent = 1e3 * (time.perf_counter() - begin)
            if question is not None:
                slot.reply = asking.submit(ask_one, tracker, question)

    attempt(call, [slot], failures)


def ask_one(tracker: Tracker, question: Question) -> Reply:
    return ask_for(tracker.ask, [question])[0]


def wait_for_one(slots: Series[Slot]) -> None:
    """Wait until one parked slot has its answer; the time is counted to those that then have theirs."""
    begin = time.perf_counter()
    wait([s.reply for s in slots], return_when=FIRST_COMPLETED)
    milliseconds = 1e3 * (time.perf_counter() - begin)
    back = [s for s in slots if not s.parked]
    for slot in back:
        slot.spent += milliseconds / len(back)


def advance(tracker: Tracker, slots: list[Slot], failures: dict[str, str]) -> int:
    """Give every slot its frame: new ones start, others step, failing ones are named in `failures`. Returns how many."""

    def answer(members: list[Slot]) -> None:
        for slot in members:
            if slot.reply is not None:
                slot.reply.result()

    def start(members: list[Slot]) -> None:
        begin = time.perf_counter()
        first = [s.sequence.boxes[0] for s in members]
        lengths = {"lengths": [len(s.sequence) for s in members]} if getattr(tracker, "forgets", False) else {}
        states = tracker.start([s.frame for s in members], first, [s.sequence.sentence for s in members], **lengths)
        milliseconds = 1e3 * (time.perf_counter() - begin) / len(members)
        for slot, state, box in zip(members, states, first, strict=True):
            slot.state = state
            slot.record(Output(getattr(state, "box", box), 1.0, slot.sentence), milliseconds)  # a tracker may find it itself

    def step(members: list[Slot]) -> None:
        begin = time.perf_counter()
        answers = {"answers": [s.reply and s.reply.result() for s in members]} if hasattr(tracker, "questions") else {}
        states, outputs = tracker.step([s.state for s in members], [s.frame for s in members], **answers)
        milliseconds = 1e3 * (time.perf_counter() - begin) / len(members)
        for output in outputs:
            check_output(output)
        for slot, state, output in zip(members, states, outputs, strict=True):
            slot.state = state
            slot.record(output, milliseconds)

    for slot in slots:
        attempt(answer, [slot], failures)
    sound = [s for s in slots if s.sequence.name not in failures]
    for call, members in ((start, [s for s in sound if not s.boxes]), (step, [s for s in sound if s.boxes])):
        for group in [members] if tracker.lockstep else [[s] for s in members]:
            attempt(call, group, failures)
    return len(sound)


def attempt(call: Callable[[list[Slot]], None], members: list[Slot], failures: dict[str, str]) -> None:
    """`call` for all members at once; if it fails, for each alone, so that only the one that is at fault is lost.

    A step is pure where trackers run in lockstep, so that trying again changes nothing.
    """
    if not members:
        return
    try:
        call(members)
    except Fatal:
        raise
    except Exception as error:
        if len(members) == 1:
            failures[members[0].sequence.name] = describe(error, members[0])
        else:
            for slot in members:
                attempt(call, [slot], failures)


def check_output(output: Output) -> None:
    """A box that is not four numbers is a crash, not a result."""
    if np.shape(output.box) != (4,) or not np.isfinite(output.box).all():
        raise ValueError(f"the tracker gave {output.box!r} for a box")


def describe(error: Exception, slot: Slot) -> str:
    """One line on what happened where."""
    kind = "" if isinstance(error, BadInput) else f"{type(error).__name__}: "
    return f"frame {len(slot.boxes)}: {kind}{' '.join(str(error).split())}"


def read_ahead(paths: Series[Path], pool: ThreadPoolExecutor, ahead: int) -> Iterator[Image]:
    """Frames [H, W, 3] in order, decoded by the pool up to `ahead` before they are asked for."""
    pending: deque[Future[Image]] = deque()
    for path in paths:
        pending.append(pool.submit(images.read_rgb, path))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def is_sealed(folder: Path, sequence: Sequence) -> bool:
    return (folder / f"{sequence.name}.txt").is_file()


def seal(folder: Path, slot: Slot) -> None:
    """Write a finished sequence; the boxes last, since their file is the seal."""
    name = slot.sequence.name
    files.write_text(folder / f"{name}.time.txt", "".join(f"{v:.4f}\n" for v in slot.milliseconds))
    files.write_text(folder / f"{name}.confidence.txt", "".join(f"{v:.6g}\n" for v in slot.confidences))
    files.write_text(folder / f"{name}.trace.jsonl", "".join(json.dumps(t, ensure_ascii=False) + "\n" for t in slot.trace))
    files.write_text(folder / f"{name}.txt", "".join(",".join(map(repr, box)) + "\n" for box in slot.boxes))


def summarise(folder: Path, sequences: Series[Sequence]) -> dict[str, float]:
    """Frames, seconds of tracking, questions and fall-backs of sealed sequences, as their files say: killed runs count too."""
    frames, milliseconds, traces = 0, 0.0, []
    for s in sequences:
        times = [float(line) for line in (folder / f"{s.name}.time.txt").read_text().split()]
        frames += len(times)
        milliseconds += sum(times)
        traces += [json.loads(line) for line in (folder / f"{s.name}.trace.jsonl").read_text(encoding="utf-8").splitlines()]
    asked = [t for t in traces if "asked" in t]
    return {
        "sequences": len(sequences),
        "frames": frames,
        "seconds": round(milliseconds / 1e3, 3),
        "vlm_calls": len(asked),
        "fall_backs": sum(bool(t.get("fall_back")) for t in asked),
    }


def read_boxes(path: Path) -> np.ndarray:
    """Boxes [N, 4] xywh of a sealed result; BadInput names the first line that is not four numbers."""
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            row = [float(v) for v in line.split(",")]
        except ValueError:
            row = []
        if len(row) != 4:
            raise BadInput(f"{path}, line {number}: {line!r} is not x,y,w,h; delete the file and run the tracker again.")
        rows.append(row)
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def read_rows(folder: Path, sequence: Sequence) -> list[dict[str, Any]]:
    """A sealed sequence frame by frame: frame, x, y, w, h, confidence, the sentence in force, milliseconds."""
    boxes = read_boxes(folder / f"{sequence.name}.txt")
    confidences = (folder / f"{sequence.name}.confidence.txt").read_text().split()
    milliseconds = (folder / f"{sequence.name}.time.txt").read_text().split()
    traces = (folder / f"{sequence.name}.trace.jsonl").read_text(encoding="utf-8").splitlines()
    changed = {t["frame"]: t["sentence"] for t in map(json.loads, traces) if "sentence" in t}
    sentence, rows = sequence.sentence, []
    for frame, (box, confidence, time_) in enumerate(zip(boxes, confidences, milliseconds, strict=True)):
        sentence = changed.get(frame, sentence)
        row = {"frame": frame, **dict(zip("xywh", box.tolist(), strict=True)), "confidence": float(confidence)}
        rows.append({**row, "sentence": sentence, "milliseconds": float(time_)})
    return rows
