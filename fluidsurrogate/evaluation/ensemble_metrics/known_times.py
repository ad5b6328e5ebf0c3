"""The times at which the truth of every trajectory is known."""

from __future__ import annotations

import xarray as xr

from fluidsurrogate.evaluation.metrics.finiteness import finite


def all_finite(truth: xr.Dataset) -> xr.DataArray:
    """Return at which times the truth of every trajectory is finite.

    Parameters
    ----------
    truth : xr.Dataset
        States.

    Returns
    -------
    xr.DataArray
        Booleans along time.
    """
    known = finite(truth, truth) > 0
    return known.all([dim for dim in known.dims if dim != "time"])
