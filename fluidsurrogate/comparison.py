"""Forecasts against the truth: one Dataset of scores, one table."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from fluidsurrogate.ensemble_metrics import ENSEMBLE_METRICS, single
from fluidsurrogate.errors import UsageError
from fluidsurrogate.metrics import ALWAYS, METRICS, correlation_time, fields

log = logging.getLogger("fluidsurrogate")
TRUTH, PERSISTENCE = "truth", "persistence"  # sources that every comparison of an experiment has


def compare(
    forecasts: Mapping[str, xr.Dataset],
    truth: xr.Dataset,
    correlation_threshold: float = 0.8,
    metrics: Sequence[str] | None = None,
) -> xr.Dataset:
    """Score forecasts of the same trajectories and times against the truth.

    Each metric of `fluidsurrogate.metrics` gives a variable by (source, time[, wavenumber]), the mean over
    trajectories, and `NAME_spread`, the standard deviation over trajectories; `metrics` names those wanted beside what
    is always scored (default: all). By source: `nrmse_first_step`, `nrmse_mean` over the times after the start and
    `nrmse_geometric_mean` over the same (Koehler et al. 2024, APEBench, arXiv:2411.00180); by source and trajectory:
    `correlation_time` and `correlation_time_censored`, true where the correlation never fell below the threshold, so
    that the time is a lower bound, and their median by source. A forecast that turns non-finite scores nRMSE = inf and
    correlation 0 from there, with a warning.

    Of forecasts with a dimension `member` these score the unperturbed member, where a coordinate `perturbed` says which
    that is, else the mean over the members; the metrics of `fluidsurrogate.ensemble_metrics` score the perturbed
    members. Of a forecast without members these are NaN; where none has members they are not there.

    Raises UsageError where a forecast has not the truth's trajectories, times or grid.
    """
    if not forecasts:
        raise UsageError("nothing to compare: no forecasts were given")
    truth = _with_dims(truth, "the truth")
    if not {"vorticity", "velocity"} & set(fields(truth)):
        raise UsageError("cannot compare: the truth has no variable 'vorticity' or 'velocity'")
    if unknown := sorted(set(metrics or ()) - {*METRICS, *ENSEMBLE_METRICS}):
        raise UsageError(f"unknown metric {unknown[0]!r}; one of {', '.join([*METRICS, *ENSEMBLE_METRICS])}")
    wanted = [key for key in METRICS if metrics is None or key in (*ALWAYS, *metrics)]
    aligned = {name: _aligned(name, forecast, truth) for name, forecast in forecasts.items()}
    scored = [_score(name, single(forecast), truth, correlation_threshold, wanted)
              for name, forecast in aligned.items()]  # fmt: skip
    source = xr.Variable("source", list(forecasts), {"long_name": "source of the forecast"})
    scores = xr.concat(scored, source)
    ensembles = {name: forecast for name, forecast in aligned.items() if "member" in forecast.dims}
    wanted = [key for key in ENSEMBLE_METRICS if metrics is None or key in metrics]
    if ensembles and wanted:
        parts = [_score_ensemble(forecast, truth, wanted) for forecast in ensembles.values()]
        together = xr.concat(parts, source[[list(forecasts).index(name) for name in ensembles]], join="outer")
        scores = scores.assign(together.reindex(source=scores["source"]).drop_vars("source").data_vars)
    scores.attrs = {"Conventions": "CF-1.11", "correlation_threshold": correlation_threshold}
    return scores


def _score(name: str, forecast: xr.Dataset, truth: xr.Dataset, threshold: float, wanted: Sequence[str]) -> xr.Dataset:
    variables: dict[str, xr.DataArray] = {}
    by_trajectory = {key: METRICS[key](forecast, truth).load() for key in wanted}  # lazy ones: one after the other
    for key, values in by_trajectory.items():
        with np.errstate(invalid="ignore"):
            variables[key] = values.mean("trajectory", skipna=False, keep_attrs=True)
            variables[f"{key}_spread"] = values.std("trajectory", skipna=False, keep_attrs=True)
    if float(variables["finite"].min()) < 1:
        broken = int((by_trajectory["finite"].min("time") < 1).sum())
        log.warning(f"{name}: {broken} of {truth.sizes['trajectory']} forecasts turned non-finite; scored as infinite")
    error = variables["nrmse"].isel(time=slice(1, None))
    variables["nrmse_first_step"] = error.isel(time=0, drop=True)
    variables["nrmse_mean"] = error.mean("time", skipna=False, keep_attrs=True)
    with np.errstate(divide="ignore"):  # a forecast without error: the logarithm of 0
        logarithm = xr.ufuncs.log(error).mean("time", skipna=False)
    variables["nrmse_geometric_mean"] = xr.ufuncs.exp(logarithm).assign_attrs(error.attrs)
    times, censored = correlation_time(by_trajectory["correlation"], threshold)
    variables["correlation_time"], variables["correlation_time_censored"] = times, censored
    variables["correlation_time_median"] = times.median("trajectory", keep_attrs=True)
    variables["correlation_time_median_censored"] = censored.mean("trajectory", keep_attrs=True) >= 0.5
    return xr.Dataset(variables).drop_vars(["split", "seed"], errors="ignore")


def _score_ensemble(forecast: xr.Dataset, truth: xr.Dataset, wanted: Sequence[str]) -> xr.Dataset:
    variables: dict[str, xr.DataArray] = {}
    for key in wanted:
        values = ENSEMBLE_METRICS[key](forecast, truth)
        if "trajectory" in values.dims:
            variables[f"{key}_spread"] = values.std("trajectory", skipna=False, keep_attrs=True)
            values = values.mean("trajectory", skipna=False, keep_attrs=True)
        variables[key] = values
    return xr.Dataset(variables).drop_vars(["split", "seed", "perturbed"], errors="ignore")


def _with_dims(dataset: xr.Dataset, name: str) -> xr.Dataset:
    for dim in ("time", "y", "x"):
        if dim not in dataset.dims or dim not in dataset.coords:
            raise UsageError(f"cannot compare: {name} has no dimension {dim!r} with a coordinate")
    if dataset.sizes["time"] < 2:
        raise UsageError(f"cannot compare: {name} has one time only, the start")
    return dataset if "trajectory" in dataset.dims else dataset.expand_dims("trajectory")


def _aligned(name: str, forecast: xr.Dataset, truth: xr.Dataset) -> xr.Dataset:
    forecast = _with_dims(forecast, repr(name))
    if missing := [field for field in fields(truth) if field not in forecast]:
        raise UsageError(f"cannot compare {name!r}: it has no variable {missing[0]!r}")
    for dim in ("trajectory", "time", "y", "x"):
        here, there = forecast.sizes[dim], truth.sizes[dim]
        if here != there:
            raise UsageError(f"cannot compare {name!r}: it has {here} along {dim}, the truth {there}")
        if dim in forecast.coords and dim in truth.coords:
            a, b = forecast[dim].values.astype(np.float64), truth[dim].values.astype(np.float64)
            if not np.allclose(a, b, rtol=1e-5, atol=1e-6):
                raise UsageError(f"cannot compare {name!r}: its {dim} differs from the truth's")
    return forecast.assign_coords({dim: truth[dim] for dim in ("trajectory", "time", "y", "x") if dim in truth.coords})


def summary(scores: xr.Dataset) -> pd.DataFrame:
    """One row a source: errors, correlation time (median over trajectories) and, where there are members, the horizon
    that their bound states (likewise), where measured, symmetry and cost."""
    rows = {}
    for source in scores["source"].values:
        one = scores.sel(source=source)
        median, censored = float(one["correlation_time_median"]), bool(one["correlation_time_median_censored"])
        row = {
            "nRMSE step 1": f"{float(one['nrmse_first_step']):.4f}",
            "mean": f"{float(one['nrmse_mean']):.4f}",
            "last": f"{float(one['nrmse'][-1]):.4f} ± {float(one['nrmse_spread'][-1]):.4f}",
            "correlation time": f"{'> ' if censored else ''}{median:g}",
        }
        if "horizon_median" in one:
            form = "> {:g}" if float(one["horizon_median_censored"]) == 1 else "{:g}"
            row["horizon"] = _number(float(one["horizon_median"]), form)
        if "equivariance_error" in one:
            row |= {
                "equivariance error": _number(float(one["equivariance_error"]), "{:.1e}"),
                "parameters": _number(float(one["parameters"]), "{:.0f}"),
                "ms a step": _number(1e3 * float(one["seconds_per_step"]), "{:.2f}"),
            }
        rows[str(source)] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else form.format(value)


def to_csv(scores: xr.Dataset) -> str:
    """A row a source and time: whatever depends on both, spectra as a column a wavenumber, or on the source alone."""
    left_out = {"trajectory", "element", "rank"}
    flat = scores.drop_vars([name for name, v in scores.data_vars.items() if left_out & set(v.dims)])
    spectra = {str(name): v for name, v in flat.data_vars.items() if "wavenumber" in v.dims}
    columns = {
        f"{name}_{k:g}": values.sel(wavenumber=k, drop=True)
        for name, values in spectra.items()
        for k in values["wavenumber"].values
        if not name.endswith("_spread")
    }
    flat = flat.drop_dims(["wavenumber", *left_out], errors="ignore").assign(columns)
    return flat.to_dataframe(dim_order=["source", "time"]).reset_index().to_csv(index=False, float_format="%.8g")
