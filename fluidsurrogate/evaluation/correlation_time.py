"""How long a forecast stays correlated with the truth."""

from __future__ import annotations

import numpy as np
import xarray as xr

from fluidsurrogate.evaluation.fieldwise import with_attributes


def correlation_time(correlations: xr.DataArray, threshold: float) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the first time after the start at which the correlation is below a threshold, and whether it is censored.

    The time is right-censored, a lower bound, if the correlation never fell below the threshold, or was unknown (NaN)
    before it did: then it is the last time before that.

    Parameters
    ----------
    correlations : xr.DataArray
        Correlation with the truth along `time`, and any other dims.
    threshold : float
        The correlation at which a forecast counts as lost.

    Returns
    -------
    time : xr.DataArray
        Time since the start in the units of the coordinate `time`; in seconds for dates.
    censored : xr.DataArray
        True where the time is a lower bound.

    References
    ----------
    Kochkov et al. 2021, doi:10.1073/pnas.2101784118, with the threshold 0.95; Lippe et al. 2023 (PDE-Refiner),
    arXiv:2308.05732, with 0.8.
    """
    later = correlations.isel(time=slice(1, None))
    lost = ~(later >= threshold)
    first, never = lost.argmax("time"), ~lost.any("time")
    censored = never | later.isnull().isel(time=first, drop=True)
    last = xr.where(never, later.sizes["time"], first + ~censored)
    elapsed, units = _time_since_start(correlations["time"])
    duration, censored = (v.drop_vars("time", errors="ignore") for v in (elapsed.isel(time=last), censored))
    long_name = f"time until the correlation first falls below {threshold:g}"
    return with_attributes(duration, long_name, units), with_attributes(censored, f"{long_name}: it never did", "1")


def _time_since_start(time: xr.DataArray) -> tuple[xr.DataArray, str]:
    """Return the times since the first and their units, seconds for dates."""
    since = time - time[0].drop_vars("time", errors="ignore")
    if since.dtype.kind == "m":
        return since / np.timedelta64(1, "s"), "s"
    return since, str(time.attrs.get("units", "s")).partition(" since ")[0]
