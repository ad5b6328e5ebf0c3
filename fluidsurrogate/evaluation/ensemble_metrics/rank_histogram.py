"""The histogram of the truth's rank among the members."""

from __future__ import annotations

import numpy as np
import xarray as xr

from fluidsurrogate.evaluation.ensemble_members import perturbed_members
from fluidsurrogate.evaluation.ensemble_metrics.known_times import all_finite
from fluidsurrogate.evaluation.ensemble_metrics.registry import ensemble_metric
from fluidsurrogate.evaluation.fieldwise import map_fields, mean_over_fields, with_attributes


@ensemble_metric()
def rank_histogram(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    r"""Compute how often the truth has each rank among the members, as a share of all cells and trajectories.

    .. math:: h_r = \text{share of cells in which } r \text{ of the } M \text{ members lie below the truth},
              \quad r = 0 \dots M, \quad \sum_r h_r = 1

    A tie counts in equal parts for every rank that it allows. 1/(M + 1) everywhere is calibrated; a U is an ensemble
    that is too narrow, a dome one that is too wide, a slope a bias. Without ties the numbers are those of xskillscore.

    Parameters
    ----------
    forecast : xr.Dataset
        Forecast with the dim `member`, at least two of which are perturbed.
    truth : xr.Dataset
        The same trajectories, times, places and units.

    Returns
    -------
    xr.DataArray
        Dims time and rank; units 1.

    References
    ----------
    Hamill 2001, doi:10.1175/1520-0493(2001)129<0550:IORHFV>2.0.CO;2.
    """

    def histogram(f, t, within):
        below, equal = (f < t).sum("member"), (f == t).sum("member")
        over_all = [dim for dim in ("trajectory", *within) if dim in t.dims]
        shares = [(((below <= r) & (r <= below + equal)) / (equal + 1)).mean(over_all)
                  for r in range(f.sizes["member"] + 1)]  # fmt: skip
        return xr.concat(shares, "rank")

    mean = mean_over_fields(map_fields(histogram, perturbed_members(forecast), truth))
    ranks = ("rank", np.arange(mean.sizes["rank"]), {"long_name": "members below the truth", "units": "1"})
    known = mean.transpose("time", "rank").assign_coords(rank=ranks).where(all_finite(truth))
    return with_attributes(known, "frequency of the truth's rank", "1")
