"""DUTrack: a one-stream tracker that reads a sentence, written from its specification.

Notable features:
- the stem of Fast-iTPN base turns a crop into stride-16 tokens; templates and search region share it
- the sentence enters as BERT embeddings only (16 ids, no BERT layer, padding takes part in attention)
- one trunk attends over [query | 16 text | T templates | search] without any mask
- 3 query tokens are carried from frame to frame: the first 3 rows of the previous output
- the search tokens, weighted by their product with query 0, go through a convolutional centre head

Templates, text and search are embedded by functions of their own, so that a tracker caches what does not change.
Parameter names are those of the authors' checkpoints. The mini study's variant (dutrack_small.py) has another backbone
and the same interface. Shapes: B batch, N tokens, D width, T templates, F the side of the search token grid.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workflow_scripts.track.networks.dutrack_small import SmallBackbone


@dataclass(frozen=True)
class DUTrackConfig:
    """Everything that tells one variant from another; the defaults are dutrack_256_full."""

    variant: str = "dutrack_256_full"
    backbone: str = "fast_itpn"  # fast_itpn (official) | small
    search_size: int = 256  # pixels; the search crop is search_factor times the target's size
    search_factor: float = 4.0
    template_size: int = 128
    template_factor: float = 2.0
    template_number: int = 3  # memory segments at test time: up to template_number + 1 templates
    stem_widths: tuple[int, ...] = (128, 256)  # the last width is dim
    dim: int = 512
    depth: int = 24  # blocks of the trunk, the stem's not counted
    heads: int = 8
    mlp_hidden: int = 1536
    text_length: int = 16
    vocabulary_size: int = 30522
    cased: bool = False  # which tokenisation the vocabulary is for
    query_tokens: int = 3  # carried from frame to frame
    head_widths: tuple[int, ...] = (256, 128, 64, 32)
    scaled_attention: bool = False  # divide search . query by sqrt(dim): needed when training from scratch
    score_bias: float = 0.0  # initial biases of the head's last layers
    size_bias: float = 0.0
    drop_path: float = 0.1  # training only; grows linearly over the blocks
    text_dropout: float = 0.1

    @property
    def stride(self) -> int:
        return 16

    @property
    def grid(self) -> int:
        """F: side of the search token grid."""
        return self.search_size // self.stride

    @property
    def template_tokens(self) -> int:
        return (self.template_size // self.stride) ** 2

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DUTrackConfig:
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


_FULL_256 = DUTrackConfig()
_FULL_384 = replace(_FULL_256, variant="dutrack_384_full", search_size=384, search_factor=5.0, template_size=192)
VARIANTS: dict[str, DUTrackConfig] = {
    "dutrack_256_full": _FULL_256,
    "dutrack_384_full": _FULL_384,
    "dutrack_256_got": replace(_FULL_256, variant="dutrack_256_got", template_number=4),
    "dutrack_384_got": replace(_FULL_384, variant="dutrack_384_got", template_number=4),
    # 0.98 M parameters; learns to track and to read in minutes on one core
    "dutrack_small": DUTrackConfig(
        variant="dutrack_small",
        backbone="small",
        search_size=128,
        template_size=64,
        stem_widths=(48, 96),
        dim=128,
        depth=4,
        heads=4,
        mlp_hidden=256,
        vocabulary_size=48,
        head_widths=(64, 32),
        scaled_attention=True,
        score_bias=-3.0,
        size_bias=-1.1,
        drop_path=0.0,
        text_dropout=0.0,
    ),
}


class DUTrackOutput(NamedTuple):
    score: Tensor  # [B,1,F,F] in [1e-4, 1-1e-4]: probability that the target's centre is in the cell
    size: Tensor  # [B,2,F,F] width and height as fractions of the search crop
    offset: Tensor  # [B,2,F,F] x and y of the centre inside its cell, in cells
    query: Tensor  # [B,3,D] to be given with the next frame


def _drop_path(x: Tensor, rate: float, training: bool) -> Tensor:
    """Drop a residual branch for a random part of the batch (stochastic depth)."""
    if not training or rate == 0.0:
        return x
    keep = torch.rand(x.shape[0], *[1] * (x.dim() - 1), device=x.device) >= rate
    return x * keep / (1.0 - rate)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of [B,C,H,W]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvMlp(nn.Module):
    """1x1 convolution, norm, 1x1 convolution on [B,C,H,W]."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden, 1)
        self.ffn_ln = ChannelNorm(hidden, eps=1e-6)
        self.fc2 = nn.Conv2d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.ffn_ln(F.gelu(self.fc1(x))))


class StemBlock(nn.Module):
    """Stem block without attention."""

    def __init__(self, dim: int, drop_path: float) -> None:
        super().__init__()
        self.norm2 = ChannelNorm(dim, eps=1e-6)
        self.mlp = ConvMlp(dim, 3 * dim)
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        return x + _drop_path(self.mlp(self.norm2(x)), self.drop_path, self.training)


class PatchMerge(nn.Module):
    """Half the resolution, twice the width."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(dim, eps=1e-6)
        self.reduction = nn.Conv2d(dim, 2 * dim, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.reduction(self.norm(x))


class Attention(nn.Module):
    """Multi-head attention; queries and values have a bias, keys have none."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(dim, dim, bias=False)
        self.k_proj = nn.Linear(dim, dim, bias=False)
        self.v_proj = nn.Linear(dim, dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.v_bias = nn.Parameter(torch.zeros(dim))
        self.proj = nn.Linear(dim, dim)

    def forward(self, rows: Tensor, x: Tensor) -> Tensor:
        """Rows [B,M,D] attend over x [B,N,D]."""

        def split(t: Tensor) -> Tensor:  # [B,N,D] -> [B,heads,N,D/heads]
            return t.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        q = split(F.linear(rows, self.q_proj.weight, self.q_bias))
        k = split(self.k_proj(x))
        v = split(F.linear(x, self.v_proj.weight, self.v_bias))
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class SwiGLU(nn.Module):
    """Gated feed-forward with a norm inside."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(dim, hidden)
        self.w2 = nn.Linear(dim, hidden)
        self.ffn_ln = nn.LayerNorm(hidden, eps=1e-6)
        self.w3 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.w3(self.ffn_ln(F.silu(self.w1(x)) * self.w2(x)))


class TrunkBlock(nn.Module):
    """Pre-norm transformer block with a learnt scale on both residual branches."""

    def __init__(self, config: DUTrackConfig, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.dim, eps=1e-6)
        self.attn = Attention(config.dim, config.heads)
        self.norm2 = nn.LayerNorm(config.dim, eps=1e-6)
        self.mlp = SwiGLU(config.dim, config.mlp_hidden)
        self.gamma_1 = nn.Parameter(torch.full((config.dim,), 0.1))
        self.gamma_2 = nn.Parameter(torch.full((config.dim,), 0.1))
        self.drop_path = drop_path

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """x [B,N,D] -> [B,N,D]; with ``keep`` (row indices) only those rows are computed."""
        normed = self.norm1(x)
        rows = normed
        if keep is not None:
            x, rows = x[:, keep], normed[:, keep]
        x = x + _drop_path(self.gamma_1 * self.attn(rows, normed), self.drop_path, self.training)
        return x + _drop_path(self.gamma_2 * self.mlp(self.norm2(x)), self.drop_path, self.training)


class BertEmbeddings(nn.Module):
    """The embedding layer of BERT: word + position + type 0, then a norm."""

    def __init__(self, config: DUTrackConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocabulary_size, config.dim, padding_idx=0)
        self.position_embeddings = nn.Embedding(40, config.dim)
        self.token_type_embeddings = nn.Embedding(2, config.dim)
        self.LayerNorm = nn.LayerNorm(config.dim, eps=1e-12)
        self.dropout = nn.Dropout(config.text_dropout)

    def forward(self, ids: Tensor) -> Tensor:
        positions = self.position_embeddings.weight[: ids.shape[1]]
        x = self.word_embeddings(ids) + positions + self.token_type_embeddings.weight[0]
        return self.dropout(self.LayerNorm(x))


class PositionTable(nn.Module):
    """Second position table of the text branch; it has more rows than are ever used."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(512, dim)

    def forward(self, length: int) -> Tensor:
        return self.embed.weight[:length]


class FastITPN(nn.Module):
    """Fast-iTPN base: 8 stem blocks without attention, then the fusing trunk. Numbered as in the checkpoints."""

    def __init__(self, config: DUTrackConfig) -> None:
        super().__init__()
        self.config = config
        narrow, wide = config.stem_widths
        residual_blocks = config.depth + 6
        rates = [config.drop_path * i / (residual_blocks - 1) for i in range(residual_blocks)]
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, narrow, 4, 4)
        stem = [StemBlock(narrow, r) for r in rates[:3]] + [PatchMerge(narrow)]
        stem += [StemBlock(wide, r) for r in rates[3:6]] + [PatchMerge(wide)]
        self.blocks = nn.ModuleList(stem + [TrunkBlock(config, r) for r in rates[6:]])
        self.stem_blocks = len(stem)
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        self.descript_embedding = BertEmbeddings(config)
        self.description_patch_pos_embed = PositionTable(config.dim)
        # Never read by forward; it is in the checkpoints, from which the two tables below were once resized.
        self.pos_embed = nn.Parameter(torch.zeros(1, 196, config.dim), requires_grad=False)
        self.pos_embed_z = nn.Parameter(torch.zeros(1, config.template_tokens, config.dim))
        self.pos_embed_x = nn.Parameter(torch.zeros(1, config.grid**2, config.dim))
        self.temporal_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.temporal_pos_embed = nn.Parameter(torch.zeros(1, 1, config.dim))
        for table in (self.pos_embed, self.pos_embed_z, self.pos_embed_x, self.temporal_token, self.temporal_pos_embed):
            nn.init.trunc_normal_(table, std=0.02)
        for table in self.descript_embedding.children():
            if isinstance(table, nn.Embedding):
                nn.init.normal_(table.weight, std=0.02)

    def stem(self, crops: Tensor) -> Tensor:
        x = self.patch_embed.proj(crops)  # [B,128,H/4,W/4]
        for block in self.blocks[: self.stem_blocks]:
            x = block(x)
        return x.flatten(2).transpose(1, 2)  # [B,N,512], row-major

    def template(self, crops: Tensor) -> Tensor:
        return self.stem(crops) + self.pos_embed_z

    def search(self, crops: Tensor) -> Tensor:
        return self.stem(crops) + self.pos_embed_x

    def text(self, ids: Tensor) -> Tensor:
        return self.descript_embedding(ids) + self.description_patch_pos_embed(ids.shape[1])

    def query(self) -> Tensor:
        return self.temporal_token + self.temporal_pos_embed  # [1,1,D]

    def fuse(self, tokens: Tensor, keep: Tensor) -> Tensor:
        trunk = self.blocks[self.stem_blocks :]
        for block in trunk[:-1]:
            tokens = block(tokens)
        return self.norm(trunk[-1](tokens, keep))


class CenterHead(nn.Module):
    """Three convolutional branches on the search grid: score (ctr), offset and size."""

    def __init__(self, config: DUTrackConfig) -> None:
        super().__init__()
        self.depth = len(config.head_widths) + 1
        for branch, channels in (("ctr", 1), ("offset", 2), ("size", 2)):
            width = config.dim
            for level, out in enumerate(config.head_widths, start=1):
                layers = nn.Sequential(nn.Conv2d(width, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU())
                self.add_module(f"conv{level}_{branch}", layers)
                width = out
            self.add_module(f"conv{self.depth}_{branch}", nn.Conv2d(width, channels, 1))
        nn.init.constant_(self.get_submodule(f"conv{self.depth}_ctr").bias, config.score_bias)
        nn.init.constant_(self.get_submodule(f"conv{self.depth}_size").bias, config.size_bias)

    def _branch(self, x: Tensor, name: str) -> Tensor:
        for level in range(1, self.depth + 1):
            x = self.get_submodule(f"conv{level}_{name}")(x)
        return x

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [B,D,F,F] -> score [B,1,F,F], size [B,2,F,F], offset [B,2,F,F]."""
        score = self._branch(x, "ctr").sigmoid().clamp(1e-4, 1 - 1e-4)
        size = self._branch(x, "size").sigmoid().clamp(1e-4, 1 - 1e-4)
        return score, size, self._branch(x, "offset")


class DUTrack(nn.Module):
    """The network of every variant. Crops are normalised float [.,3,H,W] (crops.normalise)."""

    def __init__(self, config: DUTrackConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = FastITPN(config) if config.backbone == "fast_itpn" else SmallBackbone(config)
        self.box_head = CenterHead(config)

    def embed_template(self, crops: Tensor) -> Tensor:
        """Template crops [N,3,t,t] -> features [N,Nz,D], position included; independent of one another."""
        return self.backbone.template(crops)

    def embed_search(self, crops: Tensor) -> Tensor:
        """Search crops [B,3,s,s] -> features [B,F*F,D], position included."""
        return self.backbone.search(crops)

    def embed_text(self, ids: Tensor) -> Tensor:
        """Token ids int64 [B,16] -> features [B,16,D]."""
        return self.backbone.text(ids)

    def initial_query(self, batch: int) -> Tensor:
        """Query [B,1,D] of a sequence's first frame."""
        return self.backbone.query().expand(batch, -1, -1)

    def forward(self, search: Tensor, templates: Tensor, text: Tensor, query: Tensor | None = None) -> DUTrackOutput:
        """One frame.

        search [B,3,s,s]; templates [B,T,Nz,D] from embed_template, oldest first; text [B,16,D] from embed_text;
        query [B,3,D] of the previous frame, None on the first.
        """
        return self.locate(self.embed_search(search), templates, text, query)

    def locate(self, x: Tensor, templates: Tensor, text: Tensor, query: Tensor | None = None) -> DUTrackOutput:
        """`forward` from the search region's features [B,F*F,D] on."""
        if query is None:
            query = self.initial_query(x.shape[0])
        grid, count = self.config.grid, self.config.query_tokens
        tokens = torch.cat([query, text, templates.flatten(1, 2), x], 1)  # [B,N,D]
        # Of the last block's output only the next query and the search tokens are read.
        total = tokens.shape[1]
        rows = torch.arange(total, device=tokens.device)
        tokens = self.backbone.fuse(tokens, torch.cat([rows[:count], rows[total - grid * grid :]]))
        query, x = tokens[:, :count], tokens[:, count:]
        attention = x @ query[:, :1].transpose(1, 2)  # [B,F*F,1]
        if self.config.scaled_attention:
            attention = attention * self.config.dim**-0.5
        grid_map = (x * attention).transpose(1, 2).unflatten(2, (grid, grid))  # [B,D,F,F]
        return DUTrackOutput(*self.box_head(grid_map), query)


def hann_window(size: int, device: torch.device | str = "cpu") -> Tensor:
    """[F,F] Hann window without zeros at its ends: the prior that the target has not moved far."""
    steps = torch.arange(1, size + 1, dtype=torch.float32, device=device)
    line = 0.5 * (1 - torch.cos(2 * torch.pi * steps / (size + 1)))
    return line[:, None] * line[None, :]


def decode(output: DUTrackOutput, window: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes at the (windowed) score's first maximum.

    Returns cx, cy, w, h [B,4] as fractions of the search crop, the raw score there [B], and the flat cell index [B].
    """
    score, side = output.score, output.score.shape[-1]
    weighted = score if window is None else score * window
    cell = weighted.flatten(1).argmax(1)  # [B]
    here = cell[:, None, None].expand(-1, 2, 1)
    size = output.size.flatten(2).gather(2, here)[..., 0]
    offset = output.offset.flatten(2).gather(2, here)[..., 0]
    centre = (torch.stack([cell % side, cell // side], 1) + offset) / side
    return torch.cat([centre, size], 1), score.flatten(1).gather(1, cell[:, None])[:, 0], cell


def build(config: DUTrackConfig) -> DUTrack:
    """The network of a config with fresh weights, in evaluation mode."""
    return DUTrack(config).eval()
