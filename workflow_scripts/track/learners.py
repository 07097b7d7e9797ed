"""What the two families of networks learn from a batch: DUTrack boxes on a map, SeqTrack words. train.py knows neither.

A learner is a module, so that torch's distributed wrapper sees one forward pass a step. It has the network, the shape of
its crops, the vocabulary that is saved with it, names for the parts of its loss, and it says which parameters learn at the
full rate.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from workflow_scripts.console import BadInput
from workflow_scripts.params.track import Train
from workflow_scripts.track import losses
from workflow_scripts.track.crops import normalise
from workflow_scripts.track.networks import dutrack, seqtrack
from workflow_scripts.track.sampler import Batch, Shape
from workflow_scripts.track.texts import COLOURS, SHAPES, TEXTURES, Tokenizer, small_vocabulary

FAMILIES = (COLOURS, TEXTURES, SHAPES)  # words of which a sentence has one each

Parts = tuple[float, ...]  # of the loss, as named by a learner's `parts`; the last is always the mean IoU


class DUTrackLearner(nn.Module):
    """GIoU, L1 and focal loss of each search frame; the query is carried from one to the next."""

    parts = ("giou", "l1", "focal", "iou")

    def __init__(self, p: Train, sentences: list[str], vocabulary: str = "") -> None:
        super().__init__()
        config = dutrack.VARIANTS[p.network]
        small = config.backbone == "small"
        if p.alignment and not small:
            raise BadInput(f"{p.network} does not learn by alignment: set alignment to 0 in its recipe.")
        self.tokenise = Tokenizer(small_vocabulary(sentences)) if small else Tokenizer.from_file(vocabulary, config.cased)
        self.network = dutrack.DUTrack(replace(config, vocabulary_size=len(self.tokenise)) if small else config)
        self.shape = Shape(config.search_size, config.search_factor, config.template_size, config.template_factor)
        self.vocabulary = self.tokenise.words
        self.p = p

    def full_rate(self, name: str) -> bool:
        return name.startswith("box_head.")

    def forward(self, batch: Batch) -> tuple[Tensor, Parts]:
        """Loss of one batch summed over its search frames, and its parts, means over the frames."""
        network, p = self.network, self.p
        device = network.backbone.pos_embed_x.device
        b, t = batch.templates.shape[:2]
        memory = network.embed_template(normalise(batch.templates.reshape(b * t, *batch.templates.shape[2:]), device))
        memory = memory.unflatten(0, (b, t))  # [B, T, Nz, D]
        text = network.embed_text(torch.from_numpy(self.tokenise(batch.sentences)).to(device))
        weights = losses.Weights(p.giou, p.l1, p.focal)
        query, parts, named = None, [], []
        reader = Reader(network, self.tokenise, batch.sentences) if p.alignment else None
        for search, target in zip(batch.searches, batch.boxes, strict=True):
            output = network(normalise(search, device), memory, text, query)
            target = torch.from_numpy(target).to(device)
            score, size, offset = output.score.float(), output.size.float(), output.offset.float()
            parts.append(losses.tracking_loss(score, size, offset, target, weights, p.decode_at))
            query = output.query.detach()  # the next frame reads it, no gradient flows back in time
            if reader:
                named.append(reader.loss(target))
        total = torch.stack([part.total for part in parts]).sum()
        if reader:
            total = total + p.alignment * torch.stack(named).sum()
            reader.close()
        means = np.mean([(part.giou, part.l1, part.focal, part.iou) for part in parts], axis=0)
        return total, tuple(means.tolist())


class Reader:
    """Names the targets from what the small network's stem says of them, while the network runs on search crops."""

    def __init__(self, network: dutrack.DUTrack, tokenise: Tokenizer, sentences: list[str]) -> None:
        backbone, device = network.backbone, network.backbone.word_embeddings.weight.device
        self.words = backbone.text_norm(backbone.word_embeddings.weight)  # [V, D]
        ids = torch.from_numpy(tokenise(sentences))  # [B, 16]
        self.named = torch.zeros(len(sentences), len(tokenise), dtype=torch.bool).scatter_(1, ids, True).to(device)
        self.families = [[tokenise.ids[w] for w in family if w in tokenise.ids] for family in FAMILIES]
        self.features: Tensor | None = None  # [B, F * F, D] of the stem's last pass
        self.hook = backbone.patch_embed.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.features = output

    def loss(self, target: Tensor) -> Tensor:
        """Alignment loss of the targets [B, 4] in the search crops that the network has just seen."""
        return losses.alignment_loss(losses.features_at(self.features, target), self.words, self.named, self.families)

    def close(self) -> None:
        self.hook.remove()


class SeqTrackLearner(nn.Module):
    """Cross-entropy of the words that spell each search frame's box, the words before each told."""

    parts = ("iou",)
    vocabulary = None  # it reads no sentence

    def __init__(self, p: Train) -> None:
        super().__init__()
        config = seqtrack.CONFIGS[p.network]
        self.network = seqtrack.SeqTrack(config)
        self.network.reset()
        self.shape = Shape(config.image, config.factor, config.template, config.template_factor)
        self.p = p

    def full_rate(self, name: str) -> bool:
        return not name.startswith("encoder.")

    def forward(self, batch: Batch) -> tuple[Tensor, Parts]:
        """Mean loss over the search frames of a batch, and the mean IoU of the likeliest words."""
        network, (b, t), k = self.network, batch.templates.shape[:2], len(batch.searches)
        device, bins = network.pos_embed.device, network.config.bins
        templates = network.embed_template(normalise(batch.templates.reshape(b * t, *batch.templates.shape[2:]), device))
        templates = templates.unflatten(0, (b, t)).repeat(k, 1, 1, 1)  # [K * B, T, N, D]
        search = network.embed_search(normalise(batch.searches.reshape(k * b, *batch.searches.shape[2:]), device))
        target = torch.from_numpy(batch.boxes.reshape(k * b, 4)).to(device)
        words = losses.words_of(target, bins)
        told = torch.cat([torch.full_like(words[:, :1], bins + 1), words], dim=1)  # START first
        logits = network.logits(network.encode(search, templates.unbind(1)), told).float()  # [K * B, 5, bins + 2]
        said = logits.detach()[:, :4, :bins].argmax(-1) / (bins - 1)
        iou = losses.overlaps(said, target)[0].mean()
        return losses.word_loss(logits, target, self.p.end, self.p.soften), (float(iou),)


Learner = DUTrackLearner | SeqTrackLearner


def learner_of(p: Train, sentences: list[str], vocabulary: str = "") -> Learner:
    """The learner of a recipe, its weights fresh. `vocabulary` is BERT's file, for the official networks that read."""
    torch.manual_seed(p.seed)
    if p.network in dutrack.VARIANTS:
        learner: Learner = DUTrackLearner(p, sentences, vocabulary)
    elif p.network in seqtrack.CONFIGS:
        learner = SeqTrackLearner(p)
    else:
        known = ", ".join((*dutrack.VARIANTS, *seqtrack.CONFIGS))
        raise BadInput(f"there is no network called {p.network}: a recipe's network is one of {known}.")
    for part in frozen_parts(learner, p):
        part.requires_grad_(False)
    return learner


def frozen_parts(learner: Learner, p: Train) -> list[nn.Module]:
    """Modules that stay as they start; in training, too, they work as at test."""
    parts = dict(learner.network.named_modules())
    for name in p.frozen:
        if name not in parts:
            known = ", ".join(n for n in parts if n and n.count(".") < 3)
            raise BadInput(f"{p.network} has no part {name} that could be frozen; there are: {known}.")
    return [parts[name] for name in p.frozen]
