"""A textured canvas larger than the frame, the camera that moves over it, and what the camera does to a finished frame."""

from __future__ import annotations

import cv2
import numpy as np

MARGIN_X, MARGIN_Y = 80, 60  # canvas beyond each side of the frame, pixels
OBJECT_SHIFT = 0.6  # objects move by this share of the camera's movement


def value_noise(
    height: int, width: int, channels: int, rng: np.random.Generator, octaves: int = 5, gain: float = 0.62
) -> np.ndarray:
    """Smooth noise [height, width, channels] float32 of zero mean and about unit reach: random grids, upsampled and added."""
    total = np.zeros((height, width, channels), np.float32)
    weight, cells = 1.0, 4
    for _ in range(octaves):
        grid = rng.uniform(-1, 1, (cells, cells * 4 // 3 + 1, channels)).astype(np.float32)
        fine = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        total += np.float32(weight) * fine.reshape(height, width, channels)
        weight, cells = weight * gain, cells * 2
    return total


def canvas(width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """uint8 [height + 120, width + 160, 3]: a base colour, structure, a tint, and half-transparent polygons and lines."""
    rows, columns = height + 2 * MARGIN_Y, width + 2 * MARGIN_X
    image = np.empty((rows, columns, 3), np.float32)
    image[:] = rng.uniform(60, 150, 3)
    image += np.float32(rng.uniform(18, 34)) * value_noise(rows, columns, 1, rng)
    image += np.float32(10) * value_noise(rows, columns, 3, rng, octaves=2)
    for _ in range(rng.integers(8, 23)):
        layer = image.copy()
        colour = tuple(float(c) for c in rng.uniform(40, 180, 3))
        centre = rng.uniform((0, 0), (columns, rows))
        if rng.random() < 0.6:
            turns = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 7)))
            points = centre + rng.uniform(15, 60) * np.stack([np.cos(turns), np.sin(turns)], axis=1)
            cv2.fillPoly(layer, [np.round(points).astype(np.int32)], colour)
        else:
            end = centre + rng.uniform(-120, 120, 2)
            a, b = (tuple(int(v) for v in np.round(point)) for point in (centre, end))
            cv2.line(layer, a, b, colour, int(rng.integers(2, 8)))
        image += (layer - image) * np.float32(rng.uniform(0.3, 0.6))
    return np.clip(image, 0, 255).astype(np.uint8)


def camera_path(frames: int, moves: bool, rng: np.random.Generator) -> np.ndarray:
    """The camera's offset [frames, 2] in pixels from the canvas' middle: nothing, or a random walk on 22/14 px sinusoids."""
    if not moves:
        return np.zeros((frames, 2))
    time = np.arange(frames)[:, None]
    periods, phases = rng.uniform(35, 70, 2), rng.uniform(0, 2 * np.pi, 2)
    sway = np.array([22.0, 14.0]) * (np.sin(2 * np.pi * time / periods + phases) - np.sin(phases))
    walk = np.cumsum(rng.normal(0, 0.8, (frames, 2)), axis=0)
    limit = np.array([MARGIN_X - 4.0, MARGIN_Y - 4.0])
    return np.clip(sway + walk, -limit, limit)


def view(canvas_image: np.ndarray, width: int, height: int, offset: np.ndarray) -> np.ndarray:
    """What the camera sees at a sub-pixel offset: float32 [height, width, 3]."""
    shift = np.array([[1.0, 0.0, -(MARGIN_X + offset[0])], [0.0, 1.0, -(MARGIN_Y + offset[1])]])
    return cv2.warpAffine(canvas_image, shift, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(
        np.float32
    )


def lighting(frames: int, changes: bool, rng: np.random.Generator) -> np.ndarray:
    """Brightness gain [frames]: 1, or 1 + 0.6 sin clipped to 0.35..1.6."""
    if not changes:
        return np.ones(frames)
    period, phase = rng.uniform(30, 60), rng.uniform(0, 2 * np.pi)
    return np.clip(1 + 0.6 * np.sin(2 * np.pi * np.arange(frames) / period + phase), 0.35, 1.6)


def expose(frame: np.ndarray, gain: float, shrink: float, grey: bool, rng: np.random.Generator) -> np.ndarray:
    """The camera's own traits: gain, low resolution (down- and upsampled by `shrink`), noise, and no colour at night; uint8."""
    height, width = frame.shape[:2]
    frame = frame * np.float32(gain)
    if shrink > 1:
        small = cv2.resize(frame, (round(width / shrink), round(height / shrink)), interpolation=cv2.INTER_AREA)
        frame = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    coarse = rng.standard_normal(((height + 1) // 2, (width + 1) // 2), np.float32) * np.float32(4)
    noise = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
    image = np.clip(frame + noise[..., None], 0, 255).astype(np.uint8)
    if grey:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return image
