"""Random forcing that is white in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from solvers.grid import Grid, place_modes
from solvers.random_modes import gaussian_modes, mode_numbers

MOST_SLOTS = 100_000


@final
@dataclass(frozen=True, eq=False)
class StochasticForcing:
    """dω = Σ_k σ_k dW_k exp(i k·x): kicks √τ σ_k N(0, 1), τ apart, one at the end of every slot of length τ.

    Additive noise: the kicks follow the equation's exact flow between them, which makes the scheme of strong order one
    in τ (Kloeden & Platen 1992, §10.3, doi:10.1007/978-3-662-12616-5), and what each feeds is known exactly. The
    expected rate of energy is ½ Σ_k E|σ_k|² / k², whatever the flow does.

    `amplitude` (2M + 1, K + 1): the standard deviations σ_k, laid out as in `place_modes`, zero at k = 0; `renewal`:
    the longest τ, which divides each interval."""

    amplitude: np.ndarray
    renewal: float

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StochasticForcing):
            return NotImplemented
        return self.renewal == other.renewal and np.array_equal(self.amplitude, other.amplitude)

    def kicks_per_interval(self, interval: float) -> int:
        """Kicks an interval."""
        if not interval / self.renewal <= MOST_SLOTS:
            raise ValueError(f"renewal must be at least the interval over {MOST_SLOTS} (got {self.renewal})")
        return max(1, int(np.ceil(interval / self.renewal - 1e-9)))

    def kicks(self, grid: Grid, seeds: Sequence[int], clock: int, interval: float) -> Tensor:
        """The kicks of interval number `clock` as spectra of `rfft2`, (batch, slots, ky, kx), complex128 on the CPU: a
        function of space, seed and clock alone."""
        slots = self.kicks_per_interval(interval)
        drawn = gaussian_modes(self.amplitude, [(seed, clock, slot) for seed in seeds for slot in range(slots)])
        scale = np.sqrt(interval / slots / 2) * (grid.n[0] * grid.n[1])
        return place_modes(torch.from_numpy(scale * drawn), grid).unflatten(0, (len(seeds), slots))


def ring(wavenumber: float, bandwidth: float, rate: float, length: tuple[float, float]) -> np.ndarray:
    """σ_k equal for all |k| within wavenumber ± bandwidth, waves across the shorter side, that feed energy at `rate`.

    Raises ValueError where no mode lies in the ring.
    """
    shorter, outer = min(length), wavenumber + bandwidth
    my, mx = (int(np.ceil(outer * side / shorter)) for side in length)
    rows, columns = mode_numbers(my, mx)
    magnitude = np.hypot(rows * shorter / length[0], columns * shorter / length[1])
    inside = (np.abs(magnitude - wavenumber) <= bandwidth) & (magnitude > 0)
    if not inside.any():
        raise ValueError(f"no wavenumbers within wavenumber = {wavenumber} ± bandwidth = {bandwidth}; widen the ring")
    my, mx = int(np.abs(rows[inside.any(1)]).max()), int(columns[:, inside.any(0)].max())
    middle = len(rows) // 2
    inside, magnitude = (array[middle - my : middle + my + 1, : mx + 1] for array in (inside, magnitude))
    k2 = np.where(inside, (2 * np.pi / shorter * magnitude) ** 2, np.inf)
    weight = np.where(np.arange(mx + 1) > 0, 2.0, 1.0)  # the modes with kx < 0 are conjugates
    return np.where(inside, np.sqrt(rate / (0.5 * (weight / k2).sum())), 0.0)
