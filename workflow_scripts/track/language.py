"""Does a trained tracker read its sentence? The pick test, and the test split's AUC with right, empty and wrong sentences.

    python -m workflow_scripts.track.language --index results/mini/data/tnllt.npz \\
        --weights results/mini/track/weights/dutrack --output results/mini/track/language.json

Pick test: sequences that begin in grey, so that no template of frame 0 holds the colour that the sentence names. For some
later frames the network gets the template of frame 0 and a search crop, off-centre by up to one size, and picks a cell;
a hit is within half a size of the true centre. Only the sentence tells the target from its look-alikes, so the same
crops with an empty or a wrong sentence (another colour) must do worse. Free of the luck of free-running tracks, unlike AUC.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import zlib
from collections.abc import Sequence as Series
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from workflow_scripts import boxes, console, files, images, manifest, params, sequences
from workflow_scripts.console import BadInput
from workflow_scripts.params.track import Language, Run
from workflow_scripts.sequences import Sequence
from workflow_scripts.track import crops, load_tracker, measure, runner
from workflow_scripts.track.networks.dutrack import decode

COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan")  # one luminance in grey: nothing but the word tells them
COLOUR_WORD = re.compile(rf"\b({'|'.join(COLOURS)})\b")
GREY_SPREAD = 6.0  # mean difference of the largest and smallest channel, in grey levels, below which a frame has no colour
VERSIONS = ("right", "empty", "wrong")


def reworded(sequence: Sequence, version: str) -> str:
    """The sequence's own sentence, an empty one, or its sentence with another colour (the same one at every call)."""
    if version == "right":
        return sequence.sentence
    if version == "empty":
        return ""
    seed = zlib.crc32(sequence.name.encode())
    others = lambda word: [c for c in COLOURS if c != word]  # noqa: E731
    return COLOUR_WORD.sub(lambda m: others(m.group())[seed % (len(COLOURS) - 1)], sequence.sentence)


def is_grey(frame: images.Image) -> bool:
    """True for a frame without colour, noise aside."""
    small = frame[::4, ::4].astype(np.int16)
    return float((small.max(axis=-1) - small.min(axis=-1)).mean()) < GREY_SPREAD


def coloured_frames(sequence: Sequence) -> NDArray[np.int64]:
    """Numbers of the frames that show the target in colour, if frame 0 is grey and the sentence names a colour; else none."""
    if not COLOUR_WORD.search(sequence.sentence) or not is_grey(images.read_rgb(sequence.frames[0])):
        return np.empty(0, np.int64)
    shown = np.flatnonzero(sequence.present & (sequence.boxes[:, 2:] > 1).all(axis=1))
    first = next((f for f in range(len(sequence)) if not is_grey(images.read_rgb(sequence.frames[f]))), len(sequence))
    return shown[shown >= first]


@torch.inference_mode()
def pick_test(
    network, tokenise, chosen: Series[Sequence], per_sequence: int, seed: int, device: str = "cpu"
) -> dict[str, float]:
    """Share of hits by version of the sentence, the number of sequences and of crops. BadInput where no sequence is fit."""
    config = network.config
    hits: dict[str, list[NDArray[np.bool_]]] = {v: [] for v in VERSIONS}
    used = 0
    for sequence in chosen:
        numbers = coloured_frames(sequence)
        if len(numbers) == 0:
            continue
        used += 1
        rng = np.random.default_rng([seed, zlib.crc32(sequence.name.encode())])
        numbers = numbers[np.unique(np.linspace(0, len(numbers) - 1, per_sequence).round().astype(int))]
        truth = sequence.boxes[numbers]  # [n, 4]
        size = np.sqrt(truth[:, 2:].prod(axis=1, keepdims=True))  # [n, 1]
        around = np.concatenate([truth[:, :2] + rng.uniform(-1, 1, (len(numbers), 2)) * size, truth[:, 2:]], axis=1)
        frames = [images.read_rgb(sequence.frames[n]) for n in numbers]
        patches, factors = crops.crop_batch(frames, around, config.search_factor, config.search_size)
        template, _ = crops.crop(
            images.read_rgb(sequence.frames[0]), sequence.boxes[0], config.template_factor, config.template_size
        )
        memory = network.embed_template(crops.normalise(template[None], device))[None].expand(len(numbers), -1, -1, -1)
        search = crops.normalise(patches, device)
        for version in VERSIONS:
            ids = torch.from_numpy(tokenise([reworded(sequence, version)] * len(numbers))).to(device)
            picked, _, _ = decode(network(search, memory, network.embed_text(ids)))
            answer = crops.map_back(picked.float().cpu().numpy(), around, config.search_size, factors)
            hits[version].append(boxes.centre_error(answer, truth) < size[:, 0] / 2)
    if not used:
        raise BadInput(
            "the pick test needs sequences that begin in grey and name a colour: the split has none; render the mini study's."
        )
    shares = {v: float(np.concatenate(h).mean()) for v, h in hits.items()}
    return {**shares, "sequences": used, "crops": int(sum(map(len, hits["right"])))}


def sentence_auc(tracker, chosen: Series[Sequence], run: Run) -> dict[str, float]:
    """Mean AUC of the sequences by version of the sentence."""
    result = {}
    for version in VERSIONS:
        told = [replace(s, sentence=reworded(s, version)) for s in chosen]
        with tempfile.TemporaryDirectory() as folder:
            failures = runner.run_sequences(
                tracker, told, Path(folder), run.batch, run.readers, run.ahead, description=f"{version} sentence, frames"
            )
            if failures:
                name, why = next(iter(failures.items()))
                raise BadInput(f"sequence {name}, {why}")
            found = {s.name: runner.read_boxes(Path(folder) / f"{s.name}.txt") for s in chosen}
        result[version] = measure.mean_auc(found, chosen)
    return result


def verdict(pick: dict[str, float], auc: dict[str, float], gate: float) -> dict[str, object]:
    """What goes into language.json: all figures, the pick test's margin, and whether it passes the gate."""
    margin = pick["right"] - max(pick["empty"], pick["wrong"])
    rounded = lambda d: {k: round(v, 4) for k, v in d.items()}  # noqa: E731
    return {"pick": rounded(pick), "auc": rounded(auc), "margin": round(margin, 4), "gate": gate, "pass": margin >= gate}


def readable(result: dict) -> str:
    """The verdict as a small table."""
    lines = [f"{'sentence':<10}{'pick test':>10}{'AUC':>10}"]
    lines += [f"{v:<10}{result['pick'][v]:>10.3f}{100 * result['auc'][v]:>10.1f}" for v in VERSIONS]
    outcome = "passes" if result["pass"] else "FAILS"
    lines.append(f"the tracker reads its sentence: margin {result['margin']:.3f} {outcome} the gate of {result['gate']:.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--index", type=Path, required=True, help="index of the benchmark (.npz)")
    parser.add_argument("--split", default="test", help="split to test on")
    parser.add_argument("--weights", type=Path, required=True, help="folder of the trained DUTrack")
    parser.add_argument("--parameters", help="track.language as JSON (default: params.yaml)")
    parser.add_argument("--batch", type=int, default=8, help="sequences in lockstep")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--output", type=Path, required=True, help="metrics file (.json)")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    arguments = parser.parse_args()
    p = params.section(arguments.parameters, "track.language", Language)
    chosen = [s for s in sequences.read_index(arguments.index, split=arguments.split) if not s.first_frame_only]
    runner.check_sequences(chosen)
    tracker = load_tracker("dutrack", weights=arguments.weights, device=arguments.device, rows=arguments.batch)
    pick = pick_test(tracker.network, tracker.tokenizer, chosen, p.crops, p.seed, arguments.device)
    auc = sentence_auc(tracker, chosen, Run(batch=arguments.batch, device=arguments.device))
    result = verdict(pick, auc, p.gate)
    files.write_json(arguments.output, result)
    print(readable(result), flush=True)
    if arguments.manifest:
        manifest.write(arguments.manifest, [arguments.output], p.model_dump(mode="json"), [arguments.index], result)


if __name__ == "__main__":
    console.run(main)
