"""A model's text is taken at its word or not at all."""

import pytest

from workflow_scripts import answers, prompts
from workflow_scripts.console import BadInput


def test_a_well_formed_answer_is_parsed():
    answer = answers.parse("<think>it moved</think><d>yes</d><answer> the red car </answer>")
    assert (answer.think, answer.decision, answer.sentence, answer.well_formed) == ("it moved", "yes", "the red car", True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "the red car",
        "<think>a</think><d>maybe</d><answer>b</answer>",
        "<think>a</think><answer>b</answer>",
        "<d>yes</d><think>a</think><answer>b</answer>",
        "<think>a</think><d>yes</d><answer></answer>",
        "<think>a</think><d>yes</d><answer>b</answer> and more",
        "<think>a<think>b</think><d>no</d><answer>c</answer>",
        "<think>a</think><d>no</d><answer>b</answer><answer>c</answer>",
    ],
)
def test_a_malformed_answer_is_never_guessed(text):
    answer = answers.parse(text)
    assert not answer.well_formed
    assert answer.decision is None and answer.sentence is None


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("[1,2,3,4]", (1, 2, 3, 4)),
        (" [1.5, 2, 3, 4] ", (1.5, 2, 3, 4)),
        ("<think>x</think><answer>[1,2,3,4]</answer>\n", (1, 2, 3, 4)),
        ("[3,4,1,2]", None),
        ("[1,2,3]", None),
        ('["a","b","c","d"]', None),
        ("[true,2,3,4]", None),
        ("box: [1,2,3,4]", None),
        ('{"bbox": [1,2,3,4]}', None),
    ],
)
def test_a_box_needs_four_numbers_in_order(text, box):
    assert answers.parse_box(text) == box


def test_the_published_rl_prompt_has_88_characters_before_the_sentence():
    _, user = prompts.build("reasoningtrack-paper-rl", sentence="the wooden ship")
    assert user.index("the wooden ship") == 88


def test_the_published_evaluation_says_as_system_text_what_rl_appends():
    system, user = prompts.build("reasoningtrack-paper-eval", sentence="the wooden ship")
    assert user == "<image><image>the wooden ship"
    assert prompts.build("reasoningtrack-paper-rl", sentence="the wooden ship")[1].endswith(f"the wooden ship {system}")


def test_an_unknown_prompt_is_refused():
    with pytest.raises(BadInput, match="no prompt called nothing"):
        prompts.build("nothing", sentence="x")
