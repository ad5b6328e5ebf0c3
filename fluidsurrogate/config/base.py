"""What every table of an experiment has in common."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A part of the tree: frozen, strict in its types, closed to unknown keys, finite in its numbers."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)
