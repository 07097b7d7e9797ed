"""SeqTrack gives the boxes of the authors' code, its savings change nothing, and a batch gives what each gets alone."""

import json
import math
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import recipe
import torch

from workflow_scripts.console import BadInput
from workflow_scripts.track import checkpoints, crops, load_tracker
from workflow_scripts.track.networks.seqtrack import CONFIGS, SeqTrack
from workflow_scripts.track.trackers.seqtrack import SeqTrackTracker, State, UpdateRule, update_rule

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = json.loads((Path(__file__).parent / "golden" / "seqtrack_b256.json").read_text())
# Of 19 and 8 recorded: about a second each on one core, two after an update. The others are taken as recorded.
FRAMES = {"lasot": (1, 2, 3, 4), "got10k_test": (1, 2, 3, 7, 8)}

pytestmark = pytest.mark.usefixtures("one_thread")  # as the recorded runs, and as fast beside other jobs


@pytest.fixture(scope="module")
def official() -> SeqTrack:
    network = SeqTrack(CONFIGS["seqtrack_b256"]).eval()
    assert recipe.fill(network, "seqtrack") == GOLDEN["weights_crc32"]  # every name and shape is the checkpoints'
    return network


@pytest.fixture(scope="module")
def small() -> SeqTrack:
    """The recipe's weights, with its two bumps over this network's fewer words."""
    network = SeqTrack(CONFIGS["seqtrack_small"]).eval()
    recipe.fill(network, "seqtrack")
    t = torch.arange(network.config.bins + 2) / (network.config.bins - 1)
    bumps = 4.4 * torch.exp(-(((t - 0.25) / 0.08) ** 2)) + 3.4 * torch.exp(-(((t - 0.5) / 0.08) ** 2))
    with torch.no_grad():
        network.vocab_embed.layers[2].bias.copy_(bumps)
    return network


def started(tracker: SeqTrackTracker, offsets: list[int]) -> list[State]:
    """States at frame `offset` of the synthetic sequence, which they take for their first."""
    frames, boxes = zip(*(recipe.render(i) for i in offsets), strict=True)
    return tracker.start(frames, [np.array(b) for b in boxes], [f"sequence {i}" for i in offsets])


def embedded(network: SeqTrack) -> list[torch.Tensor]:
    """Template 1, template 2 and search region as embedded tokens, from frames 0, 1, 2."""
    config, around = network.config, [20.0, 30.0, 48.0, 36.0]
    frames = [recipe.render(i)[0] for i in range(3)]
    shapes = [(config.template_factor, config.template)] * 2 + [(config.factor, config.image)]
    made = [crops.normalise(crops.crop(f, around, *shape)[0][None]) for f, shape in zip(frames, shapes, strict=True)]
    return [network.embed_template(made[0]), network.embed_template(made[1]), network.embed_search(made[2])]


def test_the_variants_have_the_published_names_and_numbers_of_parameters() -> None:
    counts = {}
    with torch.device("meta"):
        for name, config in CONFIGS.items():
            if not name.endswith(("_got", "_small")):
                state = SeqTrack(config).state_dict()
                counts[name] = len(state), sum(t.numel() for t in state.values())
    assert counts == {
        "seqtrack_b256": (200, 90596002),
        "seqtrack_b384": (200, 91169442),
        "seqtrack_l256": (344, 308244898),
        "seqtrack_l384": (344, 308982178),
    }


@torch.inference_mode()
def test_activations_of_the_first_frame_are_the_recorded_ones(official: SeqTrack) -> None:
    box = recipe.render(0)[1]
    images = [crops.normalise(crops.crop(recipe.render(i)[0], box, 4.0, 256)[0][None]) for i in (0, 1)]
    template, search = official.embed_template(images[0]), official.embed_search(images[1])
    patches = official.encoder.body.patch_embed(images[0])
    seen = {"input_template": images[0], "input_search": images[1], "patch_embed": patches}
    features = official.encode(search, (template, template), whole=True, observe=seen.__setitem__)
    seen["teacher_forced_logits"] = official.logits(features, torch.tensor([[4001, 1000, 2000, 900, 1100]]))[None]

    compared = set(GOLDEN["activations"]) - {"dec_layer0_step0", "dec_layer1_step0"}
    assert compared == set(seen)
    for name in compared:
        recorded, found = GOLDEN["activations"][name], recipe.statistics(seen[name])
        assert found["shape"] == recorded["shape"], name
        for figure in ("std", "l2", "absmax"):
            assert found[figure] == pytest.approx(recorded[figure], rel=1e-4), (name, figure)
        assert found["mean"] == pytest.approx(recorded["mean"], abs=1e-4 * recorded["std"]), name
        assert found["sample"] == pytest.approx(recorded["sample"], rel=1e-4, abs=1e-4), name

    folded = official.encode(search, (template,))
    assert (folded - features).abs().max() < 1e-5


@pytest.mark.parametrize("dataset", ["lasot", "got10k_test"])
def test_boxes_words_and_confidences_are_the_recorded_ones(official: SeqTrack, dataset: str) -> None:
    recorded = GOLDEN[dataset]
    rule = update_rule("seqtrack_b256", dataset)
    assert rule.interval == recorded["interval"]
    tracker = SeqTrackTracker(official, replace(rule, threshold=recorded["threshold"]))
    answers: list[tuple[torch.Tensor, torch.Tensor]] = []

    def decode(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        answers.append(official.decode(features))
        return answers[-1]

    tracker.decode = decode
    states = started(tracker, [0])
    for i, expected in enumerate(recorded["frames"][: FRAMES[dataset][-1]], start=1):
        frame, _ = recipe.render(i)
        if i not in FRAMES[dataset]:
            assert expected["updated"]
            box = np.array(expected["box"])
            states = [replace(states[0], frame=i, box=box, newest=tracker._template_tokens([frame], [box])[0])]
            continue
        assert zlib.crc32(crops.crop(frame, states[0].box, 4.0, 256)[0].tobytes()) == expected["crop"]
        before = states[0].newest
        states, outputs = tracker.step(states, [frame])
        words, probabilities = answers[-1]
        assert words[0].tolist() == expected["tokens"]
        assert probabilities[0].tolist() == pytest.approx(expected["probabilities"], abs=1e-5)
        assert outputs[0].confidence == pytest.approx(expected["confidence"], rel=1e-5)
        assert np.abs(outputs[0].box - expected["box"]).max() < 1e-2
        assert (states[0].newest is not before) == expected["updated"]


@torch.inference_mode()
def test_one_template_stands_for_two_equal_ones(small: SeqTrack) -> None:
    first, second, search = embedded(small)
    folded, twice = small.encode(search, (first,)), small.encode(search, (first, first))
    assert (folded - twice).abs().max() < 1e-5
    assert (folded - small.encode(search, (first, second))).abs().max() > 1e-2


@torch.inference_mode()
def test_the_pruned_last_block_gives_what_the_whole_one_gives(small: SeqTrack) -> None:
    first, second, search = embedded(small)
    for templates in ((first,), (first, second)):
        pruned, whole = small.encode(search, templates), small.encode(search, templates, whole=True)
        assert (pruned - whole).abs().max() < 1e-5


@torch.inference_mode()
def test_words_written_one_by_one_are_those_of_the_whole_sequence(small: SeqTrack) -> None:
    first, second, search = embedded(small)
    features = small.encode(search, (first, second))
    words, probabilities = small.decode(features)
    start = torch.tensor([[small.config.bins + 1]])
    whole = small.logits(features, torch.cat([start, words[:, :3]], dim=1)).softmax(dim=-1)[..., : small.config.bins].double()
    whole[:, :2] *= torch.from_numpy(np.hanning(small.config.bins))
    best, at = whole.max(dim=-1)
    assert at.tolist() == words.tolist()
    assert (best - probabilities).abs().max() < 1e-5


def test_a_batch_of_sequences_before_and_after_an_update_gives_what_each_gets_alone(small: SeqTrack) -> None:
    tracker = SeqTrackTracker(small, UpdateRule(interval=2, threshold=0.0))
    late = started(tracker, [0, 3])
    late, _ = tracker.step(late, [recipe.render(1)[0], recipe.render(4)[0]])  # one frame ahead: they update in other steps
    together = [late[0], started(tracker, [5])[0], late[1], started(tracker, [8])[0]]
    alone = list(together)
    numbers = [1, 5, 4, 8]
    mixed = 0
    for _ in range(5):
        numbers = [n + 1 for n in numbers]
        frames, truths = zip(*(recipe.render(n % 12) for n in numbers), strict=True)
        together = [replace(s, box=np.array(b)) for s, b in zip(together, truths, strict=True)]
        alone = [replace(s, box=np.array(b)) for s, b in zip(alone, truths, strict=True)]
        mixed += len({s.newest is None for s in together}) == 2
        together, outputs = tracker.step(together, frames)
        singles = [tracker.step([s], [f]) for s, f in zip(alone, frames, strict=True)]
        alone = [states[0] for states, _ in singles]
        for one, (state, other), both in zip(outputs, ((s[0], o[0]) for s, o in singles), together, strict=True):
            assert np.abs(one.box - other.box).max() < 1e-2
            assert one.confidence == pytest.approx(other.confidence, abs=1e-4)
            assert (state.newest is None) == (both.newest is None) and state.frame == both.frame
    assert mixed > 0 and all(s.newest is not None for s in together)
    assert [s.sentence for s in together] == [f"sequence {i}" for i in (0, 5, 3, 8)]


def test_a_step_changes_no_state_and_can_be_repeated(small: SeqTrack) -> None:
    tracker = SeqTrackTracker(small, UpdateRule(interval=1, threshold=0.0))
    states = started(tracker, [0, 4])
    frames = [recipe.render(1)[0], recipe.render(5)[0]]
    boxes = [s.box.copy() for s in states]
    first = [o.box.tolist() for o in tracker.step(states, frames)[1]]
    assert [s.box.tolist() for s in states] == [b.tolist() for b in boxes] and states[0].newest is None
    assert [o.box.tolist() for o in tracker.step(states, frames)[1]] == first


def test_sequences_of_different_frame_sizes_share_a_batch(small: SeqTrack) -> None:
    tracker = SeqTrackTracker(small, update_rule("seqtrack_small"))
    frame, box = recipe.render(0)
    wide = np.pad(frame, ((0, 60), (0, 300), (0, 0)))
    states = tracker.start([frame, wide], [np.array(box)] * 2, ["", ""])
    states, outputs = tracker.step(states, [frame, wide])
    alone = tracker.step(tracker.start([wide], [np.array(box)], [""]), [wide])[1]
    assert np.abs(outputs[1].box - alone[0].box).max() < 1e-2
    assert outputs[0].box[0] + outputs[0].box[2] <= 320


def test_a_template_is_renewed_only_when_due_and_confident(small: SeqTrack) -> None:
    def renewed(rule: UpdateRule) -> list[int]:
        tracker = SeqTrackTracker(small, rule)
        states, at = started(tracker, [0]), []
        for i in range(1, 7):
            before = states[0].newest
            states, _ = tracker.step(states, [recipe.render(i)[0]])
            assert states[0].frame == i
            if states[0].newest is not before:
                at.append(i)
        return at

    assert renewed(UpdateRule(3, 0.0)) == [3, 6]
    assert renewed(UpdateRule(3, 40.0)) == []  # more than four probabilities can add up to
    assert renewed(UpdateRule(9999, 0.0)) == []


@pytest.mark.parametrize(
    ("network", "benchmark", "rule"),
    [
        ("seqtrack_b256", "lasot", (450, 0.6)),
        ("seqtrack_b256", "LASOT", (450, 0.6)),
        ("seqtrack_b256", "lasot_lmdb", (9999, 0.6)),
        ("seqtrack_b256", "lasot_ext", (9999, 0.6)),
        ("seqtrack_b256", "lasot_extension_subset", (9999, 0.6)),
        ("seqtrack_b256_got", "got10k_test", (1, 0.6)),
        ("seqtrack_b256_got", "got10k_val", (9999, 0.6)),
        ("seqtrack_l256", "tnl2k", (25, 0.6)),
        ("seqtrack_l384", "trackingnet", (25, 0.6)),
        ("seqtrack_b256", "tnllt", (9999, 0.6)),
        ("seqtrack_b256", "vot20", (1, 0.55)),
        ("seqtrack_b256_got", "vot20", (10, 0.475)),
        ("seqtrack_b384", "vot22", (20, 0.45)),
        ("seqtrack_l384", "vot21", (10, 0.475)),
        ("seqtrack_b384", None, (9999, 0.6)),
    ],
)
def test_each_benchmark_has_the_authors_update_rule(network: str, benchmark: str | None, rule: tuple[int, float]) -> None:
    assert update_rule(network, benchmark) == UpdateRule(*rule)


def test_a_tracker_loads_from_a_folder_and_from_a_state_dict(small: SeqTrack, tmp_path: Path) -> None:
    checkpoints.save(tmp_path, small)
    frame, box = recipe.render(0)
    following, _ = recipe.render(1)
    boxes = []
    for weights in (tmp_path, small.state_dict()):
        tracker = load_tracker("seqtrack_small", weights=weights, benchmark="got10k")
        assert tracker.rule == UpdateRule(1, 0.6)
        _, outputs = tracker.step(tracker.start([frame], [box], ["a red square"]), [following])
        boxes.append(outputs[0].box.tolist())
        assert outputs[0].sentence == "a red square"
    assert boxes[0] == boxes[1]


def test_weights_of_another_variant_are_refused(small: SeqTrack, tmp_path: Path) -> None:
    checkpoints.save(tmp_path, small)
    with pytest.raises(BadInput, match="seqtrack_b256"):
        load_tracker("seqtrack_b256", weights=tmp_path)
    with pytest.raises(BadInput):
        load_tracker("seqtrack_b256", weights=small.state_dict())


def test_a_first_box_that_shows_nothing_is_refused(small: SeqTrack) -> None:
    tracker = SeqTrackTracker(small, update_rule("seqtrack_small"))
    frame, _ = recipe.render(0)
    for box in ([10, 10, 0, 5], [400, 10, 20, 20], [10, 10, math.nan, 5]):
        with pytest.raises(BadInput, match="first box"):
            tracker.start([frame], [np.array(box, dtype=float)], [""])


def test_bfloat16_stays_near_float32_and_an_unknown_precision_is_refused(small: SeqTrack) -> None:
    rule = UpdateRule(1, 0.0)
    frame = recipe.render(1)[0]
    confidences = []
    for precision in ("fp32", "bf16"):
        tracker = SeqTrackTracker(small, rule, precision=precision)
        states, outputs = tracker.step(started(tracker, [0]), [frame])
        assert np.isfinite(tracker.step(states, [frame])[1][0].box).all()
        confidences.append(outputs[0].confidence)
    assert confidences[1] == pytest.approx(confidences[0], rel=0.1)
    with pytest.raises(BadInput, match="fp8"):
        SeqTrackTracker(small, rule, precision="fp8")


def test_the_benchmark_script_finds_both_implementations_equal() -> None:
    script = ROOT / "benchmarks" / "seqtrack_cpu.py"
    command = [sys.executable, str(script), "--network", "seqtrack_small", "--frames", "3", "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "frames per second" in done.stdout


@torch.inference_mode()
def test_packed_weights_give_the_same_features_and_keep_the_state_dict(small: SeqTrack) -> None:
    plain = SeqTrack(small.config).eval()
    plain.load_state_dict(small.state_dict())
    packed = SeqTrack(small.config).eval()
    packed.load_state_dict(small.state_dict())
    packed.pack()
    first, second, search = embedded(plain)
    assert (packed.encode(search, (first, second)) - plain.encode(search, (first, second))).abs().max() < 1e-5
    assert packed.state_dict().keys() == plain.state_dict().keys()
    with torch.autocast("cpu", torch.bfloat16):
        assert (packed.encode(search, (first,)) - plain.encode(search, (first,))).abs().max() == 0


def test_training_learns_a_box_and_leaves_no_parameter_behind() -> None:
    torch.manual_seed(0)
    network = SeqTrack(replace(CONFIGS["seqtrack_small"], dropout=0.0, depth=2)).train()
    network.reset()
    first, second, search = torch.randn(2, 3, 64, 64), torch.randn(2, 3, 64, 64), torch.randn(2, 3, 128, 128)
    boxes = torch.tensor([[25, 37, 15, 20], [75, 12, 5, 10]])
    bins = network.config.bins
    words = torch.cat([torch.full((2, 1), bins + 1), boxes], dim=1)
    targets = torch.cat([boxes, torch.full((2, 1), bins)], dim=1)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    losses = []
    for _ in range(25):
        templates = [network.embed_template(images) for images in (first, second)]
        logits = network.logits(network.encode(network.embed_search(search), templates), words)  # [B,5,bins+2]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in network.parameters())
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
