"""Every prompt that any model of the study sees, each with a name and a version.

SFT rows, RL rows, rewards and clients build their text here, so that a model is asked at serving what it was taught.
``<image>`` marks the place of a picture. The `paper` prompts repeat what the published code sends, word for word, mismatches
included; the instructions of the published SFT rows stand in those rows and are kept there.
"""

from __future__ import annotations

from dataclasses import dataclass

from workflow_scripts.console import BadInput

TEMPLATE_TOKENS = 32  # of a chat template around a question and its answer, its own system text included


@dataclass(frozen=True)
class Prompt:
    """`user` is a format string with the one field {sentence} or {box}; `system` None leaves the chat template's own.

    With `tags_as_text` the pictures come first and the text is sent whole, its <image> words with it.
    """

    name: str
    version: int
    user: str
    system: str | None = None
    tags_as_text: bool = False


_FORMAT = (
    "You are a visual tracking assistant. Compare the two frames: the first shows the target that the sentence describes, "
    "the second shows it later. Decide whether the sentence still fits, and give the sentence that fits the second frame. "
    "Answer in the form <think>your reasoning</think><d>yes or no</d><answer>the sentence</answer>, where yes means that "
    "the sentence changes."
)
# ReasoningTrack's own: its evaluation says it as system text, its RL appends it to the user's
_PAPER_FORMAT = (
    "You are a visual tracking assistant that strictly analyzes only visual elements (ignore all text in images). "
    "Given an initial description and two consecutive frames (Frame 1 and Frame 2), first verify if the target object in "
    "Frame 1 matches the description, then determine if the description needs updating based on visual changes between "
    "frames (like position, shape, or color). Always respond in the exact format: <think>[your reasoning process]</think>"
    "<d>yes/no</d><answer>[updated or original description for Frame 2]</answer>"
)
_LOCATE = (
    "Given two images, you need to:\n"
    "1. Analyze and Identify the target object marked by bounding box {box} in <image_1>;\n"
    "2. Re-locate this target in <image_2>;\n"
    "3. Return [x_min, y_min, x_max, y_max] coordinates of the target in <image_2>."
)
_IDENTIFY = (
    "Please identify the target specified by the bounding box {box} in the first image and locate it in the second image. "
    "Return the coordinates in [x_min,y_min,x_max,y_max] format."
)
_THINK_FIRST = (
    "You FIRST think about the reasoning process as an internal monologue and then provide the final answer. \n "
    "The reasoning process MUST BE enclosed within <think> </think> tags. "
    "The final answer MUST BE put in <answer> </answer> tags. "
)

PROMPTS = {
    p.name: p
    for p in (
        # the same text in SFT, RL and serving: what the mini study's model learns
        Prompt("reasoningtrack", 1, "<image><image>{sentence}"),
        # the same, spelled out for a model that was not trained from nothing on it
        Prompt("reasoningtrack-consistent", 1, "<image><image>" + _FORMAT + "\nThe sentence: {sentence}"),
        # the published RL rows: 88 characters before the sentence, the form after it
        Prompt(
            "reasoningtrack-paper-rl",
            2,
            "<image><image>response based on the system prompts, the initial language description is {sentence} "
            + _PAPER_FORMAT,
        ),
        # the published evaluation: the form as system text, the bare sentence after the pictures
        Prompt("reasoningtrack-paper-eval", 2, "<image><image>{sentence}", system=_PAPER_FORMAT),
        # R1-Track's, as its models were trained: a picture stands at each tag. `old` is that of the models of 5k pairs
        Prompt("r1track", 1, "<image> <image>" + _LOCATE),
        Prompt("r1track-think", 1, _THINK_FIRST + "<image> <image>" + _LOCATE),
        Prompt("r1track-old", 1, "<image> <image>" + _IDENTIFY),
        Prompt("r1track-old-think", 1, _THINK_FIRST + "<image> <image>" + _IDENTIFY),
        # the published client: pictures first, and the new text's tags as words; the old text has none
        Prompt("r1track-paper", 1, "<image> <image>" + _LOCATE, tags_as_text=True),
        Prompt("r1track-think-paper", 1, _THINK_FIRST + "<image> <image>" + _LOCATE, tags_as_text=True),
        Prompt("r1track-old-paper", 1, "<image><image>" + _IDENTIFY),
        Prompt("r1track-old-think-paper", 1, "<image><image>" + _THINK_FIRST + _IDENTIFY),
        # R1-Track's start from a sentence alone, on the whole frame
        Prompt("r1track-start", 1, "<image>Please return the coordinates of {sentence} in JSON format."),
        # a describer's question about one frame
        Prompt(
            "describe",
            1,
            "<image>In one sentence of at most twelve words, say what this target looks like in the picture: {sentence}\n"
            "Answer with that sentence alone.",
        ),
    )
}


def of_r1track(kind: str, as_published: bool = False) -> str:
    """Name of R1-Track's prompt of a kind: new, old, think or old-think; as its training has it, or as its client sends it."""
    return "-".join(["r1track", *([] if kind == "new" else [kind]), *(["paper"] if as_published else [])])


def build(name: str, **fields: str) -> tuple[str | None, str]:
    """(system text or None, user text) of the prompt `name` with its field filled in, e.g. ``sentence="the red car"``."""
    if name not in PROMPTS:
        raise BadInput(f"there is no prompt called {name}: name one of {', '.join(PROMPTS)}.")
    prompt = PROMPTS[name]
    return prompt.system, prompt.user.format(**fields)
