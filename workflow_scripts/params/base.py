"""The base of every parameter model: frozen, and no key it does not know."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section of params.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)
