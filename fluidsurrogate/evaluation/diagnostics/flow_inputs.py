"""Viscosity, drag and forcing of the flow as a dataset states them."""

from __future__ import annotations

import math

import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.coordinates import spatial_dims
from fluidsurrogate.data.schema import check_field, check_units
from solvers import FORCING, KNOWN_FIELDS, field_in


def has_flow_input(dataset: xr.Dataset, name: str) -> bool:
    """Return whether a dataset states a viscosity, drag or forcing.

    Parameters
    ----------
    dataset : xr.Dataset
        States of a flow.
    name : str
        "viscosity", "drag" or "forcing".

    Returns
    -------
    bool
        For the forcing True for an unforced flow too: that its forcing is zero is known.
    """
    if name == "forcing":
        return "forcing" in dataset or not _is_forced(dataset)
    return name in dataset.variables or name in dataset.attrs


def flow_input(dataset: xr.Dataset, name: str) -> list[xr.DataArray]:
    """Return the viscosity, drag or forcing that a dataset states.

    Parameters
    ----------
    dataset : xr.Dataset
        States of a flow. Viscosity and drag are the variable or coordinate of that name, a number or one a trajectory,
        or else the attribute; the forcing is the variable `forcing`.
    name : str
        "viscosity", "drag" or "forcing".

    Returns
    -------
    list of xr.DataArray
        The one array, or none for the forcing of an unforced flow.

    Raises
    ------
    UsageError
        If the dataset does not state it, or states something that it cannot be.
    """
    return _forcing(dataset) if name == "forcing" else [_coefficient(dataset, name)]


def _coefficient(dataset: xr.Dataset, name: str) -> xr.DataArray:
    """Return the viscosity or drag: a number, or one a trajectory."""
    value = dataset[name] if name in dataset.variables else dataset.attrs.get(name)
    if value is None:
        raise UsageError(f"the dataset has neither a variable nor an attribute {name!r}")
    if name in dataset.variables:
        check_units(dataset[name], name, KNOWN_FIELDS[name].units)
    try:
        array = xr.DataArray(value).astype(float)
    except (TypeError, ValueError):
        raise UsageError(f"{name} must be a number or one a trajectory (got {value!r})") from None
    if not set(array.dims) <= {"trajectory"}:
        raise UsageError(
            f"{name} must be a number or one a trajectory; it has the dims {', '.join(map(str, array.dims))}"
        )
    if not bool(((array >= 0) & (array < math.inf)).all()):
        raise UsageError(f"{name} must be finite and at least 0 (got {array.values})")
    return array


def _forcing(dataset: xr.Dataset) -> list[xr.DataArray]:
    """Return the forcing, or nothing if the flow is unforced."""
    if "forcing" in dataset:
        space = spatial_dims(dataset)
        if not set(space) <= set(dataset["forcing"].dims):
            raise UsageError(f"the variable 'forcing' must have the dims {', '.join(space[:-1])} and {space[-1]}")
        check_field(dataset["forcing"], field_in(FORCING, len(space)))
        return [dataset["forcing"]]
    if _is_forced(dataset):
        raise UsageError(
            "the dataset's attribute 'forcing' says that the flow is forced, but there is no variable 'forcing'"
        )
    return []


def _is_forced(dataset: xr.Dataset) -> bool:
    return dataset.attrs.get("forcing", "none") != "none"
