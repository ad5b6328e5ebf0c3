"""Random Fourier modes of real fields, drawn from a seed and independent of any grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Seed = int | tuple[int, ...]  # a seed, or one with a key that says what it is for


def gaussian_modes(amplitude: np.ndarray, seeds: Sequence[Seed]) -> np.ndarray:
    """Complex normal coefficients of a real field, (seed, 2 my + 1, mx + 1), E|a_k|² = 2 amplitude² of k."""
    my = amplitude.shape[0] // 2
    fields = []
    for seed in seeds:
        normal = generator(seed).standard_normal((2, *amplitude.shape))
        a = amplitude * (normal[0] + 1j * normal[1])
        a[:my, 0] = np.conj(a[:my:-1, 0])  # the column mx = 0 holds both k and −k
        fields.append(a)
    return np.stack(fields)


def generator(seed: Seed) -> np.random.Generator:
    """Random numbers of a seed; those of different keys are independent, of none too."""
    first, *key = seed if isinstance(seed, tuple) else (seed,)
    # As a key, not as more entropy: numpy takes (5, 0, 0) for 5.
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(first, spawn_key=key)))


def root_mean_square(modes: np.ndarray) -> np.ndarray:
    """Of the real field with these coefficients, (seed, 1, 1): Parseval, the modes mx < 0 being conjugates."""
    power = np.abs(modes) ** 2
    return np.sqrt(power[..., 0].sum(-1) + 2 * power[..., 1:].sum((-2, -1)))[:, None, None]


def mode_numbers(my: int, mx: int) -> tuple[np.ndarray, np.ndarray]:
    """(−my … my) as a column and (0 … mx) as a row: the layout of `sample_modes`."""
    return np.arange(-my, my + 1)[:, None], np.arange(mx + 1)[None, :]
