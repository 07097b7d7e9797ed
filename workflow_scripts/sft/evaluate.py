"""Verb: what the fine-tuned model answers to held-out pairs, decoded greedily; and to the same with the second frame blanked.

The blanked control tells seeing from guessing: a model that answers as well without the second frame has learnt the sentences.
Rendered pairs are scored by their attributes (workflow_scripts.pairs), those that are views by themselves; published rows by
their own answers.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workflow_scripts import answers, boxes, console, files, images, manifest, pairs, params
from workflow_scripts.params.sft import Evaluate, Pixels
from workflow_scripts.sft import rows
from workflow_scripts.sft.rows import Row

SHOWN = 8  # answers kept in the metrics file


def score(row: Row, text: str) -> dict[str, float]:
    """Marks of one answer, each in 0..1; a row whose own answer is a box (R1-Track) is marked by the overlap with it.

    Without known attributes, `words` is the share of the reference's words that are said.
    """
    if "before" in row:
        return asdict(pairs.score(text, pairs.Target(**row["before"]), pairs.Target(**row["after"])))
    if (right_box := answers.parse_box(rows.response(row))) is not None:
        box = answers.parse_box(text)
        both = [boxes.xyxy_to_xywh(np.array(b)) for b in (box, right_box)] if box else None
        overlap = float(boxes.intersection_over_union(*both)) if both else 0.0
        return {"format": float(box is not None), "iou": overlap}
    said, right = answers.parse(text), answers.parse(rows.response(row))
    if not said.well_formed or not right.well_formed:
        return asdict(pairs.Score(float(said.well_formed), 0.0, 0.0, 0.0))
    words, wanted = ({w.strip(".,") for w in (a.sentence or "").casefold().split()} for a in (said, right))
    decision = float(said.decision == right.decision)
    return asdict(pairs.Score(1.0, decision, len(words & wanted) / len(wanted), float(words == wanted)))


def messages(row: Row) -> list[dict[str, Any]]:
    """The row as a conversation, its pictures where its <image> tags are."""
    content: list[dict[str, Any]] = []
    for at, text in enumerate(rows.question(row).split(rows.IMAGE)):
        content += [{"type": "image"}] if at else []
        content += [{"type": "text", "text": text}] if text else []
    system = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    return [*system, {"role": "user", "content": content}]


class Decoder:
    """A model with its processor, ready to answer rows greedily."""

    def __init__(self, folder: Path, pixels: Pixels, settings: Evaluate) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        if settings.device == "cuda" and not torch.cuda.is_available():
            raise console.BadInput(
                "sft.evaluate.device is cuda, but there is no GPU here: run on a GPU node, or set it to cpu."
            )
        self.processor = AutoProcessor.from_pretrained(folder)
        self.processor.tokenizer.padding_side = "left"
        model = AutoModelForImageTextToText.from_pretrained(folder, torch_dtype="auto")
        self.model = model.to(settings.device).eval()
        self.pixels, self.settings = pixels, settings

    @torch.inference_mode()
    def answer(self, batch: Sequence[Row], blank_second: bool = False) -> list[str]:
        """Texts for a batch of rows."""
        pictures = []
        for row in batch:
            shown = [
                images.fit_pixels(images.read_rgb(path), self.pixels.min_pixels, self.pixels.max_pixels)
                for path in row["images"]
            ]
            pictures += [*shown[:1], *(np.full_like(p, 128) if blank_second else p for p in shown[1:])]
        texts = [self.processor.apply_chat_template(messages(row), add_generation_prompt=True, tokenize=False) for row in batch]
        inputs = self.processor(text=texts, images=pictures, return_tensors="pt", padding=True).to(self.settings.device)
        greedy = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        output = self.model.generate(**inputs, max_new_tokens=self.settings.max_new_tokens, **greedy)
        return self.processor.tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def marks(decoder: Decoder, heldout: Sequence[Row], blank_second: bool) -> tuple[dict[str, float], list[str]]:
    """Mean marks over the held-out rows, and the texts."""
    size, texts = decoder.settings.batch, []
    name = "second frame blanked" if blank_second else "as they are"
    for at in console.progress(range(0, len(heldout), size), f"held-out pairs, {name}"):
        texts += decoder.answer(heldout[at : at + size], blank_second)
    scores = [score(row, text) for row, text in zip(heldout, texts, strict=True)]
    return {key: round(float(np.mean([s[key] for s in scores])), 4) for key in scores[0]}, texts


def measure(decoder: Decoder, heldout: Sequence[Row]) -> dict[str, Any]:
    """Marks of the answers to the pairs as they are and with the second frame blanked, and some of the answers."""
    seen, texts = marks(decoder, heldout, blank_second=False)
    blanked, _ = marks(decoder, heldout, blank_second=True)
    shown = [
        {"asked": rows.question(row).replace(rows.IMAGE, ""), "answered": text, "right": rows.response(row)}
        for row, text in list(zip(heldout, texts, strict=True))[:SHOWN]
    ]
    return {"pairs": len(heldout), "heldout": seen, "second_frame_blanked": blanked, "examples": shown}


def is_view(row: Row) -> bool:
    """Whether a rendered row shows a view, whose targets have no place."""
    return "before" in row and not row["before"]["place"]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--dataset", type=Path, required=True, help="rewritten dataset folder: its heldout.json is asked")
    parser.add_argument("--output", type=Path, required=True, help="metrics JSON to write")
    parser.add_argument("--parameters", help="JSON of sft.evaluate (default: params.yaml)")
    parser.add_argument("--pixels", help="JSON of sft.pixels (default: params.yaml)")
    parser.add_argument("--input", type=Path, action="append", default=[], help="manifest it was made from, recorded")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    flags = parser.parse_args()
    settings = params.section(flags.parameters, "sft.evaluate", Evaluate)
    pixels = params.section(flags.pixels, "sft.pixels", Pixels)
    heldout = files.read_json(flags.dataset / "heldout.json")
    if not heldout:
        raise console.BadInput(f"{flags.dataset}/heldout.json is empty: raise sft.runs.*.rows.heldout and rewrite again.")
    decoder = Decoder(flags.model, pixels, settings)
    views = [row for row in heldout if is_view(row)]
    metrics = measure(decoder, [row for row in heldout if not is_view(row)])
    metrics |= {"views": measure(decoder, views)} if views else {}
    files.write_json(flags.output, metrics)
    for kind, measured in [("", metrics), *([("views ", metrics["views"])] if views else [])]:
        print(f"{kind}held out {measured['heldout']}\n{kind}blanked  {measured['second_frame_blanked']}")
    if flags.manifest:
        used = {"evaluate": settings.model_dump(), "pixels": pixels.model_dump()}
        facts = {"heldout": metrics["heldout"], "blanked": metrics["second_frame_blanked"]}
        facts |= {"views": metrics["views"]["heldout"]} if views else {}
        manifest.write(flags.manifest, [flags.output], used, flags.input, facts)


if __name__ == "__main__":
    console.run(main)
