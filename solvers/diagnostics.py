"""Fields derived from a two-dimensional vorticity field: velocity, stream function, strain, pressure.

Inversions and derivatives are spectral, exact on the periodic box; tensors go in and come out. Nyquist modes, of which
an odd derivative has no value, are left out, and so is the mean flow, which vorticity does not determine. Every
function raises ValueError for a field that is not of shape (batch, component, y, x) on the grid.
"""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from solvers.array_types import ScalarField, VectorField
from solvers.grid import Grid


def stream_function(vorticity: ScalarField, grid: Grid) -> ScalarField:
    r"""Compute the stream function of a vorticity.

    .. math:: \nabla^2 \psi = -\omega

    Parameters
    ----------
    vorticity : Tensor
        Shape (batch, 1, y, x), in 1/s.
    grid : Grid
        The grid.

    Returns
    -------
    Tensor
        Stream function ψ with zero mean, of the same shape, in m²/s.
    """
    return _to_field(_stream_spectrum(vorticity, grid), grid)


def velocity(vorticity: ScalarField, grid: Grid) -> VectorField:
    r"""Compute the velocity of a vorticity.

    .. math:: u = (\partial_y \psi, -\partial_x \psi), \qquad \nabla^2 \psi = -\omega

    Parameters
    ----------
    vorticity : Tensor
        Shape (batch, 1, y, x), in 1/s.
    grid : Grid
        The grid.

    Returns
    -------
    Tensor
        Components x and y, shape (batch, 2, y, x), in m/s; their means are zero.

    Examples
    --------
    >>> import torch
    >>> from solvers import Grid, velocity
    >>> grid = Grid.square(16)
    >>> y, x = grid.coordinates()
    >>> vorticity = torch.cos(y)[:, None].expand(16, 16)[None, None]
    >>> u, v = velocity(vorticity, grid)[0]
    >>> torch.allclose(u, -torch.sin(y)[:, None].expand(16, 16)), bool(v.abs().max() < 1e-12)
    (True, True)
    """
    _require_shape(vorticity, grid, 1)
    spectrum = torch.fft.rfft2(vorticity)
    return _to_field(velocity_multiplier(grid).to(spectrum) * spectrum, grid)


def vorticity(velocity: VectorField, grid: Grid) -> ScalarField:
    r"""Compute the vorticity of a velocity.

    .. math:: \omega = \partial_x v - \partial_y u

    Parameters
    ----------
    velocity : Tensor
        Components x and y, shape (batch, 2, y, x), in m/s.
    grid : Grid
        The grid.

    Returns
    -------
    Tensor
        Shape (batch, 1, y, x), in 1/s.
    """
    _require_shape(velocity, grid, 2)
    ky, kx = _derivative_multipliers(grid, velocity)
    u, v = torch.fft.rfft2(velocity).split(1, dim=1)
    return _to_field(kx * v - ky * u, grid)


def velocity_multiplier(grid: Grid) -> Complex[Tensor, "2 ky kx"]:
    r"""Return the Fourier multiplier from vorticity to velocity.

    .. math:: \hat u = i k_y \hat\omega / k^2, \qquad \hat v = -i k_x \hat\omega / k^2

    Parameters
    ----------
    grid : Grid
        The grid.

    Returns
    -------
    Tensor
        Shape (2, ky, kx), complex128 on the CPU, zero for k = 0.
    """
    k2 = _k_squared(grid)
    ky, kx = grid.odd_wavenumbers()
    return 1j * torch.stack(torch.broadcast_tensors(ky, -kx)) / k2.where(k2 > 0, 1.0)


def velocity_gradient(vorticity: ScalarField, grid: Grid) -> Float[Tensor, "batch 4 y x"]:
    """Compute the gradient of the velocity.

    Parameters
    ----------
    vorticity : Tensor
        Shape (batch, 1, y, x), in 1/s.
    grid : Grid
        The grid.

    Returns
    -------
    Tensor
        ∂u/∂x, ∂u/∂y, ∂v/∂x and ∂v/∂y, shape (batch, 4, y, x), in 1/s.
    """
    ky, kx = _derivative_multipliers(grid, vorticity)
    psi = _stream_spectrum(vorticity, grid)
    return _to_field(torch.cat([kx * ky * psi, ky * ky * psi, -kx * kx * psi, -kx * ky * psi], dim=1), grid)


def q_criterion(vorticity: ScalarField, grid: Grid) -> ScalarField:
    r"""Compute the Q criterion, positive where rotation exceeds strain.

    .. math::

        Q = \tfrac{1}{2} \left( \|\Omega\|^2 - \|S\|^2 \right)
          = \partial_x u \, \partial_y v - \partial_y u \, \partial_x v

    Source: Weiss 1991, doi:10.1016/0167-2789(91)90088-Q.

    Parameters
    ----------
    vorticity : Tensor
        Shape (batch, 1, y, x), in 1/s.
    grid : Grid
        The grid.

    Returns
    -------
    Tensor
        Of the same shape, in 1/s².
    """
    ux, uy, vx, vy = velocity_gradient(vorticity, grid).split(1, dim=1)
    return ux * vy - uy * vx


def strain_rate(vorticity: ScalarField, grid: Grid) -> ScalarField:
    r"""Compute the magnitude of the rate-of-strain tensor.

    .. math:: \sqrt{2 \, S : S}

    Here S is the symmetric part of the velocity gradient.

    Parameters
    ----------
    vorticity : Tensor
        Shape (batch, 1, y, x), in 1/s.
    grid : Grid
        The grid.

    Returns
    -------
    Tensor
        Of the same shape, in 1/s.
    """
    ux, uy, vx, _ = velocity_gradient(vorticity, grid).split(1, dim=1)
    return (4 * ux**2 + (uy + vx) ** 2).sqrt()


def pressure(vorticity: ScalarField, grid: Grid) -> ScalarField:
    r"""Compute the pressure divided by the density.

    .. math:: \nabla^2 p = -\nabla \cdot (u \cdot \nabla u) = 2 Q

    What a body force contributes is left out.

    Parameters
    ----------
    vorticity : Tensor
        Shape (batch, 1, y, x), in 1/s.
    grid : Grid
        The grid.

    Returns
    -------
    Tensor
        With zero mean, of the same shape, in m²/s².
    """
    k2 = _k_squared(grid).to(vorticity)
    q = torch.fft.rfft2(q_criterion(vorticity, grid))
    return _to_field(torch.where(k2 > 0, -2 * q / k2.where(k2 > 0, 1.0), 0.0), grid)


def _require_shape(field: Tensor, grid: Grid, components: int) -> None:
    """Raise ValueError for another shape: a second field, or a batch without components, would broadcast unnoticed."""
    if field.ndim != 4 or tuple(field.shape[1:]) != (components, *grid.n):
        raise ValueError(f"expected (batch, {components}, {grid.n[0]}, {grid.n[1]}); got {tuple(field.shape)}")


def _stream_spectrum(vorticity: Tensor, grid: Grid) -> Tensor:
    _require_shape(vorticity, grid, 1)
    k2 = _k_squared(grid).to(vorticity)
    return torch.where(k2 > 0, torch.fft.rfft2(vorticity) / k2.where(k2 > 0, 1.0), 0.0)


def _k_squared(grid: Grid) -> Tensor:
    ky, kx = grid.wavenumbers()
    return ky**2 + kx**2


def _derivative_multipliers(grid: Grid, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return i ky and i kx in the precision and on the device of a field."""
    ky, kx = grid.odd_wavenumbers()
    dtype = torch.complex128 if like.dtype == torch.float64 else torch.complex64
    return (1j * ky).to(like.device, dtype), (1j * kx).to(like.device, dtype)


def _to_field(spectrum: Tensor, grid: Grid) -> Tensor:
    return torch.fft.irfft2(spectrum, s=grid.n)
