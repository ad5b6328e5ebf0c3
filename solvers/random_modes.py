"""Random Fourier modes of real fields, drawn from a seed and independent of any grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Seed = int | tuple[int, ...]  # a seed, or a seed followed by a key that says what it is for


def gaussian_modes(amplitude: np.ndarray, seeds: Sequence[Seed]) -> np.ndarray:
    """Draw complex normal Fourier coefficients of real fields.

    Parameters
    ----------
    amplitude : numpy.ndarray
        Standard deviation of the real and of the imaginary part of each mode (my, mx), shape (2 My + 1, Mx + 1): the
        layout of `mode_numbers`.
    seeds : sequence of int or tuple of int
        One field is drawn for each.

    Returns
    -------
    numpy.ndarray
        Shape (seed, 2 My + 1, Mx + 1), complex. The modes with mx < 0 are the complex conjugates.
    """
    my = amplitude.shape[0] // 2
    fields = []
    for seed in seeds:
        normal = random_generator(seed).standard_normal((2, *amplitude.shape))
        a = amplitude * (normal[0] + 1j * normal[1])
        a[:my, 0] = np.conj(a[:my:-1, 0])  # the column mx = 0 holds both k and −k
        fields.append(a)
    return np.stack(fields)


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


def root_mean_square(modes: np.ndarray) -> np.ndarray:
    """Compute the root mean square of real fields from their Fourier coefficients, by Parseval's theorem.

    Parameters
    ----------
    modes : numpy.ndarray
        Coefficients as from `gaussian_modes`, shape (seed, 2 My + 1, Mx + 1).

    Returns
    -------
    numpy.ndarray
        Shape (seed, 1, 1).
    """
    power = np.abs(modes) ** 2
    return np.sqrt(power[..., 0].sum(-1) + 2 * power[..., 1:].sum((-2, -1)))[:, None, None]


def mode_numbers(my: int, mx: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mode numbers of an array of Fourier coefficients, in the layout of `solvers.grid.sample_modes`.

    Parameters
    ----------
    my, mx : int
        The largest mode numbers.

    Returns
    -------
    rows : numpy.ndarray
        The numbers −my … my, shape (2 my + 1, 1).
    columns : numpy.ndarray
        The numbers 0 … mx, shape (1, mx + 1).
    """
    return np.arange(-my, my + 1)[:, None], np.arange(mx + 1)[None, :]
