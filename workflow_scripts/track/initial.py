"""Weights that a training starts from, by whichever network they were learnt.

Three kinds fit: weights of the same network (the authors' pre-trained DUTracks); a plain ViT that was pre-trained by masking
(MAE), for a SeqTrack's encoder; the small DUTrack's stem and trunk, for the small SeqTrack's encoder.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, cat, nn

from workflow_scripts.console import BadInput
from workflow_scripts.track import checkpoints
from workflow_scripts.track.networks.dutrack_small import SEGMENTS
from workflow_scripts.track.networks.seqtrack import SeqTrack

# Names elsewhere, and in a SeqTrack; the first pattern that fits a whole name counts.
RENAMED = (
    (r"backbone\.(blocks\.\d+)\.(qkv|proj)\.(\w+)", r"encoder.body.\1.attn.\2.\3"),
    (r"backbone\.(blocks\.\d+)\.(fc\d)\.(\w+)", r"encoder.body.\1.mlp.\2.\3"),
    (r"(?:backbone\.)?((?:patch_embed|blocks|norm)\..+)", r"encoder.body.\1"),
)


def take(network: nn.Module, path: Path) -> None:
    """Give `network` those of a checkpoint's tensors that fit it by name and shape. BadInput if none does."""
    state = checkpoints.read_checkpoint(path)
    if isinstance(network, SeqTrack):
        state = for_seqtrack(state, network)
    own = network.state_dict()
    fit = {name: tensor for name, tensor in state.items() if name in own and tensor.shape == own[name].shape}
    if not fit:
        raise BadInput(f"{path} holds nothing that this network could start from: give weights of its own or of its encoder.")
    missing = network.load_state_dict(fit, strict=False).missing_keys
    print(f"{path}: {len(fit)} tensors taken, {len(missing)} start fresh", flush=True)


def for_seqtrack(state: Mapping[str, Tensor], network: SeqTrack) -> dict[str, Tensor]:
    """The tensors under SeqTrack's names, with the positions of its encoder."""
    renamed = {}
    for name, tensor in state.items():
        found = next((re.sub(old, new, name) for old, new in RENAMED if re.fullmatch(old, name)), name)
        renamed[found] = tensor
    positions = None
    grids = network.config.grids
    if "backbone.segment_embed" in state:  # a small DUTrack tells templates from the search region by two more vectors
        segments = {name: state["backbone.segment_embed"][SEGMENTS.index(name)] for name in ("search", "template")}
        positions = [state["backbone.pos_embed_x"] + s for s in segments.values()]
    elif "pos_embed" in state and "cls_token" in state:  # a ViT: the first position is the class token's
        positions = [state["pos_embed"][:, 1:]] * 2
    if positions:
        rows = [resized(p, side) for p, side in zip(positions, grids, strict=True)]
        renamed["encoder.body.pos_embed"] = cat(rows, dim=1)
    return renamed


def resized(positions: Tensor, side: int) -> Tensor:
    """Positions [1, n * n, D] on a grid of `side` cells, bicubic between the corners' centres as published."""
    n = math.isqrt(positions.shape[1])
    if n == side:
        return positions
    square = positions.unflatten(1, (n, n)).permute(0, 3, 1, 2)
    return F.interpolate(square, (side, side), mode="bicubic", align_corners=True).flatten(2).transpose(1, 2)
