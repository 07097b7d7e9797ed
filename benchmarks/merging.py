"""How much memory a merge takes: a model of a few hundred megabytes, two rank files, the peak of the merging process.

    python -m workflow_scripts.in_env grpo -- python benchmarks/merging.py [--layers 48]

The model is a Qwen2.5-VL with random weights, its shards are written here. Prints the merged model's size and by how much the
process grew beyond what it takes with its libraries and no model, and ends with an error from half of that size on.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from workflow_scripts import files


def lay_out(root: Path, layers: int) -> None:
    """A sealed checkpoint of two ranks, by a process of its own: what making it takes is not the merge's."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    from workflow_scripts.grpo import checkpoints, shards

    text = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": layers, "vocab_size": 8192}
    heads = {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "rope_scaling": {"type": "mrope", "mrope_section": [8, 12, 12]},
    }
    vision = {"depth": 2, "hidden_size": 64, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 512}
    config = Qwen2_5_VLConfig(**text, **heads, vision_config=vision | {"fullatt_block_indexes": [1]}, tie_word_embeddings=True)
    config.architectures = ["Qwen2_5_VLForConditionalGeneration"]
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(config)
    actor = root / "global_step_1" / "actor"
    shards.write(model.state_dict(), actor, 2)
    config.save_pretrained(actor / "huggingface")
    for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        (actor / "huggingface" / name).write_text("{}")
    files.write_json(root / checkpoints.TRACKER, {"last_global_step": 1, "best_global_step": 1})
    checkpoints.seal_all(root)


def peak() -> float:
    """The most memory that this process has held, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=48, help="layers of the model, of 16 MB each")
    arguments = parser.parse_args()
    import torch.multiprocessing as processes
    from transformers import Qwen2_5_VLForConditionalGeneration  # noqa: F401 (its import is no part of the figure)

    from workflow_scripts.grpo import checkpoints, merge
    from workflow_scripts.params.grpo import Merge

    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "checkpoints"
        child = processes.get_context("spawn").Process(target=lay_out, args=(root, arguments.layers))
        child.start()
        child.join()
        before, began = peak(), time.perf_counter()
        step = checkpoints.select(root)
        checkpoints.check_seal(step)
        merge.merge(step, Path(scratch) / "model", Merge())
        seconds, grown = time.perf_counter() - began, peak() - before
        size = (Path(scratch) / "model" / "model.safetensors").stat().st_size / 2**20
    print(f"merged {size:.0f} MB in {seconds:.1f} s; grew by {grown:.0f} MB, {grown / size:.2f} of the model")
    sys.exit(0 if grown < size / 2 else 1)


if __name__ == "__main__":
    main()
