"""The normalised root mean square error, which is the relative L² error."""

from __future__ import annotations

import xarray as xr

from fluidsurrogate.evaluation.fieldwise import map_fields, mean_error, relative
from fluidsurrogate.evaluation.metrics.registry import metric


@metric(perfect_score=0.0)
def nrmse(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    r"""Compute the normalised root mean square error, which is the relative L² error.

    .. math:: \sqrt{\langle (f - t)^2 \rangle / \langle t^2 \rangle} = \|f - t\|_2 / \|t\|_2

    The relative L² error of the neural-operator literature is the same number, so there is no second metric of that
    name. 0 is right, 1 as bad as forecasting zero, √2 an independent field of the same size.

    Parameters
    ----------
    forecast, truth : xr.Dataset
        The same trajectories, times, places and units.

    Returns
    -------
    xr.DataArray
        Dims trajectory and time; units 1.

    References
    ----------
    Koehler et al. 2024 (APEBench), arXiv:2411.00180; as relative L² error: Li et al. 2021, arXiv:2010.08895.
    """

    def error_and_size(f, t, within):
        error, size = (((v**2).mean(within, skipna=False)) for v in (f - t, t))
        return relative(error, size) ** 0.5, size

    return mean_error(map_fields(error_and_size, forecast, truth), "normalised root mean square error")
