"""The base class of all tables of an experiment."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A frozen table of an experiment, in which unknown keys, wrong types and non-finite numbers are errors."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)
