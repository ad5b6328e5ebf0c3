"""Geometries that are refused by name: latitude–longitude grids and layers."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.known_names import LATITUDE, LEVELS, LONGITUDE

WHOLE_LATITUDES, WHOLE_LONGITUDES = 150.0, 300.0  # degrees: axes that span more are taken for those of the globe


def refuse_other_geometries(dataset: xr.Dataset, path: Path | str) -> None:
    """Refuse a dataset on a sphere, or of several layers.

    Parameters
    ----------
    dataset : xr.Dataset
        The dataset, under whatever names.
    path : Path or str
        What messages call it.

    Raises
    ------
    UsageError
        If it is one of these.
    """
    if found := find_latitude_longitude(dataset):
        raise UsageError(
            f"{path}: {found}: a latitude–longitude grid has poles and cells of unequal size; the surrogates of this "
            "package are of flow in a periodic box in metres"
        )
    for dim, size in dataset.sizes.items():
        if str(dim).lower() in LEVELS and size > 1 and _is_of_fields(dataset, dim):
            raise UsageError(f"{path}: has {size} layers along {dim!r}: a layered flow is not two-dimensional; if one "
                             f"layer is, select it first, isel({dim}=0) in xarray")  # fmt: skip


def find_latitude_longitude(dataset: xr.Dataset) -> str:
    """Return what says that a dataset is on a latitude–longitude grid, by its names, units or values.

    Parameters
    ----------
    dataset : xr.Dataset
        The dataset, under whatever names.

    Returns
    -------
    str
        In words; empty if nothing says so.
    """
    for name in [*dataset.dims, *dataset.coords]:
        if str(name).lower() in (*LATITUDE, *LONGITUDE) and _is_of_fields(dataset, name):
            return f"has the axis {str(name)!r}"
        if name not in dataset.variables:
            continue
        attrs = dataset[name].attrs
        if str(attrs.get("units", "")).lower().startswith("degree") and _is_of_fields(dataset, name):
            return f"{name} is in {attrs['units']}"
        if attrs.get("standard_name") in ("latitude", "longitude", "grid_latitude", "grid_longitude"):
            return f"{name} is a {attrs['standard_name']}"
    if _spans_the_globe(dataset, "y", -90.0, 90.0, WHOLE_LATITUDES):
        for low in (0.0, -180.0):
            if _spans_the_globe(dataset, "x", low, low + 360.0, WHOLE_LONGITUDES):
                y, x = dataset["y"].values, dataset["x"].values
                return f"y from {y[0]:g} to {y[-1]:g} and x from {x[0]:g} to {x[-1]:g} look like latitude and longitude"
    return ""


def _is_of_fields(dataset: xr.Dataset, name: Hashable) -> bool:
    """Return whether a variable of at least two dims has this dim, or this coordinate is of two dims."""
    dims = {name} if name in dataset.dims else set(dataset[name].dims)
    return any(v.ndim > 1 and dims & set(v.dims) for v in dataset.variables.values())


def _spans_the_globe(dataset: xr.Dataset, axis: str, low: float, high: float, span: float) -> bool:
    """Return whether a coordinate without units of length runs over nearly all degrees from `low` to `high`."""
    if axis not in dataset.coords or dataset[axis].ndim != 1 or dataset[axis].dtype.kind not in "fiu":
        return False
    values = dataset[axis].values
    if not values.size or dataset[axis].attrs.get("units") not in (None, ""):
        return False
    is_within = values.min() >= low and values.max() <= high and np.ptp(values) >= span
    return bool(is_within and (axis == "x" or values.min() < 0))
