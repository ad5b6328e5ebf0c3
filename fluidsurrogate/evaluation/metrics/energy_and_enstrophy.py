"""Energy and enstrophy of the forecast, and their spectra."""

from __future__ import annotations

import xarray as xr

from fluidsurrogate.evaluation.diagnostics import compute_lazily
from fluidsurrogate.evaluation.metrics.registry import metric


@metric(perfect_score=None)
def energy(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    r"""Compute the kinetic energy of the forecast.

    .. math:: E = \tfrac{1}{2} \langle |u|^2 \rangle = \tfrac{1}{2} \sum_k |\hat\omega|^2 / k^2

    u is the velocity that the vorticity induces, without a mean flow. 0 is a flow at rest.

    Parameters
    ----------
    forecast, truth : xr.Dataset
        The same trajectories, times, places and units. The values of the truth are not used.

    Returns
    -------
    xr.DataArray
        Dims trajectory and time; units m2 s-2.

    References
    ----------
    Pope 2000, *Turbulent Flows*, ch. 6.
    """
    return compute_lazily(forecast, "kinetic_energy")


@metric(perfect_score=None)
def enstrophy(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    r"""Compute the enstrophy of the forecast.

    .. math:: Z = \tfrac{1}{2} \langle |\omega|^2 \rangle

    0 is a flow without vorticity.

    Parameters
    ----------
    forecast, truth : xr.Dataset
        The same trajectories, times, places and units. The values of the truth are not used.

    Returns
    -------
    xr.DataArray
        Dims trajectory and time; units s-2.

    References
    ----------
    Boffetta & Ecke 2012, doi:10.1146/annurev-fluid-120710-101240.
    """
    return compute_lazily(forecast, "enstrophy")


@metric(perfect_score=None)
def energy_spectrum(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    r"""Compute the kinetic energy spectrum E(k) of the forecast.

    .. math:: \sum_k E(k) = \text{energy}

    E(k) is the energy of the waves in the shell k − ½ … k + ½, where k counts waves across the longer side of the box.

    Parameters
    ----------
    forecast, truth : xr.Dataset
        The same trajectories, times, places and units. The values of the truth are not used.

    Returns
    -------
    xr.DataArray
        Dims trajectory, time and wavenumber; units m2 s-2.

    References
    ----------
    Pope 2000, *Turbulent Flows*, ch. 6.
    """
    return compute_lazily(forecast, "energy_spectrum")


@metric(perfect_score=None)
def enstrophy_spectrum(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    r"""Compute the enstrophy spectrum Z(k) of the forecast.

    .. math:: \sum_k Z(k) = \text{enstrophy} \quad \text{if} \quad \langle \omega \rangle = 0

    The shells are those of `energy_spectrum`.

    Parameters
    ----------
    forecast, truth : xr.Dataset
        The same trajectories, times, places and units. The values of the truth are not used.

    Returns
    -------
    xr.DataArray
        Dims trajectory, time and wavenumber; units s-2.

    References
    ----------
    Boffetta & Ecke 2012, doi:10.1146/annurev-fluid-120710-101240.
    """
    return compute_lazily(forecast, "enstrophy_spectrum")
