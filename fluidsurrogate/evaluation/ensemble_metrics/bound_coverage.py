"""The coverage of the error bound that comes with a forecast."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr

from fluidsurrogate.evaluation.ensemble_members import control_or_mean
from fluidsurrogate.evaluation.ensemble_metrics.registry import ensemble_metric
from fluidsurrogate.evaluation.fieldwise import with_attributes
from fluidsurrogate.evaluation.metrics.normalised_rmse import nrmse


@ensemble_metric()
def bound_coverage(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    r"""Compute the share of trajectories whose error is at most the error bound of the forecast.

    .. math:: \text{share of trajectories with } \text{nrmse}(f, t) \leq \text{error\_bound}

    What the bound promises, 0.9 say, is calibrated.

    Parameters
    ----------
    forecast : xr.Dataset
        Forecast with the dim `member` and the variable `error_bound` by trajectory and time.
    truth : xr.Dataset
        The same trajectories, times, places and units.

    Returns
    -------
    xr.DataArray
        Dim time; units 1. NaN at the start, and for a forecast without the variable `error_bound`.

    References
    ----------
    Angelopoulos & Bates 2021, arXiv:2107.07511.
    """
    if "error_bound" not in forecast:
        share = xr.full_like(forecast["time"], math.nan, dtype=np.float64)
    else:
        bound, error = forecast["error_bound"], nrmse(control_or_mean(forecast), truth)
        within = (error <= bound).where(bound.notnull() & error.notnull() & (error["time"] > error["time"][0]))
        share = within.mean("trajectory", skipna=False)
    return with_attributes(share, "share of forecasts within their error bound", "1")
