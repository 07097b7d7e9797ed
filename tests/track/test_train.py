"""Training: it learns, alone or shared by processes, it resumes after a kill, and its folder loads as a tracker."""

import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from workflow_scripts import images, manifest, sequences
from workflow_scripts.console import BadInput
from workflow_scripts.params.track import Sampling, Train
from workflow_scripts.track import initial, load_tracker, runner, sampler, train
from workflow_scripts.track.learners import learner_of
from workflow_scripts.track.networks import seqtrack

TINY = Train(steps=12, batch=4, learning_rate=2e-3, warm_up=2, checkpoint_every=3, alignment=1.0)
WORDS = Train(
    network="seqtrack_small", frozen=["encoder.body.patch_embed"], steps=4, batch=4, warm_up=2, checkpoint_every=3, soften=1.5
)


def command(index, output, recipe=TINY, *more, processes=1):
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"] if processes > 1 else []
    flags = ["--index", str(index), "--parameters", recipe.model_dump_json(), "--output", str(output), *more]
    return [sys.executable, "-m", *launcher, "workflow_scripts.track.train", *flags]


def run(*arguments, **options):
    return subprocess.run(command(*arguments, **options), check=True, capture_output=True, text=True)


def losses_of(folder):
    with open(folder / "loss.csv", newline="") as handle:
        return np.array([float(row["loss"]) for row in csv.DictReader(handle)])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Index and folder of a DUTrack trained for a few steps, by the command."""
    from conftest import COLOURS, draw_sequence

    folder = tmp_path_factory.mktemp("trained")
    drawn = [
        draw_sequence(folder / "set", f"{split}_{n}", 10, list(COLOURS)[n], split, seed=n)
        for split in ("train", "test")
        for n in range(3)
    ]
    sequences.write_index(folder / "tiny.npz", drawn, folder / "set", "tiny")
    run(folder / "tiny.npz", folder / "weights", TINY, "--manifest", str(folder / "weights.json"))
    return folder / "tiny.npz", folder / "weights"


@pytest.fixture(scope="module")
def spelling(trained, tmp_path_factory):
    """Folder of a SeqTrack trained for a few steps from that DUTrack."""
    folder = tmp_path_factory.mktemp("spelling") / "weights"
    run(trained[0], folder, WORDS, "--initial", str(trained[1]))
    return folder


def source_of(drawn):
    return sampler.source_of([drawn], Sampling(), in_memory=True)


def batches_of(learner, source, p, steps):
    numbers = range(p.batch)
    return [sampler.draw_batch(source, learner.shape, p.sampling, p.augment, numbers, p.seed, s) for s in steps]


def test_a_few_steps_lower_the_loss(trained):
    values = losses_of(trained[1])
    assert len(values) == TINY.steps
    assert np.mean(values[-3:]) < 0.7 * values[0]


@pytest.mark.parametrize("name", ["dutrack", "seqtrack"])
def test_the_folder_loads_as_a_tracker(trained, spelling, name):
    index, weights = trained[0], {"dutrack": trained[1], "seqtrack": spelling}[name]
    tracker = load_tracker(name, weights=weights)
    sequence = sequences.read_index(index, split="test")[0]
    frames = [images.read_rgb(f) for f in sequence.frames[:3]]
    states = tracker.start(frames[:1], [sequence.boxes[0]], [sequence.sentence])
    for frame in frames[1:]:
        states, outputs = tracker.step(states, [frame])
    assert np.isfinite(outputs[0].box).all()


def test_the_manifest_holds(trained):
    manifest.verify(trained[1].with_suffix(".json"))


@pytest.mark.parametrize("name", ["dutrack", "seqtrack"])
def test_boxes_do_not_depend_on_which_sequences_run_together(trained, spelling, tmp_path, name):
    tracker = load_tracker(name, weights={"dutrack": trained[1], "seqtrack": spelling}[name], rows=3)
    chosen = sequences.read_index(trained[0])
    for folder, together in (("all", chosen), ("some", chosen[1::2][::-1])):
        assert runner.run_sequences(tracker, together, tmp_path / folder, batch=3) == {}
    for s in chosen[1::2]:
        assert (tmp_path / "some" / f"{s.name}.txt").read_bytes() == (tmp_path / "all" / f"{s.name}.txt").read_bytes()


def test_a_training_killed_on_the_way_resumes_and_ends_in_the_same_weights(trained, tmp_path):
    index, whole = trained
    output = tmp_path / "again"
    checkpoint = output.with_name(".again.unfinished.pt")
    killed = subprocess.Popen(command(index, output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not checkpoint.is_file() and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert checkpoint.is_file() and not output.exists()
    done = run(index, output)
    assert "resuming after step" in done.stdout and not checkpoint.exists()
    assert (output / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    assert (output / "loss.csv").read_bytes() == (whole / "loss.csv").read_bytes()


def test_dropout_of_a_step_is_the_same_after_a_kill(draw, tmp_path, monkeypatch):
    monkeypatch.setitem(seqtrack.CONFIGS, "seqtrack_small", replace(seqtrack.CONFIGS["seqtrack_small"], dropout=0.3))
    source = source_of([draw("red"), draw("blue", colour="blue")])

    class Killed(Exception):
        """In the middle of a training."""

    def go_on(checkpoint, stop):
        """Weights at the end of what a checkpoint begins; killed after `stop` steps."""
        learner = learner_of(WORDS, [])
        optimiser = train.make_optimiser(learner, WORDS)
        rows = checkpoint.load(learner.network, optimiser)
        batches = batches_of(learner, source, WORDS, range(len(rows), WORDS.steps))

        def after_step(step, row):
            rows.append(row)
            if len(rows) == stop:
                checkpoint.save(learner.network, optimiser, rows)
                raise Killed

        train.train(learner, batches, WORDS, optimiser, first=len(rows), after_step=after_step)
        return learner.network.state_dict()

    whole = go_on(train.Checkpoint(tmp_path / "whole", {}), stop=None)
    with pytest.raises(Killed):
        go_on(train.Checkpoint(tmp_path / "killed", {}), stop=2)
    resumed = go_on(train.Checkpoint(tmp_path / "killed", {}), stop=None)
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_two_processes_share_a_batch_and_end_where_one_does(trained, spelling, tmp_path):
    index, dutrack = trained
    run(index, tmp_path / "two", WORDS, "--initial", str(dutrack), processes=2)
    assert losses_of(tmp_path / "two") == pytest.approx(losses_of(spelling), rel=1e-4)
    one, two = (load_file(folder / "weights.safetensors") for folder in (spelling, tmp_path / "two"))
    assert all(torch.allclose(one[k], two[k], atol=1e-4) for k in one)


def test_a_batch_that_cannot_be_shared_evenly_is_refused():
    assert [train.share(6, train.World(rank, 3)) for rank in range(3)] == [range(2), range(2, 4), range(4, 6)]
    with pytest.raises(BadInput, match="make it a multiple"):
        train.share(6, train.World(0, 4))


def test_another_recipe_does_not_resume(tmp_path):
    learner = learner_of(TINY, ["the red square"])
    optimiser = train.make_optimiser(learner, TINY)
    train.Checkpoint(tmp_path / "w", {"steps": 1}).save(learner.network, optimiser, [(0.0,) * 7])
    assert train.Checkpoint(tmp_path / "w", {"steps": 2}).load(learner.network, optimiser) == []
    assert len(train.Checkpoint(tmp_path / "w", {"steps": 1}).load(learner.network, optimiser)) == 1


def test_a_damaged_checkpoint_is_named(tmp_path):
    learner = learner_of(TINY, ["the red square"])
    checkpoint = train.Checkpoint(tmp_path / "w", {})
    checkpoint.path.write_bytes(b"half a file")
    with pytest.raises(BadInput, match=r"\.w\.unfinished\.pt cannot be read"):
        checkpoint.load(learner.network, train.make_optimiser(learner, TINY))


def test_the_rate_warms_up_and_falls_by_the_schedule():
    cosine = Train(steps=100, warm_up=10, learning_rate=1.0)
    rates = [train.learning_rate(s, cosine) for s in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == pytest.approx(1.0) and rates[99] < 1e-3
    assert rates[9:] == sorted(rates[9:], reverse=True)
    step = Train(steps=100, warm_up=0, learning_rate=1.0, schedule="step", drop_at=0.8)
    assert [train.learning_rate(s, step) for s in (0, 79, 80, 99)] == [1.0, 1.0, 0.1, 0.1]


@pytest.mark.parametrize(("recipe", "slow"), [(TINY, "backbone."), (WORDS, "encoder.")])
def test_what_was_trained_before_learns_at_a_lower_rate_and_only_matrices_decay(recipe, slow):
    learner = learner_of(recipe, ["the red square"])
    optimiser = train.make_optimiser(learner, recipe.model_copy(update={"backbone_rate": 0.1}))
    by_id = {id(p): g for g in optimiser.param_groups for p in g["params"]}
    for name, parameter in learner.network.named_parameters():
        assert (id(parameter) in by_id) == parameter.requires_grad
        if parameter.requires_grad:
            group = by_id[id(parameter)]
            assert group["factor"] == (0.1 if name.startswith(slow) else 1.0)
            assert (group["weight_decay"] > 0) == (parameter.ndim > 1)


@pytest.mark.parametrize("recipe", [TINY, WORDS], ids=["boxes", "words"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_gradients_reach_every_parameter_in_either_precision(draw, recipe, dtype):
    chosen = [draw(c, colour=c) for c in ("red", "blue")]
    learner = learner_of(recipe, [s.sentence for s in chosen]).train()
    batch = batches_of(learner, source_of(chosen), recipe, [0])[0]
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
        loss, parts = learner(batch)
    loss.backward()
    named = {n: p for n, p in learner.network.named_parameters() if p.requires_grad}
    assert [n for n, p in named.items() if p.grad is None or not torch.isfinite(p.grad).all()] == []
    assert len(parts) == len(learner.parts) and loss.dtype == torch.float32
    if dtype == "bf16":
        exact, _ = learner(batch)
        assert float(loss.detach()) == pytest.approx(float(exact.detach()), rel=0.05)


def test_frozen_parts_stay_as_they_start(trained, spelling):
    theirs, ours = (load_file(folder / "weights.safetensors") for folder in (trained[1], spelling))
    stem = [k for k in theirs if k.startswith("backbone.patch_embed.")]
    assert stem and all(torch.equal(theirs[k], ours[k.replace("backbone.", "encoder.body.")]) for k in stem)
    with pytest.raises(BadInput, match=r"no part encoder\.stem that could be frozen"):
        learner_of(WORDS.model_copy(update={"frozen": ["encoder.stem"]}), [])


def test_an_unknown_network_and_a_split_without_truth_are_refused():
    with pytest.raises(BadInput, match="dutrack_small"):
        learner_of(TINY.model_copy(update={"network": "dutrack_smal"}), [])
    with pytest.raises(BadInput, match="training split that has ground truth"):
        sampler.usable([])


def test_a_seqtrack_starts_from_a_dutracks_stem_and_trunk(trained, capsys):
    learner = learner_of(WORDS, [])
    fresh = learner.network.state_dict()
    before = {k: v.clone() for k, v in fresh.items()}
    initial.take(learner.network, trained[1])
    theirs, ours = load_file(trained[1] / "weights.safetensors"), learner.network.state_dict()
    changed = {k for k in ours if not torch.equal(ours[k], before[k])}
    assert changed and all(k.startswith("encoder.body.") for k in changed)
    assert torch.equal(ours["encoder.body.blocks.2.attn.qkv.weight"], theirs["backbone.blocks.2.qkv.weight"])
    assert torch.equal(ours["encoder.body.blocks.3.mlp.fc2.bias"], theirs["backbone.blocks.3.fc2.bias"])
    search = theirs["backbone.pos_embed_x"] + theirs["backbone.segment_embed"][3]
    assert torch.equal(ours["encoder.body.pos_embed"][:, :64], search)
    body = {k for k in ours if k.startswith("encoder.body.")}
    assert f"{len(body)} tensors taken" in capsys.readouterr().out


def test_a_seqtrack_starts_from_a_vit_whose_positions_are_resized(tmp_path, monkeypatch):
    tiny = seqtrack.SeqTrackConfig(image=32, template=32, dim=8, depth=1, heads=2, hidden=8, bins=10, feedforward=8)
    monkeypatch.setitem(seqtrack.CONFIGS, "seqtrack_small", tiny)
    learner = learner_of(WORDS, [])
    vit = {k.removeprefix("encoder.body."): v + 1 for k, v in learner.network.encoder.body.state_dict().items()}
    corners = torch.arange(9.0).view(3, 3)[::2, ::2].flatten()  # what a grid of 2 keeps of one of 3
    vit |= {"pos_embed": torch.arange(-1, 9.0).view(1, 10, 1).expand(-1, -1, 8).contiguous(), "cls_token": torch.zeros(1, 1, 8)}
    torch.save({"model": vit}, tmp_path / "vit.pth")
    initial.take(learner.network, tmp_path / "vit.pth")
    body = learner.network.encoder.body
    assert torch.equal(body.blocks[0].mlp.fc1.weight, vit["blocks.0.mlp.fc1.weight"])
    assert torch.allclose(body.pos_embed[0, :, 0], corners.repeat(2), atol=1e-5)
    with pytest.raises(BadInput, match="nothing that this network could start from"):
        torch.save({"model": {"head.weight": torch.zeros(2, 2)}}, tmp_path / "other.pth")
        initial.take(learner.network, tmp_path / "other.pth")
