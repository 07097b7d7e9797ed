"""What every parameter model is made of: unknown keys are errors, never ignored; and the pixel limits that stages share."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _once(names: list[str]) -> list[str]:
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled:
        raise ValueError(f"{doubled} stands there twice; keep it once")
    return names


Names = Annotated[list[str], AfterValidator(_once)]  # of things that are one each: benchmarks, trackers


class Section(BaseModel):
    """A mapping of params.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Pixels(Section):
    """The one pixel rule (images.fit_pixels) that every picture of a language model follows, in every stage."""

    min_pixels: int = Field(ge=28 * 28, description="smallest area of an image the language model sees")
    max_pixels: int = Field(ge=28 * 28, description="largest area of an image the language model sees")

    @model_validator(mode="after")
    def _in_order(self) -> "Pixels":
        if self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels is {self.min_pixels}, above max_pixels ({self.max_pixels})")
        return self
