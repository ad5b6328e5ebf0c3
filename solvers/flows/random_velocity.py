"""Random initial velocities in three dimensions: band-limited, isotropic or layered, with or without helicity."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from solvers.array_types import Vector, VectorField
from solvers.flows.initial_conditions import band_amplitude, layering_factor, unit_wavevectors
from solvers.grid import Grid, sample_modes
from solvers.random_modes import Seed, gaussian_modes, root_mean_square


def random_velocity(
    grid: Grid,
    seeds: Sequence[Seed],
    wavenumber: float,
    bandwidth: float,
    rms: float,
    helicity: float = 0.0,
    layering: float = 0.0,
    axis: Vector = (0.0, 0.0, 1.0),
) -> VectorField:
    r"""Draw random velocities without divergence in a band of wavenumbers.

    .. math::

        \hat u(k) = (1 + a \, i \hat k \times) \, P(k) \, a_k \, e^{-\beta (1 - (\hat k \cdot n)^2)}, \qquad
        E|a_k|^2 \propto e^{-(|k| - k_0)^2 / b^2}

    P projects on velocities without divergence. The operator i k̂ × has the helical modes of Waleffe (1992,
    doi:10.1063/1.858309) as its eigenvectors, to the eigenvalues ±1, so that a mixes those of one sign in and gives the
    relative helicity 2a / (1 + a²). The field is statistically isotropic for β = 0; larger β leave wavevectors along n
    alone: layers across n. It depends on the seed and the shape of the box only.

    Parameters
    ----------
    grid : Grid
        The grid, in three dimensions.
    seeds : sequence of int or tuple of int
        One field is drawn for each.
    wavenumber : float
        The centre k₀ of the band, in waves across the shortest side of the box.
    bandwidth : float
        The standard deviation b, in the same units; modes further than 2b from k₀ are zero.
    rms : float
        Root mean square of a component, averaged over the components: the energy is 3/2 of its square, in m/s.
    helicity : float
        Relative helicity from −1 to 1, in the mean over seeds.
    layering : float
        The exponent β ≥ 0.
    axis : tuple of float
        The vector n as (x, y, z), of any length.

    Returns
    -------
    Tensor
        Components x, y and z, shape (batch, 3, z, y, x), float64.

    Raises
    ------
    ValueError
        If the grid does not retain the band, or the band holds no mode.
    """
    amplitude = band_amplitude(grid, wavenumber, bandwidth)
    k = unit_wavevectors(amplitude, grid)
    amplitude = amplitude * layering_factor(k, layering, axis)
    u = gaussian_modes(np.broadcast_to(amplitude, (3, *amplitude.shape)), seeds, dimensions=3)
    u = u - k * (k * u).sum(1, keepdims=True)
    if helicity:
        mix = (1 - math.sqrt(1 - helicity**2)) / helicity
        u = u + mix * 1j * np.cross(k[None], u, axis=1)
    u = u * (math.sqrt(3) * rms / root_mean_square(u, axes=4))
    return sample_modes(torch.from_numpy(u), grid)
