"""Training: it learns, it is the same twice, it resumes after a kill, and its folder loads as a tracker."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from workflow_scripts import images, manifest, sequences
from workflow_scripts.console import BadInput
from workflow_scripts.params.track import Train
from workflow_scripts.track import load_tracker, runner, sampler, train

TINY = Train(steps=12, batch=4, learning_rate=2e-3, warm_up=2, checkpoint_every=3, alignment=1.0)


def command(index, output, recipe=TINY, *more):
    flags = ["--index", str(index), "--parameters", recipe.model_dump_json(), "--output", str(output), *more]
    return [sys.executable, "-m", "workflow_scripts.track.train", *flags]


def losses_of(folder):
    return [line.split(",") for line in (folder / "loss.csv").read_text().splitlines()[1:]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Index and folder of a network trained for a few steps, by the command."""
    from conftest import COLOURS, draw_sequence

    folder = tmp_path_factory.mktemp("trained")
    drawn = [
        draw_sequence(folder / "set", f"{split}_{n}", 10, list(COLOURS)[n], split, seed=n)
        for split in ("train", "test")
        for n in range(3)
    ]
    sequences.write_index(folder / "tiny.npz", drawn, folder / "set", "tiny")
    more = ["--manifest", str(folder / "weights.json")]
    subprocess.run(command(folder / "tiny.npz", folder / "weights", TINY, *more), check=True, capture_output=True)
    return folder / "tiny.npz", folder / "weights"


def test_a_few_steps_lower_the_loss(trained):
    values = [float(row[2]) for row in losses_of(trained[1])]
    assert len(values) == TINY.steps
    assert np.mean(values[-3:]) < 0.7 * values[0]


def test_the_folder_loads_as_a_tracker_and_its_manifest_holds(trained):
    index, weights = trained
    manifest.verify(weights.with_suffix(".json"))
    tracker = load_tracker("dutrack", weights=weights)
    sequence = sequences.read_index(index, split="test")[0]
    frames = [images.read_rgb(f) for f in sequence.frames[:3]]
    states = tracker.start(frames[:1], [sequence.boxes[0]], [sequence.sentence])
    for frame in frames[1:]:
        states, outputs = tracker.step(states, [frame])
    assert np.isfinite(outputs[0].box).all()


def test_boxes_do_not_depend_on_which_sequences_run_together(trained, tmp_path):
    index, weights = trained
    tracker = load_tracker("dutrack", weights=weights, rows=3)
    chosen = sequences.read_index(index)
    for name, together in (("all", chosen), ("some", chosen[1::2][::-1])):
        assert runner.run_sequences(tracker, together, tmp_path / name, batch=3) == {}
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
    done = subprocess.run(command(index, output), check=True, capture_output=True, text=True)
    assert "resuming after step" in done.stdout and not checkpoint.exists()
    assert (output / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    assert (output / "loss.csv").read_bytes() == (whole / "loss.csv").read_bytes()


def test_another_recipe_does_not_resume(tmp_path):
    network, _ = train.build_network(TINY, ["the red square"])
    optimiser = train.make_optimiser(network, TINY)
    train.Checkpoint(tmp_path / "w", {"steps": 1}).save(network, optimiser, [(0.0,) * 7])
    assert train.Checkpoint(tmp_path / "w", {"steps": 2}).load(network, optimiser) == []
    assert len(train.Checkpoint(tmp_path / "w", {"steps": 1}).load(network, optimiser)) == 1


def test_a_damaged_checkpoint_is_named(tmp_path):
    network, _ = train.build_network(TINY, ["the red square"])
    checkpoint = train.Checkpoint(tmp_path / "w", {})
    checkpoint.path.write_bytes(b"half a file")
    with pytest.raises(BadInput, match=r"\.w\.unfinished\.pt cannot be read"):
        checkpoint.load(network, train.make_optimiser(network, TINY))


def test_the_rate_warms_up_and_falls_by_the_schedule():
    cosine = Train(steps=100, warm_up=10, learning_rate=1.0)
    rates = [train.learning_rate(s, cosine) for s in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == pytest.approx(1.0) and rates[99] < 1e-3
    assert rates[9:] == sorted(rates[9:], reverse=True)
    step = Train(steps=100, warm_up=0, learning_rate=1.0, schedule="step", drop_at=0.8)
    assert [train.learning_rate(s, step) for s in (0, 79, 80, 99)] == [1.0, 1.0, 0.1, 0.1]


def test_only_the_head_learns_at_the_full_rate_and_only_matrices_decay():
    network, _ = train.build_network(TINY, ["the red square"])
    optimiser = train.make_optimiser(network, TINY.model_copy(update={"backbone_rate": 0.1}))
    by_id = {id(p): g for g in optimiser.param_groups for p in g["params"]}
    assert len(by_id) == len(list(network.parameters()))
    for name, parameter in network.named_parameters():
        group = by_id[id(parameter)]
        assert group["factor"] == (1.0 if name.startswith("box_head.") else 0.1)
        assert (group["weight_decay"] > 0) == (parameter.ndim > 1)


def test_gradients_reach_every_parameter(draw):
    chosen = [draw(c, colour=c) for c in ("red", "blue")]
    network, tokenise = train.build_network(TINY, [s.sentence for s in chosen])
    shape = sampler.Shape(network.config.search_size, 4.0, network.config.template_size, 2.0)
    batch = sampler.draw_batch(chosen, sampler.Frames(chosen, True), shape, TINY.sampling, TINY.augment, 4, 0, 0)
    network.train()
    loss, parts = train.batch_loss(network, batch, tokenise, TINY)
    loss.backward()
    silent = [n for n, p in network.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert silent == [] and len(parts) == 4


def test_an_unknown_network_and_a_split_without_truth_are_refused(draw):
    with pytest.raises(BadInput, match="dutrack_small"):
        train.build_network(TINY.model_copy(update={"network": "dutrack_smal"}), [])
    with pytest.raises(BadInput, match="training split that has ground truth"):
        sampler.usable([])
