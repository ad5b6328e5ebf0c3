"""Flow parameters that may differ from trajectory to trajectory: a number, a list of numbers, or a range."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Discriminator, Field, Tag, model_validator

from fluidsurrogate.config.base import Config
from fluidsurrogate.core.seeding import derive_seed


class Range(Config):
    """A range that the value of each trajectory is drawn from at random.

    Parameters
    ----------
    low : float
        The lower end.
    high : float
        The upper end.
    distribution : {"uniform", "log-uniform"}
        Whether the value or its logarithm is distributed uniformly.
    """

    low: float
    high: float
    distribution: Literal["uniform", "log-uniform"] = "uniform"

    @model_validator(mode="after")
    def _check(self):
        """Refuse an empty range, and a log-uniform one that reaches zero."""
        if self.low >= self.high:
            raise ValueError(f"low must be less than high (got {self.low:g} and {self.high:g})")
        if self.distribution == "log-uniform" and self.low <= 0:
            raise ValueError(f"low must be positive if distribution is log-uniform (got {self.low:g})")
        return self

    def quantile(self, probability: float) -> float:
        """Return the quantile of the distribution.

        Parameters
        ----------
        probability : float
            Between 0 and 1.

        Returns
        -------
        float
            The value that a draw does not exceed with this probability.
        """
        if self.distribution == "uniform":
            return self.low + probability * (self.high - self.low)
        return self.low * math.exp(probability * math.log(self.high / self.low))


def _form_of(value: Any) -> str:
    """Return which of `PARAMETER_FORMS` a parameter has in the file."""
    if isinstance(value, (dict, Range)):
        return "range"
    return "list" if isinstance(value, list) else "value"


VaryingFloat = Annotated[
    Annotated[float, Tag("value")]
    | Annotated[list[float], Field(min_length=1), Tag("list")]
    | Annotated[Range, Tag("range")],
    Discriminator(_form_of),
]
PARAMETER_FORMS = ("value", "list", "range")


def trajectory_value(parameter: Any, name: str, number: int, seed: int) -> Any:
    """Return the value of a parameter for one trajectory.

    Parameters
    ----------
    parameter : Any
        A list, whose values are taken in turn; a range, from which a value is drawn; or anything else, which is the
        same for all trajectories.
    name : str
        The dotted name of the parameter. Parameters of different names are drawn independently.
    number : int
        The number of the trajectory in its split.
    seed : int
        The seed of the trajectory.

    Returns
    -------
    Any
        The value.
    """
    if isinstance(parameter, Range):
        return parameter.quantile(float(np.random.default_rng(derive_seed(seed, name)).random()))
    return parameter[number % len(parameter)] if isinstance(parameter, list) else parameter


def extreme_values(parameter: list[float] | Range) -> list[float]:
    """Return the values by which a varying parameter is checked.

    Parameters
    ----------
    parameter : list of float or Range
        A parameter that varies.

    Returns
    -------
    list of float
        All values of a list, or the two ends of a range.
    """
    return [parameter.low, parameter.high] if isinstance(parameter, Range) else parameter


def representative_value(parameter: Any) -> Any:
    """Return the one value that stands for all trajectories.

    Parameters
    ----------
    parameter : Any
        A list, a range, or anything else.

    Returns
    -------
    Any
        The first value of a list, the median of a range, or the parameter itself.
    """
    if isinstance(parameter, Range):
        return parameter.quantile(0.5)
    return parameter[0] if isinstance(parameter, list) else parameter


def is_varying(parameter: Any) -> bool:
    """Return whether a parameter is a list or a range in the place of a number.

    Parameters
    ----------
    parameter : Any
        A parameter of a flow. A vector, such as gravity, is a tuple and does not count.

    Returns
    -------
    bool
        True for a list or a range.
    """
    return isinstance(parameter, (Range, list))
