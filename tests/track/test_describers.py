"""Describers: which words a sequence starts with, captions by a small BLIP, and a model that is asked."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipImageProcessorPil, BlipProcessor

from workflow_scripts import prompts
from workflow_scripts.asking import Reply
from workflow_scripts.console import BadInput
from workflow_scripts.track import describers, load_tracker
from workflow_scripts.track.networks import dutrack as networks
from workflow_scripts.track.texts import small_vocabulary

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "the",
    "red",
    "blue",
    "car",
    "dog",
    "in",
    "on",
    "sky",
    "road",
    "boat",
]
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BLIP of random weights in the hub's layout: pickled weights, processor, vocabulary. It begins with an id of no word."""
    folder = tmp_path_factory.mktemp("blip")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = BertTokenizer.from_pretrained(folder)
    ids = {"bos_token_id": len(WORDS), "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0}
    text = {**SIZES, **ids, "vocab_size": len(WORDS) + 2, "encoder_hidden_size": 32, "max_position_embeddings": 32}
    config = BlipConfig(text_config=text, vision_config={**SIZES, "image_size": 32, "patch_size": 8}, projection_dim=16)
    model = BlipForConditionalGeneration(config).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.4)
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    BlipProcessor(BlipImageProcessorPil(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder


def frames(count: int) -> list[np.ndarray]:
    """Frames of different sizes and colours."""
    rng = np.random.default_rng(0)
    shades = rng.integers(0, 200, (count, 1, 1, 3))
    return [(shade + rng.integers(0, 50, (40 + i, 60, 3))).astype(np.uint8) for i, shade in enumerate(shades)]


def by_hand(folder: Path, frame: np.ndarray, prompt: str | None) -> str:
    """The library's documented use for one picture, as DUTrack's code has it, with the checkpoint's limit of 20 tokens."""
    processor = BlipProcessor.from_pretrained(folder)
    model = BlipForConditionalGeneration.from_pretrained(folder)
    inputs = processor(frame, prompt, return_tensors="pt") if prompt else processor(frame, return_tensors="pt")
    return processor.decode(model.generate(**inputs, max_length=20)[0], skip_special_tokens=True)


def test_captions_are_those_of_the_library_whatever_frames_share_a_call(blip: Path) -> None:
    shown = frames(4)
    expected = [by_hand(blip, f, None) for f in shown]
    assert len(set(expected)) > 1
    assert describers.by_name("blip", captioner=blip)(shown, ["ignored"] * 4) == expected
    fixed = describers.by_name("blip", captioner=blip, rows=3)
    assert fixed(shown, [""] * 4) == expected
    assert [fixed([f], [""])[0] for f in shown] == expected


def test_a_prompted_caption_goes_on_from_the_class(blip: Path) -> None:
    shown, classes = frames(4), ["car", "the red car", "", "dog"]
    describer = describers.by_name("blip-class", captioner=blip, rows=2)
    captions = describer(shown, classes)
    assert captions == [by_hand(blip, f, c) for f, c in zip(shown, classes, strict=True)]
    assert captions[0].startswith("car") and captions[1].startswith("the red car")


def test_a_very_long_prompt_leaves_room_for_words(blip: Path) -> None:
    caption = describers.by_name("blip-class", captioner=blip)(frames(1), ["car " * 500])[0]
    assert caption.startswith("car car") and len(caption.split()) <= describers.CAPTION_TOKENS


def test_a_folder_without_a_whole_model_is_refused(blip: Path, tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        with pytest.raises(BadInput, match="needs the folder of a BLIP captioning model"):
            describers.by_name("blip", captioner=folder)
    (tmp_path / "config.json").write_bytes((blip / "config.json").read_bytes())
    with pytest.raises(BadInput, match="holds no whole BLIP"):
        describers.by_name("blip", captioner=tmp_path)


def test_a_dutrack_reads_captions_of_the_frames_that_it_tracks(blip: Path, draw, tmp_path: Path) -> None:
    network = networks.build(networks.VARIANTS["dutrack_small"])
    words = tmp_path / "vocabulary.txt"
    words.write_text("\n".join(small_vocabulary()))
    given = {"weights": network.state_dict(), "vocabulary": words, "captioner": blip}
    tracker = load_tracker("dutrack", describer="blip-class", **given)
    shown = [np.ascontiguousarray(f[:40, :60]) for f in frames(4)]
    states = tracker.start(shown[:1], [np.array([5.0, 5, 12, 12])], ["car"])
    read = []
    for frame in shown[1:]:
        states, outputs = tracker.step(states, [frame])
        read.append(outputs[0].sentence)
    # frame 0's caption is still read on frame 1; the class begins every caption, not the caption before
    assert read == [by_hand(blip, shown[i], "car") for i in (0, 2, 3)]


def test_a_model_is_asked_about_what_was_given_and_an_unusable_answer_changes_nothing() -> None:
    asked, texts = [], iter(["the red car ", Reply("a sentence that was cut of", False), "", "word " * 41, "a dog\n"])

    def ask(questions):
        asked.extend(questions)
        return [next(texts) for _ in questions]

    describer = describers.by_name("model", ask)
    shown = frames(5)
    assert describer(shown[:4], ["one", "two", "", "four"]) == ["the red car", "two", "", "four"]
    assert describer(shown[4:], ["five"]) == ["a dog"]
    assert [q.fields["sentence"] for q in asked] == ["one", "two", "the target", "four", "five"]
    assert prompts.build(asked[0].prompt, **asked[0].fields)[1].count("<image>") == len(asked[0].images) == 1


def test_words_come_from_where_the_describer_says(draw) -> None:
    sequence = replace(draw("racing-car-12", frames=1), sentence="the red car that turns")
    words = {n: describers.first_words(sequence, "lasot", n) for n in describers.NAMES}
    assert words["off"] == "" and words["class"] == words["blip-class"] == "racing-car"
    assert words["sentence"] == words["model"] == words["blip"] == "the red car that turns"
    assert describers.on_benchmark("blip", "lasot_ext") == "blip-class"
    assert describers.on_benchmark("blip", "tnl2k") == "blip"
    with pytest.raises(BadInput, match="class of racing-car-12 is not known"):
        describers.first_words(sequence, "tnl2k", "class")


@pytest.mark.parametrize("name", ["off", "class", "sentence"])
def test_words_that_come_before_the_start_ask_nobody(name: str) -> None:
    assert describers.by_name(name) is None


def test_an_unknown_describer_is_refused_with_the_names() -> None:
    with pytest.raises(BadInput, match="no describer blib: name one of off, class, sentence, blip"):
        describers.by_name("blib")
    with pytest.raises(BadInput, match="needs a language model to question"):
        describers.by_name("model")
