"""The spread of the members, by itself and over the error of their mean."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr

from fluidsurrogate.data.alignment import align_to_truth
from fluidsurrogate.evaluation.ensemble_members import perturbed_members
from fluidsurrogate.evaluation.ensemble_metrics.known_times import all_finite
from fluidsurrogate.evaluation.ensemble_metrics.registry import ensemble_metric
from fluidsurrogate.evaluation.fieldwise import map_fields, mean_over_fields, relative_to_rms, with_attributes
from fluidsurrogate.evaluation.metrics.finiteness import finite


@ensemble_metric()
def ensemble_spread(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    r"""Compute the spread of the members over the rms of the truth.

    .. math:: \sqrt{\frac{M + 1}{M} \langle s^2 \rangle / \langle t^2 \rangle},
              \quad s^2 = \frac{1}{M - 1} \sum_m (f_m - \bar f)^2

    It is the nRMSE that f̄ has if truth and members are of one distribution. 0 is members that are all alike; infinite
    for members that are not finite.

    Parameters
    ----------
    forecast : xr.Dataset
        Forecast with the dim `member`, at least two of which are perturbed.
    truth : xr.Dataset
        The same trajectories, times, places and units.

    Returns
    -------
    xr.DataArray
        Dims trajectory and time; units 1.

    References
    ----------
    Fortin et al. 2014, doi:10.1175/JHM-D-14-0008.1.
    """
    spread = normalised_spread(perturbed_members(forecast), truth)
    return with_attributes(spread.where(finite(truth, truth) > 0), spread.attrs["long_name"], "1")


@ensemble_metric()
def spread_skill(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    r"""Compute the ratio of the members' spread to the error of their mean, over all trajectories.

    .. math:: \sqrt{\sum \frac{M + 1}{M} \frac{\langle s^2 \rangle}{\langle t^2 \rangle} \Big/
              \sum \frac{\langle (\bar f - t)^2 \rangle}{\langle t^2 \rangle}}

    The sums are over trajectories, before quotient and root: the ratio of means, not the mean of ratios. 1 is members
    as far apart as the truth is from their mean, less than 1 an ensemble that is overconfident. A truth at rest counts
    with spread and error as they are, not divided by its rms. 0 for members that are not finite.

    Parameters
    ----------
    forecast : xr.Dataset
        Forecast with the dim `member`, at least two of which are perturbed.
    truth : xr.Dataset
        The same trajectories, times, places and units.

    Returns
    -------
    xr.DataArray
        Dim time; units 1.

    References
    ----------
    Fortin et al. 2014, doi:10.1175/JHM-D-14-0008.1.
    """

    def ratio(f, t, within):
        rms, k = (t**2).mean(within) ** 0.5, f.sizes["member"]
        size = rms.where(rms > 0, 1.0)
        spread = (k + 1) / k * (f.var("member", ddof=1, skipna=False).mean(within, skipna=False) / size**2)
        error = ((f.mean("member", skipna=False) - t) ** 2).mean(within, skipna=False) / size**2
        trajectories = [dim for dim in ("trajectory",) if dim in error.dims]
        error, spread = error.sum(trajectories, skipna=False), spread.sum(trajectories, skipna=False)
        return (spread / error.where(error > 0)) ** 0.5

    mean = mean_over_fields(map_fields(ratio, perturbed_members(forecast), truth))
    known = mean.where(np.isfinite(mean) | (mean["time"] == mean["time"][0]), 0.0)  # an exact start has no ratio
    return with_attributes(known.where(all_finite(truth)), "spread of the members over the error of their mean", "1")


def normalised_spread(members: xr.Dataset, reference: xr.Dataset) -> xr.DataArray:
    r"""Compute the spread of members over the rms of a reference.

    .. math:: \sqrt{\frac{M + 1}{M} \langle s^2 \rangle} / \sqrt{\langle r^2 \rangle}

    Parameters
    ----------
    members : xr.Dataset
        States with the dim `member`.
    reference : xr.Dataset
        States r of the same trajectories, times and places: the truth or, without one, a forecast.

    Returns
    -------
    xr.DataArray
        Dims trajectory and time; the mean over the fields, dimensionless. Infinite where it is not finite.
    """

    def spread(f, t, within):
        k = f.sizes["member"]
        variance = f.var("member", ddof=1, skipna=False).mean(within, skipna=False)
        return relative_to_rms(((k + 1) / k * variance) ** 0.5, t, within)

    mean = mean_over_fields(map_fields(spread, align_to_truth(members, reference), reference))
    return with_attributes(mean.where(np.isfinite(mean), math.inf), "spread of the members over rms", "1")
