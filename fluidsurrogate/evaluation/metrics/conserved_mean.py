"""The drift of the means over the box, which a periodic flow conserves."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr

from fluidsurrogate.data.coordinates import spatial_dims
from fluidsurrogate.data.layout import field_names
from fluidsurrogate.evaluation.fieldwise import is_finite, relative, with_attributes
from fluidsurrogate.evaluation.metrics.registry import metric


@metric(perfect_score=None)
def mean_drift(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    r"""Compute the drift of the forecast's mean over the box since the start.

    .. math:: \max_{\text{fields, components}} |\langle f \rangle(t) - \langle f \rangle(0)|
              / \sqrt{\langle f(0)^2 \rangle}

    The means of vorticity, velocity and tracer over a periodic box are conserved. (Energy and enstrophy are conserved
    only without viscosity and forcing: compare `energy` with the truth's. `fs.audit` gives the change of both from step
    to step.) 0 is conserved, 1 a drift as large as the field; infinite for a forecast that is not finite. The metric is
    this package's own.

    Parameters
    ----------
    forecast, truth : xr.Dataset
        The same trajectories, times, places and units. The values of the truth are not used.

    Returns
    -------
    xr.DataArray
        Dims trajectory and time; units 1.
    """
    drifts = []
    for name in field_names(truth):
        f = forecast[name].astype(np.float64)
        within = [dim for dim in f.dims if dim not in ("trajectory", "time")]
        space = spatial_dims(f)
        mean, size = f.mean(space, skipna=False), (f.isel(time=0) ** 2).mean(within) ** 0.5
        drift = relative(abs(mean - mean.isel(time=0, drop=True)), size.drop_vars("time"))
        drifts.append(drift.max([dim for dim in within if dim not in space], skipna=False))
    largest = xr.concat(drifts, "field").max("field", skipna=False)
    return with_attributes(largest.where(is_finite(largest), math.inf), "drift of the mean over the box", "1")
