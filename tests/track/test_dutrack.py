"""DUTrack gives the boxes of the authors' code, alone or in a batch, and forgets nothing that it will need."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import recipe
import torch
from hypothesis import given
from hypothesis import strategies as st

from workflow_scripts.asking import Question
from workflow_scripts.console import BadInput
from workflow_scripts.track import load_tracker
from workflow_scripts.track.networks import dutrack as networks
from workflow_scripts.track.texts import Tokenizer, small_vocabulary
from workflow_scripts.track.trackers import dutrack, reasoningtrack

FOLDER = Path(__file__).parent / "golden"
GOLDEN = json.loads((FOLDER / "dutrack_256.json").read_text())
VOCABULARY = FOLDER / "standin_vocab.txt"
FRAMES = 12  # of the 19 recorded: a second and a half each on one core
FORK = 4  # up to here the two recorded runs are the same

pytestmark = pytest.mark.usefixtures("one_thread")  # as the recorded runs, and as fast beside other jobs


@pytest.fixture(scope="module")
def official() -> networks.DUTrack:
    network = networks.build(networks.VARIANTS["dutrack_256_full"])
    assert recipe.fill(network, "dutrack") == GOLDEN["weights_crc32"]  # every name and shape is the checkpoints'
    return network


@pytest.fixture(scope="module")
def small() -> networks.DUTrack:
    """The recipe's weights, the score's last layer scaled so that maps have clear maxima."""
    network = networks.build(networks.VARIANTS["dutrack_small"])
    recipe.fill(network, "dutrack")
    with torch.no_grad():
        network.box_head.conv3_ctr.weight *= 3
    return network


def tracker_of(network: networks.DUTrack) -> dutrack.DUTracker:
    return dutrack.DUTracker(network, Tokenizer(small_vocabulary()))


def test_the_variants_have_the_published_numbers_of_parameters() -> None:
    counts = {}
    with torch.device("meta"):
        for name, config in networks.VARIANTS.items():
            if name != "dutrack_small":  # its sine positions are computed
                counts[name] = sum(p.numel() for p in networks.DUTrack(config).parameters())
    small = sum(p.numel() for p in networks.build(networks.VARIANTS["dutrack_small"]).parameters())
    assert counts == {
        "dutrack_256_full": 105093637,
        "dutrack_384_full": 105298437,
        "dutrack_256_got": 105093637,
        "dutrack_384_got": 105298437,
    }
    assert 0.97e6 < small < 0.99e6


@torch.inference_mode()
def test_activations_of_the_first_frame_are_the_recorded_ones(official: networks.DUTrack) -> None:
    seen: dict[str, torch.Tensor] = {}
    backbone = official.backbone
    hooks = [
        backbone.blocks[i].register_forward_hook(lambda _, __, out, i=i: seen.__setitem__(f"block{i}", out))
        for i in range(8, 31)
    ]
    image, box = recipe.render(0)
    search = dutrack.crops.normalise(dutrack.crops.crop(recipe.render(1)[0], box, 4.0, 256)[0][None])
    template = official.embed_template(dutrack.crops.normalise(dutrack.crops.crop(image, box, 2.0, 128)[0][None]))
    text = official.embed_text(torch.from_numpy(Tokenizer.from_file(VOCABULARY)([GOLDEN["texts"][0]])))
    output = official(search, template[None], text)
    for hook in hooks:
        hook.remove()
    # The network computes only the rows of its last block that it reads; here all are compared.
    seen["block31"] = backbone.blocks[31](seen["block30"])
    seen["norm"] = backbone.norm(seen["block31"])
    seen |= {"z_feat": template, "x_feat": backbone.search(search), "l_feat": text}
    seen |= {"frame1:score_map": output.score, "frame1:size_map": output.size, "frame1:offset_map": output.offset}
    assert seen.keys() == GOLDEN["activations"].keys()
    for name, recorded in GOLDEN["activations"].items():
        ours = recipe.statistics(seen[name])
        assert ours["shape"] == recorded["shape"]
        for figure in ("std", "l2", "absmax"):
            assert ours[figure] == pytest.approx(recorded[figure], rel=1e-4), (name, figure)
        assert ours["mean"] == pytest.approx(recorded["mean"], rel=1e-4, abs=1e-5), name
        assert ours["sample"] == pytest.approx(recorded["sample"], rel=1e-4, abs=2e-5 * recorded["absmax"]), name
    assert torch.equal(output.query, seen["norm"][:, :3]) or torch.allclose(output.query, seen["norm"][:, :3], atol=1e-5)


def check_frame(recorded: dict, state: dutrack.State, output: dutrack.Output, cell: int) -> None:
    assert list(state.features) == recorded["memory_idx"]
    assert output.sentence == recorded["text"]
    assert cell == recorded["argmax_hann"]
    assert output.box == pytest.approx(recorded["state_after"], abs=1e-2)


def test_both_recorded_runs_are_repeated(official: networks.DUTrack, monkeypatch: pytest.MonkeyPatch) -> None:
    """DUTrack with its changing captions, then ReasoningTrack from the state where the runs part (states are values)."""
    cells: list[int] = []

    def recording(*args):
        result = networks.decode(*args)
        cells.append(int(result[2]))
        return result

    monkeypatch.setattr(dutrack, "decode", recording)
    captions = iter([GOLDEN["texts"][call // 4 % 3] for call in range(20)])
    tokenizer = Tokenizer.from_file(VOCABULARY)
    tracker = dutrack.DUTracker(official, tokenizer, lambda frames, sentences: [next(captions) for _ in frames])
    first, box = recipe.render(0)
    states = tracker.start([first], [np.array(box)], ["never read"])
    parting: list[dutrack.State] = []
    for recorded in GOLDEN["dutrack"]["frames"][:FRAMES]:
        states, outputs = tracker.step(states, [recipe.render(recorded["frame"])[0]])
        check_frame(recorded, states[0], outputs[0], cells[-1])
        assert tokenizer([outputs[0].sentence])[0].tolist() == recorded["token_ids"]
        if recorded["frame"] == FORK:
            parting = states

    asked: list[Question] = []

    def ask(questions: list[Question]) -> list[str]:
        asked.extend(questions)
        return [f"<think>It changed.</think><d>yes</d><answer>{GOLDEN['texts'][1]}</answer>"]

    reasoning = reasoningtrack.ReasoningTracker(dutrack.DUTracker(official, tokenizer), ask)
    begun = reasoning.start([first], [np.array(box)], [GOLDEN["texts"][0]])
    states = [replace(begun[0], track=parting[0])]
    for recorded in GOLDEN["reasoningtrack"]["frames"][FORK:]:
        states, outputs = reasoning.step(states, [recipe.render(recorded["frame"])[0]])
        check_frame(recorded, states[0].track, outputs[0], cells[-1])
        assert states[0].ask == (recorded["frame"] in GOLDEN["reasoningtrack"]["asked_after"])
    assert len(asked) == 1


@given(st.integers(1, 600), st.integers(1, 6))
def test_templates_are_the_first_frame_and_the_middle_of_each_part(frame: int, segments: int) -> None:
    chosen = dutrack.choose_memory(frame, segments)
    assert chosen == sorted(set(chosen))
    assert chosen[0] == 0
    assert chosen[-1] < frame
    assert len(chosen) <= segments + 1
    if frame > segments > 1:
        part = frame // segments
        assert all((k * part + part // 2) in chosen for k in range(segments))


def test_the_documented_choices() -> None:
    expected = {1: [0], 3: [0, 1, 2], 5: [0, 1, 2], 6: [0, 1, 3, 5], 9: [0, 1, 4, 7], 18: [0, 3, 9, 15]}
    assert {i: dutrack.choose_memory(i, 3) for i in expected} == expected
    assert dutrack.choose_memory(50, 1) == [0]


def remembered(segments: int, frames: int, length: int | None) -> tuple[int, int]:
    """Follow a memory of indices by the tracker's rules; most that it ever held, and how many it holds at the end."""
    held, most = {0}, 1
    for frame in range(1, frames):
        chosen = dutrack.choose_memory(frame, segments)
        assert held.issuperset(chosen)
        if dutrack.is_useful(frame, frame, segments, length):
            held.add(frame)
        held -= {index for index in chosen if not dutrack.is_useful(index, frame, segments, length)}
        most = max(most, len(held))
    return most, len(held)


@given(st.integers(1, 6), st.integers(2, 400), st.booleans())
def test_what_the_memory_drops_is_never_wanted_again(segments: int, frames: int, known: bool) -> None:
    _, left = remembered(segments, frames, frames if known else None)
    assert not known or left == 0  # after the last frame nothing is


@pytest.mark.parametrize("network", [n for n in networks.VARIANTS if n != "dutrack_small"])
def test_five_thousand_frames_stay_under_300_megabytes(network: str) -> None:
    config = networks.VARIANTS[network]
    most, _ = remembered(config.template_number, 5000, 5000)
    crops_, features = 3 * config.template_size**2, 4 * config.template_tokens * config.dim  # uint8, float32
    assert most * crops_ + (config.template_number + 1) * features < 150e6
    if config.template_size == 128:  # even where nobody says how long the sequence is
        assert remembered(config.template_number, 5000, None)[0] * crops_ < 300e6


def test_boxes_are_the_same_where_the_length_is_known(small: networks.DUTrack) -> None:
    tracker = tracker_of(small)
    first, box = recipe.render(0)
    states = tracker.start([first] * 2, [np.array(box)] * 2, ["the red square"] * 2, [40, 41])
    states += tracker.start([first], [np.array(box)], ["the red square"])
    for i in range(1, 40):
        states, outputs = tracker.step(states, [recipe.render(i % 20)[0]] * 3)
        assert len({tuple(o.box) for o in outputs}) == 1
    assert len(states[0].memory) == 0 and len(states[1].memory) <= 4 < len(states[2].memory)


def batch_of_states(tracker: dutrack.DUTracker) -> tuple[list[dutrack.State], list[np.ndarray]]:
    """Sequences at frames 0 to 9: one to four templates, with and without a carried query; three sentences."""
    states = []
    for age in (0, 1, 3, 9, 9, 0, 6):
        words = ("the red striped circle", "", "the blue star that moves")[age % 3]
        first, box = recipe.render(age)
        state = tracker.start([first], [np.array(box)], [words])
        for i in range(age):
            state, _ = tracker.step(state, [recipe.render(age + i + 1)[0]])
        states += state
    return states, [recipe.render(10 + i)[0] for i in range(len(states))]


def test_a_batch_equals_its_sequences_alone(small: networks.DUTrack) -> None:
    tracker = tracker_of(small)
    states, _ = batch_of_states(tracker)
    clear = 0
    for step in range(6):
        frames = [recipe.render((3 * i + step) % 20)[0] for i in range(len(states))]
        truth = [np.array(recipe.render((3 * i + step) % 20)[1]) for i in range(len(states))]
        states = [replace(s, box=b) for s, b in zip(states, truth, strict=True)]
        together, outputs = tracker.step(states, frames)
        for i, state in enumerate(states):
            alone, single = tracker.step([state], [frames[i]])
            assert single[0].confidence == pytest.approx(outputs[i].confidence, abs=1e-4)
            assert list(alone[0].features) == list(together[i].features)
            if margin(tracker, state, frames[i]) > 1e-4:
                clear += 1
                assert single[0].box == pytest.approx(outputs[i].box, abs=1e-2)
                assert torch.allclose(alone[0].query, together[i].query, atol=1e-4)
        states = together
    assert clear >= 30  # of 42: the comparison is not empty


def margin(tracker: dutrack.DUTracker, state: dutrack.State, frame: np.ndarray) -> float:
    """Difference of the two best windowed scores of the next frame."""
    scores = []
    hook = tracker.network.register_forward_hook(lambda _, __, out: scores.append(out.score * tracker.window))
    tracker.step([state], [frame])
    hook.remove()
    best, second = scores[0].flatten().topk(2).values.tolist()
    return best - second


def test_a_state_is_a_value_that_can_be_stepped_twice(small: networks.DUTrack) -> None:
    tracker = tracker_of(small)
    states, frames = batch_of_states(tracker)
    memories = [s.memory for s in states]
    _, once = tracker.step(states, frames)
    _, twice = tracker.step(states, frames)
    assert [s.memory for s in states] == memories
    assert all((a.box == b.box).all() and a.confidence == b.confidence for a, b in zip(once, twice, strict=True))


def test_a_sequence_starts_clean_whatever_was_tracked_before(small: networks.DUTrack) -> None:
    def run(tracker: dutrack.DUTracker) -> np.ndarray:
        states = tracker.start([recipe.render(0)[0]], [np.array(recipe.render(0)[1])], ["the red square"])
        boxes = []
        for i in range(1, 5):
            states, outputs = tracker.step(states, [recipe.render(i)[0]])
            boxes.append(outputs[0].box)
        return np.stack(boxes)

    used = tracker_of(small)
    first = run(used)
    assert (run(used) == first).all()
    assert (run(tracker_of(small)) == first).all()


def test_the_sentence_reaches_the_boxes_and_may_be_empty_or_long(small: networks.DUTrack) -> None:
    tracker = tracker_of(small)
    first, box = recipe.render(0)
    sentences = ["the red square", "", "the red square " * 50]
    states = tracker.start([first] * 3, [np.array(box)] * 3, sentences)
    _, outputs = tracker.step(states, [recipe.render(1)[0]] * 3)
    assert len({o.confidence for o in outputs}) == 3
    assert [o.sentence for o in outputs] == sentences


@pytest.mark.parametrize(
    ("frame", "box", "message"),
    [
        (np.zeros((60, 80), np.uint8), [5, 5, 10, 10], "uint8 H x W x 3"),
        (np.zeros((60, 80, 4), np.uint8), [5, 5, 10, 10], "uint8 H x W x 3"),
        (np.zeros((60, 80, 3), np.uint16), [5, 5, 10, 10], "uint8 H x W x 3"),
        (np.zeros((60, 80, 3), np.uint8), [5, 5, 0, 10], "positive width and height"),
        (np.zeros((60, 80, 3), np.uint8), [90, 5, 10, 10], "outside the 80x60 frame"),
        (np.zeros((60, 80, 3), np.uint8), [5, float("nan"), 10, 10], "positive width and height"),
    ],
)
def test_frames_and_boxes_that_show_no_target_are_refused(small, frame, box, message) -> None:
    with pytest.raises(BadInput, match=message):
        tracker_of(small).start([frame], [np.array(box)], [""])


def test_sentences_compared_on_one_pair_are_as_tracked_one_by_one(small: networks.DUTrack) -> None:
    tracker = tracker_of(small)
    first, second = ([recipe.render(i)[0] for i in numbers] for numbers in ((0, 3), (2, 5)))
    boxes = [np.array(recipe.render(i)[1]) for i in (0, 3)]
    sentences = [["the red circle", "", "the blue star moving"], ["the red circle"]]
    found = tracker.compare(first, boxes, second, sentences)
    for pair, texts in enumerate(sentences):
        for text, box in zip(texts, found[pair], strict=True):
            states = tracker.start([first[pair]], [boxes[pair]], [text])
            assert box == pytest.approx(tracker.step(states, [second[pair]])[1][0].box, abs=1e-3)
    assert tracker.compare(first[:1], boxes[:1], second[:1], [[]]) == [[]]


def test_frames_of_a_sequence_may_change_their_size(small: networks.DUTrack) -> None:
    tracker = tracker_of(small)
    states = tracker.start([recipe.render(0)[0]], [np.array(recipe.render(0)[1])], ["the red square"])
    states, outputs = tracker.step(states, [recipe.render(1)[0][:100, :150]])
    x, y, w, h = outputs[0].box
    assert x + w <= 150 + 10
    assert y + h <= 100 + 10


def test_classic_trackers_load_without_torch() -> None:
    code = "import sys; from workflow_scripts.track import load_tracker; load_tracker('static'); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_load_tracker_names_the_remedy(small: networks.DUTrack, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="There is no tracker kfc"):
        load_tracker("kfc")
    with pytest.raises(BadInput, match="needs weights"):
        load_tracker("dutrack")
    with pytest.raises(BadInput, match="needs the vocabulary"):
        load_tracker("dutrack", weights=small.state_dict())
    with pytest.raises(BadInput, match="does not fit dutrack_256_full"):
        load_tracker("dutrack_256_full", weights=small.state_dict())
    words = tmp_path / "vocabulary.txt"
    words.write_text("\n".join([*small_vocabulary(), *"abcdefghijklmnopqrstuvwxyz"]))
    with pytest.raises(BadInput, match="61 words, the network 48"):
        load_tracker("dutrack", weights=small.state_dict(), vocabulary=words)
    words.write_text("\n".join(small_vocabulary()))
    tracker = load_tracker("dutrack", weights=small.state_dict(), vocabulary=words)
    assert tracker.network.config == small.config
    with pytest.raises(BadInput, match="either ask or a describer"):
        load_tracker("reasoningtrack", weights=small.state_dict(), vocabulary=words)
