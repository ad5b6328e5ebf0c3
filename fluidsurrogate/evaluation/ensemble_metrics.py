"""Scores of ensembles, forecasts with a dimension `member`: functions of xarray Datasets.

What is perturbed makes up the ensemble: the members that a boolean coordinate `perturbed` names, or, of a forecast
without one, all. A metric under `@ensemble_metric` takes such a forecast and the truth and returns a DataArray with the
dim time, with trajectory unless it is over all of these, and with `units` and `long_name`; of Datasets in dask chunks
it is lazy. It is NaN where the truth is not finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import wraps

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.coordinates import aligned, fields
from fluidsurrogate.evaluation.metrics import finite, nrmse

EnsembleMetric = Callable[[xr.Dataset, xr.Dataset], xr.DataArray]
ENSEMBLE_METRICS: dict[str, EnsembleMetric] = {}


def ensemble_metric(function: EnsembleMetric) -> EnsembleMetric:
    """Register a metric of ensembles under its own name, with the forecast aligned with the truth before it sees
    them."""

    @wraps(function)
    def checked(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
        return function(aligned(forecast, truth), truth)

    ENSEMBLE_METRICS[function.__name__] = checked
    return checked


def perturbed(forecast: xr.Dataset) -> xr.Dataset:
    """The members that make up the ensemble. UsageError where they are fewer than two: these have no spread."""
    if "perturbed" in forecast.coords:
        forecast = forecast.isel(member=np.flatnonzero(_is_perturbed(forecast)))
    if forecast.sizes["member"] < 2:
        raise UsageError(f"an ensemble needs two perturbed members at least (got {forecast.sizes['member']})")
    return forecast


def single(forecast: xr.Dataset) -> xr.Dataset:
    """The one forecast that other metrics score: the unperturbed member where the forecast says which that is, else the
    mean over the members; a forecast without members as it is."""
    if "member" not in forecast.dims:
        return forecast
    if "perturbed" in forecast.coords and not _is_perturbed(forecast).all():
        first = int(np.flatnonzero(~_is_perturbed(forecast))[0])
        return forecast.isel(member=first).drop_vars(["member", "perturbed"], errors="ignore")
    states = forecast[fields(forecast)].mean("member", skipna=False, keep_attrs=True)
    return forecast.drop_dims("member").assign(states.data_vars)


@ensemble_metric
def crps(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    """⟨E|X − t| − ½ E|X − X'|⟩ / rms t, X and X' two members, ⟨·⟩ the mean over the box; the mean over the fields. The
    fair estimate: of k members, what infinitely many would score (Ferro 2014, doi:10.1002/qj.2270). Of a single
    forecast the mean absolute error. Infinite where not finite."""
    from scoringrules import crps_ensemble  # with scipy a second to import, which a command line should not wait for

    values = []
    for f, t, over in _pairs(perturbed(forecast), truth):
        # "pwm" equals "fair" without its memory, quadratic in the members.
        score = xr.apply_ufunc(
            lambda obs, fct: crps_ensemble(obs, fct, m_axis=-1, estimator="pwm", backend="numpy"),
            t, f.chunk(member=-1) if f.chunks else f, input_core_dims=[[], ["member"]],
            dask="parallelized", output_dtypes=[np.float64],
        )  # fmt: skip
        values.append(_relative(score.mean(over, skipna=False), t, over))
    mean = sum(values[1:], values[0]) / len(values)
    mean = mean.where(np.isfinite(mean), math.inf).where(finite(truth, truth) > 0)
    return _named(mean, "continuous ranked probability score over rms", "1")


@ensemble_metric
def ensemble_spread(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    """√((k + 1)/k ⟨s²⟩) / rms t, s² the variance of the k members (with k − 1): what the nRMSE of their mean is where
    they and the truth are of one distribution (Fortin et al. 2014, doi:10.1175/JHM-D-14-0008.1)."""
    spread = relative_spread(perturbed(forecast), truth)
    return _named(spread.where(finite(truth, truth) > 0), spread.attrs["long_name"], "1")


@ensemble_metric
def spread_skill(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    """Spread over error, by time: √(Σ (k + 1)/k ⟨s²⟩ / Σ ⟨(m − t)²⟩), both over rms² t, the sums over trajectories, m
    the mean of the members; the mean over the fields. 1 for a reliable ensemble, less where it is too sure (Fortin et
    al. 2014, doi:10.1175/JHM-D-14-0008.1: the ratio of means, not the mean of ratios). A truth at rest counts with
    spread and error as they are. 0 where not finite."""
    values = []
    for f, t, over in _pairs(perturbed(forecast), truth):
        rms, k = (t**2).mean(over) ** 0.5, f.sizes["member"]
        size = rms.where(rms > 0, 1.0)
        spread = (k + 1) / k * (f.var("member", ddof=1, skipna=False).mean(over, skipna=False) / size**2)
        error = ((f.mean("member", skipna=False) - t) ** 2).mean(over, skipna=False) / size**2
        over_starts = [dim for dim in ("trajectory",) if dim in error.dims]
        error, spread = error.sum(over_starts, skipna=False), spread.sum(over_starts, skipna=False)
        values.append((spread / error.where(error > 0)) ** 0.5)
    mean = sum(values[1:], values[0]) / len(values)
    known = mean.where(np.isfinite(mean) | (mean["time"] == mean["time"][0]), 0.0)  # an exact start has no ratio
    return _named(known.where(_known(truth)), "spread of the members over the error of their mean", "1")


@ensemble_metric
def rank_histogram(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    """How often r of the k members lie below the truth, r = 0 … k, over all cells, trajectories and fields, by time;
    the sum is 1. Flat at 1/(k + 1) for a reliable ensemble, a ∪ where it is too sure (Hamill 2001,
    doi:10.1175/1520-0493(2001)129<0550:IORHFV>2.0.CO;2). A tie counts in equal parts for every rank it allows."""
    histograms = []
    for f, t, over in _pairs(perturbed(forecast), truth):
        below, equal = (f < t).sum("member"), (f == t).sum("member")
        over_all = [dim for dim in ("trajectory", *over) if dim in t.dims]
        shares = [(((below <= r) & (r <= below + equal)) / (equal + 1)).mean(over_all)
                  for r in range(f.sizes["member"] + 1)]  # fmt: skip
        histograms.append(xr.concat(shares, "rank"))
    mean = sum(histograms[1:], histograms[0]) / len(histograms)
    ranks = ("rank", np.arange(mean.sizes["rank"]), {"long_name": "members below the truth", "units": "1"})
    known = mean.transpose("time", "rank").assign_coords(rank=ranks).where(_known(truth))
    return _named(known, "frequency of the truth's rank", "1")


@ensemble_metric
def bound_coverage(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    """The share of trajectories whose nRMSE is at most the forecast's `error_bound`, by time after the start; NaN where
    it has none."""
    if "error_bound" not in forecast:
        share = xr.full_like(forecast["time"], math.nan, dtype=np.float64)
    else:
        bound, error = forecast["error_bound"], nrmse(single(forecast), truth)
        within = (error <= bound).where(bound.notnull() & error.notnull() & (error["time"] > error["time"][0]))
        share = within.mean("trajectory", skipna=False)
    return _named(share, "share of forecasts within their error bound", "1")


def relative_spread(members: xr.Dataset, reference: xr.Dataset) -> xr.DataArray:
    """√((k + 1)/k ⟨s²⟩) over the rms of `reference`, by trajectory and time; the mean over the fields. Infinite where
    not finite."""
    values = []
    for f, t, over in _pairs(aligned(members, reference), reference):
        k = f.sizes["member"]
        variance = f.var("member", ddof=1, skipna=False).mean(over, skipna=False)
        values.append(_relative(((k + 1) / k * variance) ** 0.5, t, over))
    mean = sum(values[1:], values[0]) / len(values)
    return _named(mean.where(np.isfinite(mean), math.inf), "spread of the members over rms", "1")


def _is_perturbed(forecast: xr.Dataset) -> np.ndarray:
    return np.atleast_1d(forecast["perturbed"].values).astype(bool)  # some files hold 0 and 1


def _pairs(members: xr.Dataset, reference: xr.Dataset) -> Iterator[tuple[xr.DataArray, xr.DataArray, list[str]]]:
    """Members and reference of each field, double precision, and the dims that a score is a mean over."""
    for name in fields(reference):
        f, t = members[name].astype(np.float64), reference[name].astype(np.float64)
        yield f, t, [str(dim) for dim in t.dims if dim not in ("trajectory", "time")]


def _relative(part: xr.DataArray, values: xr.DataArray, over: list[str]) -> xr.DataArray:
    """A part over the rms of `values`; of values that are zero 0 where the part is zero too, else infinite."""
    rms = (values**2).mean(over) ** 0.5
    return part / rms.where((rms > 0) | (part != 0), 1.0)


def _known(truth: xr.Dataset) -> xr.DataArray:
    """By time, where the truth of every trajectory is finite."""
    known = finite(truth, truth) > 0
    return known.all([dim for dim in known.dims if dim != "time"])


def _named(array: xr.DataArray, long_name: str, units: str) -> xr.DataArray:
    array.attrs = {"long_name": long_name, "units": units}
    return array
