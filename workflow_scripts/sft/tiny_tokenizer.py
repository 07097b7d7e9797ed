"""The tiny model's tokenizer and processor files, in the form the Hub uses for Qwen2.5-VL.

A byte-level BPE over the sentences that the mini study can say: the pairs' prompts and answers, and the rendered sequences'
descriptions, so that nearly every word is one token and an answer about 30. The JSON files are written by hand: what
transformers 5.x writes, 4.x cannot read, and this flat form is read alike by every version and by vLLM.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from workflow_scripts import files, images, pairs, prompts

# The order of Qwen2.5's special tokens; their ids follow the vocabulary's.
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
# How Qwen2 splits text before merging bytes.
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
DEFAULT_SYSTEM = "You are a helpful assistant."
# Qwen2.5-VL's own chat template, character for character: what it renders is what LLaMA-Factory's `qwen2_vl` template writes.
CHAT_TEMPLATE = (
    "{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n" + DEFAULT_SYSTEM + "<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "{% set image_count.value = image_count.value + 1 %}{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' or 'video' in content %}{% set video_count.value = video_count.value + 1 %}"
    "{% if add_vision_id %}Video {{ video_count.value }}: {% endif %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NORM = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}


def corpus(sentences: int = 3000) -> Iterator[str]:
    """The texts from which the merges are counted: chat wrapper, prompts and answers of both kinds of pair."""
    generator = np.random.default_rng(0)
    yield from [f"system\n{DEFAULT_SYSTEM}", "user\n", "assistant\n"] * (sentences // 10)
    for _ in range(sentences):
        for draw in (pairs.recipe_target, pairs.view_target):
            before, after = draw(generator), draw(generator)
            system, user = prompts.build("reasoningtrack", sentence=before.sentence)
            yield f"{system or ''}\n{user.replace('<image>', '')}"
            yield pairs.answer(before, after)


def train(vocabulary: int) -> Tokenizer:
    """A tokenizer of at most `vocabulary` ids, special tokens included; the corpus may be exhausted before."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(SPECIAL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def write(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer, preprocessor and chat template."""
    ids = {token: tokenizer.token_to_id(token) for token in SPECIAL}
    files.write_text(folder / "tokenizer.json", tokenizer.to_str(pretty=True))
    model = json.loads(tokenizer.to_str())["model"]
    files.write_text(folder / "vocab.json", json.dumps(model["vocab"], ensure_ascii=False))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    files.write_text(folder / "merges.txt", "\n".join(["#version: 0.2", *merges, ""]))
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    files.write_json(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": False,
            "add_prefix_space": False,
            "added_tokens_decoder": {str(number): {"content": token, **plain} for token, number in ids.items()},
            "additional_special_tokens": list(SPECIAL[1:]),
            "bos_token": None,
            "chat_template": CHAT_TEMPLATE,
            "clean_up_tokenization_spaces": False,
            "eos_token": "<|im_end|>",
            "errors": "replace",
            "model_max_length": 32768,
            "pad_token": "<|endoftext|>",
            "processor_class": "Qwen2_5_VLProcessor",
            "split_special_tokens": False,
            "tokenizer_class": "Qwen2Tokenizer",
            "unk_token": None,
        },
    )
    files.write_json(folder / "chat_template.json", {"chat_template": CHAT_TEMPLATE})
    files.write_json(
        folder / "preprocessor_config.json",
        {
            "min_pixels": images.LEAST_PIXELS,  # pictures come resized, by the limits of params.yaml
            "max_pixels": 12845056,  # the published models'
            "patch_size": 14,
            "temporal_patch_size": 2,
            "merge_size": 2,
            **NORM,
            "image_processor_type": "Qwen2VLImageProcessor",
            "processor_class": "Qwen2_5_VLProcessor",
        },
    )
