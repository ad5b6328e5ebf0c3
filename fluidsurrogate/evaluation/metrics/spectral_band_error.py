"""Relative errors of the large, the middle and the small scales."""

from __future__ import annotations

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.evaluation.diagnostics import compute_lazily
from fluidsurrogate.evaluation.fieldwise import is_finite, mean_error, relative
from fluidsurrogate.evaluation.metrics.registry import metric

BANDS = ("low", "middle", "high")


@metric(perfect_score=0.0)
def spectral_error_low(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    r"""Compute the relative error of the largest scales, the lowest third of the wavenumbers' logarithm.

    .. math:: \sqrt{\sum_{k \in B} Z[f - t](k) / \sum_{k \in B} Z[t](k)}

    Z is the enstrophy spectrum. The three bands B are thirds of log k, from the longest wave to the largest k whose
    shell holds 10⁻⁶ of the truth's enstrophy (mean over trajectories and times); for a truth at rest to the largest k.
    0 is right, 1 as bad as forecasting nothing at these scales.

    Parameters
    ----------
    forecast, truth : xr.Dataset
        The same trajectories, times, places and units, with the vorticity or the velocity.

    Returns
    -------
    xr.DataArray
        Dims trajectory and time; units 1.

    References
    ----------
    After Ohana et al. 2024 (The Well), arXiv:2412.00568, who bin the spectrum of the error in three bands of log k.
    """
    return _band_error(forecast, truth, "low")


@metric(perfect_score=0.0)
def spectral_error_middle(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    r"""Compute the relative error of the middle scales, the middle third of the wavenumbers' logarithm.

    .. math:: \sqrt{\sum_{k \in B} Z[f - t](k) / \sum_{k \in B} Z[t](k)}

    `spectral_error_low` defines the bands B.

    Parameters
    ----------
    forecast, truth : xr.Dataset
        The same trajectories, times, places and units, with the vorticity or the velocity.

    Returns
    -------
    xr.DataArray
        Dims trajectory and time; units 1.

    References
    ----------
    After Ohana et al. 2024 (The Well), arXiv:2412.00568.
    """
    return _band_error(forecast, truth, "middle")


@metric(perfect_score=0.0)
def spectral_error_high(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    r"""Compute the relative error of the smallest scales, the highest third of the wavenumbers' logarithm.

    .. math:: \sqrt{\sum_{k \in B} Z[f - t](k) / \sum_{k \in B} Z[t](k)}

    `spectral_error_low` defines the bands B.

    Parameters
    ----------
    forecast, truth : xr.Dataset
        The same trajectories, times, places and units, with the vorticity or the velocity.

    Returns
    -------
    xr.DataArray
        Dims trajectory and time; units 1.

    References
    ----------
    After Ohana et al. 2024 (The Well), arXiv:2412.00568.
    """
    return _band_error(forecast, truth, "high")


def _band_error(forecast: xr.Dataset, truth: xr.Dataset, band: str) -> xr.DataArray:
    """Compute the relative error of one of the three bands of wavenumbers."""
    name = "vorticity" if "vorticity" in forecast and "vorticity" in truth else "velocity"  # its curl is linear
    if name not in forecast or name not in truth:
        raise UsageError("spectral errors need the variable 'vorticity' or 'velocity' in forecast and truth")
    difference = xr.Dataset({name: forecast[name].astype(np.float64) - truth[name]})
    missed, held = (compute_lazily(data, "enstrophy_spectrum") for data in (difference, truth))
    mean = held.where(is_finite(held)).mean([dim for dim in held.dims if dim != "wavenumber"])
    k = held["wavenumber"]
    smallest, number = float(k[0]), BANDS.index(band)
    reached = (mean > 1e-6 * mean.sum()) | (mean.sum() == 0)
    ratio = (k.where(reached).max() / smallest).clip(min=1 + 1e-9)
    low, high = (smallest * ratio ** (edge / len(BANDS)) * (1 + 1e-9) for edge in (number, number + 1))
    inside = (k > (low if number else 0.0)) & (k <= high)
    numerator, denominator = (z.where(inside, 0.0).sum("wavenumber", skipna=False) for z in (missed, held))
    error = relative(numerator, denominator) ** 0.5
    return mean_error([(error, denominator)], f"relative error of the {band} wavenumbers")
