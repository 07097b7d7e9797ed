"""Reads models with vLLM, without a server: `python read_vllm.py OUTPUT.npz MODEL...`; the same as read.py, but log
probabilities of the likeliest tokens for the logits.
"""

import os
import sys
from pathlib import Path

import numpy as np
from read import STEPS, pictures, question
from transformers import AutoProcessor

LIKELIEST = 5


def main() -> None:
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "CUDA_VISIBLE_DEVICES": ""}
    from vllm import LLM, SamplingParams
    from vllm.distributed import cleanup_dist_env_and_memory

    said = {}
    for folder in map(Path, sys.argv[2:]):
        engine = LLM(
            str(folder),
            runner="generate",
            dtype="float32",
            max_model_len=256,
            max_num_seqs=2,
            enforce_eager=True,
            generation_config="vllm",
            limit_mm_per_prompt={"image": 2, "video": 0},
            kv_cache_memory_bytes=2**27,
            distributed_executor_backend="uni",
        )
        text = AutoProcessor.from_pretrained(folder).apply_chat_template(question(), add_generation_prompt=True, tokenize=False)
        sampling = SamplingParams(temperature=0, max_tokens=STEPS, min_tokens=STEPS, logprobs=LIKELIEST)
        (done,) = engine.generate({"prompt": text, "multi_modal_data": {"image": pictures()}}, sampling)
        (answer,) = done.outputs
        first = {token: one.logprob for token, one in answer.logprobs[0].items()}
        said |= {f"{folder.name} ids": np.array(done.prompt_token_ids), f"{folder.name} greedy": np.array(answer.token_ids)}
        said |= {f"{folder.name} tokens": np.array(list(first)), f"{folder.name} logprobs": np.array(list(first.values()))}
        engine.llm_engine.engine_core.shutdown()
        del engine
        cleanup_dist_env_and_memory()
    np.savez(sys.argv[1], **said)


if __name__ == "__main__":
    main()
