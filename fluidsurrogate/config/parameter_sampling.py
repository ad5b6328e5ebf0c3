"""A parameter of a flow that may differ from trajectory to trajectory: a value, a list, or a range."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Discriminator, Field, Tag, model_validator

from fluidsurrogate.config.base import Config
from fluidsurrogate.core.seeding import derive_seed


class Range(Config):
    """Drawn for each trajectory between `low` and `high`, evenly in the value or in its logarithm."""

    low: float
    high: float
    distribution: Literal["uniform", "log-uniform"] = "uniform"

    @model_validator(mode="after")
    def _check(self):
        if self.low >= self.high:
            raise ValueError(f"low must be less than high (got {self.low:g} and {self.high:g})")
        if self.distribution == "log-uniform" and self.low <= 0:
            raise ValueError(f"low must be positive where distribution is log-uniform (got {self.low:g})")
        return self

    def at(self, share: float) -> float:
        """The value below which this share of the draws lies."""
        if self.distribution == "uniform":
            return self.low + share * (self.high - self.low)
        return self.low * math.exp(share * math.log(self.high / self.low))


def _form(value: Any) -> str:
    if isinstance(value, (dict, Range)):
        return "range"
    return "list" if isinstance(value, list) else "value"


Varying = Annotated[
    Annotated[float, Tag("value")]
    | Annotated[list[float], Field(min_length=1), Tag("list")]
    | Annotated[Range, Tag("range")],
    Discriminator(_form),
]
FORMS = ("value", "list", "range")


def value_for(parameter: Any, name: str, number: int, seed: int) -> Any:
    """What the parameter is for a trajectory: lists give their values in turn, by the trajectory's number in its split,
    ranges one drawn by its seed; anything else is the same for all."""
    if isinstance(parameter, Range):
        return parameter.at(float(np.random.default_rng(derive_seed(seed, name)).random()))
    return parameter[number % len(parameter)] if isinstance(parameter, list) else parameter


def extremes(parameter: list[float] | Range) -> list[float]:
    """The values of a list, the ends of a range."""
    return [parameter.low, parameter.high] if isinstance(parameter, Range) else parameter


def middle(parameter: Any) -> Any:
    """The value that stands for all: the first of a list, the middle of a range, the value itself."""
    if isinstance(parameter, Range):
        return parameter.at(0.5)
    return parameter[0] if isinstance(parameter, list) else parameter


def is_varying(parameter: Any) -> bool:
    """True for a list or a range in the place of a number (a vector of the flow is a tuple)."""
    return isinstance(parameter, (Range, list))
