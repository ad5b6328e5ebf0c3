"""Coordinates: evenly spaced axes, stored times, and whether two datasets are of the same places and times.

Every tolerance is a fraction of the spacing, that is of the cell or the interval. A tolerance relative to the
coordinate itself would take one time for another as soon as the clock reads a large number.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.units import agree

SPACE = ("y", "x")
LABELS = ("trajectory", "component")  # names, which are the same or not; other coordinates are numbers or dates
FRACTION = 1e-3  # of the spacing: two places or times that are no further apart are one
COARSEST = 1e-2  # of the spacing: numbers that are stored in larger steps do not say which place or time they are
NANOSECOND = np.timedelta64(1, "ns")


def fields(dataset: xr.Dataset) -> list[str]:
    """The names of the state's fields: what varies in time and space."""
    return [str(name) for name, v in dataset.data_vars.items() if {"time", *SPACE} <= set(v.dims)]


def rounding(values: np.ndarray) -> float:
    """The distance between neighbouring numbers of the type that `values` are stored in, where they are largest."""
    kind = values.dtype if values.dtype.kind == "f" else np.dtype(np.float64)
    return float(np.spacing(np.abs(values).astype(kind).max(initial=0)))


def tolerance(values: np.ndarray, spacing: float) -> float:
    """How far a stored number may be from where it belongs on an axis or a clock of this spacing."""
    return FRACTION * spacing + rounding(values)


def check_resolved(values: np.ndarray, spacing: float, name: str) -> None:
    """UsageError where the type that a coordinate is stored in does not tell places or times `spacing` apart."""
    if (step := rounding(values)) > COARSEST * spacing:
        raise UsageError(
            f"the coordinate {name!r} is stored as {values.dtype}, in steps of {step:.2g} near {values.max():g}: too "
            f"coarse for a spacing of {spacing:g}; store it as float64, or count from its first value"
        )


def axis_of(dataset: xr.Dataset, axis: str) -> tuple[np.ndarray, float]:
    """An evenly spaced, increasing coordinate along `axis` and its spacing; UsageError where it is anything else."""
    if axis not in dataset.coords:
        raise UsageError(f"the dataset has no coordinate {axis!r}")
    coordinate = dataset[axis]
    if coordinate.dims not in ((), (axis,)) or coordinate.dtype.kind not in "fiu":
        dims = ", ".join(map(str, coordinate.dims))
        raise UsageError(
            f"the coordinate {axis!r} must be numbers along {axis} (it is {coordinate.dtype} along {dims})"
        )
    stored = np.atleast_1d(coordinate.values)
    values = stored.astype(np.float64)
    if len(values) < 2:
        raise UsageError(f"the dataset has fewer than two cells along {axis!r}")
    if not np.isfinite(values).all():
        raise UsageError(f"the coordinate {axis!r} holds NaN or infinite values")
    steps = np.diff(values)
    spacing = float(steps.mean())
    if (steps < 0).all():
        raise UsageError(f"{axis} must be cell centres that increase; it decreases: sortby({axis!r}) turns it")
    if spacing > 0:
        check_resolved(stored, spacing, axis)
    even = values[0] + spacing * np.arange(len(values))
    if spacing <= 0 or not (np.abs(values - even) <= tolerance(stored, spacing)).all():
        found = f"{steps.min():g} to {steps.max():g}"
        raise UsageError(f"{axis} must be cell centres with one spacing; its spacing is {found}")
    return values, spacing


def sides_of(dataset: xr.Dataset) -> tuple[float, float]:
    """The sides (y, x) of the periodic box behind the coordinates: cells times their spacing, wherever the first lies.
    UsageError where they are not evenly spaced and increasing."""
    (y, dy), (x, dx) = axis_of(dataset, "y"), axis_of(dataset, "x")
    return dy * len(y), dx * len(x)


def at_time(dataset: xr.Dataset, start_time: float | None, interval: float) -> xr.Dataset:
    """The dataset at the stored time `start_time`, its first one by default; UsageError where there is no such
    time. Times are the same that are no further apart than a thousandth of `interval`, the time between two states."""
    has_dim = "time" in dataset.dims
    if start_time is None:
        return dataset.isel(time=[0]) if has_dim else dataset
    try:
        start_time = float(start_time)
    except (TypeError, ValueError):
        raise UsageError(f"start_time must be a number, one of the stored times (got {start_time!r})") from None
    if not has_dim and "time" not in dataset.coords:
        raise UsageError(
            f"start_time = {start_time:.15g} is no stored time: the dataset does not say of which time it is"
        )
    stored = np.atleast_1d(dataset["time"].values)
    check_resolved(stored, interval, "time")
    times = stored.astype(np.float64)
    nearest = int(np.abs(times - start_time).argmin())
    if not abs(times[nearest] - start_time) <= tolerance(stored, interval):
        raise UsageError(f"start_time = {start_time:.15g} is no stored time; the nearest is {times[nearest]:.15g}")
    return dataset.isel(time=[nearest]) if has_dim else dataset


def aligned(forecast: xr.Dataset, truth: xr.Dataset, name: str = "the forecast") -> xr.Dataset:
    """The forecast with the truth's own coordinates, so that xarray pairs every value with its counterpart.

    UsageError where a field of the truth is missing, or where trajectories, times, places, components or units are not
    the truth's. xarray alone would leave out, without a word, whatever has no counterpart.
    """
    if not fields(truth):
        raise UsageError(f"cannot compare {name}: the truth has no variable along time, y and x")
    for field in fields(truth):
        if field not in forecast:
            raise UsageError(f"cannot compare {name}: it has no variable {field!r}")
        if missing := [dim for dim in truth[field].dims if dim not in forecast[field].dims]:
            raise UsageError(f"cannot compare {name}: its {field!r} has no dimension {missing[0]!r}")
        for whose, data in ((f"its {field!r}", forecast), (f"the truth's {field!r}", truth)):
            if (kind := data[field].dtype).kind not in "fiub":
                raise UsageError(f"cannot compare {name}: {whose} must be real numbers (it is {kind})")
        if not truth[field].size:
            raise UsageError(f"cannot compare {name}: the truth is empty: {dict(truth[field].sizes)}")
    shared = [dim for dim in ("trajectory", "time", *SPACE, "component") if dim in forecast.dims and dim in truth.dims]
    for dim in shared:
        here, there = forecast.sizes[dim], truth.sizes[dim]
        if here != there:
            raise UsageError(f"cannot compare {name}: it has {here} along {dim}, the truth {there}")
    known = [dim for dim in shared if dim in forecast.coords and dim in truth.coords]
    if "component" in known and list(forecast["component"].values) == list(truth["component"].values)[::-1]:
        forecast = forecast.isel(component=slice(None, None, -1))
    for dim in known:
        if reason := _difference(dim, forecast[dim].values, truth[dim].values):
            raise UsageError(f"cannot compare {name}: its {dim} {reason}")
    for variable in (*fields(truth), *known):
        ours, theirs = (str(data[variable].attrs.get("units", "")) for data in (forecast, truth))
        if not (agree(ours, theirs) or agree(theirs, ours)):
            raise UsageError(f"cannot compare {name}: its {variable} has units {ours!r}, the truth's {theirs!r}: "
                             "convert it, or drop the attribute")  # fmt: skip
    return forecast.assign_coords({dim: truth[dim].variable for dim in shared if dim in truth.coords})


def _difference(dim: str, here: np.ndarray, there: np.ndarray) -> str:
    """In which way a coordinate differs from the truth's; empty where it is the same."""
    if dim in LABELS:
        same = np.asarray(here, dtype=object) == np.asarray(there, dtype=object)
        first = int(np.argmin(same))
        return "" if same.all() else f"differs from the truth's: {here[first]} against {there[first]}"
    kinds = {here.dtype.kind, there.dtype.kind}
    if not kinds <= set("fiu") and kinds not in ({"M"}, {"m"}):
        types = {type(v[0]).__name__ if v.dtype.kind == "O" else str(v.dtype) for v in (here, there)}
        got = " and ".join(sorted(types))
        return f"must be numbers, or datetime64 here and in the truth (got {got}): convert it, to seconds say"
    a, b = ((v - there[0]) / NANOSECOND if kinds <= set("Mm") else v for v in (here, there))
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return "holds values that are missing or infinite, here or in the truth"
    if not (_increases(a) and _increases(b)):
        return "must increase from value to value, here and in the truth: sortby and drop_duplicates help"
    apart = np.abs(a.astype(np.float64) - b.astype(np.float64))
    coarse = max((a, b), key=rounding)
    # A single value has no spacing: it is the same to rounding.
    spacing = float(np.diff(b.astype(np.float64)).min()) if len(b) > 1 else rounding(coarse) / COARSEST
    if (apart <= max(FRACTION * spacing, min(rounding(coarse), COARSEST * spacing))).all():
        return ""
    worst = int(apart.argmax())
    reason = f"differs from the truth's: {_said(here[worst])} against {_said(there[worst])}"
    if rounding(coarse) > COARSEST * spacing:
        reason += f"; {coarse.dtype} is too coarse for a spacing of {spacing:g}: store it as float64"
    return reason


def _increases(values: np.ndarray) -> bool:
    return bool((values[1:] > values[:-1]).all())


def _said(value: np.generic) -> str:
    """A number with the digits that tell it from the next, anything else as it is."""
    return f"{value:.15g}" if value.dtype.kind == "f" else str(value)
