"""Correlations of the patterns of forecast and truth, and of their anomalies."""

from __future__ import annotations

import numpy as np
import xarray as xr

from fluidsurrogate.data.coordinates import spatial_dims
from fluidsurrogate.evaluation.fieldwise import is_finite, map_fields, mean_over_fields, with_attributes
from fluidsurrogate.evaluation.metrics.registry import metric

CONSTANT = 1e-12  # of a field's largest value: fluctuations no larger than this are what rounding leaves of a constant


@metric(perfect_score=1.0)
def correlation(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    r"""Compute the Pearson correlation of forecast and truth over the box.

    .. math:: \langle f' t' \rangle / \sqrt{\langle f'^2 \rangle \langle t'^2 \rangle},
              \quad f' = f - \langle f \rangle

    The inner mean is by component. 1 is right up to a factor, 0 unrelated, −1 the opposite. Two fields without
    fluctuations have correlation 1, one with and one without 0; a forecast that is not finite has 0.

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
    Kochkov et al. 2021, doi:10.1073/pnas.2101784118.
    """
    values = map_fields(lambda f, t, within: _correlation(f, t, within, None), forecast, truth)
    return with_attributes(mean_over_fields(values), "pattern correlation", "1")


@metric(perfect_score=1.0)
def anomaly_correlation(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    r"""Compute the correlation over the box of the anomalies of forecast and truth.

    .. math:: \langle f' t' \rangle / \sqrt{\langle f'^2 \rangle \langle t'^2 \rangle}, \quad f' = f - c, \; t' = t - c

    The climatology c is the truth's mean over all its trajectories and times, cell by cell. The anomalies are not
    centred. 1 is right up to a factor, 0 no better than the climatology, −1 the opposite; a forecast that is not finite
    has 0.

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
    Rasp et al. 2024 (WeatherBench 2), doi:10.1029/2023MS004019.
    """

    def value(f, t, within):
        climatology = t.where(is_finite(t)).mean([dim for dim in ("trajectory", "time") if dim in t.dims])
        return _correlation(f, t, within, climatology)

    return with_attributes(mean_over_fields(map_fields(value, forecast, truth)), "anomaly correlation", "1")


def _correlation(f: xr.DataArray, t: xr.DataArray, within: list[str], climatology: xr.DataArray | None) -> xr.DataArray:
    """Correlate the deviations of two fields from the climatology or, without one, from their means over the box."""
    deviations, norms, known = [], [], []
    for values in (f, t):
        most = abs(values).max(within, skipna=False)
        known.append(is_finite(most))
        size = most.where(known[-1] & (most > 0), 1.0)
        values = values.where(known[-1], 0.0) / size  # a correlation has no scale; huge values must not overflow
        centre = values.mean(spatial_dims(values), skipna=False) if climatology is None else climatology / size
        values = values - centre
        deviations.append(values)
        norms.append((values**2).mean(within, skipna=False))
    constant = [norm <= CONSTANT**2 for norm in norms]
    either = constant[0] | constant[1]
    product = (deviations[0] * deviations[1]).mean(within, skipna=False)
    product = product / ((norms[0] * norms[1]) ** 0.5).where(~either, 1.0)
    defined = product.where(~either, (constant[0] & constant[1]).astype(np.float64))
    return defined.where(known[0], 0.0).where(known[1])
