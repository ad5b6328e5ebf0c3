"""Whether a dataset is laid out as this package lays out its own."""

from __future__ import annotations

import numpy as np
import xarray as xr

from fluidsurrogate.data.coordinates import coordinate_tolerance, spatial_dims


def is_in_package_layout(dataset: xr.Dataset) -> bool:
    """Return whether a dataset is laid out as this package lays out its own, so that nothing is to be converted.

    Parameters
    ----------
    dataset : xr.Dataset
        The dataset.

    Returns
    -------
    bool
        True if its vorticity or velocity has the dims trajectory and time, its axes are cell centres and its times are
        numbers.
    """
    states = [dataset[name] for name in ("vorticity", "velocity") if name in dataset.data_vars]
    space = spatial_dims(dataset)
    needed = {"trajectory", "time", *space}
    if not states or any(not needed <= set(v.dims) or v.dtype not in ("f4", "f8") for v in states):
        return False
    if any(name not in dataset.coords or dataset[name].dtype.kind not in "fiu" for name in ("time", *space)):
        return False
    for axis in space:
        stored = dataset[axis].values
        if stored.ndim != 1 or len(stored) < 2:
            return False
        spacing = float(stored[1]) - float(stored[0])
        if spacing <= 0 or abs(stored[0] - spacing / 2) > coordinate_tolerance(stored, spacing):
            return False
        if not _is_even(stored, spacing):
            return False
    times = dataset["time"].values
    if len(times) > 1 and not _is_even(times, float(times[1]) - float(times[0])):
        return False
    return "units" not in dataset["time"].attrs or dataset["time"].attrs["units"] == "s"


def _is_even(values: np.ndarray, spacing: float) -> bool:
    """Return whether stored numbers are `spacing` apart."""
    even = float(values[0]) + spacing * np.arange(len(values))
    # The spacing of two neighbours is off by the rounding of both, which adds up.
    tolerance = coordinate_tolerance(values, spacing) * (1 + 2 * np.arange(len(values)))
    return spacing > 0 and bool((np.abs(values.astype(np.float64) - even) <= tolerance).all())
