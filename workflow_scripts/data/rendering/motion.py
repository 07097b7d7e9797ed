"""Where things are in each frame: the target's path and size, look-alikes that orbit it, occluders, leaving and coming back.

All functions return one row a frame; lengths are pixels of the frame, continuous.
"""

from __future__ import annotations

import numpy as np

BORDER = 35.0  # paths bounce this far inside the frame
SLIDE = 6  # frames in which an occluder comes or goes
LEAVING = 10  # frames in which a target leaves the view, and in which it returns


def wander(frames: int, width: int, height: int, speed: float, rng: np.random.Generator) -> np.ndarray:
    """A path [frames, 2] of randomly turning velocity that bounces at the border."""
    low, high = np.full(2, BORDER), np.array([width - BORDER, height - BORDER])
    position = rng.uniform(low + 15, high - 15)
    heading, turn = rng.uniform(0, 2 * np.pi), 0.0
    path = np.empty((frames, 2))
    for frame in range(frames):
        path[frame] = position
        turn = 0.8 * turn + rng.normal(0, 0.08)
        heading += turn
        step = speed * rng.uniform(0.7, 1.3) * np.array([np.cos(heading), np.sin(heading)])
        beyond = (position + step < low) | (position + step > high)
        step = np.where(beyond, -step, step)
        if beyond.any():
            heading, turn = np.arctan2(step[1], step[0]), 0.0
        position = position + step
    return path


def sizes(frames: int, base: float, varies: bool, rng: np.random.Generator) -> np.ndarray:
    """Side of the target [frames]: constant, or base x exp(0.62 sin) clipped to 14..95 px."""
    if not varies:
        return np.full(frames, base)
    period, phase = rng.uniform(40, 80), rng.uniform(0, 2 * np.pi)
    return np.clip(base * np.exp(0.62 * np.sin(2 * np.pi * np.arange(frames) / period + phase)), 14, 95)


def turning(frames: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Slow rotation (rad) and aspect (width/height, within 0.8..1.25), both [frames]."""
    time = np.arange(frames)
    angle = rng.uniform(-0.3, 0.3) + rng.uniform(-0.012, 0.012) * time
    aspect = 1.25 ** np.sin(2 * np.pi * time / rng.uniform(50, 100) + rng.uniform(0, 2 * np.pi))
    return angle, aspect


def ramp(frames: int, start: int, rise: int, hold: int) -> np.ndarray:
    """[frames] from 0 to 1 in `rise` frames from `start`, 1 for `hold` frames, back to 0 in `rise` frames; smooth."""
    time = np.arange(frames)
    up = np.clip((time - start) / rise, 0, 1)
    down = np.clip((time - start - rise - hold) / rise, 0, 1)
    share = up - down
    return share * share * (3 - 2 * share)


def leave_and_return(
    path: np.ndarray, size: float, width: int, height: int, starts: list[int], rng: np.random.Generator
) -> np.ndarray:
    """The path with a trip beyond one side, away for 8-13 frames, at each start; it comes back at the same side."""
    path = path.copy()
    for start in starts:
        away = ramp(len(path), start, LEAVING, int(rng.integers(8, 14)))[:, None]
        side = rng.integers(4)
        outside = path.copy()
        outside[:, side // 2] = -1.1 * size if side % 2 == 0 else (width, height)[side // 2] + 1.1 * size
        path = path + away * (outside - path)
    return path


def orbits(path: np.ndarray, size: np.ndarray, count: int, calm: int, rng: np.random.Generator) -> np.ndarray:
    """Look-alikes [count, frames, 2] that circle the path at 1.3-1.9 sizes and, after `calm` frames, cross it now and then.

    They start at least 1.6 sizes away, so that the first template shows the target alone.
    """
    frames = len(path)
    time = np.arange(frames)
    result = np.empty((count, frames, 2))
    first = rng.uniform(0, 2 * np.pi)
    for one in range(count):
        wanted, period, phase = rng.uniform(1.3, 1.75), rng.uniform(30, 60), rng.uniform(0, 2 * np.pi)
        radius = np.clip(wanted + 0.15 * np.sin(2 * np.pi * time / period + phase), 1.3, 1.9)
        near = np.clip(time / 6, 0, 1)
        radius = rng.uniform(1.62, 1.9) * (1 - near) + radius * near
        speed = rng.choice([-1, 1]) * rng.uniform(0.03, 0.07)
        angle = first + 2 * np.pi * one / count + rng.uniform(-0.2, 0.2) + speed * time
        across = np.ones(frames)  # +1 on the near side, -1 after a crossing
        sign, start = 1.0, calm + int(rng.integers(4, 24))
        while start < frames:
            length = int(rng.integers(12, 19))
            passed = np.clip((time - start) / length, 0, 1)
            across = np.where(time >= start, sign * np.cos(np.pi * passed), across)
            sign, start = -sign, start + length + int(rng.integers(14, 34))
        offset = (radius * across * size)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        result[one] = path + offset
    return result


def cover(path: np.ndarray, size: np.ndarray, start: int, hold: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A full occluder: positions [frames, 2] and sides [frames] (0 while there is none). It slides over the target and off."""
    there = ramp(len(path), start, SLIDE, hold)
    turn = rng.uniform(0, 2 * np.pi)
    way = np.array([np.cos(turn), np.sin(turn)])
    position = path + ((1 - there) * 2.0 * size)[:, None] * way
    return position, np.where(there > 0, 1.5 * size * np.minimum(1, 0.3 + there), 0)


def cover_half(path: np.ndarray, size: np.ndarray, spans: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """A partial occluder over the target's lower half during the spans (start, hold): positions [frames, 2], sides [frames]."""
    there = np.zeros(len(path))
    for start, hold in spans:
        there = np.maximum(there, ramp(len(path), start, SLIDE, hold))
    offset = np.stack([(1 - there) * 1.2 * size, 0.26 * size], axis=1)
    return path + offset, np.where(there > 0, 0.55 * size * np.minimum(1, 0.3 + there), 0)
