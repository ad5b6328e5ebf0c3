"""Coordinates of datasets: evenly spaced axes and stored times, each with a tolerance.

Every tolerance is a fraction of the spacing: of the cell or of the interval. A tolerance relative to the coordinate
itself would take one time for another as soon as the clock reads a large number.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from solvers.grid import AXES

SPATIAL_DIMS = ("y", "x")
SAME_POINT = 1e-3  # of the spacing: two places or times that are no further apart are the same
MAX_ROUNDING = 1e-2  # of the spacing: numbers that are stored in larger steps do not tell which place or time they are


def spatial_dims(data: xr.Dataset | xr.DataArray) -> tuple[str, ...]:
    """Return the names of the spatial dims of fields in the plane or in space.

    Parameters
    ----------
    data : xr.Dataset or xr.DataArray
        Fields.

    Returns
    -------
    tuple of str
        ("z", "y", "x") if the data have the dim z, ("y", "x") if not.
    """
    return AXES if "z" in data.dims else AXES[1:]


def rounding_step(values: np.ndarray) -> float:
    """Return the distance between neighbouring numbers of the dtype that values are stored in, at the largest of them.

    Parameters
    ----------
    values : np.ndarray
        Stored numbers; integers count as double precision.

    Returns
    -------
    float
        The distance.
    """
    dtype = values.dtype if values.dtype.kind == "f" else np.dtype(np.float64)
    return float(np.spacing(np.abs(values).astype(dtype).max(initial=0)))


def coordinate_tolerance(values: np.ndarray, spacing: float) -> float:
    """Return how far a stored coordinate may be from its place on an even axis.

    Parameters
    ----------
    values : np.ndarray
        The stored coordinate.
    spacing : float
        Spacing of the axis.

    Returns
    -------
    float
        A thousandth of the spacing, and the rounding of the stored dtype.
    """
    return SAME_POINT * spacing + rounding_step(values)


def check_coordinate_precision(values: np.ndarray, spacing: float, name: str) -> None:
    """Check that the dtype of a coordinate tells neighbouring places or times apart.

    Parameters
    ----------
    values : np.ndarray
        The stored coordinate.
    spacing : float
        Distance of neighbouring values.
    name : str
        Name of the coordinate, for the message.

    Raises
    ------
    UsageError
        If the dtype rounds to steps of more than a hundredth of the spacing.
    """
    if (step := rounding_step(values)) > MAX_ROUNDING * spacing:
        raise UsageError(
            f"the coordinate {name!r} is stored as {values.dtype}, in steps of {step:.2g} near {values.max():g}: too "
            f"coarse for a spacing of {spacing:g}; store it as float64, or count from its first value"
        )


def evenly_spaced_axis(dataset: xr.Dataset, axis: str) -> tuple[np.ndarray, float]:
    """Return an evenly spaced, increasing coordinate and its spacing.

    Parameters
    ----------
    dataset : xr.Dataset
        The dataset.
    axis : str
        Name of the coordinate and of its dim.

    Returns
    -------
    values : np.ndarray
        The coordinate in double precision.
    spacing : float
        Mean distance of neighbouring values.

    Raises
    ------
    UsageError
        If the dataset has no such coordinate, or it is not numeric, finite, increasing and even.
    """
    if axis not in dataset.coords:
        raise UsageError(f"the dataset has no coordinate {axis!r}")
    coordinate = dataset[axis]
    if coordinate.dims not in ((), (axis,)) or coordinate.dtype.kind not in "fiu":
        dims = ", ".join(map(str, coordinate.dims))
        raise UsageError(
            f"the coordinate {axis!r} must be numbers along {axis} (it is {coordinate.dtype} along {dims})"
        )
    stored = np.atleast_1d(coordinate.values)
    values = stored.astype(np.float64)
    if len(values) < 2:
        raise UsageError(f"the dataset has fewer than two cells along {axis!r}")
    if not np.isfinite(values).all():
        raise UsageError(f"the coordinate {axis!r} holds NaN or infinite values")
    steps = np.diff(values)
    spacing = float(steps.mean())
    if (steps < 0).all():
        raise UsageError(f"{axis} must be cell centres that increase; it decreases: sortby({axis!r}) turns it")
    if spacing > 0:
        check_coordinate_precision(stored, spacing, axis)
    even = values[0] + spacing * np.arange(len(values))
    if spacing <= 0 or not (np.abs(values - even) <= coordinate_tolerance(stored, spacing)).all():
        found = f"{steps.min():g} to {steps.max():g}"
        raise UsageError(f"{axis} must be cell centres with one spacing; its spacing is {found}")
    return values, spacing


def box_sides(dataset: xr.Dataset) -> tuple[float, ...]:
    """Return the sides of the periodic box that the coordinates y and x, or z, y and x, belong to.

    Parameters
    ----------
    dataset : xr.Dataset
        Fields on an even grid, wherever its first point lies.

    Returns
    -------
    tuple of float
        Sides (y, x) or (z, y, x) in the units of the coordinates: number of cells times their spacing.

    Raises
    ------
    UsageError
        If a coordinate is not evenly spaced and increasing.
    """
    axes = [evenly_spaced_axis(dataset, axis) for axis in spatial_dims(dataset)]
    return tuple(spacing * len(values) for values, spacing in axes)


def select_time(dataset: xr.Dataset, start_time: float | None, interval: float) -> xr.Dataset:
    """Return a dataset at one of its stored times.

    Parameters
    ----------
    dataset : xr.Dataset
        States, with or without a dim time.
    start_time : float or None
        The time; None for the first stored one.
    interval : float
        Time between two states, in the units of the coordinate: a time matches if it is within a thousandth of it.

    Returns
    -------
    xr.Dataset
        The dataset with one time; with the dim time if it had one.

    Raises
    ------
    UsageError
        If there is no such time, or `start_time` is no number.
    """
    has_dim = "time" in dataset.dims
    if start_time is None:
        return dataset.isel(time=[0]) if has_dim else dataset
    try:
        start_time = float(start_time)
    except (TypeError, ValueError):
        raise UsageError(f"start_time must be a number, one of the stored times (got {start_time!r})") from None
    if not has_dim and "time" not in dataset.coords:
        raise UsageError(f"start_time = {start_time:.15g} is no stored time: the dataset has no coordinate time")
    stored = np.atleast_1d(dataset["time"].values)
    check_coordinate_precision(stored, interval, "time")
    times = stored.astype(np.float64)
    nearest = int(np.abs(times - start_time).argmin())
    if not abs(times[nearest] - start_time) <= coordinate_tolerance(stored, interval):
        raise UsageError(f"start_time = {start_time:.15g} is no stored time; the nearest is {times[nearest]:.15g}")
    return dataset.isel(time=[nearest]) if has_dim else dataset
