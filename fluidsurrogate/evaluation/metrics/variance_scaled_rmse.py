"""The root mean square error over the standard deviation of the truth."""

from __future__ import annotations

import xarray as xr

from fluidsurrogate.data.coordinates import spatial_dims
from fluidsurrogate.evaluation.fieldwise import map_fields, mean_error
from fluidsurrogate.evaluation.metrics.registry import metric


@metric(perfect_score=0.0)
def vrmse(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    r"""Compute the root mean square error over the standard deviation of the truth.

    .. math:: \sqrt{\langle (f - t)^2 \rangle / (\langle (t - \langle t \rangle)^2 \rangle + 10^{-7})}

    The inner mean ⟨t⟩ is by component. The score equals `nrmse`, but for the 10⁻⁷, if the mean is zero, as that of a
    vorticity is. 0 is right, 1 as bad as forecasting the mean.

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
    Ohana et al. 2024 (The Well), arXiv:2412.00568.
    """

    def error_and_variance(f, t, within):
        fluctuation = t - t.mean(spatial_dims(t), skipna=False)
        error, variance = (((v**2).mean(within, skipna=False)) for v in (f - t, fluctuation))
        return (error / (variance + 1e-7)) ** 0.5, variance

    return mean_error(
        map_fields(error_and_variance, forecast, truth), "root mean square error over the standard deviation"
    )
