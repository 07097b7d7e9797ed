"""The `grpo` section of params.yaml."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from workflow_scripts.params.base import Section

PRESETS = (
    "recipe",
    "reasoningtrack-paper",
    "reasoningtrack-iou",
    "r1track-think",
    "r1track-nothink",
    "r1track-think-paper",
    "r1track-nothink-paper",
)


class Crops(Section):
    """How crops are cut (source: crops), R1-Track's numbers."""

    size: int = Field(336, ge=28, multiple_of=28, description="side of a crop in pixels: those that boxes are counted in")
    factors: tuple[float, float] = Field((2.0, 8.0), description="a crop's side in sizes of the box is drawn between these")
    offset: float = Field(0.2, ge=0, lt=0.5, description="most that the target is off the centre, in sides of the crop")
    reproduce_paper: bool = Field(
        False, description="repeat the published code's crops that a long target leaves, and its numbers cut to integers"
    )


class Pairs(Section):
    """The pair dataset: one row is two frames, the description of the target, its two boxes."""

    source: Literal["rendered", "sequences", "crops"] = Field(
        description="rendered: the mini study's pairs; sequences: frames of the benchmarks' training splits (ReasoningTrack); "
        "crops: squares around the target in such frames (R1-Track)"
    )
    benchmarks: list[str] = Field(default_factory=list, description="benchmarks whose training split is sampled")
    guarded: list[str] = Field(
        default_factory=list, description="benchmarks whose test split must not occur among the sampled sequences"
    )
    prompt: str = Field(
        "reasoningtrack", description="prompt of every row, by its name in workflow_scripts.prompts; follows prompt_style"
    )
    train: int = Field(400, ge=1, description="training pairs")
    views: float = Field(0.0, ge=0, le=1, description="rendered: share of views among them and among the validation pairs")
    validation: int = Field(128, ge=1, description="validation pairs, of other sequences or another seed")
    seed: int = Field(20_000, description="seed of the sampling; the SFT rows have another")
    longest_gap: int = Field(0, ge=0, description="most frames between the two of a pair; 0 is any distance")
    balance: list[Literal["aspect", "motion"]] = Field(
        [], description="take as many pairs of each kind, as far as there are: of long and square, of slow and fast targets"
    )
    without: list[str] = Field([], description="training sequences that are left out")
    crops: Crops = Field(Crops(), description="source crops: how they are cut")
    min_pixels: int = Field(3136, ge=784, description="least area of a stored picture")
    max_pixels: int = Field(262_144, ge=784, description="largest area of a stored picture")


class Reward(Section):
    """What an answer earns."""

    preset: Literal[PRESETS] = Field(description="a named mix of workflow_scripts.grpo.rewards")
    weights: dict[str, float] | None = Field(None, description="weights laid over the preset's, by the term's name")
    on_tracker_failure: Literal["zero", "error"] = Field(
        "zero", description="when the tracker cannot be asked: the answer earns zero in every term, or the run ends"
    )


class Trl(Section):
    """TRL's GRPO trainer on a CPU (mini)."""

    steps: int = Field(ge=1, description="optimiser steps")
    prompts_per_step: int = Field(8, ge=1, description="prompts in a step")
    generations: int = Field(8, ge=2, description="answers sampled to one prompt: the group")
    temperature: float = Field(0.7, gt=0, description="of sampling; at 1 a tiny model breaks the format by chance")
    learning_rate: float = Field(2e-4, gt=0, description="after the warm-up; falls to zero along a cosine")
    warmup_steps: int = Field(5, ge=0, description="steps of linear warm-up")
    beta: float = Field(0.0, ge=0, description="weight of the KL term; 0 needs no reference model")
    max_completion_length: int = Field(48, ge=8, description="most tokens of an answer")
    save_every: int = Field(ge=1, description="steps between checkpoints; a killed run continues from the last")
    seed: int = Field(0, description="seed of sampling and of the order of prompts")
    shards: int = Field(2, ge=1, description="rank files of a checkpoint, as that many processes would write")

    @model_validator(mode="after")
    def _no_generation_config_trap(self) -> Trl:
        if self.temperature == 1.0:
            raise ValueError(
                "temperature 1.0 is the library's default and may be replaced by the model's own; use 0.999 or 1.001"
            )
        return self


class EasyR1(Section):
    """EasyR1's trainer on GPUs (full)."""

    recipe: Literal["reasoningtrack", "r1track-think", "r1track-nothink"] = Field(
        description="published settings to start from, a file of workflow_scripts/grpo/recipes"
    )
    repository: str = Field("https://github.com/hiyouga/EasyR1", description="where the trainer is cloned from")
    commit: str = Field(pattern="^[0-9a-f]{40}$", description="full commit of the trainer")
    gpus: int = Field(4, ge=1, description="GPUs of one node")
    nodes: int = Field(1, ge=1, description="nodes")
    tracker: str | None = Field(None, description="tracker of the track stage that measures IoU for the reward; null: none")
    tracker_port: int = Field(8750, ge=1024, le=65535, description="port on this machine of the reward's tracker")
    overrides: dict[str, Any] = Field(
        default_factory=dict, description="EasyR1 keys laid over the recipe, dotted: worker.rollout.n"
    )


class Merge(Section):
    """From rank shards to one model."""

    step: Literal["last", "best"] = Field("last", description="which step of checkpoint_tracker.json is merged")
    dtype: Literal["keep", "float32", "bfloat16"] = Field("keep", description="type of the stored weights")
    largest_file: int = Field(5_000_000_000, ge=1_000_000, description="most bytes of one safetensors file")


class Grpo(Section):
    """Parameters of the grpo stage."""

    engine: Literal["trl", "easyr1"] = Field(description="which trainer runs")
    start_from: Literal["clean", "noised"] = Field(
        description="SFT model to start from; noised: trained on rows of which a share has a flipped decision"
    )
    pairs: Pairs = Field(description="the pair dataset")
    reward: Reward = Field(description="what an answer earns")
    trl: Trl | None = Field(None, description="settings of the trl engine")
    easyr1: EasyR1 | None = Field(None, description="settings of the easyr1 engine")
    merge: Merge = Field(default_factory=Merge, description="merging the checkpoint")

    @property
    def reward_tracker(self) -> str | None:
        """Tracker that the reward asks; EasyR1's alone asks one, and only about sequences."""
        asks = self.engine == "easyr1" and self.pairs.source == "sequences"
        return self.easyr1.tracker if asks and self.easyr1 else None

    @model_validator(mode="after")
    def _engine_is_set(self) -> Grpo:
        if getattr(self, self.engine) is None:
            raise ValueError(f"engine is {self.engine} but the section {self.engine} is missing")
        return self
