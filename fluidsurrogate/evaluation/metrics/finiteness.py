"""Whether the forecast is finite."""

from __future__ import annotations

import numpy as np
import xarray as xr

from fluidsurrogate.data.layout import field_names
from fluidsurrogate.evaluation.fieldwise import is_finite, with_attributes
from fluidsurrogate.evaluation.metrics.registry import metric


@metric(perfect_score=None)
def finite(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    r"""Return 1 where every value of the forecast's state is finite, else 0.

    .. math:: \min_{\text{fields, cells}} \; [\, |f| < \infty \,]

    Parameters
    ----------
    forecast, truth : xr.Dataset
        The same trajectories, times, places and units. The values of the truth are not used.

    Returns
    -------
    xr.DataArray
        Dims trajectory and time; units 1.
    """
    all_finite = xr.ones_like(forecast["time"], dtype=bool)
    for name in field_names(truth):
        within = [dim for dim in forecast[name].dims if dim not in ("trajectory", "time")]
        all_finite = all_finite & is_finite(forecast[name]).all(within)
    return with_attributes(all_finite.astype(np.float64), "finite", "1")
