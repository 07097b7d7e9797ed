"""Coloured, textured shapes: how they look, how a sentence names them, and how they are drawn into a frame.

A sprite is a 96x96 premultiplied RGBA image. Its outline is kept as a polygon as well, so that the ground truth is the
exact box of the drawn shape and no matter of thresholds. Coordinates are continuous: pixel i covers [i, i + 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

SIDE = 96
SUPERSAMPLING = 4
COLOURS = {
    "red": (222, 46, 46),
    "green": (46, 190, 60),
    "blue": (56, 78, 226),
    "yellow": (228, 208, 48),
    "purple": (176, 56, 204),
    "cyan": (48, 200, 212),
    "orange": (236, 138, 36),
    "white": (238, 238, 238),
}
# Colours that keep their name at any one luminance: dark orange is brown and dark white is grey.
LANGUAGE_COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan")
TEXTURES = ("plain", "striped", "dotted", "checkered")
SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond")
LUMINANCE = np.array([0.299, 0.587, 0.114])
DARK = 0.25


@dataclass(frozen=True)
class Look:
    """What a sentence can say of an object."""

    colour: str
    texture: str
    shape: str


@dataclass(frozen=True)
class Sprite:
    """Premultiplied RGBA images [S,S,4] float32 (colours 0-255, alpha 0-1) at halving sizes; outline [N,2] in -0.5..0.5."""

    pyramid: tuple[np.ndarray, ...]
    outline: np.ndarray


def sentence(look: Look, rng: np.random.Generator) -> str:
    """``[track] the|a <colour> <texture> <shape> [that moves | moving over the background]``."""
    start = "track " if rng.random() < 0.5 else ""
    article = "the" if rng.random() < 0.5 else "a"
    end = ("", " that moves", " moving over the background")[rng.integers(3)]
    return f"{start}{article} {look.colour} {look.texture} {look.shape}{end}"


def outline(shape: str) -> np.ndarray:
    """The shape's polygon [N,2] within the unit square around the origin."""
    if shape == "circle":
        turns = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        return 0.47 * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    if shape == "square":
        return 0.43 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float)
    if shape == "triangle":
        return np.array([[0, -0.47], [0.47, 0.43], [-0.47, 0.43]])
    if shape == "star":
        turns = -np.pi / 2 + np.arange(10) * np.pi / 5
        radii = np.where(np.arange(10) % 2, 0.22, 0.48)
        return radii[:, None] * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    if shape == "cross":
        a, b = 0.16, 0.46
        corners = [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)]
        return np.array(corners)
    if shape == "diamond":
        return np.array([[0, -0.48], [0.38, 0], [0, 0.48], [-0.38, 0]])
    raise ValueError(f"{shape} is no shape; there are {', '.join(SHAPES)}")


def with_luminance(colour: tuple[int, int, int], luminance: float) -> np.ndarray:
    """The colour darkened, or mixed with white, until its luminance (BT.601) is the one wanted; float [3]."""
    rgb = np.array(colour, float)
    own = float(rgb @ LUMINANCE)
    if own >= luminance:
        return rgb * luminance / own
    return rgb + (255 - rgb) * (luminance - own) / (255 - own)


@cache
def pattern(texture: str, side: int) -> np.ndarray:
    """Where the texture is dark: bool [side, side]; shared, not to be written to."""
    rows, columns = np.mgrid[:side, :side] / side
    if texture == "plain":
        return np.zeros((side, side), bool)
    if texture == "striped":
        return (rows * 5) % 1 < 0.42
    if texture == "dotted":
        return ((rows * 4.5) % 1 - 0.5) ** 2 + ((columns * 4.5) % 1 - 0.5) ** 2 < 0.085
    if texture == "checkered":
        return (np.floor(rows * 5) + np.floor(columns * 5)) % 2 == 0
    raise ValueError(f"{texture} is no texture; there are {', '.join(TEXTURES)}")


def paint(look: Look, luminance: float | None = None) -> Sprite:
    """Draw a look. With a luminance (0-255), its light colour has exactly that one, so that grey frames hide the colour."""
    rgb = np.array(COLOURS[look.colour], float) if luminance is None else with_luminance(COLOURS[look.colour], luminance)
    mask, light = shading(look.shape, look.texture)
    side = len(mask)
    rgba = np.empty((side, side, 4), np.float32)
    rgba[..., :3] = np.clip(light[..., None] * rgb, 0, 255) * mask[..., None]
    rgba[..., 3] = mask
    pyramid = [cv2.resize(rgba, (SIDE, SIDE), interpolation=cv2.INTER_AREA)]
    while pyramid[-1].shape[0] > 12:
        half = pyramid[-1].shape[0] // 2
        pyramid.append(cv2.resize(pyramid[-1], (half, half), interpolation=cv2.INTER_AREA))
    return Sprite(tuple(pyramid), outline(look.shape))


@cache
def shading(shape: str, texture: str) -> tuple[np.ndarray, np.ndarray]:
    """What all colours of a look share, many times its size: where it is, uint8, and how light, float; both [side, side]."""
    side = SIDE * SUPERSAMPLING
    corners = np.round((outline(shape) + 0.5) * side - 0.5).astype(np.int32)
    mask = np.zeros((side, side), np.uint8)
    cv2.fillPoly(mask, [corners], 1)
    cv2.polylines(rim := np.zeros_like(mask), [corners], True, 1, thickness=side // 24)
    shade = np.linspace(1.06, 0.86, side)[:, None]
    return mask, np.where(pattern(texture, side) | (rim > 0), DARK, 1.0) * shade


def textured_square(rng: np.random.Generator) -> Sprite:
    """An occluder: an opaque square of blotches, of no nameable look."""
    grid = rng.uniform(60, 190, (6, 6, 3)).astype(np.float32)
    rgba = np.ones((SIDE, SIDE, 4), np.float32)
    rgba[..., :3] = cv2.resize(grid, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST) * (
        1 - 0.4 * pattern("striped", SIDE)[..., None]
    )
    square = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    half = cv2.resize(rgba, (SIDE // 2, SIDE // 2), interpolation=cv2.INTER_AREA)
    return Sprite((rgba, half), square)


def linear_part(size: float, aspect: float, angle: float) -> np.ndarray:
    """[2,2] from the unit square to pixels: side `size`, width/height `aspect` at equal area, turned by `angle` (rad)."""
    stretch = np.diag([size * aspect**0.5, size / aspect**0.5])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return turn @ stretch


def box_of(sprite: Sprite, centre: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """The tight amodal box (xywh) of the drawn outline, not clipped to the image."""
    points = sprite.outline @ linear.T + centre
    low, high = points.min(axis=0), points.max(axis=0)
    return np.concatenate([low, high - low])


def warp(sprite: Sprite, centre: np.ndarray, linear: np.ndarray) -> tuple[np.ndarray, int, int]:
    """The sprite as it lies in the frame: premultiplied patch [h,w,4] float32 and the frame position (x, y) of its corner."""
    size = float(np.sqrt(abs(np.linalg.det(linear))))
    level = 0
    while level + 1 < len(sprite.pyramid) and sprite.pyramid[level + 1].shape[0] >= 0.75 * size:
        level += 1  # the smallest image that is not enlarged much: a low pass before a strong shrink
    image = sprite.pyramid[level]
    side = image.shape[0]
    reach = np.abs(linear).sum(axis=1) / 2 + 1
    x, y = np.floor(centre - reach).astype(int)
    width, height = np.ceil(centre + reach).astype(int) - (x, y)
    a = linear / side
    # cv2 counts from pixel centres: shift by half a pixel on both sides.
    shift = centre - (x, y) - a @ np.full(2, side / 2) + a @ np.full(2, 0.5) - 0.5
    patch = cv2.warpAffine(image, np.column_stack([a, shift]), (int(width), int(height)), flags=cv2.INTER_LINEAR)
    return patch, int(x), int(y)


def motion_blur(patch: np.ndarray, x: int, y: int, velocity: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Smear the patch along `velocity` (pixels of movement while the shutter is open); the patch grows as needed."""
    length = float(np.hypot(*velocity))
    if length < 2:
        return patch, x, y
    reach = int(np.ceil(length / 2)) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    half = velocity / 2
    a, b = np.round((reach - half) * 16).astype(int), np.round((reach + half) * 16).astype(int)
    cv2.line(kernel, tuple(map(int, a)), tuple(map(int, b)), 1.0, 1, cv2.LINE_8, 4)
    patch = cv2.copyMakeBorder(patch, reach, reach, reach, reach, cv2.BORDER_CONSTANT)
    return cv2.filter2D(patch, -1, kernel / kernel.sum(), borderType=cv2.BORDER_CONSTANT), x - reach, y - reach


def inside(
    shape: tuple[int, ...], x: int, y: int, width: int, height: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """Slices (frame, patch) of the part of a patch at (x, y) that lies in the frame, or None when none does."""
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + width, width_of(shape)), min(y + height, shape[0])
    if x0 >= x1 or y0 >= y1:
        return None
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))


def width_of(shape: tuple[int, ...]) -> int:
    """Width of an image of this shape."""
    return shape[1]


def lay_over(frame: np.ndarray, patch: np.ndarray, x: int, y: int) -> None:
    """Draw a premultiplied patch over the float32 frame [H,W,3], in place."""
    where = inside(frame.shape, x, y, patch.shape[1], patch.shape[0])
    if where is not None:
        target, source = where
        part = patch[source]
        frame[target] = frame[target] * (1 - part[..., 3:]) + part[..., :3]
