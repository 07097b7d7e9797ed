"""Rank shards to one model: bit by bit what was sharded, and no file that does not belong."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from conftest import lay_out
from safetensors.torch import load_file

from workflow_scripts import files
from workflow_scripts.console import BadInput
from workflow_scripts.grpo import checkpoints, merge
from workflow_scripts.params.grpo import Merge


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


def hybrid_rank(rank: int, actor: str, state_file: str, meeting: str) -> None:
    """One of four processes: replicated over two groups, sharded within each (HSDP)."""
    import torch.distributed as group
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    group.init_process_group("gloo", store=group.FileStore(meeting, 4), rank=rank, world_size=4)
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("ddp", "fsdp"))
    state = torch.load(state_file, weights_only=True)
    parts = {name: distribute_tensor(tensor, mesh, [Replicate(), Shard(0)]) for name, tensor in state.items()}
    torch.save(parts, Path(actor) / checkpoints.shard_name(4, rank))
    group.barrier()
    group.destroy_process_group()


def test_a_mesh_of_copies_and_shards_merges_bit_equal(tiny, tmp_path):
    def write(actor: Path, state: dict) -> None:
        torch.save(state, tmp_path / "state.pt")
        arguments = (str(actor), str(tmp_path / "state.pt"), str(tmp_path / "meeting"))
        torch.multiprocessing.spawn(hybrid_rank, arguments, nprocs=4)

    actor = lay_out(tmp_path / "run", tiny, write)
    assert same(merged(tmp_path / "run", tmp_path / "model"), load_file(tiny / "model.safetensors"))

    def spoil(state: dict) -> None:
        state["model.language_model.norm.weight"]._local_tensor[0] += 1

    change(actor / checkpoints.shard_name(4, 2), spoil)
    checkpoints.seal(actor)
    with pytest.raises(BadInput, match=r"copies of tensor model\.language_model\.norm\.weight differ"):
        merged(tmp_path / "run", tmp_path / "again")


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("rank", [0, 1])
def test_a_missing_shard_is_refused_and_named(run, tmp_path, rank):
    shard(run, rank).unlink()
    refused(run, tmp_path, f"rank_{rank}.pt is missing")


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_shard_is_refused_and_named(run, tmp_path, rank, kept):
    path = shard(run, rank)
    os.truncate(path, int(path.stat().st_size * kept))
    refused(run, tmp_path, f"rank_{rank}.pt is not the file that was saved")
    reseal(run)
    refused(run, tmp_path, f"rank_{rank}.pt cannot be loaded")


def test_exchanged_shards_are_refused_even_where_nothing_was_sealed(run, tmp_path):
    a, b, aside = shard(run, 0), shard(run, 1), tmp_path / "aside"
    a.rename(aside)
    b.rename(a)
    aside.rename(b)
    refused(run, tmp_path, "rank_0.pt is not the file that was saved")
    reseal(run)
    refused(run, tmp_path, "rank_0.pt was written by another rank")


def test_the_same_shard_twice_is_refused(run, tmp_path):
    shutil.copyfile(shard(run, 0), shard(run, 1))
    reseal(run)
    refused(run, tmp_path, "rank_1.pt was written by another rank")


def test_a_shard_of_another_step_is_refused(run, tmp_path):
    change(shard(run, 1), lambda state: next(iter(state.values()))._local_tensor.add_(1))
    refused(run, tmp_path, "rank_1.pt is not the file that was saved")


def test_a_shard_of_another_model_is_refused(run, tmp_path):
    change(shard(run, 1), lambda state: state.pop("model.visual.merger.ln_q.weight"))
    reseal(run)
    refused(run, tmp_path, r"rank_1.pt and .*rank_0.pt do not hold the same tensors \(e.g. model.visual.merger.ln_q.weight")


def test_shards_that_do_not_fit_the_config_are_refused(run, tmp_path):
    for rank in (0, 1):
        change(shard(run, rank), lambda state: state.pop("model.visual.merger.ln_q.weight"))
    reseal(run)
    refused(run, tmp_path, "tensor model.visual.merger.ln_q.weight of Qwen2_5_VL.* is in no shard")
    config = run / "global_step_3" / "actor" / "huggingface" / "config.json"
    assert config.is_file()


def test_a_surplus_tensor_is_refused(run, tmp_path):
    for rank in (0, 1):
        change(shard(run, rank), lambda state: state.update(value_head=state["lm_head.weight"]))
    reseal(run)
    refused(run, tmp_path, "tensor value_head does not belong")


def test_a_shape_that_the_config_does_not_know_is_refused(run, tmp_path):
    path = run / "global_step_3" / "actor" / "huggingface" / "config.json"
    config = files.read_json(path)
    text = config.get("text_config", config)
    for part in (config, text):
        if "vocab_size" in part:
            part["vocab_size"] = 101
    files.write_json(path, config)
    refused(run, tmp_path, r"is \(99, 32\), huggingface/config.json wants \(101, 32\)")


def test_a_head_that_is_not_tied_is_refused(run, tmp_path):
    change(shard(run, 0), lambda state: state["lm_head.weight"]._local_tensor.add_(1))
    reseal(run)
    refused(run, tmp_path, "lm_head.weight differs from model.language_model.embed_tokens.weight")


def test_files_of_a_run_with_other_ranks_are_refused(run, tmp_path):
    shutil.copyfile(shard(run, 0), shard(run, 0).with_name(checkpoints.shard_name(4, 0)))
    refused(run, tmp_path, "runs with 2 and 4 ranks")


def test_a_file_that_is_not_tensors_is_refused_without_running_it(run, tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"weight": Trap()}, shard(run, 1))
    reseal(run)
    refused(run, tmp_path, "rank_1.pt cannot be loaded")
    assert not (tmp_path / "ran").exists()


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
