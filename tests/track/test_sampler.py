"""Training samples: crops, boxes and words stay in agreement through every augmentation."""

import itertools
import re

import numpy as np
import pytest

from workflow_scripts.params.track import Augment, Sampling
from workflow_scripts.track import sampler

PURE = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "cyan": (0, 255, 255),
    "purple": (255, 0, 255),
    "yellow": (255, 255, 0),
}
SHAPE = sampler.Shape(128, 4.0, 64, 2.0)
NOTHING = Augment(
    flip=0, gain=0, look_alike=0, colourless_templates=0, colourless_first=0, empty_sentence=0, permute_channels=0
)


def source_of(drawn):
    return sampler.source_of([drawn], Sampling(), in_memory=True)


def colour_in(patch, box):
    """Name of the pure colour nearest to the brightest pixels inside a box (cx, cy, w, h as fractions)."""
    side = patch.shape[0]
    (x1, y1), (x2, y2) = (box[:2] - box[2:] / 2) * side, (box[:2] + box[2:] / 2) * side
    inside = patch[round(y1) + 2 : round(y2) - 2, round(x1) + 2 : round(x2) - 2].reshape(-1, 3).astype(float)
    bright = inside[inside.max(1) >= np.percentile(inside.max(1), 60)].mean(0)
    return min(PURE, key=lambda name: -np.dot(bright - bright.min(), PURE[name]) / np.linalg.norm(PURE[name]))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("word", PURE)
def test_permuted_channels_and_words_name_the_same_colour(word, order):
    pixel = np.array(PURE[word])[list(order)]
    assert sampler.permute_words(f"track the {word} star", order) == f"track the {_name(pixel)} star"


def _name(pixel):
    return next(name for name, value in PURE.items() if tuple(pixel) == value)


def test_orange_cannot_be_permuted_and_white_stays():
    assert sampler.permute_words("the orange cross", (1, 0, 2)) is None
    assert sampler.permute_words("the orange cross", (0, 1, 2)) == "the orange cross"
    assert sampler.permute_words("the white cross", (1, 2, 0)) == "the white cross"


@pytest.mark.parametrize("augment", [Augment(), NOTHING.model_copy(update={"look_alike": 1.0, "permute_channels": 1.0})])
def test_what_the_sentence_says_is_what_the_box_shows(draw, augment):
    source = source_of([draw(c, frames=8, colour=c, seed=n) for n, c in enumerate(("red", "green", "blue"))])
    seen = 0
    for step in range(3):
        batch = sampler.draw_batch(source, SHAPE, Sampling(search_shift=0.8), augment, range(16), 0, step)
        for searches, boxes, sentence in zip(
            batch.searches.swapaxes(0, 1), batch.boxes.swapaxes(0, 1), batch.sentences, strict=True
        ):
            said = re.search("|".join(PURE), sentence)
            for patch, box in zip(searches, boxes, strict=True):
                whole = (box[:2] - box[2:] / 2 > 0).all() and (box[:2] + box[2:] / 2 < 1).all() and (box[2:] > 0.1).all()
                if said and whole:
                    assert colour_in(patch, box) == said.group()
                    seen += 1
    assert seen > 20


def test_a_look_alike_is_as_often_the_target_as_not(draw):
    source = source_of([draw("red", frames=8)])
    augment = NOTHING.model_copy(update={"look_alike": 1.0})
    batches = [sampler.draw_batch(source, SHAPE, Sampling(search_shift=0.3), augment, range(32), 0, s) for s in range(3)]
    kept = np.mean(["the red" in sentence for batch in batches for sentence in batch.sentences])
    assert 0.35 < kept < 0.75


def test_boxes_follow_the_crop_through_flip_and_jitter(draw):
    sequence = draw("red", frames=4)
    frame = np.zeros((120, 160, 3), np.uint8)
    x, y, w, h = sequence.boxes[1].astype(int)
    frame[y : y + h, x : x + w] = 255
    rng = np.random.default_rng(0)
    for _ in range(10):
        around = sampler.jitter(rng, sequence.boxes[1], 0.5, 0.2)
        patch, box = sampler.crop(frame, around, 4.0, 128, sequence.boxes[1])
        flipped = sampler.augmented(rng, patch[None], patch[None], box[None], "", NOTHING.model_copy(update={"flip": 1.0}))
        for picture, place in ((patch, box), (flipped[1][0], flipped[2][0])):
            rows, columns = np.nonzero(picture[..., 0] > 127)
            found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 128
            expected = np.concatenate([place[:2] - place[2:] / 2, place[:2] + place[2:] / 2])
            assert np.abs(found - expected).max() < 2 / 128


def test_templates_come_before_searches_and_both_are_visible():
    rng = np.random.default_rng(0)
    shown = np.array([0, 1, 2, 5, 6, 9])
    for _ in range(50):
        earlier, later = sampler.draw_frames(rng, shown, Sampling(templates=3))
        assert max(earlier) < min(later) and set(earlier + later) <= set(shown.tolist())
    near = [sampler.draw_frames(rng, np.arange(100), Sampling(max_gap=5, first_frame=0.0)) for _ in range(50)]
    assert all(max(later) - min(earlier) <= 10 for earlier, later in near)
    sparse = [sampler.draw_frames(rng, np.arange(0, 1000, 100), Sampling(max_gap=5, first_frame=0.0)) for _ in range(20)]
    assert all(len(later) == 2 for _, later in sparse)  # no visible frame within the gap: the next one


def test_in_any_order_a_sample_runs_forth_or_back_around_its_base():
    rng = np.random.default_rng(0)
    sampling = Sampling(order="any", templates=2, searches=1, max_gap=10)
    runs = [t + s for t, s in (sampler.draw_frames(rng, np.arange(200), sampling) for _ in range(100))]
    assert all(max(run) - min(run) <= 20 for run in runs)
    assert all(run in (sorted(run), sorted(run, reverse=True)) for run in runs)
    assert 20 < sum(run == sorted(run) for run in runs) < 80
    assert sampler.draw_frames(rng, np.array([7]), sampling) == ([7, 7], [7])  # a single image


def test_single_images_are_of_use_in_any_order_alone(draw):
    image, sequence = draw("image", frames=1), draw("sequence", frames=3)
    assert sampler.usable([image, sequence], "any") == [image, sequence]
    assert sampler.usable([image, sequence], "causal") == [sequence]


def test_every_benchmark_is_drawn_from_as_often_as_another(draw):
    large = [draw(f"large_{n}", colour="red") for n in range(5)]
    source = sampler.source_of([large, [draw("small", colour="blue")]], Sampling(), in_memory=True)
    batch = sampler.draw_batch(source, SHAPE, Sampling(), NOTHING, range(64), 0, 0)
    assert 0.3 < np.mean(["blue" in sentence for sentence in batch.sentences]) < 0.7


def test_the_published_jitter_changes_each_side_and_moves_by_sizes_of_the_result():
    rng = np.random.default_rng(0)
    box = np.array([50.0, 40.0, 30.0, 20.0])
    drawn = np.stack([sampler.jitter(rng, box, 1.75, 0.5, keep_aspect=False) for _ in range(400)])
    size = np.sqrt(drawn[:, 2:].prod(1, keepdims=True))
    moved = (drawn[:, :2] + drawn[:, 2:] / 2 - box[:2] - box[2:] / 2) / size
    assert 1.6 < np.abs(moved).max() <= 1.75  # inside a crop of factor 4, whatever its size
    logs = np.log(drawn[:, 2:] / box[2:])
    assert np.abs(logs.std(0) - 0.5).max() < 0.06 and abs(np.corrcoef(logs.T)[0, 1]) < 0.15


def test_single_crops_are_flipped_and_their_boxes_with_them(draw):
    source = source_of([draw("red", frames=6)])
    flipped = NOTHING.model_copy(update={"flip_each": 0.5})
    plain = sampler.draw_batch(source, SHAPE, Sampling(), NOTHING, range(8), 0, 0)
    batch = sampler.draw_batch(source, SHAPE, Sampling(), flipped, range(8), 0, 0)
    seen = set()
    for ours, theirs, box, before in zip(
        batch.searches.reshape(-1, 128, 128, 3), plain.searches.reshape(-1, 128, 128, 3),
        batch.boxes.reshape(-1, 4), plain.boxes.reshape(-1, 4), strict=True,
    ):  # fmt: skip
        mirrored = not np.array_equal(ours, theirs)
        seen.add(mirrored)
        assert np.array_equal(ours, theirs[:, ::-1] if mirrored else theirs)
        assert box[0] == pytest.approx(1 - before[0] if mirrored else before[0])
    assert seen == {True, False}


def test_a_sample_depends_on_seed_step_and_its_number_alone(draw):
    source = source_of([draw("red"), draw("blue", colour="blue")])

    def batch(step, numbers=range(4)):
        return sampler.draw_batch(source, SHAPE, Sampling(), Augment(), numbers, 0, step)

    batch(1)
    assert np.array_equal(batch(2).searches, batch(2).searches) and batch(2).sentences == batch(2).sentences
    assert not np.array_equal(batch(2).searches, batch(3).searches)
    halves = [batch(2, range(2)), batch(2, range(2, 4))]  # as two processes draw them
    assert np.array_equal(np.concatenate([h.templates for h in halves]), batch(2).templates)
    fed = list(sampler.feed(batch, 2, 5, ahead=2))
    assert [np.array_equal(b.searches, batch(s).searches) for b, s in zip(fed, range(2, 5), strict=True)] == [True] * 3
