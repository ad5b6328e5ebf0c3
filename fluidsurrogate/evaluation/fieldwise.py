"""Arithmetic that scores share: pairs of fields, means over fields, quotients of zero, attributes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import xarray as xr

from fluidsurrogate.data.layout import field_names

Value = TypeVar("Value")
FieldScore = Callable[[xr.DataArray, xr.DataArray, list[str]], Value]


def field_pairs(forecast: xr.Dataset, truth: xr.Dataset) -> Iterator[tuple[xr.DataArray, xr.DataArray, list[str]]]:
    """Yield each field of the state from the forecast and the truth, in double precision.

    Parameters
    ----------
    forecast, truth : xr.Dataset
        Datasets whose coordinates are the same. The forecast may have a dim `member` more.

    Yields
    ------
    tuple
        The field of the forecast, the field of the truth, and the dims within one state: space, and components of a
        vector.
    """
    for name in field_names(truth):
        f, t = forecast[name].astype(np.float64), truth[name].astype(np.float64)
        yield f, t, [str(dim) for dim in t.dims if dim not in ("trajectory", "time")]


def map_fields(function: FieldScore[Value], forecast: xr.Dataset, truth: xr.Dataset) -> list[Value]:
    """Return the value of a function for each field of the state.

    Parameters
    ----------
    function : callable
        Function of a field of the forecast, the same field of the truth, and the dims within one state.
    forecast, truth : xr.Dataset
        Datasets whose coordinates are the same.

    Returns
    -------
    list
        One value a field.
    """
    return [function(f, t, within) for f, t, within in field_pairs(forecast, truth)]


def mean_over_fields(values: Sequence[xr.DataArray]) -> xr.DataArray:
    """Return the mean of scores of several fields.

    Parameters
    ----------
    values : sequence of xr.DataArray
        One score a field.

    Returns
    -------
    xr.DataArray
        Their mean.
    """
    return sum(values[1:], values[0]) / len(values)


def mean_error(errors_and_sizes: Sequence[tuple[xr.DataArray, xr.DataArray]], long_name: str) -> xr.DataArray:
    """Return the mean of the errors of several fields, with both kinds of non-finite values handled.

    Parameters
    ----------
    errors_and_sizes : sequence of tuple
        For each field the error and a measure of the truth, such as its mean square, that is finite if and only if the
        truth is.
    long_name : str
        Attribute of the result.

    Returns
    -------
    xr.DataArray
        Dimensionless; infinite where the error is not finite, NaN where the truth is not.
    """
    errors, sizes = zip(*errors_and_sizes, strict=True)
    mean = mean_over_fields(errors)
    mean = mean.where(is_finite(mean), math.inf).where(is_finite(mean_over_fields(sizes)))
    return with_attributes(mean, long_name, "1")


def relative(part: xr.DataArray, whole: xr.DataArray) -> xr.DataArray:
    """Return part / whole, with 0/0 = 0 and x/0 = ∞.

    Parameters
    ----------
    part, whole : xr.DataArray
        Non-negative numbers.

    Returns
    -------
    xr.DataArray
        The quotient.
    """
    return part / whole.where((whole > 0) | (part != 0), 1.0)


def relative_to_rms(part: xr.DataArray, reference: xr.DataArray, within: list[str]) -> xr.DataArray:
    """Return a number over the root mean square of a field, with 0/0 = 0 and x/0 = ∞.

    Parameters
    ----------
    part : xr.DataArray
        Non-negative numbers.
    reference : xr.DataArray
        The field.
    within : list of str
        Dims that the mean is taken over.

    Returns
    -------
    xr.DataArray
        The quotient.
    """
    rms = (reference**2).mean(within) ** 0.5
    return part / rms.where((rms > 0) | (part != 0), 1.0)


def is_finite(array: xr.DataArray) -> xr.DataArray:
    """Return whether each value is finite; lazy for dask arrays.

    Parameters
    ----------
    array : xr.DataArray
        Numbers.

    Returns
    -------
    xr.DataArray
        Booleans.
    """
    return xr.apply_ufunc(np.isfinite, array, dask="allowed")


def with_attributes(array: xr.DataArray, long_name: str, units: str) -> xr.DataArray:
    """Set the attributes of an array to a long name and units.

    Parameters
    ----------
    array : xr.DataArray
        The array, which is changed.
    long_name, units : str
        Its only attributes.

    Returns
    -------
    xr.DataArray
        The same array.
    """
    array.attrs = {"long_name": long_name, "units": units}
    return array
