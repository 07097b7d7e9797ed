"""The `track` section of params.yaml: training, running and checking the trackers."""

from typing import Any, Literal

from pydantic import Field, field_validator

from workflow_scripts.params.base import Names, Section

CLASSIC = ("static", "kcf", "csrt", "mosse")  # trackers that nobody trained
WITHOUT_WEIGHTS = (*CLASSIC, "r1track")  # which asks the language model for every box


class Sampling(Section):
    """How a training sample is drawn: template crops and search crops of one sequence."""

    order: Literal["causal", "any"] = Field(
        "causal",
        description="causal: templates up to a base frame, searches after it (DUTrack's); any: around it, forth or back",
    )
    templates: int = Field(2, ge=1, description="templates a sample; the first is mostly frame 0")
    searches: int = Field(2, ge=1, description="search frames a sample; DUTrack's query is carried from one to the next")
    first_frame: float = Field(0.7, ge=0, le=1, description="probability that the first template is frame 0 (causal)")
    max_gap: int = Field(0, ge=0, description="frames between base and the others at most; 0 for the whole sequence")
    keep_aspect: bool = Field(
        True, description="jitter resizes both sides alike; else each by itself, and shifts by sizes of the result (published)"
    )
    template_shift: float = Field(0.1, ge=0, description="centre jitter of a template, in sizes of the box")
    template_scale: float = Field(0.08, ge=0, description="size jitter of a template: exp(value x N(0, 1))")
    search_shift: float = Field(1.5, ge=0, description="centre jitter of a search crop, in sizes of the box")
    search_shift_least: float = Field(0.2, ge=0, le=1, description="each crop's jitter is scaled by U(value, 1)")
    search_scale: float = Field(0.25, ge=0, description="size jitter of a search crop: exp(value x N(0, 1))")


class Augment(Section):
    """Probabilities of what is done to the crops and to the sentence of a training sample."""

    flip: float = Field(0.5, ge=0, le=1, description="horizontal flip of all crops of a sample")
    flip_each: float = Field(0.0, ge=0, le=1, description="horizontal flip of single crops, after that")
    grey: float = Field(0.0, ge=0, le=1, description="all crops of a sample grey")
    gain: float = Field(0.3, ge=0, lt=1, description="brightness of a search crop: U(1 - value, 1 + value)")
    template_gain: float = Field(0.0, ge=0, lt=1, description="brightness of a template: U(1 - value, 1 + value)")
    colourless_templates: float = Field(0.6, ge=0, le=1, description="all templates grey: the colour must come from the words")
    colourless_gain: float = Field(0.4, ge=0, lt=1, description="brightness of such templates: U(1 - value, 1 + value)")
    colourless_first: float = Field(0.1, ge=0, le=1, description="the first template alone grey")
    empty_sentence: float = Field(0.1, ge=0, le=1, description="no sentence")
    look_alike: float = Field(
        0.5, ge=0, le=1, description="a copy of the target in another colour pasted into the search crops"
    )
    permute_channels: float = Field(
        0.7, ge=0, le=1, description="RGB channels permuted, and the sentence's colour words with them"
    )


class Train(Section):
    """The training of a DUTrack or a SeqTrack on benchmarks' training splits."""

    network: str = Field("dutrack_small", description="name of the network's configuration")
    benchmarks: list[str] = Field(["tnllt"], min_length=1, description="whose training splits are learnt, each as often")
    initial: str = Field(
        "", description="weights to start from: a network of `trained`, or a source of data/sources.yaml; empty for random ones"
    )
    frozen: list[str] = Field([], description="parts of the network that stay as they start, by their names in it")
    seed: int = Field(0, description="seed of weights and samples")
    processes: int = Field(1, ge=1, description="processes that share each batch, a GPU each in the full study")
    threads: int = Field(1, ge=1, description="torch threads; more than free cores makes training several times slower")
    device: str = Field("cpu", description="cpu, or cuda in the full study")
    dtype: Literal["fp32", "bf16"] = Field("fp32", description="precision of the forward pass")
    steps: int = Field(650, ge=1, description="optimiser steps")
    batch: int = Field(16, ge=1, description="samples a step, of all processes together (each with `searches` search crops)")
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate")
    backbone_rate: float = Field(1.0, gt=0, description="factor on it for DUTrack's backbone, or SeqTrack's encoder")
    weight_decay: float = Field(0.02, ge=0, description="AdamW's weight decay, on matrices only")
    betas: tuple[float, float] = Field((0.9, 0.98), description="AdamW's betas")
    clip: float = Field(1.0, gt=0, description="largest gradient norm")
    warm_up: int = Field(50, ge=0, description="steps of linear warm-up")
    schedule: Literal["cosine", "step"] = Field("cosine", description="cosine to 1e-6, or a tenth from `drop_at` on")
    drop_at: float = Field(0.9, gt=0, le=1, description="where schedule `step` drops, as a share of the steps")
    decode_at: Literal["centre", "argmax"] = Field(
        "centre", description="DUTrack: cell whose box is compared, the true centre or the score's argmax"
    )
    giou: float = Field(2.0, ge=0, description="DUTrack: weight of the GIoU loss")
    l1: float = Field(5.0, ge=0, description="DUTrack: weight of the L1 loss")
    focal: float = Field(1.0, ge=0, description="DUTrack: weight of the focal loss")
    alignment: float = Field(0.0, ge=0, description="small DUTrack: weight of naming the target from the stem's feature")
    end: float = Field(0.01, ge=0, description="SeqTrack: weight of the word END in the cross-entropy; a coordinate's is 1")
    soften: float = Field(
        0.0, ge=0, description="SeqTrack: deviation, in words, of the Gaussian that stands for a coordinate; 0 for one word"
    )
    checkpoint_every: int = Field(100, ge=1, description="steps between checkpoints, from which a killed training resumes")
    in_memory: bool = Field(True, description="decode all frames once and keep them (the mini study's take 600 MB)")
    queue: int = Field(4, ge=1, description="batches that are cropped ahead")
    feeders: int = Field(1, ge=1, description="threads that crop batches, in each process")
    sampling: Sampling = Field(Sampling(), description="how a sample is drawn")
    augment: Augment = Field(Augment(), description="what is done to its crops and its sentence")


class Run(Section):
    """Running trackers over a benchmark's split."""

    shards: int = Field(1, ge=1, description="jobs a tracker and benchmark")
    batch: int = Field(8, ge=1, description="sequences in lockstep; a table is made at one value")
    device: str = Field("cpu", description="cpu, or cuda in the full study")
    precision: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="precision of the networks' products")
    compiled: bool = Field(False, description="networks through torch.compile; on a GPU replayed as CUDA graphs")
    readers: int = Field(2, ge=1, description="threads that decode frames ahead")
    ahead: int = Field(3, ge=1, description="frames a sequence decoded ahead")


class Reasoning(Section):
    """ReasoningTrack's rule: when its model is asked, and what it sees."""

    network: str = Field("dutrack", description="the network that tracks")
    every: int = Field(10, ge=1, description="frames between looks at the two gates")
    area: float = Field(0.95, gt=0, le=1, description="ask if the smaller area over the larger is below this")
    shift: float = Field(
        1 / 32, ge=0, description="ask if the corner moved by more than this share of the frame's width or height"
    )
    reproduce_paper: bool = Field(
        False, description="repeat the published code's off-by-one frame, fixed reference and loose reading"
    )
    view: Literal["frame", "crop"] = Field("frame", description="what the model sees: whole frames, or crops around the box")
    view_factor: float = Field(4.0, gt=0, description="side of such a crop, in sizes of the box")
    view_size: int = Field(224, ge=28, description="side of such a crop, in pixels")


class R1Track(Section):
    """R1-Track: its model, and what that is shown."""

    model: str = Field("", description="source of the model in data/sources.yaml; empty for the study's own merged model")
    prompt: Literal["new", "old", "think", "old-think"] = Field(
        "new", description="the prompt that the model was trained with; old are the models of 5k pairs"
    )
    factor: float = Field(4.0, gt=0, description="side of a crop, in sizes of the box")
    margin: float = Field(2.0, ge=0, description="and at least this many of the box's longer sides")
    size: int = Field(336, ge=28, multiple_of=28, description="side of a crop, in pixels: those that the answers count in")
    start: Literal["box", "sentence"] = Field("box", description="start from the first box, or ask for it with the sentence")
    reproduce_paper: bool = Field(
        False, description="repeat the published code's fall-back, crops, rounding, borders, prompt and reading"
    )
    max_tokens: int = Field(512, ge=1, description="longest answer, in tokens")
    malformed_retries: int = Field(2, ge=0, description="how often it is asked again when its answer is no box")
    fall_back_limit: float = Field(0.1, ge=0, le=1, description="share of frames without a box above which the job fails")


class Language(Section):
    """The proof that a trained tracker reads its sentence."""

    crops: int = Field(16, ge=1, description="search crops a sequence in the pick test")
    seed: int = Field(0, description="seed of the crops' shifts")
    gate: float = Field(0.10, description="right minus the better of empty and wrong must be at least this in the pick test")


class Track(Section):
    """Parameters of the track stage."""

    benchmarks: Names = Field(description="benchmarks that trackers run on")
    split: str = Field("test", description="split of the benchmark that is tracked")
    trackers: Names = Field(min_length=1, description="trackers of the table, run here")
    trained: Names = Field(description="networks trained in the graph: names of recipes in `train`")
    checkpoints: dict[str, str] = Field(description="networks fetched: name to the source in data/sources.yaml")
    vocabulary: str = Field("bert-base-uncased", description="source of the vocabulary that the fetched DUTracks read with")
    published: dict[str, str] = Field(
        description="trackers whose authors' raw boxes are re-scored: name to folder in the archive"
    )
    published_source: str = Field("tnllt-raw-results", description="source of that archive")
    train: dict[str, Train] = Field({}, description="recipes by the network's name under results/<study>/track/weights")
    run: Run = Field(Run(), description="running")
    reasoning: Reasoning = Field(Reasoning(), description="ReasoningTrack's rule")
    r1track: R1Track = Field(R1Track(), description="R1-Track's model and rule")
    describers: dict[str, Literal["off", "class", "sentence", "blip", "model"]] = Field(
        {}, description="where a tracker's words come from, by tracker (workflow_scripts/track/describers.py); else sentence"
    )
    captioner: str = Field("blip-image-captioning-base", description="source of the model of describer blip")
    language: Language = Field(Language(), description="proof that the sentence is read")

    def rows(self, benchmark: str) -> list[str]:
        """Trackers of a benchmark's table: those run here, then, on TNLLT, the published ones."""
        return [*self.trackers, *(self.published if benchmark == "tnllt" else ())]

    @field_validator("describers", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        """YAML reads a bare off as false."""
        return {k: "off" if v is False else v for k, v in value.items()} if isinstance(value, dict) else value
