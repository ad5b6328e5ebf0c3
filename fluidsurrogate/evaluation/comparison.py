"""Forecasts against the truth: one Dataset of scores, one table."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.coordinates import SPACE, aligned, fields, sides_of
from fluidsurrogate.evaluation.ensemble_metrics import ENSEMBLE_METRICS, single
from fluidsurrogate.evaluation.metrics import ALWAYS, METRICS, correlation_time, finite

log = logging.getLogger("fluidsurrogate")
TRUTH, PERSISTENCE = "truth", "persistence"  # sources that every comparison of an experiment has
DIMS = ("trajectory", "time", "component", *SPACE)
ENSEMBLE = ("member", "perturbed")
START = 1e-3  # nRMSE up to which a forecast is at the truth's own state: that of half precision is 5e-4


def compare(
    forecasts: Mapping[str, xr.Dataset],
    truth: xr.Dataset,
    correlation_threshold: float = 0.8,
    metrics: Sequence[str] | None = None,
) -> xr.Dataset:
    """Score forecasts of the same trajectories and times against the truth.

    Each metric of `fluidsurrogate.evaluation.metrics` gives a variable by (source, time[, wavenumber]), the mean over
    trajectories, and `NAME_spread`, the standard deviation over trajectories; `metrics` names those wanted beside what
    is always scored (default: all). By source: `nrmse_first_step`, `nrmse_mean` over the times after the start and
    `nrmse_geometric_mean` over the same (Koehler et al. 2024, APEBench, arXiv:2411.00180); by source and trajectory:
    `correlation_time` and `correlation_time_censored`, true where the correlation never fell below the threshold, so
    that the time is a lower bound, and their median by source. A forecast that turns non-finite scores nRMSE = inf and
    correlation 0 from there, with a warning. Where the truth is not finite, its scores are NaN, with a warning.

    The first time counts as the start, which is in no mean; a warning says so where no forecast is at the truth there.

    Of forecasts with a dimension `member` these score the unperturbed member, where a coordinate `perturbed` says which
    that is, else the mean over the members; `evaluation.ensemble_metrics` score the perturbed
    members. Of a forecast without members these are NaN; where none has members they are not there.

    Raises UsageError where a forecast has not the truth's trajectories, times, grid or units. Times and places are the
    same that are no further apart than a thousandth of the interval and of the cell; labels of trajectories are the
    same or not.
    """
    _check_arguments(forecasts, correlation_threshold, metrics)
    truth = _with_dims(truth, "the truth")
    if not {"vorticity", "velocity"} & set(fields(truth)):
        raise UsageError("cannot compare: the truth has no variable 'vorticity' or 'velocity'")
    sides_of(truth)
    wanted = [key for key in METRICS if metrics is None or key in (*ALWAYS, *metrics)]
    checked = {name: aligned(_with_dims(forecast, repr(name), ("member",)), truth, repr(name))
               for name, forecast in forecasts.items()}  # fmt: skip
    if broken := int((finite(truth, truth) < 1).any("time").sum()):
        log.warning(f"the truth: {broken} of {truth.sizes['trajectory']} trajectories hold NaN or infinite values; "
                    "scores there, and means over them, are NaN: leave these trajectories or times out")  # fmt: skip
    scored = [_score(name, single(forecast), truth, correlation_threshold, wanted)
              for name, forecast in checked.items()]  # fmt: skip
    names = np.array(list(forecasts), dtype=object)  # Zarr has no settled form for strings of fixed length
    source = xr.Variable("source", names, {"long_name": "source of the forecast"})
    scores = xr.concat(scored, source)
    if (scores["nrmse"].isel(time=0) > START).all():
        log.warning(f"no forecast is at the truth's state at the first time, {scores['time'].values[0]}, which counts "
                    "as the start, in no mean: if the start is missing, give forecasts and truth with it")  # fmt: skip
    ensembles = {name: forecast for name, forecast in checked.items() if "member" in forecast.dims}
    wanted = [key for key in ENSEMBLE_METRICS if metrics is None or key in metrics]
    if ensembles and wanted:
        parts = [_score_ensemble(forecast, truth, wanted) for forecast in ensembles.values()]
        together = xr.concat(parts, source[[list(forecasts).index(name) for name in ensembles]], join="outer")
        scores = scores.assign(together.reindex(source=scores["source"]).drop_vars("source").data_vars)
    scores.attrs = {"Conventions": "CF-1.11", "correlation_threshold": correlation_threshold}
    return scores


def _check_arguments(forecasts: object, correlation_threshold: object, metrics: object) -> None:
    # A Dataset is a mapping too, of variables, and a string a sequence of names of one letter.
    if not isinstance(forecasts, Mapping) or isinstance(forecasts, xr.Dataset):
        raise UsageError(f"forecasts must be Datasets by name, {{'model': forecast}} (got {type(forecasts).__name__})")
    if not forecasts:
        raise UsageError("nothing to compare: no forecasts were given")
    if metrics is not None and (isinstance(metrics, str) or not isinstance(metrics, Sequence)):
        raise UsageError(f"metrics must be a list of names, ['nrmse'] (got {metrics!r})")
    if unknown := sorted(set(metrics or ()) - {*METRICS, *ENSEMBLE_METRICS}):
        raise UsageError(f"unknown metric {unknown[0]!r}; one of {', '.join([*METRICS, *ENSEMBLE_METRICS])}")
    if not isinstance(correlation_threshold, int | float | np.floating) or not -1 <= correlation_threshold <= 1:
        raise UsageError(f"correlation_threshold must be a number between -1 and 1 (got {correlation_threshold!r})")


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
    return xr.Dataset(variables)


def _score_ensemble(forecast: xr.Dataset, truth: xr.Dataset, wanted: Sequence[str]) -> xr.Dataset:
    variables: dict[str, xr.DataArray] = {}
    for key in wanted:
        values = ENSEMBLE_METRICS[key](forecast, truth).load()
        if "trajectory" in values.dims:
            variables[f"{key}_spread"] = values.std("trajectory", skipna=False, keep_attrs=True)
            values = values.mean("trajectory", skipna=False, keep_attrs=True)
        variables[key] = values
    return xr.Dataset(variables).drop_vars("perturbed", errors="ignore")


def _with_dims(dataset: object, name: str, more: Sequence[str] = ()) -> xr.Dataset:
    """The dataset with a dim `trajectory`, without coordinates that scores do not need, and with labels that Zarr can
    store. `more`: dims that its fields may have."""
    if not isinstance(dataset, xr.Dataset):
        raise UsageError(f"cannot compare: {name} must be an xarray Dataset (got {type(dataset).__name__})")
    for dim in ("time", *SPACE):
        if dim not in dataset.dims or dim not in dataset.coords:
            raise UsageError(f"cannot compare: {name} has no dimension {dim!r} with a coordinate")
    if dataset.sizes["time"] < 2:
        raise UsageError(f"cannot compare: {name} has one time only, the start")
    if "trajectory" not in dataset.dims:
        dataset = dataset.expand_dims("trajectory")
    for field in fields(dataset):
        if extra := [dim for dim in dataset[field].dims if dim not in (*DIMS, *more)]:
            raise UsageError(f"cannot compare: {field!r} of {name} has the dimension {extra[0]!r}: select one of it")
        if "trajectory" not in dataset[field].dims:
            raise UsageError(f"cannot compare: {field!r} of {name} has no dimension 'trajectory', as {name} has")
    dataset = dataset.drop_vars([key for key in dataset.coords if key not in (*DIMS, *ENSEMBLE)])
    return dataset.assign_coords({key: c.astype(object) for key, c in dataset.coords.items() if c.dtype.kind == "U"})


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
            form = "> {:.12g}" if float(one["horizon_median_censored"]) == 1 else "{:.12g}"
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
    table = flat.to_dataframe(dim_order=["source", "time"]).reset_index()
    if table["time"].dtype.kind == "f":  # which may be a late clock: 8 digits would not tell its times apart
        table["time"] = [f"{time:.15g}" for time in table["time"]]
    return table.to_csv(index=False, float_format="%.8g")
