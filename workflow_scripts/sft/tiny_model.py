"""A Qwen2.5-VL of 0.6 million parameters, built from a config and a seed: the mini study's base model.

- the same architecture, file names and config form as Qwen2.5-VL-3B-Instruct, so that LLaMA-Factory, TRL, the merge and vLLM
  take it for one; head_dim 32 in both towers, because vLLM's CPU attention wants a multiple of 32
- every matrix starts at std = fan_in^-1/2 instead of 0.02: the yes/no is learnt about 100 steps earlier
- rope_theta 100: contexts are short, and slow frequencies would be constants
- the head is the embedding (tied); one seed gives one file, byte for byte
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from workflow_scripts import files
from workflow_scripts.params.sft import TinyModel
from workflow_scripts.sft import tiny_tokenizer

HEAD_DIM = 32
# Rotary frequencies given to time, height and width: head_dim / 2 in all.
MROPE_SECTION = [4, 6, 6]


def config(tiny: TinyModel, ids: dict[str, int], length: int) -> dict:
    """config.json in the Hub's flat form; `ids` of the special tokens, `length` of the tokenizer."""
    return {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "vision_token_id": ids["<|vision_pad|>"],
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "hidden_size": tiny.hidden,
        "initializer_range": 0.02,
        "intermediate_size": 2 * tiny.hidden,
        "max_position_embeddings": 32768,
        "max_window_layers": tiny.layers,
        "num_attention_heads": tiny.hidden // HEAD_DIM,
        "num_hidden_layers": tiny.layers,
        "num_key_value_heads": max(1, tiny.hidden // HEAD_DIM // 2),
        "rms_norm_eps": 1e-6,
        "rope_scaling": {"type": "mrope", "mrope_section": MROPE_SECTION},
        "rope_theta": tiny.rope_theta,
        "sliding_window": 32768,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": -(-length // 64) * 64,
        "vision_config": {
            "depth": tiny.vision_depth,
            "fullatt_block_indexes": [tiny.vision_depth - 1],
            "hidden_act": "silu",
            "hidden_size": tiny.vision_hidden,
            "in_channels": 3,
            "in_chans": 3,
            "intermediate_size": 2 * tiny.vision_hidden,
            "num_heads": tiny.vision_hidden // HEAD_DIM,
            "out_hidden_size": tiny.hidden,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "spatial_patch_size": 14,
            "temporal_patch_size": 2,
            "tokens_per_second": 2,
            "window_size": 112,
        },
    }


@torch.no_grad()
def initialise(model: torch.nn.Module, seed: int) -> None:
    """Fill every parameter in its order: matrices normal with std fan_in^-1/2, embedding std 0.02, norms 1, biases 0."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            std = 0.02 if "embed_tokens" in name else parameter[0].numel() ** -0.5
            parameter.normal_(0.0, std, generator=generator)
        else:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)


def build(tiny: TinyModel, folder: Path) -> int:
    """Write the whole model folder; returns the number of parameters."""
    tokenizer = tiny_tokenizer.train(tiny.vocabulary)
    tiny_tokenizer.write(tokenizer, folder)
    ids = {token: tokenizer.token_to_id(token) for token in tiny_tokenizer.SPECIAL}
    flat = config(tiny, ids, tokenizer.get_vocab_size())
    files.write_json(folder / "config.json", flat)
    model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig.from_pretrained(folder)).float()
    initialise(model, tiny.seed)
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    files.write_json(folder / "config.json", flat)  # save_pretrained nests the language model's keys; vLLM and 5.x misread that
    files.write_json(
        folder / "generation_config.json",
        {
            "bos_token_id": ids["<|endoftext|>"],
            "do_sample": True,
            "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]],
            "pad_token_id": ids["<|endoftext|>"],
            "repetition_penalty": 1.0,
            "temperature": 0.1,
            "top_p": 0.9,
        },
    )
    return sum(parameter.numel() for parameter in model.parameters())
