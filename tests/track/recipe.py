"""The deterministic weights and the synthetic sequence of the recorded golden runs.

No checkpoint is needed to compare a network with a recorded run: every tensor follows from its state-dict key alone. NumPy's
legacy `RandomState` is used because its bit stream is frozen by NumPy's own policy.

- `weights(key, shape, kind)`: the value of one tensor.
- `fill(network, kind)`: give a whole network its values; returns their CRC-32, to be compared with the recorded one.
- `render(i)`: frame i of the sequence (RGB, integer arithmetic only) and its true box.
- `statistics(t)`: the figures that were recorded of an activation.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch

WIDTH, HEIGHT = 320, 240
POSITIONS = {"pos_embed", "pos_embed_x", "pos_embed_z", "temporal_token", "temporal_pos_embed"}
GAINS = {
    "seqtrack": {"vocab_embed.layers.2.weight": 6.0},
    "dutrack": {"box_head.conv5_ctr.weight": 3.0},
}


def normals(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32 standard normals seeded by the key, row-major."""
    count = int(np.prod(shape, dtype=np.int64))
    return np.random.RandomState(zlib.crc32(key.encode())).standard_normal(count).astype(np.float32).reshape(shape)


def weights(key: str, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Value of the tensor `key` of a `kind` ("seqtrack" or "dutrack") network; float32, int64 for counters."""
    name = key.rsplit(".", 1)[-1]
    if name == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    n = normals(key, shape)

    def affine(centre: float, spread: float) -> np.ndarray:
        return np.float32(centre) + np.float32(spread) * n

    if name == "running_var":
        return 1 + np.float32(0.1) * np.abs(n)
    if name == "running_mean":
        return np.float32(0.05) * n
    if name.startswith("gamma_"):
        return affine(0.3, 0.05)
    if name in POSITIONS:
        return np.float32(0.2) * n
    if kind == "dutrack" and key == "backbone.norm.weight":
        return affine(0.15, 0.02)
    if kind == "dutrack" and key == "backbone.norm.bias":
        return np.float32(0.01) * n
    if len(shape) == 1:
        if name == "weight":
            return 1 + np.float32(0.1) * n
        if kind == "seqtrack" and key == "vocab_embed.layers.2.bias":  # two bumps keep the boxes at a sane size
            t = np.arange(shape[0], dtype=np.float64) / 3999.0
            bumps = 4.4 * np.exp(-(((t - 0.25) / 0.08) ** 2)) + 3.4 * np.exp(-(((t - 0.5) / 0.08) ** 2))
            return (bumps + 0.05 * n).astype(np.float32)
        if kind == "dutrack" and key == "box_head.conv5_size.bias":
            return affine(-0.2, 0.05)
        return np.float32(0.05) * n
    if key.endswith(("embeddings.weight", "embed.weight")):
        return np.float32(0.5) * n
    gain = GAINS[kind].get(key, 1.0)
    if key.endswith("self_attn.in_proj_weight"):
        gain = 2.0
    if key.startswith("box_head.conv") and key.endswith(".0.weight"):
        gain = 1.4
    return np.float32(gain / np.sqrt(int(np.prod(shape[1:], dtype=np.int64)))) * n


def fill(network: torch.nn.Module, kind: str) -> int:
    """Load the recipe's weights into `network` in place; returns the CRC-32 over all tensors in sorted key order."""
    crc = 0
    state = network.state_dict()
    for key in sorted(state):
        value = np.ascontiguousarray(weights(key, tuple(state[key].shape), kind))
        crc = zlib.crc32(value.tobytes(), crc)
        state[key].copy_(torch.from_numpy(value).reshape(state[key].shape))
    return crc


def render(i: int, width: int = WIDTH, height: int = HEIGHT) -> tuple[np.ndarray, list[float]]:
    """Frame i, uint8 RGB [height, width, 3], and the target's box (xywh pixels). A green distractor drifts to the left."""
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    red = x * 160 // width + (y // 24 % 2) * 30
    green = y * 180 // height + (x // 32 % 2) * 25
    blue = (x + y) * 120 // (width + height) + 60
    image = np.stack([red, green, blue], axis=-1)

    def draw(left: int, top: int, w: int, h: int, colour: tuple[int, int, int], tile: int) -> None:
        inside = (x >= left) & (x < left + w) & (y >= top) & (y < top + h)
        checks = ((x - left) // tile + (y - top) // tile) % 2 * 60
        painted = np.clip(np.array(colour) + checks[..., None], 0, 255)
        image[inside] = painted[inside]

    draw(230 - 6 * i, 150, 40, 50, (30, 160, 60), 10)
    left, top, w, h = 20 + 13 * i, 30 + 7 * i - i * i // 8, 48 + i % 5, 36 + i // 4
    draw(left, top, w, h, (190, 40, 40), 6)
    return image.astype(np.uint8), [float(left), float(top), float(w), float(h)]


def statistics(t: torch.Tensor) -> dict:
    """Mean, standard deviation, L2 norm, largest magnitude (float64) and twelve evenly spaced samples of a tensor."""
    flat = t.detach().float().contiguous().flatten().double()
    at = torch.linspace(0, flat.numel() - 1, 12).long()
    return {
        "shape": list(t.shape),
        "mean": flat.mean().item(),
        "std": flat.std(unbiased=False).item(),
        "l2": flat.norm().item(),
        "absmax": flat.abs().max().item(),
        "sample": flat[at].tolist(),
    }
