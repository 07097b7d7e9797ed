"""EasyR1 as this study's trainer on GPUs: a pinned checkout, its configuration, its process, and the judgement of its result.

EasyR1 empties its logs at every start, resumes silently, and leaves no mark on a step that is whole. So the logs are set aside
before each start and put together by step afterwards, a run lives in a folder named after its configuration, and it counts as
complete only when it ended well, the tracker file has reached the last step, and every rank's file of that step is there.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from workflow_scripts import files, in_env, runs
from workflow_scripts.console import BadInput
from workflow_scripts.grpo import checkpoints, easyr1_config, preflight, tracker_client

LOGS = ("experiment_log.jsonl", "generations.log", "experiment_config.json")
HISTORY = "history"


def run(config: Mapping[str, Any], folder: Path) -> None:
    """Train in `folder` until EasyR1 has written its last step; an earlier attempt there is continued."""
    root, launch = Path.cwd(), config["easyr1"]
    flat = dict(easyr1_config.flatten(config["trainer"])) | {"trainer.save_checkpoint_path": str(folder)}
    trainer = easyr1_config.nest(flat)
    easyr1_config.check(trainer, root, "config.yaml")
    last = last_step(trainer, root)
    if reached(folder) < last:
        preflight.check(config, folder)
        checkout = prepare(launch["repository"], launch["commit"])
        check_world(folder, launch["gpus"] * launch["nodes"])
        archive_logs(folder)
        written = folder / "easyr1.yaml"
        files.write_text(written, yaml.safe_dump(easyr1_config.resolve(trainer, root), sort_keys=False))
        with reward_tracker(launch, folder):
            start(checkout, written, root)
    if reached(folder) < last:
        raise BadInput(
            f"{folder / checkpoints.TRACKER} says step {reached(folder)} of {last}: EasyR1 ended early; "
            "read the log and start again."
        )
    join_logs(folder)


def last_step(trainer: Mapping[str, Any], root: Path) -> int:
    """The step after which EasyR1 ends: max_steps, or epochs times the whole batches of the training file."""
    import pyarrow.parquet as parquet

    data, settings = trainer["data"], trainer["trainer"]
    if settings.get("max_steps") is not None:
        return int(settings["max_steps"])
    rows = parquet.ParquetFile(root / data["train_files"]).metadata.num_rows
    batch = data.get("mini_rollout_batch_size") or data["rollout_batch_size"]
    return rows // batch * int(settings.get("total_epochs", 15)) // (data["rollout_batch_size"] // batch)


def reached(folder: Path) -> int:
    """The last complete step in `folder`, 0 if there is none."""
    if not (folder / checkpoints.TRACKER).is_file():
        return 0
    return checkpoints.select(folder, "last").number


def check_world(folder: Path, world: int) -> None:
    """BadInput if an earlier attempt was made with another number of ranks: EasyR1 would not find its files."""
    if reached(folder):
        step = checkpoints.select(folder, "last")
        if len(step.shards) != world:
            raise BadInput(
                f"{step.actor} was written by {len(step.shards)} ranks and cannot be continued by {world}: "
                "set grpo.easyr1.gpus back, or remove the folder to start anew."
            )


def prepare(repository: str, commit: str) -> Path:
    """A checkout of EasyR1 at `commit` in the cache, made once and shared. BadInput if it cannot be fetched."""
    target = in_env.cache_root().parent / "easyr1" / commit
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{target}.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not target.exists():
            with files.atomic_folder(target) as folder:
                for arguments in (
                    ["init", "--quiet"],
                    ["fetch", "--quiet", "--depth", "1", repository, commit],
                    ["checkout", "--quiet", "FETCH_HEAD"],
                ):
                    _git(folder, arguments, repository)
        head = _git(target, ["rev-parse", "HEAD"], repository)
        changed = _git(target, ["status", "--porcelain", "--untracked-files=no"], repository)
    if head != commit or changed:
        raise BadInput(f"{target} is not EasyR1 at {commit} (it was changed): remove the folder, it is fetched again.")
    return target


def _git(folder: Path, arguments: list[str], repository: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BadInput(f"git {arguments[0]} of {repository} failed ({reason}): check grpo.easyr1.repository and the network.")
    return done.stdout.strip()


def archive_logs(folder: Path) -> None:
    """Move the logs of an earlier attempt to history/<n>/, before EasyR1 empties them."""
    present = [folder / name for name in LOGS if (folder / name).is_file() and (folder / name).stat().st_size]
    if not present:
        return
    number = 1 + max([int(p.name) for p in (folder / HISTORY).glob("*") if p.name.isdigit()], default=0)
    target = folder / HISTORY / f"{number:03d}"
    target.mkdir(parents=True)
    for path in present:
        shutil.move(path, target / path.name)


def join_logs(folder: Path) -> None:
    """One experiment_log.jsonl out of all attempts: of steps that were repeated, the last attempt's line counts."""
    attempts = [*sorted((folder / HISTORY).glob("*/experiment_log.jsonl")), folder / "experiment_log.jsonl"]
    lines: dict[int, str] = {}
    for path in attempts:
        if not path.is_file():
            continue
        for number, text in enumerate(path.read_text().splitlines(), start=1):
            try:
                lines[json.loads(text)["step"]] = text
            except (ValueError, KeyError, TypeError):
                raise BadInput(f"{path}, line {number}: not a line of EasyR1's log; remove it.") from None
    files.write_text(folder / "experiment_log.jsonl", "".join(f"{lines[step]}\n" for step in sorted(lines)))


def command(config: Path) -> list[str]:
    """How EasyR1 is started."""
    return [sys.executable, "-m", "verl.trainer.main", f"config={config}"]


def environment(checkout: Path, root: Path) -> dict[str, str]:
    """Environment of EasyR1's process: its checkout and this package importable, the reward's actors without a GPU."""
    paths = [str(checkout), str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # newer Ray shows the trainer's GPUs to actors that asked for none
        "WANDB_MODE": "offline",
        "TOKENIZERS_PARALLELISM": "true",
    }


def start(checkout: Path, config: Path, root: Path) -> None:
    """Run EasyR1 to its end in its own process group, which goes when this process does. BadInput if it fails."""
    process = subprocess.Popen(
        command(config),
        cwd=checkout,
        env=environment(checkout, root),
        start_new_session=True,
        preexec_fn=partial(runs.die_with_parent, signal.SIGTERM),
    )
    try:
        code = process.wait()
    finally:
        tracker_client.stop(process)
    if code:
        raise BadInput(f"EasyR1 ended with status {code}: read the log above; starting again continues from its last step.")


def reward_tracker(launch: Mapping[str, Any], folder: Path) -> contextlib.AbstractContextManager:
    """The tracker that the reward asks, as a service of its own; nothing where none is set."""
    if launch["tracker"] is None:
        return contextlib.nullcontext()
    log = folder / "reward_tracker.log"
    return tracker_client.running(launch["tracker"], launch["tracker_weights"], log, launch["tracker_port"])
