"""Random starts that more than one flow begins from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from solvers.grid import Grid, sample_modes


def banded_vorticity(
    grid: Grid, seeds: Sequence[int], wavenumber: float, bandwidth: float, rms: float
) -> Float[Tensor, "batch 1 y x"]:
    """Gaussian random vorticity in a band, with the given root mean square, statistically isotropic.

    ω(x) = Σ_k a_k exp(i k·x), a_k complex normal with amplitude exp(−(|k| − k₀)² / 2b²), zero outside |k| − k₀ within
    ± 2b and at k = 0; |k|, k₀ and b in waves across the shorter side of the box. The draw depends on the seed and the
    shape of the box only, never on n.
    """
    shorter = min(grid.length)
    reach = wavenumber + 2 * bandwidth
    my, mx = (math.ceil(reach * side / shorter) for side in grid.length)
    if any(math.floor(reach * side / shorter) > (n - 1) // 3 for n, side in zip(grid.n, grid.length, strict=True)):
        raise ValueError(f"the grid is too coarse for modes up to {reach:g}; take a larger n or a lower wavenumber")
    rows, columns = np.arange(-my, my + 1)[:, None], np.arange(mx + 1)[None, :]
    magnitude = np.hypot(rows * shorter / grid.length[0], columns * shorter / grid.length[1])
    amplitude = np.exp(-((magnitude - wavenumber) ** 2) / (2 * bandwidth**2))
    amplitude[(np.abs(magnitude - wavenumber) > 2 * bandwidth) | (magnitude == 0)] = 0.0
    if not amplitude.any():
        raise ValueError(f"no wavenumbers within wavenumber = {wavenumber} ± 2 bandwidth = {bandwidth}; widen the band")
    used_rows, used_columns = (np.flatnonzero(amplitude.any(axis)) for axis in (1, 0))
    my, mx = int(abs(rows[used_rows, 0]).max()), int(used_columns.max())
    amplitude = amplitude[rows.shape[0] // 2 - my : rows.shape[0] // 2 + my + 1, : mx + 1]

    fields = []
    for seed in seeds:
        normal = np.random.Generator(np.random.PCG64(seed)).standard_normal((2, *amplitude.shape))
        a = amplitude * (normal[0] + 1j * normal[1])
        a[:my, 0] = np.conj(a[:my:-1, 0])  # the column mx = 0 holds both k and −k
        variance = (np.abs(a[:, 0]) ** 2).sum() + 2 * (np.abs(a[:, 1:]) ** 2).sum()
        fields.append(a * rms / math.sqrt(variance))
    return sample_modes(torch.from_numpy(np.stack(fields)), grid)[:, None]
