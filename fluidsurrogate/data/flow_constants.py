"""The constants of a flow, such as its viscosity: what a dataset says of them, and whether a step was made for them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from solvers import DIFFUSIVITY, DRAG, VISCOSITY

CONSTANTS = (VISCOSITY.name, DRAG.name, DIFFUSIVITY.name)
AGREE = 1e-6  # relative: what single precision keeps of a number


def constants_of(dataset: xr.Dataset) -> dict[str, np.ndarray]:
    """Viscosity, drag and diffusivity as a dataset states them: its variable or coordinate of that name, else its
    attribute. UsageError where one of them is no number."""
    found = {}
    for name in CONSTANTS:
        value = dataset[name].values if name in dataset.variables else dataset.attrs.get(name)
        if value is None:
            continue
        try:
            found[name] = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError):
            raise UsageError(f"the dataset's {name} must be a number or one a trajectory (got {value!r})") from None
    return found


def check_constants(dataset: xr.Dataset, expected: Mapping[str, float], whose: str, advice: str) -> None:
    """Compare the constants that a dataset states with those of a flow. What it does not state is taken on trust.

    Parameters
    ----------
    dataset
        States of a flow.
    expected
        The constants of the flow, by name.
    whose
        For the message, what the flow is of.
    advice
        For the message, what can be done; {} stands for the name of the constant.

    Raises
    ------
    UsageError
        If one differs by more than single precision can tell.
    """
    for name, found in constants_of(dataset).items():
        if name not in expected:
            continue
        own = expected[name]
        other = found[~np.isclose(found, own, rtol=AGREE, atol=0.0)]
        if other.size:
            raise UsageError(
                f"the dataset has {name} = {other.flat[0]:.9g}, {whose} has {name} = {own:.9g}: {advice.format(name)}"
            )
