"""One rendered sequence: a plan drawn from the seed, its frames, and labels that are exact because we know what was drawn.

In LANG scenes only the sentence can tell the target from its look-alikes after an occlusion: two to four distractors share
its shape, texture and size and differ in colour alone; all colours have one luminance; the first frames are grey ("night
camera"), so that no template taken there holds the colour; then the target is hidden once, after the colour is back.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from workflow_scripts.data.rendering import attributes, motion
from workflow_scripts.drawing import backgrounds, sprites
from workflow_scripts.drawing.sprites import Look, Sprite

# What a sequence is made of, cycled through: every second one is LANG. BD: distractors that share part of the look.
RECIPES = (
    ("LANG",),
    ("SV", "CM"),
    ("LANG", "SV"),
    ("OV", "BD"),
    ("LANG", "OV"),
    ("POC", "MB"),
    ("LANG", "CM"),
    ("LR", "IV"),
    ("LANG", "FOC"),
    ("FOC", "SV", "BD"),
    ("LANG", "IV"),
    ("MB", "CM", "OV"),
)
VISIBLE = 0.15  # below this share of visible pixels the target counts as absent
MAX_ABSENT = 0.45
ATTEMPTS = 50


@dataclass(frozen=True)
class Track:
    """Something that moves: where it is in each of N frames."""

    sprite: Sprite
    centre: NDArray[np.float64]  # [N, 2]
    size: NDArray[np.float64]  # [N]; 0 while it is not there
    aspect: NDArray[np.float64]  # [N]
    angle: NDArray[np.float64]  # [N]

    def linear(self, frame: int) -> NDArray[np.float64]:
        """[2, 2] from the unit square to pixels."""
        return sprites.linear_part(self.size[frame], self.aspect[frame], self.angle[frame])


@dataclass(frozen=True)
class Plan:
    """All that a sequence's frames follow from, noise aside."""

    width: int
    height: int
    look: Look
    sentence: str
    target: Track
    below: list[Track]  # drawn before the target
    above: list[Track]  # drawn after it
    alike: list[NDArray[np.float64]]  # look-alikes' centres [N, 2]
    alike_looks: list[Look]
    canvas: NDArray[np.uint8]
    camera: NDArray[np.float64]  # [N, 2]
    gain: NDArray[np.float64]  # [N]
    night: int  # grey frames at the start
    shrink: float
    shutter: float  # share of a frame's time the shutter is open; 0: no motion blur


@dataclass(frozen=True)
class Rendered:
    """A finished sequence."""

    frames: list[NDArray[np.uint8]]  # RGB [H, W, 3]
    boxes: NDArray[np.float64]  # [N, 4] xywh, zeros where absent
    present: NDArray[np.bool_]  # [N]
    flags: dict[str, bool]
    sentence: str
    facts: dict = field(default_factory=dict)


def render(
    entropy: tuple[int, ...], recipe: tuple[str, ...], colour: int, frames: tuple[int, int], width: int, height: int
) -> Rendered:
    """Render the sequence of one seed; it is drawn anew, from a seed derived from this one, until it is fit for tracking.

    `colour` is an index into the palette, so that a split shows all colours equally often; `frames` the range of lengths.
    """
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([*entropy, attempt])
        plan = make_plan(rng, recipe, colour, int(rng.integers(frames[0], frames[1] + 1)), width, height)
        measured = measure(plan)
        if measured.in_view[0] > 0.95 and measured.hidden[0] < 0.05 and 1 - measured.present.mean() <= MAX_ABSENT:
            images = [draw(plan, frame, rng) for frame in range(len(measured.present))]
            return Rendered(
                images, measured.boxes, measured.present, attributes.compute(measured), plan.sentence, facts(plan, recipe)
            )
    raise ValueError(f"no fit sequence of {'+'.join(recipe)} in {ATTEMPTS} attempts from seed {entropy}")


def make_plan(rng: np.random.Generator, recipe: tuple[str, ...], colour: int, frames: int, width: int, height: int) -> Plan:
    """Draw looks, paths and events."""
    has = set(recipe)
    lang = "LANG" in has
    palette = sprites.LANGUAGE_COLOURS if lang else tuple(sprites.COLOURS)
    look = Look(palette[colour % len(palette)], str(rng.choice(sprites.TEXTURES)), str(rng.choice(sprites.SHAPES)))
    luminance = float(rng.uniform(115, 150)) if lang else None
    base = float(rng.uniform(30, 46)) * (0.5 if "LR" in has else 1)
    night = int(rng.integers(5, 11)) if lang else 0
    path = motion.wander(frames, width, height, rng.uniform(2, 3.5) * (2.2 if "MB" in has else 1), rng)
    size = motion.sizes(frames, base, "SV" in has, rng)
    angle, aspect = motion.turning(frames, rng)
    camera = backgrounds.camera_path(frames, "CM" in has, rng)
    shift = -backgrounds.OBJECT_SHIFT * camera
    own = path
    if "OV" in has:
        first = int(rng.integers(min(int(0.4 * frames), frames - 20), max(int(0.5 * frames), frames - 19)))
        starts = [first] + ([first + 50] if first + 85 < frames else [])
        own = motion.leave_and_return(path, float(size.max()), width, height, starts, rng)
    target = Track(sprites.paint(look, luminance), own + shift, size, aspect, angle)

    alike: list[Track] = []
    looks: list[Look] = []
    if lang:
        others = rng.permutation([c for c in sprites.LANGUAGE_COLOURS if c != look.colour])[: rng.integers(2, 5)]
        looks = [replace(look, colour=str(other)) for other in others]
        for other, orbit in zip(looks, motion.orbits(path, size, len(looks), night, rng), strict=True):
            alike.append(Track(sprites.paint(other, luminance), orbit + shift, size, aspect, angle))
    if "BD" in has:
        looks = [confusing(look, rng) for _ in range(rng.integers(2, 5))]
        for other in looks:
            way = motion.wander(frames, width, height, rng.uniform(2, 3.5), rng)
            turned, stretched = motion.turning(frames, rng)
            sized = motion.sizes(frames, base * rng.uniform(0.85, 1.15), "SV" in has, rng)
            alike.append(Track(sprites.paint(other), way + shift, sized, stretched, turned))
    over = rng.random(len(alike)) < 0.5
    return Plan(
        width=width,
        height=height,
        look=look,
        sentence=sprites.sentence(look, rng),
        target=target,
        below=[a for a, o in zip(alike, over, strict=True) if not o],
        above=[a for a, o in zip(alike, over, strict=True) if o] + occluders(target, has, night, rng),
        alike=[a.centre for a in alike],
        alike_looks=looks,
        canvas=backgrounds.canvas(width, height, rng),
        camera=camera,
        gain=backgrounds.lighting(frames, "IV" in has, rng),
        night=night,
        shrink=float(rng.uniform(1.6, 2.2)) if "LR" in has else 1.0,
        shutter=float(rng.uniform(0.6, 0.9)) if "MB" in has else 0.0,
    )


def confusing(look: Look, rng: np.random.Generator) -> Look:
    """A look that shares the colour or the shape, and that the sentence still tells apart."""
    kind = rng.integers(3)
    if kind == 0:
        return replace(look, shape=str(rng.choice([s for s in sprites.SHAPES if s != look.shape])))
    if kind == 1:
        return replace(look, texture=str(rng.choice([t for t in sprites.TEXTURES if t != look.texture])))
    return replace(look, colour=str(rng.choice([c for c in sprites.COLOURS if c != look.colour])))


def occluders(target: Track, has: set[str], night: int, rng: np.random.Generator) -> list[Track]:
    """Full occlusions (one in every LANG scene, after the night; one for FOC) and the half ones of POC."""
    frames = len(target.size)
    found = []
    begins = []
    if "LANG" in has:
        begins.append(max(night + 2, int(rng.uniform(0.2, 0.3) * frames) - motion.SLIDE))
    if "FOC" in has:
        begins.append(int(rng.uniform(0.58, 0.68) * frames))
    for begin in begins:
        centre, size = motion.cover(target.centre, target.size, begin, int(rng.integers(9, 14)) - 4, rng)
        found.append(still(sprites.textured_square(rng), centre, size))
    if "POC" in has:
        hold = min(28, frames // 4)
        spans = [(int(0.12 * frames), hold), (int(0.58 * frames), hold)]
        centre, size = motion.cover_half(target.centre, target.size, spans)
        found.append(still(sprites.textured_square(rng), centre, size))
    return found


def still(sprite: Sprite, centre: NDArray[np.float64], size: NDArray[np.float64]) -> Track:
    """A track that does not turn."""
    return Track(sprite, centre, size, np.ones(len(size)), np.zeros(len(size)))


def measure(plan: Plan) -> attributes.Measured:
    """Ground truth and visibility of all frames: the target's alpha, less what is drawn over it; nothing else is drawn."""
    frames = len(plan.camera)
    boxes, in_view, hidden = np.zeros((frames, 4)), np.zeros(frames), np.zeros(frames)
    for frame in range(frames):
        boxes[frame] = clipped(sprites.box_of(plan.target.sprite, plan.target.centre[frame], plan.target.linear(frame)), plan)
        in_view[frame], hidden[frame] = visibility(plan, frame)
    present = (in_view * (1 - hidden) >= VISIBLE) & (boxes[:, 2] > 1) & (boxes[:, 3] > 1)
    boxes[~present] = 0
    away = [np.hypot(*(centre - plan.target.centre).T) / plan.target.size for centre in plan.alike]
    return attributes.Measured(
        boxes=boxes,
        present=present,
        in_view=in_view,
        hidden=hidden,
        camera=plan.camera,
        angle=plan.target.angle,
        gain=plan.gain,
        blur=np.hypot(*smear(plan, plan.target).T),
        nearest_alike=np.min(away, axis=0) if away else np.full(frames, np.inf),
        shrink=plan.shrink,
    )


def clipped(box: NDArray[np.float64], plan: Plan) -> NDArray[np.float64]:
    """The part of an xywh box that lies in the image (zero size when none does)."""
    low = np.clip(box[:2], 0, (plan.width, plan.height))
    high = np.clip(box[:2] + box[2:], 0, (plan.width, plan.height))
    return np.concatenate([low, high - low])


def visibility(plan: Plan, frame: int) -> tuple[float, float]:
    """Share of the target's pixels in the image, and the share of those that is covered."""
    patch, x, y = sprites.warp(plan.target.sprite, plan.target.centre[frame], plan.target.linear(frame))
    alpha = patch[..., 3]
    where = sprites.inside((plan.height, plan.width), x, y, alpha.shape[1], alpha.shape[0])
    if where is None:
        return 0.0, 0.0
    visible = np.zeros_like(alpha)
    visible[where[1]] = alpha[where[1]]
    inside = float(visible.sum())
    for track in plan.above:
        if track.size[frame] > 0:
            over, ox, oy = sprites.warp(track.sprite, track.centre[frame], track.linear(frame))
            place = sprites.inside(visible.shape, ox - x, oy - y, over.shape[1], over.shape[0])
            if place is not None:
                visible[place[0]] *= 1 - over[place[1]][..., 3]
    return inside / float(alpha.sum()), 1 - float(visible.sum()) / inside if inside > 0 else 0.0


def smear(plan: Plan, track: Track) -> NDArray[np.float64]:
    """How far a track moves while the shutter is open: [N, 2] pixels."""
    return plan.shutter * np.gradient(track.centre, axis=0)


def draw(plan: Plan, frame: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """One frame, RGB. Frames must be drawn in order: their noise comes from one generator."""
    image = backgrounds.view(plan.canvas, plan.width, plan.height, plan.camera[frame])
    for track in (*plan.below, plan.target, *plan.above):
        if track.size[frame] > 0:
            patch, x, y = sprites.warp(track.sprite, track.centre[frame], track.linear(frame))
            if plan.shutter:
                patch, x, y = sprites.motion_blur(patch, x, y, smear(plan, track)[frame])
            sprites.lay_over(image, patch, x, y)
    return backgrounds.expose(image, plan.gain[frame], plan.shrink, frame < plan.night, rng)


def facts(plan: Plan, recipe: tuple[str, ...]) -> dict:
    """What a reader of the data may want to know of the plan: kept beside the sequence as scene.json."""
    return {
        "recipe": list(recipe),
        "language_needed": "LANG" in recipe,
        "grey_frames": plan.night,
        "target": vars(plan.look),
        "look_alikes": [vars(look) for look in plan.alike_looks],
    }


cv2.setNumThreads(1)  # rendering runs in processes; OpenCV's own threads would fight over the cores
