"""The rendered tasks: half of the pairs change, boxes lie on the target, marks tell a right answer from a copied sentence."""

from __future__ import annotations

import numpy as np

from workflow_scripts import answers, pairs

DRAWN = pairs.samples(3, 400)
VIEWS = pairs.views(3, 200)


def test_the_same_seed_gives_the_same_pairs() -> None:
    for one, other in zip(pairs.samples(3, 5), DRAWN, strict=False):
        assert (one.before, one.after) == (other.before, other.after)
        assert all(np.array_equal(a, b) for a, b in zip(one.frames, other.frames, strict=True))


def test_about_half_of_the_pairs_change_and_the_shape_never_does() -> None:
    changed = [pair.before != pair.after for pair in DRAWN]
    assert 0.42 < np.mean(changed) < 0.58
    assert all(pair.before.shape == pair.after.shape for pair in DRAWN)


def test_a_box_is_filled_by_its_target_and_by_nothing_outside() -> None:
    for pair in DRAWN[:50]:
        for target, frame, (x, y, width, height) in zip((pair.before, pair.after), pair.frames, pair.boxes, strict=True):
            coloured = np.ptp(frame.astype(int), axis=2) > 0  # the background is grey
            if target.texture == "striped":
                coloured |= (frame == 20).all(axis=2)
            rows, columns = np.nonzero(coloured)
            assert rows.min() + 0.5 >= y and rows.max() + 0.5 <= y + height
            assert columns.min() + 0.5 >= x and columns.max() + 0.5 <= x + width
            assert coloured.sum() > 0.4 * width * height


def test_the_right_answer_has_full_marks_and_a_copied_sentence_has_not() -> None:
    changed = next(pair for pair in DRAWN if pair.before != pair.after)
    right = pairs.answer(changed.before, changed.after)
    assert answers.parse(right).decision == "yes"
    assert pairs.score(right, changed.before, changed.after) == pairs.Score(1, 1, 1, 1)
    copied = pairs.score(pairs.answer(changed.before, changed.before), changed.before, changed.after)
    assert (copied.format, copied.decision, copied.sentence) == (1, 0, 0) and copied.words < 1


def test_an_answer_without_its_tags_has_no_marks() -> None:
    pair = DRAWN[0]
    assert pairs.score(pair.after.sentence, pair.before, pair.after) == pairs.Score(0, 0, 0, 0)


def test_the_same_seed_gives_the_same_views_whatever_else_is_drawn() -> None:
    for one, other in zip(pairs.views(3, 5), VIEWS, strict=False):
        assert (one.before, one.after) == (other.before, other.after)
        assert all(np.array_equal(a, b) for a, b in zip(one.frames, other.frames, strict=True))
    mixed = pairs.mixture(3, 20, 0.25)
    assert [bool(pair.before.place) for pair in mixed] == [True] * 15 + [False] * 5
    assert mixed[0].before == DRAWN[0].before and mixed[15].before == VIEWS[0].before


def test_a_view_shows_the_target_in_its_middle_about_half_as_wide_as_the_picture() -> None:
    for pair in VIEWS:
        assert all(frame.shape == (pairs.SIZE, pairs.SIZE, 3) for frame in pair.frames)
        middle = pair.boxes[:, :2] + pair.boxes[:, 2:] / 2
        assert np.abs(middle - pairs.SIZE / 2).max() < 0.2 * pairs.SIZE
        share = np.sqrt(pair.boxes[:, 2] * pair.boxes[:, 3]) / pairs.SIZE
        assert (share > 0.4).all() and (share < 0.62).all()


def test_a_views_sentences_have_one_form_and_half_of_them_change() -> None:
    assert 0.4 < np.mean([pair.decision == "yes" for pair in VIEWS]) < 0.6
    for pair in VIEWS:
        assert pair.before.form == pair.after.form and pair.before.shape == pair.after.shape
        assert (pair.decision == "yes") == (pair.before.sentence != pair.after.sentence)
        right = pairs.answer(pair.before, pair.after)
        assert answers.parse(right).sentence == pair.after.sentence
        assert pairs.score(right, pair.before, pair.after) == pairs.Score(1, 1, 1, 1)


def test_a_view_asked_without_its_colour_is_answered_with_it() -> None:
    for pair in pairs.views(5, 20, bare=1.0):
        assert pair.decision == "yes" and "  " not in pair.before.sentence
        assert pair.after.colour in pair.after.sentence and pair.after.colour not in pair.before.sentence.split()
        assert pairs.score(pairs.answer(pair.before, pair.after), pair.before, pair.after) == pairs.Score(1, 1, 1, 1)


def test_words_beside_the_attributes_count_for_the_whole_sentence_alone() -> None:
    pair = next(p for p in VIEWS if p.decision == "no" and p.before.form.startswith("the "))
    other = pairs.answer(pair.before, pair.after).replace("<answer>the", "<answer>a")
    assert pairs.score(other, pair.before, pair.after) == pairs.Score(1, 1, 1, 0)
