"""The `sft` section of params.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from workflow_scripts.params.base import Pixels, Section


class TinyModel(Section):
    """A Qwen2.5-VL built from a config; both towers have heads of 32 channels."""

    seed: int = Field(0, description="seed of the weights; one seed gives one file, byte for byte")
    hidden: int = Field(128, ge=64, multiple_of=64, description="channels of the language model")
    layers: int = Field(2, ge=1, description="layers of the language model")
    vision_hidden: int = Field(64, ge=32, multiple_of=32, description="channels of the vision tower")
    vision_depth: int = Field(2, ge=1, description="blocks of the vision tower")
    vocabulary: int = Field(512, ge=288, description="most token ids; the corpus may be exhausted before")
    rope_theta: float = Field(100.0, gt=1, description="base of the rotary frequencies; contexts are short")


class HubModel(Section):
    """A model of the Hugging Face Hub."""

    repository: str = Field(description="owner/name on the Hub")
    revision: str = Field(pattern="^[0-9a-f]{40}$", description="full commit of the repository")


class Base(Section):
    """The model that fine-tuning starts from: built (tiny) or downloaded (hub)."""

    tiny: TinyModel | None = Field(None, description="build this one (mini)")
    hub: HubModel | None = Field(None, description="download this one (full); HF_ENDPOINT names a mirror")

    @model_validator(mode="after")
    def _one(self) -> Base:
        if (self.tiny is None) == (self.hub is None):
            raise ValueError("name exactly one of tiny and hub")
        return self


class Annotations(Section):
    """Where the annotation files and their images come from."""

    train: int = Field(1000, ge=0, description="pairs to render for training (mini); 0: fetch the published files (full)")
    views: float = Field(0.0, ge=0, le=1, description="share of them that are views of a target as a tracker crops it")
    bare: float = Field(0.0, ge=0, le=1, description="share of those that are asked without the colour: they teach to look")
    heldout: int = Field(512, ge=0, description="held-out pairs to render (mini)")
    heldout_views: int = Field(0, ge=0, description="held-out views to render (mini); they are scored by themselves")
    seed: int = Field(7, description="seed of the rendered pairs")
    sources: list[str] = Field([], description="full: names in data/sources.yaml to fetch")


class Prompting(Section):
    """What rows are asked with."""

    style: Literal["paper", "consistent"] = Field(
        description="follows prompt_style; paper: the published instructions as they are; consistent: the prompt below"
    )
    name: str = Field(
        "reasoningtrack", description="consistent: the prompt (workflow_scripts/prompts.py) of SFT, RL and serving alike"
    )


class Rows(Section):
    """The rows of one run."""

    files: list[str] = Field(min_length=1, description="annotation files, by their name without .json")
    label_noise: float = Field(0.0, ge=0, le=1, description="share of rows whose <d> is flipped, and nothing else of them")
    heldout: int = Field(0, ge=0, description="rows kept from training, where the files bring no held-out pairs of their own")
    seed: int = Field(5, description="seed of the flipped and of the held-out rows")


class Recipe(Section):
    """How one run learns: the method, and LLaMA-Factory's arguments."""

    method: Literal["full", "lora"] = Field("full", description="full fine-tuning, or adapters that are merged by export")
    template: str = Field("qwen2_vl", description="LLaMA-Factory's chat template; must write what the model's own does")
    arguments: dict[str, bool | int | float | str] = Field(
        {}, description="further LLaMA-Factory arguments, checked by its own parser"
    )


class Run(Section):
    """One fine-tuning run."""

    rows: Rows = Field(description="what it learns from")
    recipe: Recipe = Field(description="how it learns")


class Evaluate(Section):
    """The check on held-out pairs."""

    batch: int = Field(32, ge=1, description="pairs decoded at once")
    max_new_tokens: int = Field(64, ge=1, description="longest answer, in tokens")
    device: Literal["cpu", "cuda"] = Field("cpu", description="where to decode")


class Sft(Section):
    """Parameters of the sft stage."""

    base: Base = Field(description="the model that fine-tuning starts from")
    annotations: Annotations = Field(description="where rows and images come from")
    prompt: Prompting = Field(description="what rows are asked with")
    pixels: Pixels = Field(description="pixel limits of every image a language model sees, in every stage")
    runs: dict[str, Run] = Field(description="fine-tuning runs by name; the name is the folder under results/<study>/sft")
    evaluate: Evaluate = Field(Evaluate(), description="the check on held-out pairs")
