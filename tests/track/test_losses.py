"""Losses of the tracking networks."""

import pytest
import torch

from workflow_scripts.track import losses


def maps(side=8, seed=0):
    torch.manual_seed(seed)
    score = torch.rand(3, 1, side, side).clamp(0.01, 0.99).requires_grad_()
    return score, torch.rand(3, 2, side, side).requires_grad_(), torch.rand(3, 2, side, side).requires_grad_()


TARGET = torch.tensor([[0.5, 0.5, 0.25, 0.25], [0.3, 0.7, 0.2, 0.4], [0.95, 0.1, 0.1, 0.2]])


def test_boxes_decode_to_the_truth_where_the_maps_hold_it():
    cell = losses.centre_cell(TARGET, 8)
    size, offset = torch.zeros(3, 2, 8, 8), torch.zeros(3, 2, 8, 8)
    for b, c in enumerate(cell.tolist()):
        size[b, :, c // 8, c % 8] = TARGET[b, 2:]
        offset[b, :, c // 8, c % 8] = TARGET[b, :2] * 8 - torch.tensor([c % 8, c // 8])
    boxes = losses.boxes_at(cell, size, offset)
    assert torch.allclose(boxes, TARGET, atol=1e-6)
    iou, giou = losses.overlaps(boxes, TARGET)
    assert torch.allclose(iou, torch.ones(3), atol=1e-5) and torch.allclose(giou, iou, atol=1e-5)


def test_giou_agrees_with_the_formula_on_boxes_apart():
    a, b = torch.tensor([[0.5, 0.5, 1.0, 1.0]]), torch.tensor([[2.5, 0.5, 1.0, 1.0]])
    iou, giou = losses.overlaps(a, b)
    assert float(iou) == 0.0
    assert float(giou) == pytest.approx(-1 / 3)  # union 2, enclosing box 3


def test_gradients_reach_score_size_and_offset_at_the_true_centre_only():
    score, size, offset = maps()
    losses.tracking_loss(score, size, offset, TARGET).total.backward()
    cell = losses.centre_cell(TARGET, 8)
    for field in (size, offset):
        touched = field.grad.abs().sum(1).flatten(1) > 0
        assert touched.sum(1).tolist() == [1, 1, 1]
        assert touched.float().argmax(1).tolist() == cell.tolist()
    assert (score.grad.flatten(1).gather(1, cell[:, None]) < 0).all()  # more score there lowers the loss


def test_argmax_decoding_takes_the_box_where_the_score_is_highest():
    score, size, offset = maps()
    losses.tracking_loss(score, size, offset, TARGET, decode_at="argmax").total.backward()
    touched = size.grad.abs().sum(1).flatten(1) > 0
    assert touched.float().argmax(1).tolist() == score.flatten(1).argmax(1).tolist()


def test_the_heatmap_peaks_at_one_and_fades_within_the_radius():
    heat = losses.gaussian_heatmap(torch.tensor([[0.5, 0.5, 0.75, 0.75]]), 16)[0]
    radius = int(losses.gaussian_radius(torch.tensor([12.0]), torch.tensor([12.0])))
    assert radius > 0 and heat[8, 8] == 1 and (heat == 1).sum() == 1
    assert heat[8, 8 + radius] > 0 and heat[8, 8 + radius + 1] == 0
    sigma = (2 * radius + 1) / 6
    assert float(heat[8, 9]) == pytest.approx(2.718281828 ** (-1 / (2 * sigma**2)), rel=1e-5)


def test_the_radius_keeps_cornernets_division_by_two():
    w = h = torch.tensor([10.0])
    # the three roots of CornerNet's first release by hand, at an overlap of 0.7
    first = (20 + (400 - 4 * 100 * 0.3 / 1.7) ** 0.5) / 2
    second = (40 + (1600 - 16 * 0.3 * 100) ** 0.5) / 2
    third = (-28 + (28**2 + 4 * 2.8 * 30) ** 0.5) / 2
    assert float(losses.gaussian_radius(w, h)) == int(min(first, second, third))


def test_focal_loss_falls_as_the_score_nears_the_heatmap():
    heat = losses.gaussian_heatmap(TARGET, 8)
    good, bad = heat.clamp(0.01, 0.99), torch.full_like(heat, 0.5)
    assert losses.focal_loss(good, heat) < losses.focal_loss(bad, heat)


def test_alignment_pulls_a_feature_to_the_word_that_names_it():
    torch.manual_seed(0)
    words = torch.randn(6, 16)
    named = torch.zeros(2, 6, dtype=torch.bool)
    named[0, 1] = named[1, 2] = True
    families = [[0, 1, 2], [3, 4, 5]]
    features = torch.randn(2, 16, requires_grad=True)
    near = 3 * words[[1, 2]]
    assert losses.alignment_loss(near, words, named, families) < losses.alignment_loss(features, words, named, families)
    nothing = losses.alignment_loss(features, words, torch.zeros(2, 6, dtype=torch.bool), families)
    assert float(nothing.detach()) == 0.0
    nothing.backward()  # still part of the graph


def test_words_are_bins_rounded_down():
    boxes = torch.tensor([[0.0, 1.0, 0.5, 0.2499]])
    assert losses.words_of(boxes, 4000).tolist() == [[0, 3999, 1999, 999]]


def test_the_word_loss_is_torchs_weighted_cross_entropy():
    torch.manual_seed(0)
    logits = torch.randn(3, 5, 52)
    words = torch.cat([losses.words_of(TARGET, 50), torch.full((3, 1), 50)], dim=1)
    weight = torch.ones(52)
    weight[50:] = 0.01
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), words.flatten(), weight=weight)
    assert float(losses.word_loss(logits, TARGET)) == pytest.approx(float(expected), rel=1e-5)


def test_softened_words_teach_near_misses():
    def loss_at(word, soften):
        logits = torch.zeros(1, 5, 102)
        logits[0, :4, word] = 4.0
        return float(losses.word_loss(logits, torch.full((1, 4), 50.001 / 99), soften=soften))

    assert loss_at(51, 1.5) < loss_at(70, 1.5)
    assert loss_at(51, 0.0) == pytest.approx(loss_at(70, 0.0))
    assert loss_at(50, 1e-2) == pytest.approx(loss_at(50, 0.0), rel=1e-5)
