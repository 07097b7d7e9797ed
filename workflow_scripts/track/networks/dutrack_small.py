"""Backbone of the mini study's DUTrack: 0.98 M parameters with its head, made to be trained from scratch on one core.

What differs from the official backbone, and why:
- a three-layer convolutional stem with batch norm learns faster than the deep stem without attention
- positions start as 2-D sines and cosines, and each kind of token has an embedding of its own
- an own vocabulary of a few dozen words, one learnt query
- ordinary pre-norm blocks with GELU
Shapes as in dutrack.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from workflow_scripts.track.networks.dutrack import DUTrackConfig

SEGMENTS = ("query", "text", "template", "search")


def sine_positions(side: int, dim: int) -> Tensor:
    """[1, side*side, dim]: half of the channels tell the row, half the column, as sines and cosines."""
    # Wavelengths from 6 to 600 cells: the grids have 4 and 8 cells a side.
    frequencies = 1.0 / 100.0 ** (torch.arange(dim // 4) / (dim // 4))
    angles = (torch.arange(side) + 0.5)[:, None] * frequencies  # [side, dim/4]
    line = torch.cat([angles.sin(), angles.cos()], 1)  # [side, dim/2]
    rows = line[:, None].expand(side, side, -1)
    columns = line[None].expand(side, side, -1)
    return torch.cat([rows, columns], 2).reshape(1, side * side, dim)


class ConvStem(nn.Sequential):
    """Crops [B,3,S,S] to tokens [B,N,D] of 16 pixels, row-major."""

    def __init__(self, widths: tuple[int, ...], dim: int) -> None:
        narrow, wide = widths
        super().__init__(
            nn.Conv2d(3, narrow, 4, 4),
            nn.BatchNorm2d(narrow),
            nn.ReLU(),
            nn.Conv2d(narrow, wide, 3, 2, 1),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
            nn.Conv2d(wide, dim, 3, 2, 1),
        )

    def forward(self, crops: Tensor) -> Tensor:
        return super().forward(crops.contiguous(memory_format=torch.channels_last)).flatten(2).transpose(1, 2)


class SmallBlock(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """x [B,N,D] -> [B,N,D]; with ``keep`` (row indices) only those rows are computed."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if keep is not None:
            x, q = x[:, keep], q[:, :, keep]
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class SmallBackbone(nn.Module):
    """Convolutional stem, word embeddings and a short trunk."""

    def __init__(self, config: DUTrackConfig) -> None:
        super().__init__()
        dim = config.dim
        self.patch_embed = ConvStem(config.stem_widths, dim)
        self.pos_embed_z = nn.Parameter(sine_positions(config.template_size // config.stride, dim))
        self.pos_embed_x = nn.Parameter(sine_positions(config.grid, dim))
        self.segment_embed = nn.Parameter(0.02 * torch.randn(len(SEGMENTS), dim))
        self.query_token = nn.Parameter(0.02 * torch.randn(1, 1, dim))
        self.word_embeddings = nn.Embedding(config.vocabulary_size, dim)
        nn.init.normal_(self.word_embeddings.weight, std=0.02)  # small, so that words move fast to what they name
        self.position_embeddings = nn.Parameter(0.02 * torch.randn(1, config.text_length, dim))
        self.text_norm = nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(SmallBlock(dim, config.heads, config.mlp_hidden) for _ in range(config.depth))
        self.norm = nn.LayerNorm(dim)

    def segment(self, name: str) -> Tensor:
        return self.segment_embed[SEGMENTS.index(name)]

    def template(self, crops: Tensor) -> Tensor:
        return self.patch_embed(crops) + self.pos_embed_z + self.segment("template")

    def search(self, crops: Tensor) -> Tensor:
        return self.patch_embed(crops) + self.pos_embed_x + self.segment("search")

    def text(self, ids: Tensor) -> Tensor:
        return self.text_norm(self.word_embeddings(ids) + self.position_embeddings) + self.segment("text")

    def query(self) -> Tensor:
        return self.query_token + self.segment("query")

    def fuse(self, tokens: Tensor, keep: Tensor) -> Tensor:
        for block in self.blocks[:-1]:
            tokens = block(tokens)
        return self.norm(self.blocks[-1](tokens, keep))
