"""Rank shards to one model: bit by bit what was sharded, and no file that does not belong."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from conftest import lay_out
from safetensors.torch import load_file, save_file

from workflow_scripts import files
from workflow_scripts.console import BadInput
from workflow_scripts.grpo import checkpoints, merge, shards, streamed
from workflow_scripts.params.grpo import Merge

QWEN = "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl"


def merged(root: Path, output: Path, **parameters) -> dict[str, torch.Tensor]:
    """Merge the last step as the command does; the tensors by name."""
    step = checkpoints.select(root)
    checkpoints.check_seal(step)
    merge.merge(step, output, Merge(**parameters))
    tensors: dict[str, torch.Tensor] = {}
    for path in sorted(output.glob("*.safetensors")):
        tensors |= load_file(path)
    return tensors


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def shard(run: Path, rank: int) -> Path:
    return run / "global_step_3" / "actor" / checkpoints.shard_name(2, rank)


def reseal(run: Path) -> None:
    """As if the spoilt files had been saved like that: the seal agrees, the content must be judged."""
    checkpoints.seal(run / "global_step_3" / "actor")


def change(path: Path, edit) -> None:
    """Save a rank file again after `edit(state)`."""
    state = torch.load(path, weights_only=True)
    edit(state)
    torch.save(state, path)


def refused(run: Path, tmp_path: Path, match: str) -> None:
    with pytest.raises(BadInput, match=match):
        merged(run, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    assert not list(tmp_path.glob(".model*"))


def test_two_ranks_merge_bit_equal_to_the_unsharded_weights(two_ranks, tiny, tmp_path):
    assert same(merged(two_ranks, tmp_path / "model"), load_file(tiny / "model.safetensors"))


def test_what_a_killed_writer_of_shards_left_is_gone_once_they_are_written_again(tmp_path):
    actor = tmp_path / "actor"
    (actor / ".shards.abc.tmp").mkdir(parents=True)
    (actor / ".shards.abc.tmp" / "state.pt").write_bytes(b"half")
    shards.write({"weight": torch.arange(4.0)}, actor, 2)
    assert sorted(p.name for p in actor.iterdir()) == [checkpoints.shard_name(2, rank) for rank in range(2)]


def test_the_merged_model_loads_whole_tied_and_with_its_generation_config(two_ranks, tmp_path):
    from workflow_scripts.grpo.check import from_folder

    merged(two_ranks, tmp_path / "model")
    model = from_folder(tmp_path / "model", "cpu")
    assert model.generation_config.temperature == 0.123
    config = files.read_json(tmp_path / "model" / "config.json")
    assert config["tie_word_embeddings"] is True
    assert config["use_cache"] is True
    assert config["architectures"] == ["Qwen2_5_VLForConditionalGeneration"]


def test_the_model_put_together_from_shards_has_the_merged_models_weights(two_ranks, tmp_path):
    from workflow_scripts.grpo.check import from_folder, from_shards

    merged(two_ranks, tmp_path / "model")
    a = from_shards(checkpoints.select(two_ranks), "keep", "cpu").state_dict()
    assert same(dict(a), dict(from_folder(tmp_path / "model", "cpu").state_dict()))


def test_small_files_get_an_index_and_hold_the_same(two_ranks, tiny, tmp_path):
    folder = tmp_path / "model"
    step = checkpoints.select(two_ranks)
    merge.merge(step, folder, Merge.model_construct(step="last", dtype="bfloat16", largest_file=20_000))
    index = files.read_json(folder / "model.safetensors.index.json")["weight_map"]
    whole = load_file(tiny / "model.safetensors")
    assert len(set(index.values())) > 2
    assert index.keys() == whole.keys()
    for name, file in index.items():
        assert torch.equal(load_file(folder / file)[name], whole[name].bfloat16())
    assert files.read_json(folder / "config.json").get("dtype", "bfloat16") == "bfloat16"


def test_plain_tensors_merge_whether_cut_or_copied(tiny, tmp_path):
    def write(actor: Path, state: dict) -> None:
        for rank in range(2):
            part = {n: t.chunk(2)[rank].clone() if t.shape[0] % 2 == 0 else t.clone() for n, t in state.items()}
            torch.save(part, actor / checkpoints.shard_name(2, rank))

    lay_out(tmp_path / "run", tiny, write)
    assert same(merged(tmp_path / "run", tmp_path / "model"), load_file(tiny / "model.safetensors"))


def fsdp_rank(rank: int, shape: tuple[int, ...], source: str, folders: tuple[str, str], meeting: str) -> None:
    """One of the processes that wrap the model as EasyR1's workers do: cut over all ranks, or copied and cut (HSDP).

    Its part of the model goes into the first folder, with an adapter into the second (if that is named).
    """
    import torch.distributed as group
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy
    from transformers import AutoModelForImageTextToText

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    world = math.prod(shape)
    group.init_process_group("gloo", store=group.FileStore(meeting, world), rank=rank, world_size=world)
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=("ddp", "fsdp")[-len(shape) :])
    strategy = ShardingStrategy.HYBRID_SHARD if len(shape) == 2 else ShardingStrategy.FULL_SHARD
    for folder, adapted in zip(folders, (False, True), strict=True):
        if folder:
            model = AutoModelForImageTextToText.from_pretrained(source, dtype=torch.float32)
            wrapped = FullyShardedDataParallel(
                adapt(model) if adapted else model,
                device_mesh=mesh,
                sharding_strategy=strategy,
                use_orig_params=adapted,
                device_id=torch.device("cpu"),
            )
            state = get_model_state_dict(wrapped, options=StateDictOptions(cpu_offload=True))
            torch.save(state, Path(folder) / checkpoints.shard_name(world, rank))
    group.barrier()
    group.destroy_process_group()


def adapt(model: torch.nn.Module) -> torch.nn.Module:
    """The model with the adapter of EasyR1's settings, filled with numbers."""
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=7, target_modules="all-linear"))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0.0, 0.3, generator=generator)
    return model


def shard_by_fsdp(model: Path, shape: tuple[int, ...], scratch: Path, *roots: Path) -> None:
    """Checkpoints of `model` that FSDP has cut over a mesh of `shape`: at the first root, and with an adapter at a second."""
    actors = [lay_out(root, model, lambda actor, state: None, sealed=False) for root in roots]
    folders = (*map(str, actors), "")[:2]
    arguments = (shape, str(model), folders, str(scratch / "meeting"))
    # forked from a process that has the imports behind it
    multiprocessing.set_forkserver_preload(["torch.distributed.fsdp", "peft", QWEN])
    torch.multiprocessing.start_processes(fsdp_rank, arguments, nprocs=math.prod(shape), start_method="forkserver")
    for root in roots:
        checkpoints.seal_all(root)


@pytest.fixture(scope="session")
def fsdp(tiny, tmp_path_factory) -> tuple[Path, Path]:
    """Checkpoints by two ranks: of `tiny`, and of `tiny` with an adapter, laid out as EasyR1 does."""
    from transformers import AutoModelForImageTextToText

    scratch = tmp_path_factory.mktemp("fsdp")
    roots = scratch / "plain", scratch / "adapted"
    shard_by_fsdp(tiny, (2,), scratch, *roots)
    model = adapt(AutoModelForImageTextToText.from_pretrained(tiny, dtype=torch.float32))
    model.save_pretrained(roots[1] / "global_step_3" / "actor" / "lora_adapter")
    return roots


@pytest.fixture(scope="session")
def meshed(tiny, tmp_path_factory) -> Path:
    """A checkpoint of `tiny` by four ranks: two copies, each cut in two."""
    scratch = tmp_path_factory.mktemp("hsdp")
    shard_by_fsdp(tiny, (2, 2), scratch, scratch / "checkpoints")
    return scratch / "checkpoints"


def test_real_fsdp_shards_of_two_ranks_merge_bit_equal(fsdp, tiny, tmp_path):
    state = torch.load(shard(fsdp[0], 1), weights_only=True)
    assert all(type(tensor).__name__ == "DTensor" for tensor in state.values())
    assert same(merged(fsdp[0], tmp_path / "model"), load_file(tiny / "model.safetensors"))


def test_real_hsdp_shards_of_two_by_two_ranks_merge_bit_equal(meshed, tiny, tmp_path):
    assert same(merged(meshed, tmp_path / "model"), load_file(tiny / "model.safetensors"))


def test_an_adapter_is_added_as_peft_would_add_it(fsdp, tiny, tmp_path):
    from transformers import AutoModelForImageTextToText

    model = adapt(AutoModelForImageTextToText.from_pretrained(tiny, dtype=torch.float32)).merge_and_unload()
    model.save_pretrained(tmp_path / "peft")
    found, wanted = merged(fsdp[1], tmp_path / "model"), load_file(tmp_path / "peft" / "model.safetensors")
    assert same(found, wanted)
    assert not same(found, load_file(tiny / "model.safetensors"))


def test_the_written_file_is_the_one_that_safetensors_writes(two_ranks, tmp_path):
    tensors = merged(two_ranks, tmp_path / "model")
    save_file(tensors, tmp_path / "whole.safetensors", metadata={"format": "pt"})
    assert files.sha256(tmp_path / "model" / "model.safetensors") == files.sha256(tmp_path / "whole.safetensors")
    mixed = {"b": torch.arange(3), "a": torch.ones(2, 2).half(), "c": torch.tensor(1.5)}
    entries = streamed.in_order(streamed.Entry(name, t.dtype, tuple(t.shape)) for name, t in mixed.items())
    streamed.write(tmp_path / "mixed.safetensors", entries, (mixed[entry.name] for entry in entries))
    assert same(load_file(tmp_path / "mixed.safetensors"), mixed)


# ---------------------------------------------------------------- what is refused


def swap(run: Path) -> None:
    a, b, aside = shard(run, 0), shard(run, 1), run / "aside"
    a.rename(aside)
    b.rename(a)
    aside.rename(b)


def cut(run: Path, rank: int, kept: float) -> None:
    os.truncate(shard(run, rank), int(shard(run, rank).stat().st_size * kept))


def flip_a_bit(run: Path) -> None:
    content = bytearray(shard(run, 1).read_bytes())
    content[len(content) // 2] ^= 1
    shard(run, 1).write_bytes(content)


def reshape(state: dict) -> None:
    local = state["model.language_model.norm.weight"]._local_tensor
    state["model.language_model.norm.weight"]._local_tensor = local[:-1].clone()


def unshard(state: dict) -> None:
    state["model.language_model.norm.weight"] = state["model.language_model.norm.weight"]._local_tensor


def halve(state: dict) -> None:
    name = "model.language_model.norm.weight"
    state[name] = state[name].bfloat16()


def config_of(run: Path) -> Path:
    return run / "global_step_3" / "actor" / "huggingface" / "config.json"


def of_another_model(run: Path) -> None:
    config = files.read_json(config_of(run))
    for part in (config, config.get("text_config", config)):
        if "vocab_size" in part:
            part["vocab_size"] = 101
    files.write_json(config_of(run), config)


def without(run: Path, *ranks: int) -> None:
    for rank in ranks:
        change(shard(run, rank), lambda state: state.pop("model.visual.merger.ln_q.weight"))


class Trap:
    """What a pickle can hold: something that is called when it is loaded."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self):
        return (Path.touch, (self.place,))


# what somebody or something did to a step; the file that must be named; what is said of it where the seal agrees
CORRUPTIONS = {
    "first rank missing": (lambda run: shard(run, 0).unlink(), "rank_0.pt", "is missing"),
    "last rank missing": (lambda run: shard(run, 1).unlink(), "rank_1.pt", "is missing"),
    "a folder in a shard's place": (lambda run: (shard(run, 1).unlink(), shard(run, 1).mkdir()), "rank_1.pt", "is missing"),
    "empty": (lambda run: cut(run, 0, 0.0), "rank_0.pt", "cannot be loaded"),
    "cut to its first pages": (lambda run: cut(run, 1, 0.3), "rank_1.pt", "cannot be loaded"),
    "cut near its end": (lambda run: cut(run, 0, 0.999), "rank_0.pt", "cannot be loaded"),
    "an error page": (lambda run: shard(run, 1).write_text("<html>404</html>"), "rank_1.pt", "cannot be loaded"),
    "a program": (lambda run: torch.save({"w": Trap(run / "ran")}, shard(run, 1)), "rank_1.pt", "cannot be loaded"),
    "an optimiser's file": (
        lambda run: torch.save({"state": {0: {"step": 1}}, "param_groups": []}, shard(run, 1)),
        "rank_1.pt",
        "is not a state dict of tensors",
    ),
    "exchanged": (swap, "rank_0.pt", "was written by another rank"),
    "twice the same": (lambda run: shutil.copyfile(shard(run, 0), shard(run, 1)), "rank_1.pt", "was written by another rank"),
    "a tensor lost in one rank": (lambda run: without(run, 1), "rank_1.pt", "do not hold the same tensors"),
    "a tensor lost in all": (lambda run: without(run, 0, 1), "actor", "ln_q.weight of Qwen2_5_VL.* is in no shard"),
    "a tensor too many": (
        lambda run: [change(shard(run, r), lambda state: state.update(value_head=state["lm_head.weight"])) for r in (0, 1)],
        "actor",
        "tensor value_head does not belong",
    ),
    "a part too short": (lambda run: change(shard(run, 1), reshape), "actor", r"norm.weight make \(31,\) instead of \(32,\)"),
    "a part of another type": (lambda run: change(shard(run, 1), halve), "rank_1.pt", "is torch.bfloat16"),
    "a part without its place": (lambda run: change(shard(run, 1), unshard), "rank_1.pt", "is not sharded as in"),
    "a head that is not tied": (
        lambda run: change(shard(run, 0), lambda state: state["lm_head.weight"]._local_tensor.add_(1)),
        "actor",
        "lm_head.weight differs from model.language_model.embed_tokens.weight",
    ),
    "another model's config": (of_another_model, "actor", r"is \(99, 32\), huggingface/config.json wants \(101, 32\)"),
    "no config": (lambda run: config_of(run).unlink(), "config.json", "is missing"),
    "a file of a run with four ranks": (
        lambda run: shutil.copyfile(shard(run, 0), shard(run, 0).with_name(checkpoints.shard_name(4, 0))),
        "actor",
        "runs with 2 and 4 ranks",
    ),
    "a rank too many": (
        lambda run: shutil.copyfile(shard(run, 0), shard(run, 0).with_name(checkpoints.shard_name(2, 2))),
        "rank_2.pt",
        "belongs to no rank",
    ),
    "a half-copied file beside them": (
        lambda run: shutil.copyfile(shard(run, 0), shard(run, 0).with_name("model_world_size_2_rank_1.pt.part")),
        "rank_1.pt.part",
        "is not a rank file",
    ),
    "an adapter of another run": (
        lambda run: (run / "global_step_3" / "actor" / "lora_adapter").mkdir(),
        "lora_adapter",
        "no shard holds LoRA weights",
    ),
}


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_a_corrupted_step_is_refused_and_its_file_named_even_where_the_seal_agrees(run, tmp_path, corruption):
    corrupt, named, said = CORRUPTIONS[corruption]
    corrupt(run)
    with contextlib.suppress(BadInput):  # of what cannot even be sealed
        reseal(run)
    refused(run, tmp_path, f"{re.escape(named)}.*{said}")
    assert not (run / "ran").exists()


@pytest.mark.parametrize(
    "corrupt",
    [flip_a_bit, lambda run: change(shard(run, 1), lambda state: next(iter(state.values()))._local_tensor.add_(1))],
    ids=["a bit flipped", "a shard of another step"],
)
def test_what_only_the_seal_can_know_is_refused_by_it(run, tmp_path, corrupt):
    corrupt(run)
    refused(run, tmp_path, "rank_1.pt is not the file that was saved")


def test_shards_of_four_ranks_under_the_names_of_two_are_refused(meshed, tmp_path):
    run = Path(shutil.copytree(meshed, tmp_path / "checkpoints"))
    actor = run / "global_step_3" / "actor"
    for rank in range(4):
        path = actor / checkpoints.shard_name(4, rank)
        path.rename(actor / checkpoints.shard_name(2, rank)) if rank < 2 else path.unlink()
    reseal(run)
    refused(run, tmp_path, r"rank_0\.pt: tensor .* was split over 4 ranks, 2 files are here")


def test_copies_that_differ_are_refused(meshed, tmp_path):
    def spoil(state: dict) -> None:
        state["model.language_model.norm.weight"]._local_tensor[0] += 1

    run = Path(shutil.copytree(meshed, tmp_path / "checkpoints"))
    change(run / "global_step_3" / "actor" / checkpoints.shard_name(4, 2), spoil)
    reseal(run)
    refused(run, tmp_path, r"copies of tensor model\.language_model\.norm\.weight differ")


def other_numbers(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(path).items()}, path)


@pytest.mark.parametrize(
    ("corrupt", "match"),
    [
        (lambda folder: shutil.rmtree(folder), "adapter_config.json does not exist"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "adapter_model.safetensors cannot be read"),
        (lambda folder: os.truncate(folder / "adapter_model.safetensors", 99), "adapter_model.safetensors cannot be read"),
        (other_numbers, "adapter_model.safetensors: .* is not that of the shards"),
        (
            lambda folder: files.write_json(
                folder / "adapter_config.json", files.read_json(folder / "adapter_config.json") | {"use_dora": True}
            ),
            r"adapter_config.json describes an adapter that is not plain LoRA \(use_dora\)",
        ),
    ],
    ids=["no folder", "no weights", "weights cut", "of another step", "another kind"],
)
def test_an_adapter_that_is_not_the_shards_own_is_refused(fsdp, tmp_path, corrupt, match):
    run = Path(shutil.copytree(fsdp[1], tmp_path / "checkpoints"))
    corrupt(run / "global_step_3" / "actor" / "lora_adapter")
    refused(run, tmp_path, match)


def test_a_run_that_was_never_judged_complete_is_refused(run, tmp_path):
    (run / "global_step_3" / "actor" / checkpoints.SEAL).unlink()
    refused(run, tmp_path, "train to the end, or merge with --unsealed")


def test_a_step_that_the_tracker_has_not_reached_does_not_count(run, tmp_path):
    files.write_json(run / checkpoints.TRACKER, {"last_global_step": 2, "best_global_step": 9})
    refused(run, tmp_path, "global_step_2.*was not saved whole")
    with pytest.raises(BadInput, match="names step 9, later than its last one"):
        checkpoints.select(run, "best")


def test_a_folder_without_tokenizer_is_refused(run, tmp_path):
    (run / "global_step_3" / "actor" / "huggingface" / "tokenizer_config.json").unlink()
    refused(run, tmp_path, "tokenizer_config.json is missing")


def test_a_failed_merge_leaves_the_earlier_model_alone(run, tmp_path):
    merged(run, tmp_path / "model")
    before = files.sha256(tmp_path / "model" / "model.safetensors")
    shard(run, 1).unlink()
    with pytest.raises(BadInput):
        merged(run, tmp_path / "model")
    assert files.sha256(tmp_path / "model" / "model.safetensors") == before
