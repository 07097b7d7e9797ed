"""SeqTrack: a plain ViT over search region and templates, and a small decoder that writes the box as four words.

- one-stream encoder without a class token; tokens are ordered [search, template 1, template 2], and both templates have
  the same positions
- the vocabulary: words 0..bins-1 are coordinates, `bins` is END, `bins` + 1 is START; the box is (cx, cy, w, h) in
  fractions of the crop
- the decoder is a post-norm (DETR-like) transformer; positions join queries and keys, never values

Exact savings over a direct reading of the paper:
- fold: while both templates are the same tensor their tokens stay equal in every layer, so one copy is kept and log 2 is
  added to the attention logits of its keys (sequence 3N -> 2N)
- fused attention throughout; the last encoder block computes queries and MLP for the search tokens only, as nobody reads
  the others
- the decoder projects the memory to keys and values once a frame, and caches its own keys and values from word to word
- on a CPU the encoder's weights are packed for the kernels that multiply with them (packed.py)

State-dict names are those of the authors' checkpoints. Shapes in comments: B batch, N tokens of the search region, Nz of a
template, L words, D width of the encoder, C width of the decoder.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workflow_scripts.track.networks import packed
from workflow_scripts.track.networks.dutrack_small import ConvStem, sine_positions

Patches = tuple[Tensor, ...]
KeyValue = tuple[Tensor, Tensor]
Observer = Callable[[str, Tensor], None]


@dataclass(frozen=True)
class SeqTrackConfig:
    image: int = 256  # side of the search region, pixels
    factor: float = 4.0  # of that side in units of sqrt(w * h)
    template: int = 256  # the same of a template
    template_factor: float = 4.0
    patch: int = 16
    stem: tuple[int, ...] = ()  # widths of a convolutional stem before the encoder; none: each patch is projected
    dim: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: int = 4
    hidden: int = 256  # width of the decoder
    bins: int = 4000  # words for a coordinate; END and START follow
    decoder_layers: int = 2
    decoder_heads: int = 8
    feedforward: int = 1024
    dropout: float = 0.1  # decoder, in training only
    ordered: bool = False  # words and places start as sines of their coordinates: what one learns its neighbours know

    @property
    def grids(self) -> tuple[int, int]:
        """Sides of the token grids of the search region and of a template."""
        return self.image // self.patch, self.template // self.patch

    @property
    def tokens(self) -> int:
        """Tokens of the search region."""
        return self.grids[0] ** 2

    @property
    def template_tokens(self) -> int:
        return self.grids[1] ** 2

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SeqTrackConfig:
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


_OFFICIAL = {
    "seqtrack_b256": SeqTrackConfig(),
    "seqtrack_b384": SeqTrackConfig(image=384, template=384),
    "seqtrack_l256": SeqTrackConfig(dim=1024, depth=24, heads=16),
    "seqtrack_l384": SeqTrackConfig(image=384, template=384, dim=1024, depth=24, heads=16),
}
CONFIGS = {
    **_OFFICIAL,
    **{f"{name}_got": config for name, config in _OFFICIAL.items()},  # the same networks, trained on GOT-10k alone
    # The mini study's: crops, stem and encoder of the small DUTrack, whose weights it starts from.
    "seqtrack_small": SeqTrackConfig(
        image=128,
        template=64,
        template_factor=2.0,
        stem=(48, 96),
        dim=128,
        depth=4,
        heads=4,
        mlp_ratio=2,
        hidden=128,
        bins=100,
        decoder_heads=4,
        feedforward=256,
        dropout=0.0,
        ordered=True,
    ),
}


def split_heads(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)  # [B,N,D] -> [B,heads,N,D/heads]


def merge_heads(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)  # [B,heads,N,D/heads] -> [B,N,D]


class EncoderAttention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, queries: int | None, bias: Tensor | None) -> Tensor:
        """Attention of the first `queries` tokens (None: all) to all; `bias` [1,1,1,N] is added to the keys' logits."""
        if queries is None:
            q, k, v = self.qkv(x).chunk(3, dim=-1)
        else:
            dim = x.shape[-1]
            q = F.linear(x[:, :queries], self.qkv.weight[:dim], self.qkv.bias[:dim])
            k, v = F.linear(x, self.qkv.weight[dim:], self.qkv.bias[dim:]).chunk(2, dim=-1)
        q, k, v = (split_heads(t, self.heads) for t in (q, k, v))
        if bias is not None:
            bias = bias.to(q.dtype).expand(1, 1, q.shape[2], -1)
        return self.proj(merge_heads(F.scaled_dot_product_attention(q, k, v, attn_mask=bias)))


class EncoderMlp(nn.Module):
    def __init__(self, dim: int, ratio: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, ratio * dim)
        self.fc2 = nn.Linear(ratio * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class EncoderBlock(nn.Module):
    def __init__(self, config: SeqTrackConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.dim, eps=1e-6)
        self.attn = EncoderAttention(config.dim, config.heads)
        self.norm2 = nn.LayerNorm(config.dim, eps=1e-6)
        self.mlp = EncoderMlp(config.dim, config.mlp_ratio)

    def forward(self, x: Tensor, queries: int | None = None, bias: Tensor | None = None) -> Tensor:
        x = x[:, :queries] + self.attn(self.norm1(x), queries, bias)
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, patch: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch, patch)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)  # [B,3,S,S] -> [B,N,D], row-major


class VisionTransformer(nn.Module):
    def __init__(self, config: SeqTrackConfig) -> None:
        super().__init__()
        self.patch_embed = ConvStem(config.stem, config.dim) if config.stem else PatchEmbed(config.patch, config.dim)
        rows = config.tokens + config.template_tokens  # the search region's come first
        self.pos_embed = nn.Parameter(torch.zeros(1, rows, config.dim))
        self.blocks = nn.ModuleList(EncoderBlock(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)

    def forward(self, search: Tensor, templates: Patches, folded: bool, whole: bool, observe: Observer | None) -> Tensor:
        n = search.shape[1]
        x = torch.cat([search, *templates], dim=1)  # [B,N+T*Nz,D]
        bias = None
        if folded:
            bias = x.new_zeros(1, 1, 1, x.shape[1])
            bias[..., n:] = math.log(2)
        last = len(self.blocks) - 1
        for i, block in enumerate(self.blocks):
            x = block(x, n if i == last and not whole else None, bias)
            if observe is not None:
                observe(f"block{i}", x)
        return self.norm(x)


class Encoder(nn.Module):
    """Holds `body`: the checkpoints' names have this level."""

    def __init__(self, config: SeqTrackConfig) -> None:
        super().__init__()
        self.body = VisionTransformer(config)


class DecoderAttention(nn.Module):
    """Multi-head attention with packed input weights (rows: query, key, value), whose parts can be called one by one."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_proj_weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(3 * dim, dim)))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)

    def project(self, x: Tensor, part: int) -> Tensor:
        weight, bias = self.in_proj_weight.chunk(3)[part], self.in_proj_bias.chunk(3)[part]
        return split_heads(F.linear(x, weight, bias), self.heads)  # [B,heads,L,C/heads]

    def key_value(self, keys: Tensor, values: Tensor) -> KeyValue:
        return self.project(keys, 1), self.project(values, 2)

    def forward(self, queries: Tensor, key_value: KeyValue, causal: bool = False) -> Tensor:
        q, (k, v) = self.project(queries, 0), key_value
        if q.shape[2] == 1 and not self.training:
            # One word: nothing to fuse. Scaling both sides keeps float32's error in the confidences at its smallest.
            scale = q.shape[-1] ** -0.25
            heads = ((q * scale) @ (k * scale).transpose(-2, -1)).softmax(dim=-1) @ v
        else:
            dropout = self.dropout if self.training else 0.0
            heads = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=causal)
        return self.out_proj(merge_heads(heads))


class DecoderLayer(nn.Module):
    def __init__(self, config: SeqTrackConfig) -> None:
        super().__init__()
        dim = config.hidden
        self.self_attn = DecoderAttention(dim, config.decoder_heads, config.dropout)
        self.multihead_attn = DecoderAttention(dim, config.decoder_heads, config.dropout)
        self.linear1 = nn.Linear(dim, config.feedforward)
        self.linear2 = nn.Linear(config.feedforward, dim)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, t: Tensor, position: Tensor, memory: KeyValue, past: KeyValue | None) -> tuple[Tensor, KeyValue]:
        """Words t [B,L,C]. With `past` the words continue it, one at a time; without it they are attended causally."""
        key_value = self.self_attn.key_value(t + position, t)
        if past is not None:
            key_value = tuple(torch.cat(pair, dim=2) for pair in zip(past, key_value, strict=True))
        t = self.norm1(t + self.drop(self.self_attn(t + position, key_value, causal=past is None)))
        t = self.norm2(t + self.drop(self.multihead_attn(t + position, memory)))
        t = self.norm3(t + self.drop(self.linear2(self.drop(F.relu(self.linear1(t))))))
        return t, key_value


class WordEmbedding(nn.Module):
    def __init__(self, config: SeqTrackConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.bins + 2, config.hidden)
        self.position_embeddings = nn.Embedding(5, config.hidden)  # added to queries and keys only
        self.LayerNorm = nn.LayerNorm(config.hidden)

    def forward(self, words: Tensor) -> Tensor:
        return self.LayerNorm(self.word_embeddings(words))


class DecoderBody(nn.Module):
    def __init__(self, config: SeqTrackConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(config.hidden)


class Decoder(nn.Module):
    def __init__(self, config: SeqTrackConfig) -> None:
        super().__init__()
        self.embedding = WordEmbedding(config)
        self.body = DecoderBody(config)

    def memory(self, features: Tensor, positions: Tensor) -> list[KeyValue]:
        """Keys and values of the search features [B,N,C] in every layer; needed once a frame."""
        return [layer.multihead_attn.key_value(features + positions, features) for layer in self.body.layers]

    def forward(
        self, words: Tensor, memory: list[KeyValue], past: list[KeyValue] | None = None
    ) -> tuple[Tensor, list[KeyValue]]:
        """Features [B,L,C] of the words [B,L], and each layer's own keys and values, to be handed back as `past`."""
        done = past[0][0].shape[2] if past else 0
        positions = self.embedding.position_embeddings.weight[done : done + words.shape[1]]
        t, cache = self.embedding(words), []
        for i, layer in enumerate(self.body.layers):
            t, key_value = layer(t, positions, memory[i], past[i] if past else None)
            cache.append(key_value)
        return self.body.norm(t), cache


class WordHead(nn.Module):
    def __init__(self, config: SeqTrackConfig) -> None:
        super().__init__()
        c = config.hidden
        self.layers = nn.ModuleList([nn.Linear(c, c), nn.Linear(c, c), nn.Linear(c, config.bins + 2)])

    def forward(self, t: Tensor) -> Tensor:
        return self.layers[2](F.relu(self.layers[1](F.relu(self.layers[0](t)))))


def sinusoids(rows: int, dim: int) -> Tensor:
    """The fixed table [1,rows,dim] from which `pos_embed` starts: sine at even columns, cosine at odd ones."""
    column = torch.arange(dim)
    angle = torch.arange(rows)[:, None] / 10000 ** (2 * (column // 2) / dim)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos())[None].float()


class SeqTrack(nn.Module):
    def __init__(self, config: SeqTrackConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.bottleneck = nn.Linear(config.dim, config.hidden) if config.dim != config.hidden else nn.Identity()
        self.pos_embed = nn.Parameter(sinusoids(config.tokens, config.hidden))
        self.decoder = Decoder(config)
        self.vocab_embed = WordHead(config)
        # np.hanning's window over the bins; double, because the recorded confidences are products in double.
        n = torch.arange(config.bins, dtype=torch.float64)
        self.register_buffer("window", 0.5 - 0.5 * torch.cos(2 * math.pi * n / (config.bins - 1)), persistent=False)

    def reset(self) -> None:
        """Values to train from: Xavier for every matrix, as in the authors' decoder, and small normals for positions."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.xavier_uniform_(module.weight)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.encoder.body.pos_embed, std=0.02)
        if self.config.ordered:
            bins, half = self.config.bins, self.config.hidden // 2
            angle = torch.linspace(0, 1, bins)[:, None] * torch.pi * 64 * torch.arange(1, half + 1) / half
            words = torch.cat([angle.sin(), angle.cos()], dim=1)  # [bins,C], up to 32 waves from the first bin to the last
            with torch.no_grad():
                self.decoder.embedding.word_embeddings.weight[:bins] = words
                self.vocab_embed.layers[-1].weight[:bins] = 0.1 * words
                self.pos_embed.copy_(sine_positions(self.config.grids[0], self.config.hidden))

    def pack(self) -> None:
        """Make the encoder faster for inference on a CPU, in float32; weights that change afterwards are not seen."""
        packed.pack(self.encoder.body.blocks, rows=self.config.tokens + self.config.template_tokens)

    def embed_search(self, images: Tensor) -> Tensor:
        """Normalised search regions [B,3,S,S] -> tokens with position [B,N,D]."""
        body = self.encoder.body
        return body.patch_embed(images) + body.pos_embed[:, : self.config.tokens]

    def embed_template(self, images: Tensor) -> Tensor:
        """Normalised templates [B,3,S,S] -> tokens with position [B,Nz,D]; the same rows serve every template."""
        body = self.encoder.body
        return body.patch_embed(images) + body.pos_embed[:, self.config.tokens :]

    def encode(self, search: Tensor, templates: Patches, whole: bool = False, observe: Observer | None = None) -> Tensor:
        """Search features [B,N,C] from embedded tokens. One template stands for two equal ones (the fold).

        `whole` keeps the template tokens through the last block, and `observe(name, tensor)` sees each block's output: both
        are for comparing with recorded activations.
        """
        x = self.encoder.body(search, templates, len(templates) == 1, whole, observe)
        if observe is not None:
            observe("encoder_norm", x)
        features = self.bottleneck(x[:, : self.config.tokens])
        if observe is not None:
            observe("bottleneck", features)
        return features

    def logits(self, features: Tensor, words: Tensor) -> Tensor:
        """Teacher-forced logits [B,L,bins+2] for input words [B,L] = START, cx, cy, w, h."""
        t, _ = self.decoder(words, self.decoder.memory(features, self.pos_embed))
        return self.vocab_embed(t)

    def decode(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Greedy words [B,4] = cx, cy, w, h in bins and their probabilities [B,4] (float64), those of the centre windowed.

        The softmax is over the whole vocabulary; END and START are dropped after it without renormalising.
        """
        bins = self.config.bins
        memory = self.decoder.memory(features, self.pos_embed)
        word = torch.full((len(features), 1), bins + 1, device=features.device)
        words, confidences, past = [], [], None
        for i in range(4):
            t, past = self.decoder(word, memory, past)
            p = self.vocab_embed(t[:, -1]).float().softmax(dim=-1)[:, :bins].double()
            if i < 2:
                p = p * self.window
            confidence, word = p.max(dim=-1, keepdim=True)
            words.append(word)
            confidences.append(confidence)
        return torch.cat(words, dim=1), torch.cat(confidences, dim=1)
