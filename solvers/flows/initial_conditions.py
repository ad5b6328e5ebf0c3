"""The starts of the flows: functions of space and of a seed, never of n."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from solvers.grid import Grid, sample_modes
from solvers.random_modes import Seed, gaussian_modes, generator, mode_numbers, root_mean_square

FINE = 512  # cells on which a closed form is expanded in Fourier modes


def require_room(grid: Grid, reach: float) -> None:
    """Raise ValueError where modes up to `reach`, in waves across the shorter side, are more than the grid has cells:
    before memory is taken for them."""
    if not reach <= max(grid.n):
        raise ValueError(f"the grid is too coarse for modes up to {reach:g}; take a larger n or a lower wavenumber")


def banded_field(
    grid: Grid, seeds: Sequence[Seed], wavenumber: float, bandwidth: float, rms: float
) -> Float[Tensor, "batch 1 y x"]:
    """A Gaussian random field in a band, with the given root mean square, statistically isotropic.

    f(x) = Σ_k a_k exp(i k·x), a_k complex normal with amplitude exp(−(|k| − k₀)² / 2b²), zero outside |k| − k₀ within
    ± 2b and at k = 0; |k|, k₀ and b in waves across the shorter side of the box. The draw depends on the seed and the
    shape of the box only. Raises ValueError where the grid does not retain the band.
    """
    shorter = min(grid.length)
    reach = wavenumber + 2 * bandwidth
    require_room(grid, reach)
    if not bandwidth**2 > 0:
        raise ValueError(f"no wavenumbers within wavenumber = {wavenumber} ± 2 bandwidth = {bandwidth}; widen the band")
    my, mx = (math.ceil(reach * side / shorter) for side in grid.length)
    if any(math.floor(reach * side / shorter) > most for most, side in zip(grid.max_modes, grid.length, strict=True)):
        raise ValueError(f"the grid is too coarse for modes up to {reach:g}; take a larger n or a lower wavenumber")
    rows, columns = mode_numbers(my, mx)
    magnitude = np.hypot(rows * shorter / grid.length[0], columns * shorter / grid.length[1])
    amplitude = np.exp(-((magnitude - wavenumber) ** 2) / (2 * bandwidth**2))
    amplitude[(np.abs(magnitude - wavenumber) > 2 * bandwidth) | (magnitude == 0)] = 0.0
    if not amplitude.any():
        raise ValueError(f"no wavenumbers within wavenumber = {wavenumber} ± 2 bandwidth = {bandwidth}; widen the band")
    used_rows, used_columns = (np.flatnonzero(amplitude.any(axis)) for axis in (1, 0))
    my, mx = int(abs(rows[used_rows, 0]).max()), int(used_columns.max())
    amplitude = amplitude[rows.shape[0] // 2 - my : rows.shape[0] // 2 + my + 1, : mx + 1]
    fields = gaussian_modes(amplitude, seeds)
    return sample_modes(torch.from_numpy(fields * (rms / root_mean_square(fields))), grid)[:, None]


def shaped_field(
    shape: Callable[[Grid, Tensor, Tensor], Tensor], grid: Grid, seeds: Sequence[int], rms: float | None = None
) -> Float[Tensor, "batch 1 y x"]:
    """A closed form f(y, x), its mean taken out, scaled to the given root mean square (None: as it is) and shifted by a
    random vector drawn from the seed; in the modes that the grid retains, by a transform on 512 × 512 cells."""
    fine = Grid((FINE, FINE), grid.length)
    y, x = fine.coordinates()
    spectrum = torch.fft.rfft2(shape(fine, y[:, None], x[None, :]), norm="forward")
    my, mx = (min(most, FINE // 3) for most in grid.max_modes)
    rows, columns = (torch.from_numpy(m).double() for m in mode_numbers(my, mx))
    modes = torch.cat([spectrum[-my:], spectrum[: my + 1]])[:, : mx + 1]
    modes = modes * torch.exp(-1j * math.pi * (rows + columns) / FINE)  # back from cell centres
    modes[my, 0] = 0
    shifts = [generator(seed).random(2) for seed in seeds]
    moved = torch.stack([modes * torch.exp(-2j * math.pi * (rows * s[0] + columns * s[1])) for s in shifts])
    scale = 1.0 if rms is None else torch.from_numpy(rms / root_mean_square(moved.numpy()))
    return sample_modes(moved * scale, grid)[:, None]


def taylor_green(grid: Grid, y: Tensor, x: Tensor) -> Tensor:
    """ω ∝ sin(kx) sin(ky), one wave across the box: decays as exp(−2νk²t) and does not move (Taylor & Green 1937)."""
    return torch.sin(2 * math.pi * x / grid.length[1]) * torch.sin(2 * math.pi * y / grid.length[0])


def double_shear_layer(grid: Grid, y: Tensor, x: Tensor, thickness: float = 1 / 30, nudge: float = 0.05) -> Tensor:
    """Two opposite layers at a quarter and three quarters of the height, u = ± tanh(distance / thickness), with a small
    wave in v, which they roll up on (Brown & Minion 1995, doi:10.1006/jcph.1995.1205, "thick" layers of ρ = 30)."""
    height, along = y / grid.length[0], x / grid.length[1]
    lower, upper = ((height - place) / thickness for place in (0.25, 0.75))
    layers = torch.where(height < 0.5, -(torch.cosh(lower) ** -2), torch.cosh(upper) ** -2) / thickness
    return layers + 2 * math.pi * nudge * torch.cos(2 * math.pi * along)


def vortex_merger(grid: Grid, y: Tensor, x: Tensor, core: float = 0.045, distance: float = 0.15) -> Tensor:
    """Two equal Gaussian vortices of radius `core` at a `distance`, in units of the shorter side: closer than some 3.3
    radii like-signed vortices merge (Meunier, Le Dizès & Leweke 2005, doi:10.1016/j.crhy.2005.06.003)."""
    unit = min(grid.length)
    centre_y, centre_x = grid.length[0] / 2, grid.length[1] / 2
    pair = [(x - centre_x + side * distance * unit / 2) ** 2 + (y - centre_y) ** 2 for side in (-1, 1)]
    return sum((torch.exp(-r2 / (core * unit) ** 2) for r2 in pair), torch.zeros((), dtype=torch.float64))


def lamb_chaplygin(grid: Grid, y: Tensor, x: Tensor, radius: float = 0.1) -> Tensor:
    """The dipole that moves along +x unchanged where viscosity is small: ω = −2 U b J₁(br) sin θ / J₀(ba) inside r = a,
    zero outside, ba = 3.8317 (Lamb 1932, §165; Meleshko & van Heijst 1994, doi:10.1017/S0022112094004428)."""
    root = 3.8317059702075125  # the first zero of J₁
    a = radius * min(grid.length)
    dx, dy = x - grid.length[1] / 2, y - grid.length[0] / 2
    r = torch.hypot(dx, dy)
    inside = -torch.special.bessel_j1(root * r / a) * dy / r.clamp(min=1e-300)
    return torch.where(r < a, inside / torch.special.bessel_j0(torch.tensor(root, dtype=torch.float64)), 0.0)


SHAPES: dict[str, Callable[[Grid, Tensor, Tensor], Tensor]] = {
    function.__name__: function for function in (taylor_green, double_shear_layer, vortex_merger, lamb_chaplygin)
}
