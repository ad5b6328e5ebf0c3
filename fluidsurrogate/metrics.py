"""Scores of forecasts: functions of xarray Datasets, by trajectory and time.

A metric is a function under `@metric`: of a forecast and the truth if it compares, of a forecast alone if it describes.
It returns a DataArray with `units` and `long_name` and at least the dims trajectory and time.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import xarray as xr

from fluidsurrogate.diagnostics import compute

Metric = Callable[[xr.Dataset, xr.Dataset], xr.DataArray]
METRICS: dict[str, Metric] = {}
SPACE = ("y", "x")


def metric(function: Metric) -> Metric:
    """Register a metric under its own name."""
    METRICS[function.__name__] = function
    return function


def fields(dataset: xr.Dataset) -> list[str]:
    """The names of the state's fields: what varies in time and space."""
    return [str(name) for name, v in dataset.data_vars.items() if {"time", *SPACE} <= set(v.dims)]


@metric
def nrmse(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    """‖f − t‖ / ‖t‖ over the box, for each trajectory and time; the mean over the fields. Infinite where not finite."""
    values = []
    for name in fields(truth):
        f, t = forecast[name].astype(np.float64), truth[name].astype(np.float64)
        over = [dim for dim in t.dims if dim not in ("trajectory", "time")]
        error, size = ((f - t) ** 2).mean(over, skipna=False), (t**2).mean(over)
        values.append((error / size.where((size > 0) | (error != 0), 1.0)) ** 0.5)  # nothing missed of nothing: 0
    mean = sum(values[1:], values[0]) / len(values)
    return _named(mean.where(_is_finite(mean), math.inf), "normalised root mean square error", "1")


@metric
def correlation(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    """Pearson correlation over the box, for each trajectory and time; the mean over the fields. 0 where not finite."""
    values = []
    for name in fields(truth):
        f, t = forecast[name].astype(np.float64), truth[name].astype(np.float64)
        f = f.where(_is_finite(f), 0.0)
        over = [dim for dim in t.dims if dim not in ("trajectory", "time")]
        f = f / abs(f).max(over).clip(min=1e-300)  # the correlation has no scale; a huge forecast must not overflow
        f, t = f - f.mean(SPACE), t - t.mean(SPACE)
        norm = ((f**2).mean(over) * (t**2).mean(over)) ** 0.5
        values.append((f * t).mean(over) / norm.where(norm > 0, 1.0))
    mean = sum(values[1:], values[0]) / len(values)
    return _named(mean.where(finite(forecast, truth) > 0, 0.0), "pattern correlation", "1")


@metric
def energy(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    """Kinetic energy ½⟨|u|²⟩ of the flow that the vorticity induces."""
    return compute(forecast, "kinetic_energy")


@metric
def enstrophy(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    """½⟨ω²⟩."""
    return compute(forecast, "enstrophy")


@metric
def energy_spectrum(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    """E(k): kinetic energy in the shell |k| ± ½, k counting waves across the longer side of the box; Σ_k E = energy."""
    return compute(forecast, "energy_spectrum")


@metric
def enstrophy_spectrum(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    """Z(k): enstrophy in the same shells; Σ_k Z = enstrophy where the mean vorticity is zero."""
    return compute(forecast, "enstrophy_spectrum")


@metric
def finite(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    """1 where every value of the state is finite, else 0."""
    all_finite = xr.ones_like(forecast["time"], dtype=bool)
    for name in fields(truth):
        over = [dim for dim in forecast[name].dims if dim not in ("trajectory", "time")]
        all_finite = all_finite & _is_finite(forecast[name]).all(over)
    return _named(all_finite.astype(np.float64), "finite", "1")


def correlation_time(correlations: xr.DataArray, threshold: float) -> tuple[xr.DataArray, xr.DataArray]:
    """The first time, after the start, at which the correlation is below `threshold`; and whether that never came:
    then the value is the last time, a lower bound (right-censored)."""
    later = correlations.isel(time=slice(1, None))
    below = later < threshold
    never = ~below.any("time")
    first = later["time"].isel(time=below.argmax("time"))
    value = first.drop_vars("time").where(~never, later["time"].values[-1])
    duration = value - correlations["time"].values[0]
    about = f"time until the correlation first falls below {threshold:g}"
    return _named(duration, about, "s"), _named(never, f"{about}: it never did", "1")


def _is_finite(array: xr.DataArray) -> xr.DataArray:
    return xr.apply_ufunc(np.isfinite, array, dask="allowed")


def _named(array: xr.DataArray, long_name: str, units: str) -> xr.DataArray:
    array.attrs = {"long_name": long_name, "units": units}
    return array
