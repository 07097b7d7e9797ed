"""The `score` section of params.yaml: how results become numbers."""

from typing import Literal

from pydantic import Field

from workflow_scripts.params.base import Section


class ScoreRun(Section):
    """One scoring run."""

    thresholds: Literal["matlab", "octave"] = Field(
        "matlab", description="whose 0:0.05:1; they differ in the last bit at 0.65 (and in how a header line is read)"
    )
    lenient: bool = Field(False, description="count missing, short and unreadable files as missed instead of stopping")
    beside: list[str] = Field(
        ["corrected"], description="protocols computed from the same pass and written beside the main one, never instead"
    )
    samples: int = Field(2000, ge=1, description="bootstrap resamples of the sequences")
    seed: int = Field(0, ge=0, description="seed of the bootstrap")


class Score(Section):
    """Parameters of the score stage."""

    protocols: dict[str, str] = Field({"tnllt": "tnllt"}, description="benchmark to the protocol that scores it")
    run: ScoreRun = Field(ScoreRun(), description="what every scoring run shares")
