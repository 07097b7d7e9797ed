"""The `data` section of params.yaml."""

from __future__ import annotations

from pydantic import Field, model_validator

from workflow_scripts.params.base import Names, Section


class Rendering(Section):
    """The mini study's sequences, drawn instead of downloaded."""

    seed: int = Field(description="seed of the whole set; a sequence's own seed is (seed, split, number)")
    train_sequences: int = Field(ge=0, description="training sequences; every second one needs its sentence (LANG)")
    test_sequences: int = Field(ge=0, description="test sequences; every second one needs its sentence (LANG)")
    shortest: int = Field(ge=40, description="fewest frames of a sequence (an exit and a return need 40)")
    longest: int = Field(description="most frames of a sequence")
    width: int = Field(default=320, ge=160, description="frame width, pixels")
    height: int = Field(default=240, ge=120, description="frame height, pixels")
    workers: int = Field(default=2, ge=1, description="processes that draw; the frames do not depend on it")

    @model_validator(mode="after")
    def _lengths(self) -> Rendering:
        if self.longest < self.shortest:
            raise ValueError("longest must not be less than shortest")
        return self


class Archive(Section):
    """The dataset's archive, published in parts."""

    name: str = Field(default="TNLLT", description="archive name: parts are <name>_part_aa, _ab, ...")
    parts: int = Field(ge=1, le=676, description="number of parts; full: count the files on the share, its page does not say")


class Fetching(Section):
    """How downloads behave."""

    attempts: int = Field(default=5, ge=1, description="tries a mirror gets before the next one")
    wait_seconds: float = Field(
        default=1.0, ge=0, description="wait before the second try; doubles with each, at most a minute"
    )
    timeout_seconds: float = Field(default=60.0, gt=0, description="silence after which a connection counts as dead")


class Checking(Section):
    """What a dataset is refused for."""

    max_absent_share: float = Field(
        default=0.5, ge=0, le=1, description="above this share of absent frames the flags' polarity is probably wrong"
    )
    allow_absent_first: bool = Field(default=False, description="accept sequences whose first frame is flagged absent")
    images: str = Field(
        "ends",
        pattern="^(none|ends|all)$",
        description="frames to open: none (names only), ends (first and last of a sequence), all",
    )


class Data(Section):
    """Parameters of the data stage."""

    benchmarks: Names = Field(description="benchmarks to index (workflow_scripts/data/benchmarks/<name>.yaml)")
    render: Rendering | None = Field(default=None, description="mini: the sequences to draw; full: none, they are downloaded")
    archive: Archive = Field(description="the archive of TNLLT")
    fetch: Fetching = Field(default_factory=Fetching, description="how downloads behave")
    check: Checking = Field(default_factory=Checking, description="what a dataset is refused for")
