"""The `report` section of params.yaml: figures and tables."""

from typing import Literal

from pydantic import Field, field_validator

from workflow_scripts.params.base import Section


class Figures(Section):
    """How figures look."""

    formats: list[Literal["svg", "pdf", "png"]] = Field(
        ["svg", "pdf", "png"],
        min_length=1,
        description="files written of each figure; svg must be one, since the report shows it",
    )
    width: float = Field(6.4, gt=0, description="width in inches; the height follows")
    dots: int = Field(150, ge=50, description="dots an inch of PNG files")
    radar: int = Field(6, ge=1, le=8, description="best trackers drawn in the radar of attributes; all are in the dot plot")

    @field_validator("formats")
    @classmethod
    def _with_svg(cls, formats: list[str]) -> list[str]:
        if "svg" not in formats:
            raise ValueError("svg must be among the formats, since the report shows it")
        return formats


class Report(Section):
    """Parameters of the report stage."""

    figures: Figures = Field(Figures(), description="how figures look")
