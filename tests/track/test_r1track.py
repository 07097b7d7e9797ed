"""R1-Track: the published numbers with `reproduce_paper`, its flaws gone without it, and what it does with a model's answers.

The recorded numbers are of the authors' own functions, on a 320 x 240 picture of noise of generator 3.
"""

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow_scripts import images, sequences
from workflow_scripts.asking import Question, Reply
from workflow_scripts.boxes import intersection_over_union
from workflow_scripts.console import BadInput
from workflow_scripts.params.serve import Serve
from workflow_scripts.serve import questions as serving
from workflow_scripts.track import crops, load_tracker, runner
from workflow_scripts.track.trackers.r1track import R1Tracker, Rule, Window, read, read_like_the_paper, window_of, written

GOLDEN = json.loads((Path(__file__).parent / "golden" / "r1track.json").read_text())
NOISE = np.random.default_rng(3).integers(0, 256, (240, 320, 3), dtype=np.uint8)
PAPER = Rule(reproduce_paper=True)
BLACK = np.zeros((480, 640, 3), np.uint8)
FIRST = np.array([300.0, 200, 40, 40])

widths = st.floats(1, 400)
lengths = st.floats(2, 300)
boxes = st.tuples(st.floats(-100, 600), st.floats(-100, 400), lengths, lengths).map(np.array)


def colour_box(picture: np.ndarray) -> list[int]:
    """Corners of what is coloured in a picture of grey noise: a model that sees."""
    spread = picture.max(axis=2).astype(int) - picture.min(axis=2)
    rows, columns = np.nonzero(spread > 90)
    return [int(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]


def seeing(questions: Sequence[Question]) -> list[str]:
    """Answers of a model that sees, to both kinds of question."""
    found = [colour_box(q.images[-1]) for q in questions]
    return [
        json.dumps(box) if len(q.images) == 2 else f'```json\n[{{"bbox_2d": {box}, "label": "it"}}]\n```'
        for q, box in zip(questions, found, strict=True)
    ]


def saying(*texts: str | Reply) -> Callable[[Sequence[Question]], list[str | Reply]]:
    """Texts in turn, the last one for ever."""
    left = list(texts)
    return lambda questions: [left.pop(0) if len(left) > 1 else left[0] for _ in questions]


def run(ask, frames: int, rule: Rule = Rule(), first: np.ndarray = FIRST, frame: np.ndarray = BLACK):  # noqa: B008 - frozen
    """Outputs of one sequence of equal frames."""
    tracker = R1Tracker(ask, rule)
    states, outputs = tracker.start([frame], [first], ["it"]), []
    for _ in range(frames):
        states, output = tracker.step(states, [frame])
        outputs += output
    return outputs


@pytest.mark.parametrize("case", GOLDEN["crop"], ids=lambda c: f"{c['bbox']}x{c['factor']:g}")
def test_crops_and_both_mappings_are_the_published_ones(case: dict) -> None:
    rule, box = replace(PAPER, factor=case["factor"]), np.array(case["bbox"])
    window = window_of(box, rule)
    crop, scale = crops.crop(NOISE, box, window.factor, rule.size)
    assert crop.shape == tuple(case["crop_shape"]) and int(crop.sum(dtype=np.int64)) == case["crop_sum"]
    assert [window.left, window.top] == case["x1y1"] and window.scale == scale == case["resize_factor"]
    assert list(window.into(box)) == case["bbox_in_crop"]
    assert json.loads(written(window.into(box), rule)) == case["prompt_box"]
    assert window.back(window.into(box)).tolist() == case["map_back"]


@pytest.mark.parametrize(("think", "text", "value"), GOLDEN["parse"])
def test_answers_are_read_as_published(think: bool, text: str | None, value: object) -> None:
    assert read_like_the_paper(text or "", think) == (None if value == "LAST" else value)


def test_the_published_fall_back_drifts_as_recorded_and_ours_stays() -> None:
    recorded = GOLDEN["drift_after_failures"]
    texts = ["[136,126,210,210]", "I see no target"]
    outputs = run(saying(*texts), 12, PAPER, np.array(recorded[0]))
    assert [o.box.round(2).tolist() for o in outputs] == recorded[1:]
    ours = run(saying(*texts), 12, first=np.array(recorded[0]))
    assert all(np.array_equal(o.box, ours[0].box) for o in ours)
    assert ours[0].box.round(2).tolist() == recorded[1]
    assert [o.note["fall_back"] for o in ours] == [o.note["fall_back"] for o in outputs] == [False] + [True] * 11
    assert [o.confidence for o in ours] == [1.0] + [0.0] * 11


@given(boxes)
def test_the_target_lies_within_its_crop_whatever_its_aspect(box: np.ndarray) -> None:
    corners = window_of(box, Rule()).into(box)
    assert min(corners) >= 0 and max(corners) <= 336


def test_the_published_crop_loses_a_long_target() -> None:
    box = np.array([100.0, 100, 400, 10])
    x1, _, x2, _ = window_of(box, PAPER).into(box)
    assert x1 < 0 and x2 > 336
    # up to an aspect of 4 the crops are the published ones
    usual = np.array([100.0, 100, 40, 11])
    assert window_of(usual, Rule()) == window_of(usual, PAPER)


@given(boxes)
def test_the_prompts_box_is_rounded_and_in_the_crop(box: np.ndarray) -> None:
    corners = window_of(box, Rule()).into(box)
    said = json.loads(written(corners, Rule()))
    assert np.abs(np.array(said) - corners).max() <= 0.5
    assert min(said) >= 0 and max(said) <= 336
    assert written((-0.2, 10.6, 336.4, 20.5), Rule()) == "[0,11,336,20]"
    assert written((-0.2, 10.6, 336.4, 20.5), PAPER) == "[0,10,336,20]"


@settings(max_examples=50)
@given(boxes)
def test_an_answer_that_marks_a_box_gives_that_box_within_the_image(box: np.ndarray) -> None:
    width, height = 640, 480
    window = window_of(box, Rule())
    found = read(json.dumps(list(window.into(box))), window, width, height, 336)
    x1, y1, x2, y2 = (*np.clip(box[:2], 0, None), min(box[0] + box[2], width), min(box[1] + box[3], height))
    if x1 >= x2 or y1 >= y2:
        assert found is None  # it lies outside the image
    elif min(x2 - x1, y2 - y1) >= 1:
        assert found == pytest.approx([x1, y1, x2 - x1, y2 - y1], abs=1e-6)
    else:
        assert found is not None and min(found[2:]) >= 1


def test_a_box_over_the_left_border_is_cut_and_the_published_one_grows() -> None:
    first = np.array([0.0, 100, 40, 40])
    window = window_of(first, Rule())
    answer = json.dumps(list(window.into(np.array([-15.0, 100, 40, 40]))))
    assert run(saying(answer), 1, first=first)[0].box == pytest.approx([0, 100, 25, 40])
    assert run(saying(answer), 1, PAPER, first)[0].box == pytest.approx([0, 100, 40, 40])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no",
        "[1,2,3]",
        '["a","b","c","d"]',
        "[200,200,100,100]",
        "[NaN,1,2,3]",
        "[1,2,Infinity,4]",
        "[1,2,1e400,9]",
        f"[1,2,{'9' * 400},9]",
        "[" * 5000,
        "[340,10,360,30]",
        '{"bbox_2d":[1,2,3,4]}',
        "[true,1,2,3]",
    ],
)
def test_what_is_no_box_keeps_the_last_one_and_is_counted(text: str) -> None:
    output = run(saying(text), 1)[0]
    assert output.box.tolist() == FIRST.tolist()
    assert output.note["fall_back"] and output.note["text"] == text and output.confidence == 0.0


def test_an_answer_that_was_cut_off_keeps_the_last_box() -> None:
    assert run(saying(Reply("[136,126,210,210]", usable=False)), 1)[0].note["fall_back"]


def test_four_strings_lose_the_published_video_alone(draw, tmp_path: Path) -> None:
    def ask(questions):
        return ['["a","b","c","d"]' if q.images[0][0, 0, 0] == 7 else "[136,126,210,210]" for q in questions]

    chosen = [draw("strings"), draw("numbers", seed=1)]
    marked = images.read_rgb(chosen[0].frames[0])
    marked[:] = 7
    images.write_image(chosen[0].frames[0], marked)
    tracker = load_tracker("r1track", ask=ask, reproduce_paper=True)
    failures = runner.run_sequences(tracker, chosen, tmp_path / "paper")
    assert list(failures) == ["strings"] and failures["strings"].startswith("frame 1: TypeError")
    assert runner.run_sequences(load_tracker("r1track", ask=ask), chosen, tmp_path / "ours") == {}


@pytest.mark.parametrize(
    ("rule", "kinds"),
    [
        (Rule(), ["image", "text", "image", "text"]),
        (Rule(prompt="old"), ["image", "text", "image", "text"]),
        (Rule(prompt="think"), ["text", "image", "text", "image", "text"]),
        (PAPER, ["image", "image", "text"]),
        (Rule(prompt="old", reproduce_paper=True), ["image", "image", "text"]),
        (Rule(prompt="think", reproduce_paper=True), ["image", "image", "text"]),
        (Rule(prompt="old-think", reproduce_paper=True), ["image", "image", "text"]),
    ],
)
def test_pictures_stand_at_their_tags_and_published_prompts_send_them_first(rule: Rule, kinds: list[str]) -> None:
    tracker = R1Tracker(saying("no"), rule)
    question = tracker.questions(tracker.start([BLACK], [FIRST], ["it"]), [BLACK])[0]
    parameters = Serve.model_validate(
        {"engine": "vllm", "prompt": question.prompt, "pixels": {"min_pixels": 3136, "max_pixels": 313600}}
    )
    content = serving.Question.build(parameters, question.images, **question.fields).messages()[-1]["content"]
    assert [part["type"].removesuffix("_url") for part in content] == kinds
    text = "".join(part.get("text", "") for part in content)
    assert "[126,126,210,210]" in text
    # the published new prompt alone says the tags as words
    assert ("<image> <image>" in text) == (rule.reproduce_paper and "old" not in rule.prompt)
    assert ("<think>" in text) == ("think" in rule.prompt)


def test_thoughts_are_traced_and_both_forms_of_answer_are_read() -> None:
    text = "<think> it went right </think>\n<answer>[136,126,210,210]</answer>\n"
    notes = [run(saying(text), 1, Rule(prompt=p))[0].note for p in ("think", "new")]
    assert [(n["think"], n["fall_back"]) for n in notes] == [("it went right", False)] * 2
    # the published reading wants nothing after the tags
    assert run(saying(text), 1, Rule(prompt="think", reproduce_paper=True))[0].note["fall_back"]


@pytest.mark.parametrize("rule", [Rule(), PAPER, Rule(size=112)])
def test_a_model_that_sees_is_followed(draw, rule: Rule) -> None:
    sequence = draw("square", frames=12)
    shown = [images.read_rgb(f) for f in sequence.frames]
    tracker = R1Tracker(seeing, rule)
    states = tracker.start(shown[:1], [sequence.boxes[0]], [sequence.sentence])
    for frame, truth in zip(shown[1:], sequence.boxes[1:], strict=True):
        states, outputs = tracker.step(states, [frame])
        assert intersection_over_union(outputs[0].box, truth) > 0.8
        assert outputs[0].sentence == sequence.sentence


def test_every_frame_is_a_question_and_a_batch_is_one_call(draw) -> None:
    sequences = [draw(f"s{n}", frames=4, seed=n) for n in range(3)]
    calls = []

    def ask(questions):
        calls.append(len(questions))
        return seeing(questions)

    tracker = load_tracker("r1track", ask=ask)
    frames = [[images.read_rgb(s.frames[i]) for s in sequences] for i in range(4)]
    states = tracker.start(frames[0], [s.boxes[0] for s in sequences], [s.sentence for s in sequences])
    batched = []
    for shown in frames[1:]:
        states, outputs = tracker.step(states, shown)
        batched.append([o.box.tolist() for o in outputs])
    assert calls == [3, 3, 3]
    for i, sequence in enumerate(sequences):
        alone = tracker.start(frames[0][i : i + 1], [sequence.boxes[0]], ["it"])
        for shown, boxes in zip(frames[1:], batched, strict=True):
            alone, outputs = tracker.step(alone, shown[i : i + 1])
            assert outputs[0].box.tolist() == boxes[i]


def test_the_runner_keeps_questions_in_flight_and_counts_answers_and_fall_backs(draw, tmp_path: Path) -> None:
    sequences = [draw(f"s{n}", frames=6, seed=n) for n in range(4)]
    turn = iter(range(1000))

    def ask(questions):
        assert len(questions) == 1
        return ["?"] if next(turn) % 5 == 0 else seeing(questions)

    tracker = load_tracker("r1track", ask=ask)
    assert runner.run_sequences(tracker, sequences, tmp_path / "out", batch=2, in_flight=3) == {}
    summary = runner.summarise(tmp_path / "out", sequences)
    assert (summary["vlm_calls"], summary["fall_backs"]) == (20, 4)
    lines = [json.loads(line) for line in (tmp_path / "out" / "s0.trace.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == [1, 2, 3, 4, 5]
    assert {"asked", "text", "think", "fall_back"} <= set(lines[0])


def test_a_sequence_starts_from_its_sentence_alone(draw) -> None:
    sequence = draw("square", frames=6)
    shown = [images.read_rgb(f) for f in sequence.frames]
    asked = []

    def ask(questions):
        asked.extend(questions)
        return seeing(questions)

    # 160 x 120 reaches the model as 140 x 84: what it says in those pixels is right in the frame's
    tracker = load_tracker("r1track", ask=ask, size=112, max_pixels=16000)
    states = tracker.start(shown[:1], [None], [sequence.sentence])
    assert asked[0].fields == {"sentence": sequence.sentence} and asked[0].images[0].shape == (84, 140, 3)
    assert intersection_over_union(states[0].box, sequence.boxes[0]) > 0.8
    for frame, truth in zip(shown[1:], sequence.boxes[1:], strict=True):
        states, outputs = tracker.step(states, [frame])
        assert intersection_over_union(outputs[0].box, truth) > 0.8
    told = load_tracker("r1track", ask=ask, start="sentence").start(shown[:1], [np.array([1.0, 1, 5, 5])], ["it"])
    assert intersection_over_union(told[0].box, sequence.boxes[0]) > 0.8


@pytest.mark.parametrize("text", ["I see nothing", "[]", '[{"bbox_2d": [5, 5, 1, 1]}]', '[{"bbox_2d": [9000, 0, 9001, 5]}]'])
def test_a_model_that_finds_no_target_is_a_clear_error(text: str) -> None:
    with pytest.raises(BadInput, match=r"found no 'the red car' in the first frame.*give a first box"):
        R1Tracker(saying(text)).start([BLACK], [None], ["the red car"])


@pytest.mark.parametrize("sentence", ["", "  ", "a very long sentence " * 100])
def test_only_a_sentence_can_be_started_from(sentence: str) -> None:
    with pytest.raises(BadInput, match="start from a sentence of 1 to 1000 characters"):
        R1Tracker(saying("never asked")).start([BLACK], [None], [sentence])
    # with a box it is carried and not read
    assert R1Tracker(saying("never asked")).start([BLACK], [FIRST], [sentence])[0].sentence == sentence


def test_bad_frames_and_first_boxes_are_refused_before_anyone_is_asked() -> None:
    def ask(questions):
        raise AssertionError("asked")

    tracker = R1Tracker(ask)
    for box in ([700.0, 10, 5, 5], [10.0, 10, 0, 5], [np.nan] * 4, [1.0, 2, 3]):
        with pytest.raises(BadInput, match="first box"):
            tracker.start([BLACK], [np.array(box)], ["it"])
    states = tracker.start([BLACK], [FIRST], ["it"])
    for frame in (BLACK[..., 0], np.dstack([BLACK, BLACK[..., :1]]), BLACK.astype(np.uint16)):
        with pytest.raises(BadInput, match="uint8 H x W x 3 RGB"):
            tracker.start([frame], [FIRST], ["it"])
        with pytest.raises(BadInput, match="uint8 H x W x 3 RGB"):
            tracker.start([frame], [None], ["it"])
        with pytest.raises(BadInput, match="uint8 H x W x 3 RGB"):
            tracker.questions(states, [frame])


def test_frames_may_change_their_size() -> None:
    tracker = R1Tracker(saying("[120,120,200,200]"))
    states = tracker.start([BLACK], [np.array([580.0, 400, 40, 40])], ["it"])
    for shape in ((300, 400, 3), (40, 30, 3), (480, 640, 3)):
        frame = np.zeros(shape, np.uint8)
        states, outputs = tracker.step(states, [frame])
        assert np.isfinite(outputs[0].box).all() and min(outputs[0].box[2:]) >= 1


def test_load_tracker_names_the_remedy() -> None:
    with pytest.raises(BadInput, match="asked for every box: give ask"):
        load_tracker("r1track")
    with pytest.raises(BadInput, match="r1track has no option factors"):
        load_tracker("r1track", ask=seeing, factors=2)
    with pytest.raises(BadInput, match="no prompt newest: name one of new, old, think"):
        load_tracker("r1track", ask=seeing, prompt="newest")
    with pytest.raises(BadInput, match="not from a mask"):
        load_tracker("r1track", ask=seeing, start="mask")
    with pytest.raises(BadInput, match="crops of 336 pixels would reach r1track's model as 56x56"):
        load_tracker("r1track", ask=seeing, max_pixels=4704)


def test_a_window_maps_any_box_there_and_back() -> None:
    window = Window(4.0, -7, 12, 160, 336 / 160)
    assert window.back(window.into(FIRST)) == pytest.approx(FIRST, abs=1e-12)


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict]]]:
    """A server whose model sees, and stammers on every fourth question until it is asked again. Its address, and the bodies."""
    bodies: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def reply(self, value: dict) -> None:
            data = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            self.reply({"data": [{"id": "seeing"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            pictures = []
            for part in body["messages"][-1]["content"]:
                if part["type"] == "image_url":
                    data = np.frombuffer(base64.b64decode(part["image_url"]["url"].split(",")[1]), np.uint8)
                    pictures.append(cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB))
            bodies.append(body)
            text = seeing([Question(tuple(pictures), {}, bool)])[0]
            if len(bodies) % 4 == 0 and body["temperature"] == 0:
                text = "it is there"
            self.reply({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]})

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}", bodies
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def command(module: str, url: str, own: dict, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the track stage on the server at `url`."""
    serve = {"engine": "url", "url": url, "name": "seeing", "pixels": {"min_pixels": 3136, "max_pixels": 16000}}
    line = [sys.executable, "-m", f"workflow_scripts.track.{module}", "--tracker", "r1track", *flags]
    line += ["--server-parameters", json.dumps(serve), "--r1track-parameters", json.dumps(own)]
    return subprocess.run(line, capture_output=True, text=True)


def test_a_shard_asks_again_what_is_no_box_and_fails_over_the_limit(index, server, tmp_path: Path) -> None:
    url, bodies = server
    output, manifest = tmp_path / "r1track" / "0", tmp_path / "r1track" / "0.json"
    flags = ["--index", str(index), "--parameters", '{"batch": 2}', "--output", str(output), "--manifest", str(manifest)]
    own = {"size": 112, "max_tokens": 40, "malformed_retries": 1}
    done = command("run", url, own, *flags)
    assert done.returncode == 0, done.stderr
    chosen = sequences.read_index(index, split="test")
    frames = sum(len(s) - 1 for s in chosen)
    facts = json.loads(manifest.read_text())["facts"]
    assert (facts["vlm_calls"], facts["fall_backs"]) == (frames, 0)
    asked = [b for b in bodies if b["max_tokens"] == 40 and b["temperature"] == 0]
    assert len(asked) == frames + 1  # and the first one, by which the server is known to answer
    assert len(bodies) > len(asked)
    traced = [json.loads(line) for line in (output / "answers.jsonl").read_text().splitlines()]
    assert len(traced) == frames and sum(line["retries"] for line in traced) == len(bodies) - len(asked)
    for s in chosen:
        assert intersection_over_union(runner.read_boxes(output / f"{s.name}.txt"), s.boxes).mean() > 0.8

    failed = command("run", url, {**own, "malformed_retries": 0}, *flags[:-3], str(tmp_path / "fails"))
    assert failed.returncode == 1
    assert "answers have not the form that was asked for, over the limit of 10%" in failed.stderr
    assert not (tmp_path / "fails").exists()
    lenient = {**own, "malformed_retries": 0, "fall_back_limit": 0.5}
    assert command("run", url, lenient, *flags).returncode == 0
    facts = json.loads(manifest.read_text())["facts"]
    assert facts["vlm_calls"] == frames and 0 < facts["fall_backs"] < frames / 2


def test_your_own_sequence_is_followed_from_its_sentence(draw, server, tmp_path: Path) -> None:
    sequence = draw("mine", frames=8)
    flags = ["--frames", str(sequence.frames[0].parent), "--output", str(tmp_path / "out"), "--video", "video.gif"]
    own = {"size": 112, "malformed_retries": 2}
    refused = command("follow", server[0], own, *flags)
    assert refused.returncode == 1 and "r1track can do with --sentence alone" in refused.stderr
    done = command("follow", server[0], own, *flags, "--sentence", sequence.sentence)
    assert done.returncode == 0, done.stderr
    found = runner.read_boxes(tmp_path / "out" / "boxes.txt")
    assert intersection_over_union(found, sequence.boxes).min() > 0.7
