"""Stochastic forcing of the vorticity, or in three dimensions of the velocity, that is white in time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import final

import numpy as np
import torch
from torch import Tensor

from solvers.array_types import KickSeries, Sides
from solvers.grid import Grid, place_modes
from solvers.random_modes import gaussian_modes, mode_numbers

MAX_KICKS = 100_000  # in an interval


@final
@dataclass(frozen=True, eq=False)
class StochasticForcing:
    r"""Additive noise, white in time, applied as kicks between parts of an interval.

    .. math:: d\omega = \sum_k \sigma_k \, dW_k \, e^{i k \cdot x}, \qquad
              du = P \sum_k \sigma_k \, dW_k \, e^{i k \cdot x}

    The first is that of the vorticity in two dimensions. In three dimensions each component of the velocity is fed by
    its own noise, and the projection P removes what has divergence.

    Every τ the Fourier coefficients are kicked by :math:`\sqrt{\tau} \sigma_k N(0, 1)`; between two
    kicks the flow follows the equation without noise. As the noise is additive, the scheme is of strong order one in τ
    (Kloeden & Platen 1992, §10.3, doi:10.1007/978-3-662-12616-5), and what each kick feeds is known exactly. Whatever
    the flow does, energy is fed at the expected rate :math:`\tfrac{1}{2} \sum_k \sigma_k^2 / k^2`, in three dimensions
    :math:`\sum_k \sigma_k^2`, since the projection leaves two of three components.

    Parameters
    ----------
    amplitude : numpy.ndarray
        The standard deviations σ_k, shape (2 My + 1, Mx + 1) or (2 Mz + 1, 2 My + 1, Mx + 1), in the layout of
        `solvers.grid.place_modes`, zero at k = 0.
    renewal : float
        The longest time τ between two kicks, in s; the actual one divides the stored interval.
    """

    amplitude: np.ndarray
    renewal: float

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StochasticForcing):
            return NotImplemented
        return self.renewal == other.renewal and np.array_equal(self.amplitude, other.amplitude)

    def kicks_per_interval(self, interval: float) -> int:
        """Return how many kicks there are in an interval.

        Parameters
        ----------
        interval : float
            Time between two stored states, in s.

        Returns
        -------
        int
            At least 1.

        Raises
        ------
        ValueError
            If there would be more than 100,000.
        """
        if not interval / self.renewal <= MAX_KICKS:
            raise ValueError(f"renewal must be at least the interval divided by {MAX_KICKS} (got {self.renewal})")
        return max(1, int(np.ceil(interval / self.renewal - 1e-9)))

    def coefficients(self, grid: Grid, seeds: Sequence[int], intervals_done: int, interval: float) -> KickSeries:
        """Draw the kicks of one interval as Fourier series: the same functions of space on every grid.

        Parameters
        ----------
        grid : Grid
            Where the flow lives.
        seeds : sequence of int
            Seed of each trajectory.
        intervals_done : int
            The number of the interval, from 0.
        interval : float
            Its length, in s.

        Returns
        -------
        Tensor
            The coefficients for `solvers.grid.place_modes`, shape (batch, kick, component, 2 My + 1, Mx + 1) with the
            one component of the vorticity, or (batch, kick, component, 2 Mz + 1, 2 My + 1, Mx + 1) with the three of a
            velocity, not yet projected; complex128 on the CPU. They depend on nothing but the seed, the number of the
            interval and the kick's number in it.
        """
        count, dimensions = self.kicks_per_interval(interval), self.amplitude.ndim
        components = 1 if dimensions == 2 else dimensions
        amplitude = np.broadcast_to(self.amplitude, (components, *self.amplitude.shape))
        keys = [(seed, intervals_done, kick) for seed in seeds for kick in range(count)]
        scale = np.sqrt(interval / count / 2) * math.prod(grid.n)
        drawn = scale * gaussian_modes(amplitude, keys, dimensions)
        return torch.from_numpy(drawn).unflatten(0, (len(seeds), count))

    def kicks(self, grid: Grid, seeds: Sequence[int], intervals_done: int, interval: float) -> Tensor:
        """Draw the kicks of the vorticity in one interval, on a grid in two dimensions.

        Parameters
        ----------
        grid : Grid
            Where the vorticity lives.
        seeds : sequence of int
            Seed of each trajectory.
        intervals_done : int
            The number of the interval, from 0.
        interval : float
            Its length, in s.

        Returns
        -------
        Tensor
            Fourier coefficients of `torch.fft.rfft2`, shape (batch, kick, ky, kx), complex128 on the CPU.
        """
        return place_modes(self.coefficients(grid, seeds, intervals_done, interval), grid)[:, :, 0]


def ring_amplitude(wavenumber: float, bandwidth: float, rate: float, length: Sides) -> np.ndarray:
    """Return the amplitudes of a forcing that is equally strong on a ring, or a shell, of wavenumbers.

    Parameters
    ----------
    wavenumber, bandwidth : float
        The ring: ``|k|`` within wavenumber ± bandwidth, in waves across the shorter side of the box.
    rate : float
        Rate ε at which energy is fed, in m²/s³.
    length : tuple of float
        Sides of the box (y, x) or (z, y, x), in m.

    Returns
    -------
    numpy.ndarray
        The `amplitude` of a `StochasticForcing`, shape (2 My + 1, Mx + 1) or (2 Mz + 1, 2 My + 1, Mx + 1).

    Raises
    ------
    ValueError
        If no mode lies in the ring.
    """
    shorter, outer = min(length), wavenumber + bandwidth
    numbers = mode_numbers(*(int(np.ceil(outer * side / shorter)) for side in length))
    magnitude = reduce(np.hypot, (m * shorter / side for m, side in zip(numbers, length, strict=True)))
    inside = (np.abs(magnitude - wavenumber) <= bandwidth) & (magnitude > 0)
    if not inside.any():
        raise ValueError(f"no wavenumbers within wavenumber = {wavenumber} ± bandwidth = {bandwidth}; widen the ring")
    most = [int(np.abs(m * inside).max()) for m in numbers]
    block: tuple[slice, ...] = tuple(
        slice(n // 2 - m, n // 2 + m + 1) for n, m in zip(inside.shape[:-1], most[:-1], strict=True)
    )
    block += (slice(0, most[-1] + 1),)
    inside, magnitude = inside[block], magnitude[block]
    weight = np.where(np.arange(most[-1] + 1) > 0, 2.0, 1.0)  # the modes with kx < 0 are conjugates
    if len(length) == 2:  # half the energy of a vorticity of size 1
        energy = 0.5 * weight / np.where(inside, (2 * np.pi / shorter * magnitude) ** 2, np.inf)
    else:  # half the energy of two components of size 1, which the projection leaves of three
        energy = np.where(inside, weight, 0.0)
    return np.where(inside, np.sqrt(rate / energy.sum()), 0.0)
