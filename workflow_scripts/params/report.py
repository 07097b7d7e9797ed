"""The `report` section of params.yaml: figures and tables."""

from typing import Literal

from pydantic import Field, field_validator

from workflow_scripts.params.base import Section


class Figures(Section):
    """How figures look, and what they show where there is a choice."""

    formats: list[Literal["svg", "pdf", "png"]] = Field(
        ["svg", "pdf", "png"],
        min_length=1,
        description="files written of each figure; svg must be one, since the report shows it",
    )
    width: float = Field(6.4, gt=0, description="width in inches; the height follows")
    dots: int = Field(150, ge=50, description="dots an inch of PNG files")
    radar: int = Field(6, ge=1, le=8, description="best trackers drawn in the radar of attributes; the bars show all")
    pair: list[str] = Field([], description="two trackers compared sequence by sequence; empty for the best two")
    timelines: int = Field(3, ge=1, le=6, description="sequences in the failure timeline: those on which trackers differ most")

    @field_validator("formats")
    @classmethod
    def _with_svg(cls, formats: list[str]) -> list[str]:
        if "svg" not in formats:
            raise ValueError("svg must be among the formats, since the report shows it")
        return formats

    @field_validator("pair")
    @classmethod
    def _two(cls, pair: list[str]) -> list[str]:
        if pair and len(set(pair)) != 2:
            raise ValueError("name two different trackers, or none")
        return pair


class Viewer(Section):
    """The page that shows sequences with the trackers' boxes."""

    sequences: int = Field(3, ge=1, description="sequences shown: those on which trackers differ most")
    frames: int = Field(100, ge=2, description="frames of a sequence at most, spread evenly")
    width: int = Field(400, ge=64, description="width of a frame in pixels at most")
    quality: int = Field(60, ge=10, le=95, description="JPEG quality of the frames")
    trackers: int = Field(6, ge=1, description="best trackers whose boxes are drawn")


class Report(Section):
    """Parameters of the report stage."""

    figures: Figures = Field(Figures(), description="how figures look, and what they show")
    viewer: Viewer = Field(Viewer(), description="the page that shows sequences")
