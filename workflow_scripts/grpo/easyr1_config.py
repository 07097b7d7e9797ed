"""EasyR1's configuration: rendered from a published recipe, and checked before a GPU is asked for.

EasyR1 itself refuses an unknown key only after starting up, trains without its format prompt when that file is missing, and
finds a batch that does not divide on the node. easyr1_keys.yaml is the table of what it knows; the rules of divisibility are
those of its trainer, its workers and its rollout.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from workflow_scripts import images
from workflow_scripts.console import BadInput
from workflow_scripts.params.grpo import Grpo

PACKAGE = Path(__file__).parent
REWARD_FILE = PACKAGE / "easyr1_reward.py"
# keys that name a file or folder; EasyR1 turns the first five into null when it does not exist
PATH_KEYS = (
    "data.image_dir",
    "data.format_prompt",
    "data.override_chat_template",
    "trainer.load_checkpoint_path",
    "worker.reward.reward_function",
    "data.train_files",
    "data.val_files",
    "worker.actor.model.model_path",
)


@functools.cache
def key_table() -> dict[str, dict[str, Any]]:
    """Dotted key -> {type, default}."""
    return yaml.safe_load((PACKAGE / "easyr1_keys.yaml").read_text(encoding="utf-8"))


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every leaf; a mapping that is itself a known key is a leaf."""
    for key, value in tree.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, Mapping) and dotted not in key_table():
            yield from flatten(value, f"{dotted}.")
        else:
            yield dotted, value


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys back to a tree."""
    tree: dict[str, Any] = {}
    for dotted, value in flat.items():
        node = tree
        *parents, last = dotted.split(".")
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = value
    return tree


def render(parameters: Grpo, model: str, pairs: str, save: str) -> dict[str, Any]:
    """The config of the recipe with paths (relative to the root), pixels, GPUs and reward filled in, overrides on top."""
    settings, reward = parameters.easyr1, parameters.reward
    if settings is None:
        raise BadInput("grpo.easyr1 is missing: the easyr1 engine is configured there.")
    recipe = yaml.safe_load((PACKAGE / "recipes" / f"{settings.recipe}.yaml").read_text(encoding="utf-8"))
    arguments: dict[str, Any] = {"preset": reward.preset, "on_tracker_failure": reward.on_tracker_failure}
    if reward.weights:
        arguments["weights"] = dict(reward.weights)
    if settings.tracker:
        arguments["tracker_url"] = f"http://127.0.0.1:{settings.tracker_port}"
    flat = dict(flatten(recipe)) | {
        "data.train_files": f"{pairs}/train.parquet",
        "data.val_files": f"{pairs}/val.parquet",
        "data.image_dir": pairs,
        "data.format_prompt": None,  # rows carry their whole prompt
        "data.min_pixels": images.LEAST_PIXELS,  # stored pictures are resized already: EasyR1's own rule shall change nothing
        "data.max_pixels": parameters.pairs.max_pixels,
        "data.filter_overlong_prompts": False,  # its workers hang on small machines; lengths are bounded by max_pixels
        "worker.actor.model.model_path": model,
        "worker.reward.reward_function": f"{REWARD_FILE.relative_to(PACKAGE.parent.parent).as_posix()}:compute_score",
        "worker.reward.reward_function_kwargs": arguments,
        "trainer.n_gpus_per_node": settings.gpus,
        "trainer.nnodes": settings.nodes,
        "trainer.logger": ["console", "file"],
        "trainer.save_checkpoint_path": save,
        "trainer.find_last_checkpoint": True,
    }
    return nest(flat | settings.overrides)


def resolve(config: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """The config with every path made absolute, as EasyR1's jobs need it."""
    flat = dict(flatten(config))
    for key in (*PATH_KEYS, "trainer.save_checkpoint_path"):
        if flat.get(key):
            flat[key] = str((root / flat[key]).absolute())
    return nest(flat)


def check(config: Mapping[str, Any], root: Path, source: str) -> None:
    """BadInput names the first key that EasyR1 would refuse, misread, or silently replace."""
    flat = dict(flatten(config))
    check_keys(flat, source)
    value = {key: entry["default"] for key, entry in key_table().items()} | flat
    check_batches(value, source)
    for key in PATH_KEYS:
        path = value[key]
        if not path:
            continue
        name = str(path).rsplit(":", 1)[0] if key.endswith("reward_function") else str(path)
        if "@" in name:
            raise BadInput(f"{source}: {key} is {name}: EasyR1 cuts a path at its @; name a file without one.")
        if not (root / name).exists():
            raise BadInput(f"{source}: {key} is {name}, which does not exist: build it, or correct the parameter.")
        if key in ("data.train_files", "data.val_files") and not name.endswith(".parquet"):
            raise BadInput(f"{source}: {key} is {name}: name one .parquet file, EasyR1 guesses at anything else.")
    for key in ("data.train_files", "data.val_files", "worker.actor.model.model_path", "worker.reward.reward_function"):
        if not value[key]:
            raise BadInput(f"{source}: {key} is empty; it is needed.")


def check_keys(flat: Mapping[str, Any], source: str) -> None:
    """Every key is known and its value of the right kind."""
    table = key_table()
    for key, value in flat.items():
        if key not in table:
            close = difflib.get_close_matches(key, table, n=1, cutoff=0.4)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise BadInput(f"{source}: EasyR1 knows no key {key}{hint}.")
        if not _fits(value, table[key]["type"]):
            raise BadInput(f"{source}: {key} is {value!r}; EasyR1 wants {table[key]['type']}.")


def _fits(value: Any, kind: str) -> bool:
    if kind.endswith(" or null"):
        return value is None or _fits(value, kind.removesuffix(" or null"))
    if kind.startswith("list of "):
        return isinstance(value, list | tuple) and all(_fits(v, kind.removeprefix("list of ")) for v in value)
    if kind == "float":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, {"bool": bool, "str": str, "mapping": Mapping}[kind])


def check_batches(value: Mapping[str, Any], source: str) -> None:
    """The rules by which batches, groups and GPUs must divide; `value` holds every key."""
    rollouts, group = value["data.rollout_batch_size"], value["worker.rollout.n"]
    actor, gpus = value["worker.actor.global_batch_size"], value["trainer.nnodes"] * value["trainer.n_gpus_per_node"]
    update = value["worker.actor.micro_batch_size_per_device_for_update"]
    experience = value["worker.actor.micro_batch_size_per_device_for_experience"]
    tensor, sequence = value["worker.rollout.tensor_parallel_size"], value["worker.actor.ulysses_size"]
    tokens = value["data.max_prompt_length"] + value["data.max_response_length"]
    if value["algorithm.adv_estimator"] in ("grpo", "rloo") and group < 2:
        raise BadInput(f"{source}: worker.rollout.n is {group}; an advantage needs groups of two or more.")
    for what, number, by in (
        ("data.rollout_batch_size by worker.actor.global_batch_size", rollouts, actor),
        ("the GPUs by worker.rollout.tensor_parallel_size", gpus, tensor),
        ("the GPUs by worker.actor.ulysses_size", gpus, sequence),
        ("data.rollout_batch_size x rollout.n by micro_batch_size_per_device_for_experience", rollouts * group, experience),
        ("data.rollout_batch_size by the GPUs", rollouts, gpus),
    ):
        if by < 1 or number % by:
            raise BadInput(f"{source}: {what} must divide, and {number} does not by {by}.")
    ranks = gpus // sequence
    if (actor * group) % ranks or (actor * group // ranks) % update or actor * group < ranks:
        raise BadInput(
            f"{source}: worker.actor.global_batch_size x rollout.n ({actor} x {group}) must divide by {ranks} ranks, and "
            f"each share by micro_batch_size_per_device_for_update ({update})."
        )
    if value["worker.rollout.max_num_batched_tokens"] < tokens:
        raise BadInput(
            f"{source}: worker.rollout.max_num_batched_tokens is {value['worker.rollout.max_num_batched_tokens']}, less than "
            f"max_prompt_length + max_response_length ({tokens})."
        )
    mini = value["data.mini_rollout_batch_size"]
    if mini is not None and rollouts % mini:
        raise BadInput(f"{source}: data.rollout_batch_size must divide by data.mini_rollout_batch_size ({mini}).")
    if value["worker.actor.fsdp.enable_cpu_offload"] and actor * group // ranks != update:
        raise BadInput(f"{source}: worker.actor.fsdp.enable_cpu_offload needs one update batch a step; turn it off.")
