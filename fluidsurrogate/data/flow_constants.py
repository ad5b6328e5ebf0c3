"""The constants of a flow, such as its viscosity: reading them from a dataset and checking them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from solvers import DIFFUSIVITY, DRAG, VISCOSITY

CONSTANTS = (VISCOSITY.name, DRAG.name, DIFFUSIVITY.name)
RELATIVE_TOLERANCE = 1e-6  # what single precision keeps of a number


def read_constants(dataset: xr.Dataset) -> dict[str, np.ndarray]:
    """Return viscosity, drag and diffusivity as a dataset states them.

    Parameters
    ----------
    dataset : xr.Dataset
        States of a flow.

    Returns
    -------
    dict
        By name, the variable or coordinate of that name, or else the attribute, in SI units; without those that the
        dataset does not state.

    Raises
    ------
    UsageError
        If one of them is no number.
    """
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


def check_constants(dataset: xr.Dataset, expected: Mapping[str, float], owner: str, advice: str) -> None:
    """Check that the constants that a dataset states are those of a flow.

    A constant that the dataset does not state is taken on trust.

    Parameters
    ----------
    dataset : xr.Dataset
        States of a flow.
    expected : mapping of str to float
        The constants of the flow, by name.
    owner : str
        What the expected constants belong to, for the message: "the model".
    advice : str
        What can be done, for the message; {} stands for the name of the constant.

    Raises
    ------
    UsageError
        If one differs by more than single precision can tell.
    """
    for name, found in read_constants(dataset).items():
        if name not in expected:
            continue
        own = expected[name]
        other = found[~np.isclose(found, own, rtol=RELATIVE_TOLERANCE, atol=0.0)]
        if other.size:
            raise UsageError(
                f"the dataset has {name} = {other.flat[0]:.9g}, {owner} has {name} = {own:.9g}: {advice.format(name)}"
            )
