"""Checks of numbers that users give; every message names the number and what was expected."""

from __future__ import annotations

import math
from collections.abc import Sequence

from solvers.array_types import Vector
from solvers.grid import Grid


def require_positive(**values: float) -> None:
    """Raise an error unless every number is positive and finite.

    Parameters
    ----------
    **values : float
        The numbers by the name that a message gives.

    Raises
    ------
    ValueError
        For the first number that is not.
    """
    for name, value in values.items():
        if not math.isfinite(value) or value <= 0:
            raise ValueError(f"{name} must be positive and finite (got {value})")


def require_non_negative(**values: float) -> None:
    """Raise an error unless every number is finite and at least 0.

    Parameters
    ----------
    **values : float
        The numbers by the name that a message gives.

    Raises
    ------
    ValueError
        For the first number that is not.
    """
    for name, value in values.items():
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"{name} must be finite and at least 0 (got {value})")


def require_finite(**values: float | Vector) -> None:
    """Raise an error unless every number and every component of a vector is finite.

    Parameters
    ----------
    **values : float or tuple of float
        The numbers and vectors by the name that a message gives.

    Raises
    ------
    ValueError
        For the first that is not.
    """
    for name, value in values.items():
        if not all(math.isfinite(v) for v in (value if isinstance(value, tuple) else (value,))):
            raise ValueError(f"{name} must be finite (got {value})")


def require_one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise an error unless a word is one of those that are allowed.

    Parameters
    ----------
    name : str
        What the word chooses, as a message calls it.
    value : str
        The word.
    allowed : sequence of str
        All words that are allowed.

    Raises
    ------
    ValueError
        If it is none of them; the message lists them.
    """
    if value not in allowed:
        raise ValueError(f"unknown {name} {value!r}; one of {', '.join(allowed)}")


def require_dimensions(what: str, grid: Grid, dimensions: int, advice: str) -> None:
    """Raise an error unless a grid has the number of dimensions that something needs.

    Parameters
    ----------
    what : str
        What needs the grid, as a message calls it.
    grid : Grid
        The grid.
    dimensions : int
        The number of dimensions that is needed.
    advice : str
        What to do otherwise, as the end of the message.

    Raises
    ------
    ValueError
        If the grid has another number of dimensions.
    """
    if grid.dimensions != dimensions:
        raise ValueError(f"{what} needs a grid in {dimensions} dimensions (got {grid.dimensions}): {advice}")
