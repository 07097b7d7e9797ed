"""Check a merged model against the shards it came from: loads whole, is tied, says the same, and answers the same.

"Before" is the model of the step's config with the shards' tensors put in directly; "after" is the merged folder as every later
stage loads it. Both answer one validation pair greedily, and the logits of the question are compared.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from workflow_scripts import console, files, manifest, params
from workflow_scripts.console import BadInput
from workflow_scripts.grpo import checkpoints
from workflow_scripts.grpo.assemble import Assembly, describe
from workflow_scripts.grpo.dataset import read_rows
from workflow_scripts.grpo.merge import cast
from workflow_scripts.params.grpo import Merge


def from_shards(step: checkpoints.Step, dtype: str, device: str) -> Any:
    """The model of the step, filled from its rank shards. BadInput names a shard that is missing or does not fit."""
    import transformers

    source = step.actor / "huggingface"
    description = describe(source)
    config = transformers.AutoConfig.from_pretrained(source, local_files_only=True)
    state = {name: cast(tensor, dtype) for name, tensor in Assembly(step.shards, description)}
    kind = next(t.dtype for t in state.values() if t.is_floating_point())
    model = getattr(transformers, description.architecture)._from_config(config, torch_dtype=kind)
    left = model.load_state_dict(state, strict=False)
    missing = [name for name in left.missing_keys if name not in description.tied]
    if missing or left.unexpected_keys:
        raise BadInput(f"{step.actor}: tensor {(missing or left.unexpected_keys)[0]} does not fit the model's config.")
    model.tie_weights()
    generation = source / "generation_config.json"
    if generation.is_file():
        model.generation_config = transformers.GenerationConfig.from_pretrained(source)
    return model.to(device).eval()


def from_folder(folder: Path, device: str) -> Any:
    """The merged model as a later stage loads it. BadInput if a weight is missing, surplus, misshapen or not tied."""
    import transformers

    config = files.read_json(folder / "config.json")
    for key in ("architectures", "use_cache"):
        if not config.get(key):
            raise BadInput(f"{folder / 'config.json'} does not say {key} at top level: merge again.")
    cls = getattr(transformers, config["architectures"][0])
    model, info = cls.from_pretrained(folder, dtype="auto", output_loading_info=True, local_files_only=True)
    for what, names in info.items():
        if names:
            raise BadInput(f"{folder}: {what.replace('_', ' ')}: {sorted(map(str, names))[0]}; merge again.")
    owner, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    if bool(config.get("tie_word_embeddings")) != (owner.data_ptr() == head.data_ptr()):
        raise BadInput(f"{folder}: the head is not tied as config.json says; merge again.")
    return model.to(device).eval()


def answer(model: Any, processor: Any, row: dict[str, Any], tokens: int) -> tuple[str, Any]:
    """Greedy answer to one row and the logits after the question, float32 [vocabulary]."""
    import torch
    from PIL import Image

    content: list[dict[str, str]] = []
    for at, part in enumerate(row["problem"].split("<image>")):
        content += [{"type": "image"}] if at else []
        content += [{"type": "text", "text": part}] if part else []
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False)
    pictures = [Image.open(path).convert("RGB") for path in row["images"]]
    inputs = processor(text=[text], images=pictures, return_tensors="pt").to(model.device)
    with torch.no_grad():
        logits = model(**inputs).logits[0, -1].float().cpu()
        ids = model.generate(**inputs, max_new_tokens=tokens, do_sample=False, temperature=None, top_p=None, top_k=None)
    return processor.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True), logits


def compare(step: checkpoints.Step, folder: Path, row: dict[str, Any], dtype: str, device: str, tokens: int) -> dict:
    """Facts of the comparison. BadInput if the merged model answers otherwise than the shards."""
    import transformers

    transformers.logging.set_verbosity_error()
    processor = transformers.AutoProcessor.from_pretrained(folder, local_files_only=True)
    before, logits_before = answer(from_shards(step, dtype, device), processor, row, tokens)
    after, logits_after = answer(from_folder(folder, device), processor, row, tokens)
    difference = float((logits_before - logits_after).abs().max())
    if before != after or difference > 1e-5 * max(1.0, float(logits_before.abs().max())):
        raise BadInput(
            f"{folder} answers {after[:80]!r} where the shards of step {step.number} answer {before[:80]!r} (logits differ by "
            f"{difference:.3g}): merge again."
        )
    return {
        "step": step.number,
        "ranks": len(step.shards),
        "question": row["problem"],
        "answer_before": before,
        "answer_after": after,
        "equal": before == after,
        "largest_difference_of_logits": difference,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Check a merged model against the rank shards it came from.")
    parser.add_argument("--checkpoints", type=Path, required=True, help="folder with checkpoint_tracker.json")
    parser.add_argument("--model", type=Path, required=True, help="merged model folder")
    parser.add_argument("--pairs", type=Path, required=True, help="pair dataset; its first validation pair is asked")
    parser.add_argument("--input", type=Path, action="append", default=[], help="manifest of an input; may be repeated")
    parser.add_argument("--output", type=Path, required=True, help="what was compared (JSON)")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    parser.add_argument("--device", default="cpu", help="torch device that the models answer on")
    parser.add_argument("--max-new-tokens", type=int, default=256, help="most tokens of the answer")
    parser.add_argument("--parameters", help="JSON of grpo.merge (default: params.yaml)")
    parser.add_argument("--unsealed", action="store_true", help="accept a checkpoint without recorded hashes")
    arguments = parser.parse_args()
    parameters = params.section(arguments.parameters, "grpo.merge", Merge)
    step = checkpoints.select(arguments.checkpoints, parameters.step)
    if not arguments.unsealed:
        checkpoints.check_seal(step)
    row = read_rows(arguments.pairs / "val.parquet")[0]
    facts = compare(step, arguments.model, row, parameters.dtype, arguments.device, arguments.max_new_tokens)
    files.write_json(arguments.output, facts)
    print(f"step {facts['step']}: {facts['answer_after']!r} before and after the merge")
    if arguments.manifest:
        manifest.write(arguments.manifest, [arguments.output], parameters.model_dump(), arguments.input, facts)


if __name__ == "__main__":
    console.run(main)
