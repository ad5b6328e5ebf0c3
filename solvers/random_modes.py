"""Random Fourier modes of real fields, drawn from a seed and independent of any grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Seed = int | tuple[int, ...]  # a seed, or a seed followed by a key that says what it is for


def gaussian_modes(amplitude: np.ndarray, seeds: Sequence[Seed], dimensions: int | None = None) -> np.ndarray:
    """Draw complex normal Fourier coefficients of real fields.

    Parameters
    ----------
    amplitude : numpy.ndarray
        Standard deviation of the real and of the imaginary part of each mode (my, mx), shape (2 My + 1, Mx + 1), or
        (mz, my, mx), shape (2 Mz + 1, 2 My + 1, Mx + 1): the layout of `mode_numbers`. Axes before these, as of a
        vector's components, must be given by `dimensions`.
    seeds : sequence of int or tuple of int
        One field is drawn for each.
    dimensions : int, optional
        Number of dimensions, 2 or 3; by default that of the array `amplitude`.

    Returns
    -------
    numpy.ndarray
        Shape (seed, …) with that of `amplitude`, complex. The modes with mx < 0 are the complex conjugates.
    """
    fields = []
    for seed in seeds:
        normal = random_generator(seed).standard_normal((2, *amplitude.shape))
        a = amplitude * (normal[0] + 1j * normal[1])
        _make_conjugate(a, dimensions or amplitude.ndim)
        fields.append(a)
    return np.stack(fields)


def _make_conjugate(coefficients: np.ndarray, dimensions: int) -> None:
    """Make the modes with mx = 0, which hold both k and −k, conjugate: those before the middle follow from the rest."""
    column = coefficients[..., 0]
    flat = column.reshape(*column.shape[: column.ndim - dimensions + 1], -1)
    middle = flat.shape[-1] // 2
    flat[..., :middle] = np.conj(flat[..., :middle:-1])
    coefficients[..., 0] = flat.reshape(column.shape)


def random_generator(seed: Seed) -> np.random.Generator:
    """Return the random number generator of a seed.

    Parameters
    ----------
    seed : int or tuple of int
        A seed, or a seed and a key. Distinct keys give independent streams, also independent of the seed without a key.

    Returns
    -------
    numpy.random.Generator
        The generator.
    """
    first, *key = seed if isinstance(seed, tuple) else (seed,)
    # As a spawn key, not as more entropy: numpy takes the entropy (5, 0, 0) for 5.
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(first, spawn_key=key)))


def root_mean_square(modes: np.ndarray, axes: int = 2) -> np.ndarray:
    """Compute the root mean square of real fields from their Fourier coefficients, by Parseval's theorem.

    Parameters
    ----------
    modes : numpy.ndarray
        Coefficients as from `gaussian_modes`, shape (seed, 2 My + 1, Mx + 1), or with more axes.
    axes : int
        How many of the last axes to sum over: 2 in the plane, 3 in space, and one more for a vector in place of its
        components.

    Returns
    -------
    numpy.ndarray
        Shape (seed, 1, 1): 1 for each axis that was summed.
    """
    power = np.abs(modes) ** 2
    others = tuple(range(-axes, -1))
    total = power[..., 0].sum(tuple(axis + 1 for axis in others)) + 2 * power[..., 1:].sum((*others, -1))
    return np.sqrt(total)[(..., *[None] * axes)]


def mode_numbers(*largest: int) -> tuple[np.ndarray, ...]:
    """Return the mode numbers of an array of Fourier coefficients, in the layout of `solvers.grid.sample_modes`.

    Parameters
    ----------
    *largest : int
        The largest mode numbers, (my, mx) or (mz, my, mx).

    Returns
    -------
    tuple of numpy.ndarray
        For each axis its numbers, shaped to broadcast: −m … m on all but the last, 0 … mx on that. For (my, mx) the
        shapes are (2 my + 1, 1) and (1, mx + 1).
    """
    *both, last = largest
    numbers = [*(np.arange(-m, m + 1) for m in both), np.arange(last + 1)]
    return tuple(np.expand_dims(m, [a for a in range(len(largest)) if a != i]) for i, m in enumerate(numbers))
