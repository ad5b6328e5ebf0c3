"""Initial fields of the flows: functions of space and of a seed, whatever the number of cells."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from solvers.array_types import ScalarField
from solvers.grid import Grid, sample_modes
from solvers.random_modes import Seed, gaussian_modes, mode_numbers, random_generator, root_mean_square

FINE_CELLS = 512  # cells on a side on which a closed form is expanded in Fourier modes

ClosedForm = Callable[[Grid, Tensor, Tensor], Tensor]  # of the grid (for its box), y and x


def require_resolution(grid: Grid, reach: float) -> None:
    """Raise an error for modes beyond what any grid of that size has, before memory is taken for them.

    Parameters
    ----------
    grid : Grid
        The grid.
    reach : float
        The largest wavenumber, in waves across the shorter side of the box.

    Raises
    ------
    ValueError
        If there are more waves than cells.
    """
    if not reach <= max(grid.n):
        raise ValueError(f"the grid is too coarse for modes up to {reach:g}; take a larger n or a lower wavenumber")


def random_band_field(
    grid: Grid,
    seeds: Sequence[Seed],
    wavenumber: float,
    bandwidth: float,
    rms: float,
    layering: float = 0.0,
    axis: tuple[float, ...] = (0.0, 1.0),
) -> Float[Tensor, "batch 1 *space"]:
    r"""Draw Gaussian random fields in a band of wavenumbers, statistically isotropic or layered.

    .. math::

        f(x) = \sum_k a_k e^{i k \cdot x} e^{-\beta (1 - (\hat k \cdot n)^2)}, \qquad
        E|a_k|^2 \propto e^{-(|k| - k_0)^2 / b^2}

    The coefficients a_k are complex normal; they vanish at k = 0 and further than 2b from k₀. The fields are isotropic
    for β = 0; larger β leave wavevectors along n alone: layers across n. The fields depend on the seed and the shape of
    the box only.

    Parameters
    ----------
    grid : Grid
        The grid.
    seeds : sequence of int or tuple of int
        One field is drawn for each.
    wavenumber : float
        The centre k₀ of the band, in waves across the shorter side of the box.
    bandwidth : float
        The standard deviation b, in the same units.
    rms : float
        Root mean square of each field.
    layering : float
        The exponent β ≥ 0.
    axis : tuple of float
        The vector n as (x, y) or (x, y, z), of any length; it counts if `layering` is not 0.

    Returns
    -------
    Tensor
        Shape (batch, 1, y, x) or (batch, 1, z, y, x), float64.

    Raises
    ------
    ValueError
        If the grid does not retain the band, or the band holds no mode.
    """
    amplitude = band_amplitude(grid, wavenumber, bandwidth)
    if layering:
        amplitude = amplitude * layering_factor(unit_wavevectors(amplitude, grid), layering, axis)
    fields = gaussian_modes(amplitude, seeds)
    scale = rms / root_mean_square(fields, grid.dimensions)
    return sample_modes(torch.from_numpy(fields * scale), grid)[:, None]


def band_amplitude(grid: Grid, wavenumber: float, bandwidth: float) -> np.ndarray:
    """Return the amplitudes of Fourier modes in a Gaussian band of wavenumbers.

    Parameters
    ----------
    grid : Grid
        The grid.
    wavenumber : float
        The centre k₀ of the band, in waves across the shortest side of the box.
    bandwidth : float
        The standard deviation b of the power, in the same units; modes further than 2b from k₀ are zero.

    Returns
    -------
    numpy.ndarray
        Shape (2 My + 1, Mx + 1) or (2 Mz + 1, 2 My + 1, Mx + 1), no larger than the band needs: the layout of
        `solvers.random_modes.mode_numbers`.

    Raises
    ------
    ValueError
        If the grid does not retain the band, or the band holds no mode.
    """
    shorter = min(grid.length)
    reach = wavenumber + 2 * bandwidth
    require_resolution(grid, reach)
    if not bandwidth**2 > 0:
        raise ValueError(f"no wavenumbers within wavenumber = {wavenumber} ± 2 bandwidth = {bandwidth}; widen the band")
    if any(math.floor(reach * side / shorter) > most for most, side in zip(grid.max_modes, grid.length, strict=True)):
        raise ValueError(f"the grid is too coarse for modes up to {reach:g}; take a larger n or a lower wavenumber")
    numbers = mode_numbers(*(math.ceil(reach * side / shorter) for side in grid.length))
    magnitude = reduce(np.hypot, (m * shorter / side for m, side in zip(numbers, grid.length, strict=True)))
    amplitude = np.exp(-((magnitude - wavenumber) ** 2) / (2 * bandwidth**2))
    amplitude[(np.abs(magnitude - wavenumber) > 2 * bandwidth) | (magnitude == 0)] = 0.0
    if not amplitude.any():
        raise ValueError(f"no wavenumbers within wavenumber = {wavenumber} ± 2 bandwidth = {bandwidth}; widen the band")
    most = [int(np.abs(m * (amplitude > 0)).max()) for m in numbers]
    middle = [slice(n // 2 - m, n // 2 + m + 1) for n, m in zip(amplitude.shape[:-1], most[:-1], strict=True)]
    return amplitude[(*middle, slice(0, most[-1] + 1))]


def unit_wavevectors(amplitude: np.ndarray, grid: Grid) -> np.ndarray:
    """Return the directions of the wavevectors of Fourier modes.

    Parameters
    ----------
    amplitude : numpy.ndarray
        The amplitudes of the modes, from `band_amplitude`.
    grid : Grid
        Gives the box.

    Returns
    -------
    numpy.ndarray
        Unit vectors k̂, components (x, y) or (x, y, z) first, then the shape of `amplitude`; zero where that is zero.
    """
    largest = [m // 2 for m in amplitude.shape[:-1]] + [amplitude.shape[-1] - 1]
    k = np.stack(np.broadcast_arrays(*(m / side for m, side in zip(mode_numbers(*largest), grid.length, strict=True))))
    return k[::-1] / np.where(amplitude > 0, np.sqrt((k**2).sum(0)), math.inf)


def layering_factor(directions: np.ndarray, layering: float, axis: Sequence[float]) -> np.ndarray:
    r"""Return the factor that leaves the modes whose wavevectors lie along an axis.

    .. math:: e^{-\beta (1 - (\hat k \cdot n)^2)}

    Parameters
    ----------
    directions : numpy.ndarray
        The unit vectors k̂, components first: from `unit_wavevectors`.
    layering : float
        The exponent β ≥ 0.
    axis : sequence of float
        The vector n, of any length.

    Returns
    -------
    numpy.ndarray
        The shape of `directions` without the components.
    """
    along = np.tensordot(np.asarray(axis) / math.hypot(*axis), directions, 1)
    return np.exp(-layering * (1 - along**2))


def closed_form_field(form: ClosedForm, grid: Grid, seeds: Sequence[int], rms: float | None = None) -> ScalarField:
    """Return a closed form without its mean, shifted by a random vector for each seed.

    It is expanded in Fourier modes on 512 × 512 cells, of which those that the grid retains are kept.

    Parameters
    ----------
    form : callable
        The function f(grid, y, x).
    grid : Grid
        The grid.
    seeds : sequence of int
        One shift is drawn for each seed.
    rms : float, optional
        Root mean square of each field; None: as the closed form has it.

    Returns
    -------
    Tensor
        Shape (batch, 1, y, x), float64.
    """
    fine = Grid((FINE_CELLS, FINE_CELLS), grid.length)
    y, x = fine.coordinates()
    spectrum = torch.fft.rfft2(form(fine, y[:, None], x[None, :]), norm="forward")
    my, mx = (min(most, FINE_CELLS // 3) for most in grid.max_modes)
    rows, columns = (torch.from_numpy(m).double() for m in mode_numbers(my, mx))
    modes = torch.cat([spectrum[-my:], spectrum[: my + 1]])[:, : mx + 1]
    modes = modes * torch.exp(-1j * math.pi * (rows + columns) / FINE_CELLS)  # back from cell centres
    modes[my, 0] = 0
    shifts = [random_generator(seed).random(2) for seed in seeds]
    moved = torch.stack([modes * torch.exp(-2j * math.pi * (rows * s[0] + columns * s[1])) for s in shifts])
    scale = 1.0 if rms is None else torch.from_numpy(rms / root_mean_square(moved.numpy()))
    return sample_modes(moved * scale, grid)[:, None]


def taylor_green(grid: Grid, y: Tensor, x: Tensor) -> Tensor:
    """Return the vorticity of Taylor–Green vortices, ω ∝ sin(kx) sin(ky), one wave across the box.

    They decay as exp(−2νk²t) and do not move. Source: Taylor & Green 1937, doi:10.1098/rspa.1937.0036.

    Parameters
    ----------
    grid : Grid
        Gives the box.
    y, x : Tensor
        Coordinates, broadcastable.

    Returns
    -------
    Tensor
        The vorticity, up to a factor.
    """
    return torch.sin(2 * math.pi * x / grid.length[1]) * torch.sin(2 * math.pi * y / grid.length[0])


def double_shear_layer(grid: Grid, y: Tensor, x: Tensor, thickness: float = 1 / 30, nudge: float = 0.05) -> Tensor:
    """Return the vorticity of two opposite shear layers with a small wave, on which they roll up.

    The layers lie at a quarter and three quarters of the height, u = ± tanh(distance / thickness). Source: Brown &
    Minion 1995, doi:10.1006/jcph.1995.1205, "thick" layers of ρ = 30.

    Parameters
    ----------
    grid : Grid
        Gives the box.
    y, x : Tensor
        Coordinates, broadcastable.
    thickness : float
        Thickness of a layer, as a fraction of the height.
    nudge : float
        Amplitude of the wave in v.

    Returns
    -------
    Tensor
        The vorticity, up to a factor.
    """
    height, along = y / grid.length[0], x / grid.length[1]
    lower, upper = ((height - place) / thickness for place in (0.25, 0.75))
    layers = torch.where(height < 0.5, -(torch.cosh(lower) ** -2), torch.cosh(upper) ** -2) / thickness
    return layers + 2 * math.pi * nudge * torch.cos(2 * math.pi * along)


def vortex_merger(grid: Grid, y: Tensor, x: Tensor, core: float = 0.045, distance: float = 0.15) -> Tensor:
    """Return the vorticity of two equal Gaussian vortices.

    Like-signed vortices closer than about 3.3 radii merge (Meunier, Le Dizès & Leweke 2005,
    doi:10.1016/j.crhy.2005.06.003).

    Parameters
    ----------
    grid : Grid
        Gives the box.
    y, x : Tensor
        Coordinates, broadcastable.
    core : float
        Radius of a vortex, as a fraction of the shorter side.
    distance : float
        Distance between the centres, as a fraction of the shorter side.

    Returns
    -------
    Tensor
        The vorticity, up to a factor.
    """
    unit = min(grid.length)
    centre_y, centre_x = grid.length[0] / 2, grid.length[1] / 2
    pair = [(x - centre_x + side * distance * unit / 2) ** 2 + (y - centre_y) ** 2 for side in (-1, 1)]
    return sum((torch.exp(-r2 / (core * unit) ** 2) for r2 in pair), torch.zeros((), dtype=torch.float64))


def lamb_chaplygin(grid: Grid, y: Tensor, x: Tensor, radius: float = 0.1) -> Tensor:
    r"""Return the vorticity of the Lamb–Chaplygin dipole, which moves along +x without changing its shape.

    .. math:: \omega = -2 U b \, J_1(b r) \sin\theta / J_0(b a) \quad (r < a), \qquad b a = 3.8317

    Outside r = a the vorticity is zero; viscosity is small. Sources: Lamb 1932, §165; Meleshko & van Heijst 1994,
    doi:10.1017/S0022112094004428.

    Parameters
    ----------
    grid : Grid
        Gives the box.
    y, x : Tensor
        Coordinates, broadcastable.
    radius : float
        The radius a, as a fraction of the shorter side.

    Returns
    -------
    Tensor
        The vorticity, up to a factor.
    """
    root = 3.8317059702075125  # the first zero of J₁
    a = radius * min(grid.length)
    dx, dy = x - grid.length[1] / 2, y - grid.length[0] / 2
    r = torch.hypot(dx, dy)
    inside = -torch.special.bessel_j1(root * r / a) * dy / r.clamp(min=1e-300)
    return torch.where(r < a, inside / torch.special.bessel_j0(torch.tensor(root, dtype=torch.float64)), 0.0)


CLOSED_FORMS: dict[str, ClosedForm] = {
    form.__name__: form for form in (taylor_green, double_shear_layer, vortex_merger, lamb_chaplygin)
}
