"""The registered ensemble metrics, and the decorator that adds one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import final

import numpy as np
import xarray as xr

from fluidsurrogate.data.alignment import align_to_truth
from fluidsurrogate.evaluation.metrics.registry import MetricFunction

ENSEMBLE_METRICS: dict[str, EnsembleMetric] = {}


@final
@dataclass(frozen=True)
class EnsembleMetric:
    """A registered ensemble metric, called like its function: `ENSEMBLE_METRICS["crps"](forecast, truth)`.

    Parameters
    ----------
    function : callable
        Function of forecast and truth, which aligns the two first.
    rotation_invariant : bool
        Whether a quarter turn of forecast and truth together leaves the score as it is.
    """

    function: MetricFunction
    rotation_invariant: bool

    def __call__(self, forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
        """Score an ensemble.

        Parameters
        ----------
        forecast : xr.Dataset
            Forecast with the dim `member`.
        truth : xr.Dataset
            The same trajectories, times, places and units.

        Returns
        -------
        xr.DataArray
            The score, with at least the dim time.
        """
        return self.function(forecast, truth)


def ensemble_metric(*, rotation_invariant: bool = True) -> Callable[[MetricFunction], MetricFunction]:
    """Register an ensemble metric under the name of its function.

    The function takes a forecast with the dim `member` and the truth, whose coordinates have been made the same, and
    returns a DataArray with the dim time, with trajectory unless it is over all trajectories, and with the attributes
    `long_name` and `units`. It changes neither argument, is lazy for dask arrays, and is NaN wherever the truth is not
    finite. The tests in `tests/fluidsurrogate/test_ensemble_metrics.py` check all of this for every registered metric.

    Parameters
    ----------
    rotation_invariant : bool, default True
        Whether a quarter turn of forecast and truth together leaves the score as it is. The tests check it if so.

    Returns
    -------
    callable
        The decorator. It returns the function with a check before it, which raises UsageError if the forecast does not
        have the truth's trajectories, times, places, fields and units.

    Examples
    --------
    >>> from fluidsurrogate.evaluation.ensemble_metrics import ENSEMBLE_METRICS, ensemble_metric
    >>> @ensemble_metric()
    ... def range_of_members(forecast, truth):
    ...     field = forecast["vorticity"].where(truth["vorticity"].notnull())
    ...     extent = (field.max("member") - field.min("member")).mean(("y", "x"), skipna=False)
    ...     return extent.assign_attrs(long_name="mean range of the members", units="s-1")
    >>> ENSEMBLE_METRICS.pop("range_of_members").rotation_invariant  # removed again, as this is an example
    True
    """

    def register(function: MetricFunction) -> MetricFunction:
        @wraps(function)
        def aligned_function(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
            with np.errstate(invalid="ignore"):  # values that are not finite have scores of their own
                return function(align_to_truth(forecast, truth), truth)

        ENSEMBLE_METRICS[function.__name__] = EnsembleMetric(aligned_function, rotation_invariant)
        return aligned_function

    return register
