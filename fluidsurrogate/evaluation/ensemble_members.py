"""Members of an ensemble forecast: the perturbed ones, and the one forecast that stands for all."""

from __future__ import annotations

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.layout import field_names


def perturbed_members(forecast: xr.Dataset) -> xr.Dataset:
    """Return the perturbed members of a forecast, which make up the ensemble.

    Parameters
    ----------
    forecast : xr.Dataset
        Forecast with the dim `member`. A boolean coordinate `perturbed` along it names the perturbed members; without
        the coordinate all members are.

    Returns
    -------
    xr.Dataset
        The forecast with these members.

    Raises
    ------
    UsageError
        If there are fewer than two, which have no spread.
    """
    if "perturbed" in forecast.coords:
        forecast = forecast.isel(member=np.flatnonzero(_is_perturbed(forecast)))
    if forecast.sizes["member"] < 2:
        raise UsageError(f"an ensemble needs at least two perturbed members (got {forecast.sizes['member']})")
    return forecast


def control_or_mean(forecast: xr.Dataset) -> xr.Dataset:
    """Return the one forecast that stands for an ensemble: its unperturbed (control) member, or else the mean.

    Parameters
    ----------
    forecast : xr.Dataset
        Forecast, perhaps with the dim `member` and a boolean coordinate `perturbed` along it.

    Returns
    -------
    xr.Dataset
        The first unperturbed member if the forecast says which that is, else the mean over the members; a forecast
        without members as it is.
    """
    if "member" not in forecast.dims:
        return forecast
    if "perturbed" in forecast.coords and not _is_perturbed(forecast).all():
        first = int(np.flatnonzero(~_is_perturbed(forecast))[0])
        return forecast.isel(member=first).drop_vars(["member", "perturbed"], errors="ignore")
    states = forecast[field_names(forecast)].mean("member", skipna=False, keep_attrs=True)
    return forecast.drop_dims("member").assign(states.data_vars)


def _is_perturbed(forecast: xr.Dataset) -> np.ndarray:
    return np.atleast_1d(forecast["perturbed"].values).astype(bool)  # some files hold 0 and 1
