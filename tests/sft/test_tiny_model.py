"""The base model: one seed, one file; the Hub's form; one chat template in LLaMA-Factory and in the model's own files."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import PIXELS, SMALL

from workflow_scripts import files, images, manifest, pairs, weights


def test_one_seed_gives_one_model_byte_for_byte(base: Path, tmp_path: Path) -> None:
    from workflow_scripts.sft import tiny_model

    tiny_model.build(SMALL, tmp_path)
    assert manifest.summary(tmp_path) == manifest.summary(base)
    other = tmp_path / "other"
    other.mkdir()
    tiny_model.build(SMALL.model_copy(update={"seed": 1}), other)
    assert files.sha256(other / "model.safetensors") != files.sha256(base / "model.safetensors")
    assert files.sha256(other / "tokenizer.json") == files.sha256(base / "tokenizer.json")


def test_the_config_is_flat_and_the_reloaded_head_is_the_embedding(base: Path) -> None:
    from workflow_scripts.sft import checkpoints

    config = files.read_json(base / "config.json")
    assert config["architectures"] == ["Qwen2_5_VLForConditionalGeneration"]
    assert config["tie_word_embeddings"] is True and "text_config" not in config
    assert "lm_head.weight" not in weights.tensors(base)
    assert checkpoints.gate(base, base) > 100_000


def test_a_frame_is_four_tokens_and_a_4_to_3_frame_too(base: Path) -> None:
    import numpy as np
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(base)
    for shape in ((56, 56, 3), (240, 320, 3)):
        fitted = images.fit_pixels(np.zeros(shape, np.uint8), PIXELS.min_pixels, PIXELS.max_pixels)
        seen = processor.image_processor(images=[fitted])
        assert seen["image_grid_thw"].tolist() == [[1, 4, 4]]


@pytest.mark.parametrize("sentence", ["the red striped circle on the left", "track the purple dotted star that moves"])
def test_a_word_is_about_one_token(base: Path, sentence: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    ids = tokenizer(sentence)["input_ids"]
    assert len(ids) <= len(sentence.split()) + 1
    assert tokenizer.decode(ids) == sentence


def test_llamafactory_asks_with_the_tokens_of_the_models_own_chat_template(base: Path) -> None:
    from llamafactory.data.template import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments
    from transformers import AutoProcessor

    from workflow_scripts.sft import evaluate

    processor = AutoProcessor.from_pretrained(base)
    pair = pairs.samples(1, 1)[0]
    row = {"instruction": "", "input": f"<image><image>{pair.before.sentence}"}
    own = processor.apply_chat_template(evaluate.messages(row), add_generation_prompt=True, tokenize=False)
    template = get_template_and_fix_tokenizer(processor.tokenizer, DataArguments(template="qwen2_vl"))
    pictures = [*pair.frames]
    asked = template.mm_plugin.process_messages(
        [{"role": "user", "content": row["input"]}, {"role": "assistant", "content": "x"}],
        [__import__("PIL.Image").Image.fromarray(p) for p in pictures],
        [],
        [],
        processor,
    )
    prompt, _ = template.encode_oneturn(processor.tokenizer, asked)
    inputs = processor(text=[own], images=pictures)
    assert prompt == list(inputs["input_ids"][0])
