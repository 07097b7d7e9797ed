"""Trackers by name. torch is imported only for those that need it.

Names: the classic ones (static, kcf, csrt, mosse); ``dutrack`` and ``seqtrack`` for whatever network the weights are of,
or a variant's name (dutrack_384_full, seqtrack_b256, ...) where the weights must be that variant's; ``reasoningtrack``,
a DUTrack whose sentence is questioned; ``r1track``, a language model that is asked for every box.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow_scripts import files
from workflow_scripts.console import BadInput
from workflow_scripts.params.track import CLASSIC
from workflow_scripts.track import describers
from workflow_scripts.track.trackers.base import Asker, Describer, Tracker

if TYPE_CHECKING:
    from torch import Tensor, nn

FAMILIES = ("dutrack", "seqtrack", "reasoningtrack")


def load_tracker(
    name: str,
    weights: Path | str | Mapping[str, Tensor] | None = None,
    benchmark: str = "lasot",
    device: str = "cpu",
    vocabulary: Path | str | None = None,
    describer: Describer | str | None = None,
    ask: Asker | None = None,
    rows: int = 0,
    precision: str = "fp32",
    compiled: bool = False,
    captioner: Path | str | None = None,
    **options: Any,
) -> Tracker:
    """A ready tracker.

    weights: folder with weights.safetensors and config.json, an authors' .pth.tar, a .safetensors file, or a state dict.
    benchmark: whose settings are used where a tracker has such (SeqTrack's template update).
    vocabulary: file for networks that read; by default vocabulary.txt of the weights' folder.
    describer: ``(frames, sentences) -> sentences``, or a name of track.describers; None, "off", "class" and "sentence" keep
    the given sentence. A DUTrack asks it every frame, reasoningtrack when its rule wants a new text.
    captioner: folder of the model of describer "blip".
    rows: a network's passes always have this many rows, so that boxes depend on it alone and not on which sequences
    happen to run together; 0 for as many as there are.
    ask: the model of reasoningtrack, of r1track and of describer "model", questions to answers (trackers.base.Asker).
    precision, compiled: of a network's inference (track.precision); the classic trackers have neither.
    options: the Rule of reasoningtrack or r1track by field (reproduce_paper, ...).

    BadInput for unknown names, a device that is not there, and for weights or vocabularies that are missing or do not fit.
    """
    if name in CLASSIC:
        _refuse(options, name)
        from workflow_scripts.track.trackers import classic

        return classic.load(name)
    if name == "r1track":
        return _r1track(ask, options)
    if name.split("_")[0] not in FAMILIES:
        known = ", ".join((*CLASSIC, *FAMILIES, "r1track"))
        raise BadInput(f"There is no tracker {name}: name one of {known}, or a variant such as dutrack_256_full.")
    from workflow_scripts.track.precision import device_of

    place = device_of(device)
    if isinstance(describer, str):
        describer = describers.by_name(describer, ask, captioner, device, rows)
    network, folder = load_network(name, weights)
    network = network.to(place)
    if name.startswith("seqtrack"):
        _refuse(options, name)
        return _seqtrack(network, name, benchmark, rows=rows, precision=precision, compiled=compiled)
    words = vocabulary or (folder and folder / "vocabulary.txt")
    return _dutrack(network, name, words, describer, ask, options, rows=rows, precision=precision, compiled=compiled)


def load_network(name: str, weights: Path | str | Mapping[str, Tensor] | None) -> tuple[nn.Module, Path | None]:
    """The network, in evaluation mode on the CPU, and the folder it came from (None where it was no folder of ours)."""
    from workflow_scripts.track import checkpoints
    from workflow_scripts.track.convert import VARIANTS, network_of

    if weights is None:
        raise BadInput(f"{name} needs weights: give the folder of a trained network, or an authors' checkpoint.")
    folder = None
    if isinstance(weights, Mapping):
        state, source = weights, "the state dict"
    else:
        state, source = checkpoints.read_checkpoint(weights), str(weights)
        folder = Path(weights) if Path(weights).is_dir() else None
    if folder is not None:
        config = files.read_json(folder / checkpoints.CONFIG)
        family, given = name.split("_")[0].replace("reasoningtrack", "dutrack"), str(config.get("variant"))
        if not given.startswith(family) or (name in VARIANTS and family == "dutrack" and given != name):
            raise BadInput(f"{folder} holds weights of {given}, not of {name}: give the right folder or tracker.")
        network = checkpoints.make_network(config, str(folder / checkpoints.CONFIG))
    else:
        variant = name if name in VARIANTS else infer_variant(state)
        network = network_of(variant)
        if variant == "dutrack_small":  # its vocabulary is made with its weights
            words = state["backbone.word_embeddings.weight"].shape[0]
            network = checkpoints.make_network({**network.config.to_dict(), "vocabulary_size": words})
    checkpoints.load_exactly(network, state, source)
    return network, folder


def infer_variant(state: Mapping[str, Tensor]) -> str:
    """Best guess from names and shapes (a got variant cannot be told from a full one); load_exactly then decides."""
    if "backbone.query_token" in state:
        return "dutrack_small"
    if "backbone.pos_embed_x" in state:
        return "dutrack_384_full" if state["backbone.pos_embed_x"].shape[1] == 576 else "dutrack_256_full"
    positions = state.get("encoder.body.pos_embed")
    if positions is not None:
        size = {512: "256", 1152: "384"}.get(positions.shape[1])
        width = {768: "b", 1024: "l"}.get(positions.shape[2])
        return f"seqtrack_{width}{size}" if size and width else "seqtrack_small"
    raise BadInput("These weights are neither of DUTrack nor of SeqTrack: give a checkpoint of one of them.")


def _seqtrack(network: nn.Module, name: str, benchmark: str, **how: Any) -> Tracker:
    from workflow_scripts.track.networks.seqtrack import CONFIGS
    from workflow_scripts.track.trackers.seqtrack import SeqTrackTracker, update_rule

    if network.config != CONFIGS.get(name, network.config):
        raise BadInput(f"The weights are not of {name} (its configuration differs): give the right folder or tracker.")
    variant = name if name in CONFIGS else next((n for n, config in CONFIGS.items() if config == network.config), name)
    return SeqTrackTracker(network, update_rule(variant, benchmark), **how)


def _dutrack(
    network: nn.Module,
    name: str,
    vocabulary: Path | str | None,
    describer: Describer | None,
    ask: Asker | None,
    options: Mapping[str, Any],
    **how: Any,
) -> Tracker:
    from workflow_scripts.track.texts import Tokenizer
    from workflow_scripts.track.trackers.dutrack import DUTracker

    if vocabulary is None:
        raise BadInput(f"{name} needs the vocabulary file that its network was trained with: give vocabulary.")
    tokenizer = Tokenizer.from_file(vocabulary, network.config.cased)
    if len(tokenizer) > network.config.vocabulary_size:
        raise BadInput(
            f"{vocabulary} has {len(tokenizer)} words, the network {network.config.vocabulary_size}: give the network's own."
        )
    if name != "reasoningtrack":
        _refuse(options, name)
        return DUTracker(network, tokenizer, describer, **how)
    from workflow_scripts.track.trackers.reasoningtrack import ReasoningTracker, Rule

    if (ask is None) == (describer is None):
        raise BadInput("reasoningtrack needs a model to question: give either ask or a describer.")
    _refuse(set(options) - set(Rule.__dataclass_fields__), name)
    return ReasoningTracker(DUTracker(network, tokenizer, **how), ask, describer, replace(Rule(), **options))


def _r1track(ask: Asker | None, options: Mapping[str, Any]) -> Tracker:
    from workflow_scripts.track.trackers.r1track import R1Tracker, Rule

    if ask is None:
        raise BadInput("r1track is a language model that is asked for every box: give ask.")
    _refuse(set(options) - set(Rule.__dataclass_fields__), "r1track")
    return R1Tracker(ask, Rule(**options))


def _refuse(options: Any, name: str) -> None:
    if options:
        raise BadInput(f"{name} has no option {', '.join(sorted(options))}.")
