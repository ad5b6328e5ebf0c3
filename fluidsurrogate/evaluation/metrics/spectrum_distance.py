"""Distances of the spectra of forecast and truth, which do not depend on the phases of the waves."""

from __future__ import annotations

import xarray as xr

from fluidsurrogate.evaluation.diagnostics import compute_lazily
from fluidsurrogate.evaluation.fieldwise import mean_error, relative
from fluidsurrogate.evaluation.metrics.registry import metric


@metric(perfect_score=0.0)
def energy_spectrum_error(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    r"""Compute the relative L¹ distance of the energy spectra of forecast and truth.

    .. math:: \sum_k |E_f(k) - E_t(k)| / \sum_k E_t(k)

    Phases do not matter: 0 is the right distribution of energy over scales, 1 as bad as a flow at rest, and 1 + E_f/E_t
    the most. The metric is this package's own.

    Parameters
    ----------
    forecast, truth : xr.Dataset
        The same trajectories, times, places and units, with the vorticity or the velocity.

    Returns
    -------
    xr.DataArray
        Dims trajectory and time; units 1.
    """
    return _distance(forecast, truth, "energy_spectrum", "kinetic energy spectrum")


@metric(perfect_score=0.0)
def enstrophy_spectrum_error(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    r"""Compute the relative L¹ distance of the enstrophy spectra of forecast and truth.

    .. math:: \sum_k |Z_f(k) - Z_t(k)| / \sum_k Z_t(k)

    As `energy_spectrum_error`, for the enstrophy. The metric is this package's own.

    Parameters
    ----------
    forecast, truth : xr.Dataset
        The same trajectories, times, places and units, with the vorticity or the velocity.

    Returns
    -------
    xr.DataArray
        Dims trajectory and time; units 1.
    """
    return _distance(forecast, truth, "enstrophy_spectrum", "enstrophy spectrum")


def _distance(forecast: xr.Dataset, truth: xr.Dataset, diagnostic: str, description: str) -> xr.DataArray:
    """Compute Σ|f − t| / Σt of a spectrum."""
    f, t = compute_lazily(forecast, diagnostic), compute_lazily(truth, diagnostic)
    missed, held = (spectrum.sum("wavenumber", skipna=False) for spectrum in (abs(f - t), t))
    return mean_error([(relative(missed, held), held)], f"relative error of the {description}")
