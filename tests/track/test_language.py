"""The proof that a tracker reads: which sequences it is asked on, what it is told, and what it reports."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from workflow_scripts import images
from workflow_scripts.console import BadInput
from workflow_scripts.track import language
from workflow_scripts.track.networks import dutrack
from workflow_scripts.track.texts import Tokenizer, small_vocabulary


def night(sequence, frames=3):
    """The same sequence with its first frames grey."""
    for path in sequence.frames[:frames]:
        grey = images.read_rgb(path).mean(axis=2, keepdims=True).repeat(3, axis=2).astype(np.uint8)
        images.write_image(path, grey)
    return sequence


def coloured(sequence):
    """The same sequence on a background with colour."""
    for path in sequence.frames:
        frame = images.read_rgb(path).astype(int)
        frame[::2, :, 0] += 60
        images.write_image(path, frame.clip(0, 255).astype(np.uint8))
    return sequence


def test_the_wrong_sentence_differs_in_colour_alone_and_is_the_same_every_time(draw):
    sequence = draw("one")
    wrong = language.reworded(sequence, "wrong")
    assert wrong != sequence.sentence and wrong == language.reworded(sequence, "wrong")
    assert language.COLOUR_WORD.sub("red", wrong) == sequence.sentence
    assert language.reworded(sequence, "empty") == "" and language.reworded(sequence, "right") == sequence.sentence


def test_only_sequences_that_begin_in_grey_and_name_a_colour_are_asked(draw):
    dark = night(coloured(draw("dark")))
    assert language.coloured_frames(dark).tolist() == list(range(3, len(dark)))
    assert len(language.coloured_frames(coloured(draw("bright")))) == 0
    assert len(language.coloured_frames(replace(dark, sentence="the square"))) == 0


def test_the_pick_test_reports_shares_and_counts(draw):
    words = small_vocabulary()
    torch.manual_seed(0)
    network = dutrack.build(replace(dutrack.VARIANTS["dutrack_small"], vocabulary_size=len(words)))
    chosen = [night(coloured(draw("dark"))), coloured(draw("bright"))]
    result = language.pick_test(network, Tokenizer(words), chosen, 5, seed=0)
    assert result["sequences"] == 1 and result["crops"] == 5
    assert all(0 <= result[v] <= 1 for v in language.VERSIONS)
    assert result == language.pick_test(network, Tokenizer(words), chosen, 5, seed=0)
    with pytest.raises(BadInput, match="begin in grey"):
        language.pick_test(network, Tokenizer(words), chosen[1:], 5, seed=0)


def test_the_verdict_takes_the_better_of_empty_and_wrong():
    auc = {"right": 0.5, "empty": 0.4, "wrong": 0.3}
    passed = language.verdict({"right": 0.9, "empty": 0.7, "wrong": 0.6, "crops": 160}, auc, gate=0.1)
    failed = language.verdict({"right": 0.75, "empty": 0.6, "wrong": 0.7, "crops": 160}, auc, gate=0.1)
    assert passed["pass"] and passed["margin"] == pytest.approx(0.2)
    assert not failed["pass"] and failed["margin"] == pytest.approx(0.05)
    assert "FAILS" in language.readable(failed) and "passes" in language.readable(passed)
