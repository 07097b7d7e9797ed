"""Where the words of a tracker that reads come from, by name.

    off         nowhere: no words
    class       the class of the sequence, where its benchmark names classes
    sentence    the dataset's sentence
    blip        a caption of every frame by BLIP, as DUTrack's published figures were made (no sentence of the dataset is used)
    blip-class  the same, its beginning given: the sequence's class
    model       the served language model, asked about every frame

The first three are chosen before a sequence starts (`first_words`) and ask nobody. The others are describers, callables
(frames, sentences) -> sentences.
"""

from __future__ import annotations

from collections.abc import Sequence as Series
from pathlib import Path

from workflow_scripts.asking import Question, Reply
from workflow_scripts.console import BadInput
from workflow_scripts.images import Image
from workflow_scripts.sequences import Sequence
from workflow_scripts.track.trackers.base import Asker, Describer, ModelDescriber

NAMES = ("off", "class", "sentence", "blip", "blip-class", "model")
CLASSES = ("lasot", "lasot_ext")  # benchmarks whose sequences are called <class>-<number>
CAPTION_TOKENS = 20  # BLIP's own limit, the prompt included; newer libraries would allow 20 more than the prompt
PROMPT_TOKENS = 12  # of those at most, so that words can follow
LONGEST_ANSWER = 40  # words of a sentence


def on_benchmark(name: str, benchmark: str) -> str:
    """`name`, with the class as the captions' beginning on the benchmarks where DUTrack's code gives it."""
    return "blip-class" if name == "blip" and benchmark in CLASSES else name


def first_words(sequence: Sequence, benchmark: str, name: str) -> str:
    """What a sequence starts with under the describer `name`. BadInput where a class is wanted and unknown."""
    if name == "off":
        return ""
    if name not in ("class", "blip-class"):
        return sequence.sentence
    found, dash, number = sequence.name.rpartition("-")
    if benchmark not in CLASSES or not dash or not number.isdigit():
        raise BadInput(
            f"the class of {sequence.name} is not known: of the benchmarks, {' and '.join(CLASSES)} name classes; "
            "choose another describer in track.describers."
        )
    return found


def by_name(
    name: str, ask: Asker | None = None, captioner: Path | str | None = None, device: str = "cpu", rows: int = 0
) -> Describer | None:
    """The describer called `name`, None where nobody is asked; `captioner` is BLIP's folder, `ask` the model's.

    BadInput for an unknown name and for a missing model.
    """
    if name not in NAMES:
        raise BadInput(f"There is no describer {name}: name one of {', '.join(NAMES)}, or give a callable.")
    if name.startswith("blip"):
        if captioner is None or not (Path(captioner) / "config.json").is_file():
            raise BadInput(f"describer {name} needs the folder of a BLIP captioning model, not {captioner}: give captioner.")
        return Blip(captioner, device, rows, prompted=name == "blip-class")
    if name != "model":
        return None
    if ask is None:
        raise BadInput("describer model needs a language model to question: give ask.")
    return ModelDescriber(ask, question, sentence)


def question(frame: Image, words: str) -> Question:
    """What a served model is asked about a frame, whole."""

    def usable(text: str) -> bool:
        return 0 < len(text.split()) <= LONGEST_ANSWER

    return Question((frame,), {"sentence": words or "the target"}, usable, "describe")


def sentence(reply: Reply, before: str) -> str:
    """The model's sentence; `before` where its answer was not usable."""
    return " ".join(reply.text.split()) if reply.usable else before


class Blip:
    """BLIP's captions of whole frames, greedy. `prompted`: a caption goes on from the words that come with its frame."""

    def __init__(self, folder: Path | str, device: str = "cpu", rows: int = 0, prompted: bool = False) -> None:
        """`folder` as on the hub; half precision on a GPU, as published.

        `rows` of every pass, the last frame repeated: captions then do not depend on the frames that share a call.
        """
        import torch
        from transformers import BertTokenizer, BlipForConditionalGeneration, BlipImageProcessorPil

        self.device, self.rows, self.prompted = device, rows, prompted
        self.dtype = torch.float32 if torch.device(device).type == "cpu" else torch.float16
        try:
            self.tokenizer = BertTokenizer.from_pretrained(folder, local_files_only=True)
            self.processor = BlipImageProcessorPil.from_pretrained(folder, local_files_only=True)
            model = BlipForConditionalGeneration.from_pretrained(folder, dtype=self.dtype, local_files_only=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise BadInput(f"{folder} holds no whole BLIP captioning model ({error}): fetch it again.") from None
        self.model = model.to(device).eval()

    def __call__(self, frames: Series[Image], words: Series[str]) -> list[str]:
        """Captions of frames uint8 [H,W,3], of any sizes, in their order."""
        given = [w if self.prompted else "" for w in words]
        prompts = [self.tokenizer(w, truncation=True, max_length=PROMPT_TOKENS).input_ids if w.strip() else [] for w in given]
        captions = [""] * len(prompts)
        for length in sorted({len(p) for p in prompts}):  # no prompt is padded
            members = [i for i, p in enumerate(prompts) if len(p) == length]
            size = self.rows or len(members)
            for at in range(0, len(members), size):
                part = members[at : at + size]
                filled = part + part[-1:] * (self.rows - len(part))
                said = self._captions([frames[i] for i in filled], [prompts[i] for i in filled])
                for i, caption in zip(part, said[: len(part)], strict=True):
                    captions[i] = caption
        return captions

    def _captions(self, frames: Series[Image], prompts: Series[list[int]]) -> list[str]:
        """One pass; the prompts' ids are equally many, or none."""
        import torch

        pixels = self.processor(images=list(frames), return_tensors="pt").pixel_values.to(self.device, self.dtype)
        ids = torch.tensor(prompts, device=self.device) if prompts[0] else None
        mask = None if ids is None else torch.ones_like(ids)
        greedy = {"max_length": CAPTION_TOKENS, "do_sample": False, "num_beams": 1}
        with torch.inference_mode():
            found = self.model.generate(pixels, input_ids=ids, attention_mask=mask, **greedy)
        return [c.strip() for c in self.tokenizer.batch_decode(found, skip_special_tokens=True)]
