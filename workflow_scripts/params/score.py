"""The `score` section of params.yaml: how results become numbers, and what else belongs beside them."""

import datetime
from typing import Literal

from pydantic import Field, field_validator

from workflow_scripts.params.base import Section

ProtocolName = Literal[  # those of workflow_scripts/score/protocols.py
    "tnllt",
    "lasot",
    "tnl2k",
    "vasttrack",
    "otb",
    "got10k",
    "trackingnet",
    "uav123",
    "nfs",
    "otb99",
    "pytracking",
    "dutrack",
    "corrected",
]


class ScoreRun(Section):
    """One scoring run."""

    thresholds: Literal["matlab", "octave"] = Field(
        "matlab", description="whose 0:0.05:1; they differ in the last bit at 0.65 (and in how a header line is read)"
    )
    lenient: bool = Field(False, description="count missing, short and unreadable files as missed instead of stopping")
    beside: list[ProtocolName] = Field(
        ["corrected"], description="protocols computed from the same pass and written beside the main one, never instead"
    )
    samples: int = Field(2000, ge=1, description="bootstrap resamples of the sequences")
    seed: int = Field(0, ge=0, description="seed of the bootstrap")


class PaperNumber(Section):
    """A number that a paper prints, as somebody read it there."""

    benchmark: str = Field(min_length=1, description="benchmark whose table shows it")
    tracker: str = Field(min_length=1, description="row of that table")
    metric: str = Field(min_length=1, description="which of its scores, by the table's column: SR, PR, NPR")
    value: float = Field(ge=0, le=100, description="in percent, as printed")
    paper: str = Field(min_length=3, description="authors, title, venue and year, so that a reader finds it")
    page: int = Field(ge=1, description="page of that paper")
    date: datetime.date = Field(description="day on which it was read there, since preprints change")


class Score(Section):
    """Parameters of the score stage."""

    protocols: dict[str, ProtocolName] = Field({"tnllt": "tnllt"}, description="benchmark to the protocol that scores it")
    submissions: list[Literal["got10k", "trackingnet"]] = Field(
        [], description="benchmarks that only their servers score: a checked zip is packed for every tracker"
    )
    papers: list[PaperNumber] = Field([], description="numbers of papers, shown beside the scores in a column of their own")
    run: ScoreRun = Field(ScoreRun(), description="what every scoring run shares")

    @field_validator("papers")
    @classmethod
    def _once(cls, papers: list[PaperNumber]) -> list[PaperNumber]:
        cells = [(p.benchmark, p.tracker, p.metric) for p in papers]
        doubled = next((c for c in cells if cells.count(c) > 1), None)
        if doubled:
            raise ValueError(f"{' '.join(doubled)} stands there twice; keep the number of one paper")
        return papers
