"""Whether a forecast and the truth are of the same trajectories, times and places."""

from __future__ import annotations

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.coordinates import MAX_ROUNDING, SAME_POINT, rounding_step, spatial_dims
from fluidsurrogate.data.layout import field_names
from fluidsurrogate.data.units import units_compatible

LABEL_DIMS = ("trajectory", "component")  # names, which are the same or not; other coordinates are numbers or dates
NANOSECOND = np.timedelta64(1, "ns")


def align_to_truth(forecast: xr.Dataset, truth: xr.Dataset, name: str = "the forecast") -> xr.Dataset:
    """Return a forecast with the coordinates of the truth, so that xarray pairs every value with its counterpart.

    Coordinates that agree within a thousandth of their spacing are replaced. Without this, xarray would silently leave
    out every value that has no exact counterpart.

    Parameters
    ----------
    forecast, truth : xr.Dataset
        States.
    name : str, default "the forecast"
        What messages call the forecast.

    Returns
    -------
    xr.Dataset
        The forecast.

    Raises
    ------
    UsageError
        If a field of the truth is missing, or if trajectories, times, places, components or units are not the truth's.
    """
    if not field_names(truth):
        *first, last = ("time", *spatial_dims(truth))
        raise UsageError(f"cannot compare {name}: the truth has no variable along {', '.join(first)} and {last}")
    for field in field_names(truth):
        _check_field(forecast, truth, field, name)
    dims = ("trajectory", "time", *spatial_dims(truth), "component")
    shared = [dim for dim in dims if dim in forecast.dims and dim in truth.dims]
    for dim in shared:
        here, there = forecast.sizes[dim], truth.sizes[dim]
        if here != there:
            raise UsageError(f"cannot compare {name}: it has {here} along {dim}, the truth {there}")
    known = [dim for dim in shared if dim in forecast.coords and dim in truth.coords]
    if "component" in known:
        found, expected = (list(data["component"].values) for data in (forecast, truth))
        if found != expected and set(found) == set(expected):
            forecast = forecast.isel(component=[found.index(component) for component in expected])
    for dim in known:
        if reason := _difference(dim, forecast[dim].values, truth[dim].values):
            raise UsageError(f"cannot compare {name}: its {dim} {reason}")
    for variable in (*field_names(truth), *known):
        ours, theirs = (str(data[variable].attrs.get("units", "")) for data in (forecast, truth))
        if not (units_compatible(ours, theirs) or units_compatible(theirs, ours)):
            raise UsageError(f"cannot compare {name}: its {variable} has units {ours!r}, the truth's {theirs!r}: "
                             "convert it, or drop the attribute")  # fmt: skip
    return forecast.assign_coords({dim: truth[dim].variable for dim in shared if dim in truth.coords})


def _check_field(forecast: xr.Dataset, truth: xr.Dataset, field: str, name: str) -> None:
    """Check that the forecast has a field of the truth, with its dims and with numbers."""
    if field not in forecast:
        raise UsageError(f"cannot compare {name}: it has no variable {field!r}")
    if missing := [dim for dim in truth[field].dims if dim not in forecast[field].dims]:
        raise UsageError(f"cannot compare {name}: its {field!r} has no dimension {missing[0]!r}")
    for whose, data in ((f"its {field!r}", forecast), (f"the truth's {field!r}", truth)):
        if (dtype := data[field].dtype).kind not in "fiub":
            raise UsageError(f"cannot compare {name}: {whose} must be real numbers (it is {dtype})")
    if not truth[field].size:
        raise UsageError(f"cannot compare {name}: the truth is empty: {dict(truth[field].sizes)}")


def _difference(dim: str, here: np.ndarray, there: np.ndarray) -> str:
    """Return how a coordinate differs from the truth's; empty if it is the same."""
    if dim in LABEL_DIMS:
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
    coarse = max((a, b), key=rounding_step)
    # A single value has no spacing: it is the same up to rounding.
    spacing = float(np.diff(b.astype(np.float64)).min()) if len(b) > 1 else rounding_step(coarse) / MAX_ROUNDING
    if (apart <= max(SAME_POINT * spacing, min(rounding_step(coarse), MAX_ROUNDING * spacing))).all():
        return ""
    worst = int(apart.argmax())
    reason = f"differs from the truth's: {_all_digits(here[worst])} against {_all_digits(there[worst])}"
    if rounding_step(coarse) > MAX_ROUNDING * spacing:
        reason += f"; {coarse.dtype} is too coarse for a spacing of {spacing:g}: store it as float64"
    return reason


def _increases(values: np.ndarray) -> bool:
    return bool((values[1:] > values[:-1]).all())


def _all_digits(value: np.generic) -> str:
    """Return a number with the digits that tell it from the next, anything else as it is."""
    return f"{value:.15g}" if value.dtype.kind == "f" else str(value)
