"""EasyR1's checkpoint layout, read and judged: what is there, what is complete, which step is meant.

    checkpoint_tracker.json                         written last: {last_global_step, best_global_step, ...}
    global_step_<N>/actor/model_world_size_<W>_rank_<R>.pt     one state dict of DTensors a rank
    global_step_<N>/actor/huggingface/              config, tokenizer, processor; no weights
    global_step_<N>/actor/shards.sha256.json        ours: the seal, written when the run was judged complete

A step has no marker of its own, so it counts as complete only if the tracker has reached it and every rank's file is there.
The seal makes a shard that was cut, exchanged with another rank's or taken from another step recognisable: such files have
the right names, keys and shapes, and merge to garbage without an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from workflow_scripts import files
from workflow_scripts.console import BadInput

TRACKER = "checkpoint_tracker.json"
SEAL = "shards.sha256.json"
SHARD = re.compile(r"model_world_size_(\d+)_rank_(\d+)\.pt")


@dataclass(frozen=True)
class Step:
    """One complete step: its number, its actor folder, the rank files in the order of ranks."""

    number: int
    actor: Path
    shards: tuple[Path, ...]


def shard_name(world: int, rank: int) -> str:
    """File name of one rank's part of the model."""
    return f"model_world_size_{world}_rank_{rank}.pt"


def shards(actor: Path) -> tuple[Path, ...]:
    """All rank files of an actor folder in the order of ranks. BadInput names a missing or a surplus one."""
    found = {p: SHARD.fullmatch(p.name) for p in sorted(actor.glob("model_world_size_*")) if p.is_file()}
    for path, match in found.items():
        if match is None:
            raise BadInput(f"{path} is not a rank file: remove it from the checkpoint.")
    worlds = sorted({int(m.group(1)) for m in found.values() if m})
    if not worlds:
        raise BadInput(f"{actor} holds no model_world_size_*_rank_*.pt: the training has not saved there; train again.")
    if len(worlds) > 1:
        raise BadInput(
            f"{actor} holds shards of runs with {' and '.join(map(str, worlds))} ranks: remove the files of the other run."
        )
    expected = [actor / shard_name(worlds[0], rank) for rank in range(worlds[0])]
    for path in expected:
        if path not in found:
            raise BadInput(f"{path} is missing: copy it from the node that wrote it, or train again.")
    for path in found:
        if path not in expected:
            raise BadInput(f"{path} belongs to no rank of a run with {worlds[0]} ranks: remove it.")
    return tuple(expected)


def select(root: str | Path, which: str = "last") -> Step:
    """The `last` or `best` complete step under `root`, as checkpoint_tracker.json says. BadInput if there is none."""
    root = Path(root)
    record = files.read_json(root / TRACKER)
    key = f"{which}_global_step"
    if not isinstance(record, dict) or not isinstance(record.get(key), int) or record[key] <= 0:
        raise BadInput(f"{root / TRACKER} names no {which} step: validate where you save (val_freq), or merge the last one.")
    number = record[key]
    if number > record.get("last_global_step", 0):
        raise BadInput(f"{root / TRACKER} names step {number}, later than its last one: it is not this run's file.")
    actor = root / f"global_step_{number}" / "actor"
    if not (actor / "huggingface" / "config.json").is_file():
        raise BadInput(f"{actor / 'huggingface' / 'config.json'} is missing: the step was not saved whole; train again.")
    return Step(number, actor, shards(actor))


def seal(actor: Path) -> None:
    """Record the hash of every rank file of a step that is known to be complete."""
    files.write_json(actor / SEAL, {path.name: files.sha256(path) for path in shards(actor)})


def seal_all(root: str | Path) -> None:
    """Seal every complete step under `root`, and make the tracker's path relative to `root`.

    A step that a killed attempt left without all its rank files stays unsealed, so that nobody merges it.
    """
    root = Path(root)
    record = files.read_json(root / TRACKER)
    for actor in sorted(root.glob("global_step_*/actor")):
        try:
            seal(actor)
        except BadInput as error:
            print(f"not sealed: {error}", flush=True)
    # the run's own folder is renamed when it is complete: an absolute path would point nowhere
    record["last_actor_path"] = f"global_step_{record['last_global_step']}/actor"
    files.write_json(root / TRACKER, record)


def check_seal(step: Step) -> None:
    """BadInput names the first rank file that is not the one that was sealed."""
    path = step.actor / SEAL
    if not path.is_file():
        raise BadInput(
            f"{path} is missing: the run was never judged complete; train to the end, or merge with --unsealed if you trust it."
        )
    recorded = files.read_json(path)
    for shard in step.shards:
        if recorded.get(shard.name) != files.sha256(shard):
            raise BadInput(f"{shard} is not the file that was saved (cut, exchanged or of another step): copy it again.")
