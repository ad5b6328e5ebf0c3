"""The registered metrics, and the decorator that adds one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import final

import numpy as np
import xarray as xr

from fluidsurrogate.data.alignment import align_to_truth

MetricFunction = Callable[[xr.Dataset, xr.Dataset], xr.DataArray]
METRICS: dict[str, Metric] = {}


@final
@dataclass(frozen=True)
class Metric:
    """A registered metric, called like its function: `METRICS["nrmse"](forecast, truth)`.

    Parameters
    ----------
    function : callable
        Function of forecast and truth. The decorator has put the alignment of the two before it.
    perfect_score : float or None
        Score of a forecast that equals the truth. None for a metric that describes the forecast alone, such as its
        energy.
    rotation_invariant : bool
        Whether a quarter turn or a mirror of forecast and truth together leaves the score as it is.
    """

    function: MetricFunction
    perfect_score: float | None
    rotation_invariant: bool

    def __call__(self, forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
        """Score a forecast.

        Parameters
        ----------
        forecast, truth : xr.Dataset
            The same trajectories, times, places and units.

        Returns
        -------
        xr.DataArray
            The score, with at least the dims trajectory and time.
        """
        return self.function(forecast, truth)


def metric(
    *, perfect_score: float | None, rotation_invariant: bool = True
) -> Callable[[MetricFunction], MetricFunction]:
    """Register a metric under the name of its function.

    The function takes forecast and truth, whose coordinates have been made the same, and returns a DataArray with the
    dims trajectory and time and the attributes `long_name` and `units`. It changes neither argument and is lazy for
    dask arrays. A metric with a perfect score compares: it is never NaN for a finite truth, and NaN wherever the truth
    is not finite. A metric without one describes the forecast and takes from the truth no more than the names of the
    fields. The tests in `tests/fluidsurrogate/test_metrics.py` check all of this for every registered metric.

    Parameters
    ----------
    perfect_score : float or None
        Score of a forecast that equals the truth; None for a metric that describes the forecast alone.
    rotation_invariant : bool, default True
        Whether a quarter turn or a mirror of forecast and truth together leaves the score as it is. The tests check it
        if so.

    Returns
    -------
    callable
        The decorator. It returns the function with a check before it, which raises UsageError if the forecast does not
        have the truth's trajectories, times, places, fields and units.

    Examples
    --------
    >>> from fluidsurrogate.evaluation.fieldwise import map_fields, mean_error, relative
    >>> from fluidsurrogate.evaluation.metrics import METRICS, metric
    >>> @metric(perfect_score=0.0)
    ... def largest_error(forecast, truth):
    ...     def error_and_size(f, t, within):
    ...         error, size = (abs(v).max(within, skipna=False) for v in (f - t, t))
    ...         return relative(error, size), size
    ...
    ...     return mean_error(map_fields(error_and_size, forecast, truth), "largest error over largest value")
    >>> METRICS.pop("largest_error").perfect_score  # registered; removed again, as this is an example
    0.0
    """

    def register(function: MetricFunction) -> MetricFunction:
        @wraps(function)
        def aligned_function(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
            with np.errstate(invalid="ignore"):  # values that are not finite have scores of their own
                return function(align_to_truth(forecast, truth), truth)

        METRICS[function.__name__] = Metric(aligned_function, perfect_score, rotation_invariant)
        return aligned_function

    return register
