"""Fields derived from the vorticity or the velocity of a flow: stream function, strain, pressure, helicity.

Inversions and derivatives are spectral, exact on the periodic box; tensors go in and come out. Nyquist modes, of which
an odd derivative has no value, are left out, and so is the mean flow, which vorticity does not determine. In two
dimensions a flow is given by its vorticity, of one component, in three by its velocity, since its vorticity is a vector
too. Every function raises ValueError for a field that is not of
shape (batch, component, y, x) or (batch, component, z, y, x) on the grid.
"""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from solvers.array_types import FlowField, ScalarField, VectorField
from solvers.grid import Grid
from solvers.validation import require_dimensions


def stream_function(vorticity: FlowField, grid: Grid) -> FlowField:
    r"""Compute the stream function of a vorticity, in three dimensions the vector potential.

    .. math:: \nabla^2 \psi = -\omega

    Parameters
    ----------
    vorticity : Tensor
        Shape (batch, 1, y, x) or (batch, 3, z, y, x), in 1/s.
    grid : Grid
        The grid.

    Returns
    -------
    Tensor
        Stream function ψ with zero mean, of the same shape, in m²/s.
    """
    return _to_field(_stream_spectrum(vorticity, grid), grid)


def velocity(vorticity: FlowField, grid: Grid) -> VectorField:
    r"""Compute the velocity of a vorticity.

    .. math:: u = (\partial_y \psi, -\partial_x \psi), \qquad \nabla^2 \psi = -\omega

    and in three dimensions :math:`u = \nabla \times \psi`.

    Parameters
    ----------
    vorticity : Tensor
        Shape (batch, 1, y, x) or (batch, 3, z, y, x), in 1/s.
    grid : Grid
        The grid.

    Returns
    -------
    Tensor
        Components x and y (and z), shape (batch, 2, y, x) or (batch, 3, z, y, x), in m/s; their means are zero.

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
    if grid.dimensions == 3:
        return _to_field(_curl(_stream_spectrum(vorticity, grid), grid), grid)
    _require_shape(vorticity, grid, 1)
    spectrum = torch.fft.rfft2(vorticity)
    return _to_field(velocity_multiplier(grid).to(spectrum) * spectrum, grid)


def vorticity(velocity: VectorField, grid: Grid) -> FlowField:
    r"""Compute the vorticity of a velocity.

    .. math:: \omega = \nabla \times u, \qquad \text{in two dimensions} \quad \omega = \partial_x v - \partial_y u

    Parameters
    ----------
    velocity : Tensor
        Components x and y (and z), shape (batch, 2, y, x) or (batch, 3, z, y, x), in m/s.
    grid : Grid
        The grid.

    Returns
    -------
    Tensor
        Shape (batch, 1, y, x) or (batch, 3, z, y, x), in 1/s.
    """
    _require_shape(velocity, grid, grid.dimensions)
    return _to_field(_curl(torch.fft.rfftn(velocity, dim=grid.dims), grid), grid)


def helicity(velocity: VectorField, grid: Grid) -> ScalarField:
    r"""Compute the helicity density of a flow in three dimensions, a pseudoscalar.

    .. math:: h = u \cdot \omega

    Its mean is conserved without viscosity and forcing. Source: Moffatt 1969, doi:10.1017/S0022112069000991.

    Parameters
    ----------
    velocity : Tensor
        Shape (batch, 3, z, y, x), in m/s.
    grid : Grid
        The grid, in three dimensions.

    Returns
    -------
    Tensor
        Shape (batch, 1, z, y, x), in m/s².
    """
    require_dimensions("helicity", grid, 3, "it is zero in two dimensions")
    return (velocity * vorticity(velocity, grid)).sum(1, keepdim=True)


def velocity_multiplier(grid: Grid) -> Complex[Tensor, "2 ky kx"]:
    r"""Return the Fourier multiplier from vorticity to velocity in two dimensions.

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


def velocity_gradient(flow: FlowField, grid: Grid) -> Float[Tensor, "batch gradient *space"]:
    r"""Compute the gradient of the velocity.

    Parameters
    ----------
    flow : Tensor
        In two dimensions the vorticity, shape (batch, 1, y, x), in 1/s; in three the velocity, shape
        (batch, 3, z, y, x), in m/s.
    grid : Grid
        The grid.

    Returns
    -------
    Tensor
        ∂u/∂x, ∂u/∂y, ∂v/∂x and ∂v/∂y, shape (batch, 4, y, x), in 1/s. In three dimensions the nine ∂u_i/∂x_j, those of
        u first and then those of v and w, shape (batch, 9, z, y, x).
    """
    k = _derivative_multipliers(grid, flow)[::-1]
    if grid.dimensions == 2:
        kx, ky = k
        psi = _stream_spectrum(flow, grid)
        return _to_field(torch.cat([kx * ky * psi, ky * ky * psi, -kx * kx * psi, -kx * ky * psi], dim=1), grid)
    _require_shape(flow, grid, 3)
    components = torch.fft.rfftn(flow, dim=grid.dims).split(1, dim=1)
    return _to_field(torch.cat([along * component for component in components for along in k], dim=1), grid)


def q_criterion(flow: FlowField, grid: Grid) -> ScalarField:
    r"""Compute the Q criterion, positive where rotation exceeds strain.

    .. math::

        Q = \tfrac{1}{2} \left( \|\Omega\|^2 - \|S\|^2 \right)
          = \sum_{i < j} (\partial_i u_i \, \partial_j u_j - \partial_j u_i \, \partial_i u_j)

    for a velocity without divergence. Sources: Weiss 1991, doi:10.1016/0167-2789(91)90088-Q; Hunt, Wray & Moin 1988,
    Report CTR-S88 of the Center for Turbulence Research, p. 193.

    Parameters
    ----------
    flow : Tensor
        In two dimensions the vorticity, shape (batch, 1, y, x), in 1/s; in three the velocity, shape
        (batch, 3, z, y, x), in m/s.
    grid : Grid
        The grid.

    Returns
    -------
    Tensor
        Shape (batch, 1, y, x) or (batch, 1, z, y, x), in 1/s².
    """
    gradient = _gradient_rows(flow, grid)
    first, *others = (
        gradient[i][i] * gradient[j][j] - gradient[i][j] * gradient[j][i]
        for i, j in itertools.combinations(range(grid.dimensions), 2)
    )
    return sum(others, start=first)


def strain_rate(flow: FlowField, grid: Grid) -> ScalarField:
    r"""Compute the magnitude of the rate-of-strain tensor.

    .. math:: \sqrt{2 \, S : S}

    Here S is the symmetric part of the velocity gradient.

    Parameters
    ----------
    flow : Tensor
        In two dimensions the vorticity, shape (batch, 1, y, x), in 1/s; in three the velocity, shape
        (batch, 3, z, y, x), in m/s.
    grid : Grid
        The grid.

    Returns
    -------
    Tensor
        Shape (batch, 1, y, x) or (batch, 1, z, y, x), in 1/s.
    """
    gradient = _gradient_rows(flow, grid)
    axes = range(grid.dimensions)
    first, *others = (2 * gradient[i][i] ** 2 for i in axes)
    shear = ((gradient[i][j] + gradient[j][i]) ** 2 for i, j in itertools.combinations(axes, 2))
    return sum([*others, *shear], start=first).sqrt()


def pressure(flow: FlowField, grid: Grid) -> ScalarField:
    r"""Compute the pressure divided by the density.

    .. math:: \nabla^2 p = -\nabla \cdot (u \cdot \nabla u) = 2 Q

    What a body force contributes is left out.

    Parameters
    ----------
    flow : Tensor
        In two dimensions the vorticity, shape (batch, 1, y, x), in 1/s; in three the velocity, shape
        (batch, 3, z, y, x), in m/s.
    grid : Grid
        The grid.

    Returns
    -------
    Tensor
        With zero mean, shape (batch, 1, y, x) or (batch, 1, z, y, x), in m²/s².
    """
    k2 = _k_squared(grid).to(flow)
    q = torch.fft.rfftn(q_criterion(flow, grid), dim=grid.dims)
    return _to_field(torch.where(k2 > 0, -2 * q / k2.where(k2 > 0, 1.0), 0.0), grid)


def _gradient_rows(flow: FlowField, grid: Grid) -> list[tuple[Tensor, ...]]:
    """Return the gradients of the components, each as a tuple over the directions x, y (and z)."""
    parts = velocity_gradient(flow, grid).split(1, dim=1)
    return [parts[i : i + grid.dimensions] for i in range(0, len(parts), grid.dimensions)]


def _require_shape(field: Tensor, grid: Grid, components: int) -> None:
    """Raise ValueError for another shape: a second field, or a batch without components, would broadcast unnoticed."""
    if field.ndim != grid.dimensions + 2 or tuple(field.shape[1:]) != (components, *grid.n):
        expected = ", ".join(map(str, (components, *grid.n)))
        raise ValueError(f"expected (batch, {expected}); got {tuple(field.shape)}")


def _stream_spectrum(vorticity: Tensor, grid: Grid) -> Tensor:
    _require_shape(vorticity, grid, 1 if grid.dimensions == 2 else 3)
    k2 = _k_squared(grid).to(vorticity)
    return torch.where(k2 > 0, torch.fft.rfftn(vorticity, dim=grid.dims) / k2.where(k2 > 0, 1.0), 0.0)


def _curl(spectrum: Tensor, grid: Grid) -> Tensor:
    """Return the coefficients of the curl of a vector field: one component in two dimensions, three in three."""
    if grid.dimensions == 2:
        ky, kx = _derivative_multipliers(grid, spectrum)
        u, v = spectrum.split(1, dim=1)
        return kx * v - ky * u
    kz, ky, kx = _derivative_multipliers(grid, spectrum)
    u, v, w = spectrum.unbind(1)
    return torch.stack([ky * w - kz * v, kz * u - kx * w, kx * v - ky * u], dim=1)


def _k_squared(grid: Grid) -> Tensor:
    first, *others = (k**2 for k in grid.wavenumbers())
    return sum(others, start=first)


def _derivative_multipliers(grid: Grid, like: Tensor) -> tuple[Tensor, ...]:
    """Return i ky and i kx, after i kz in three dimensions, in the precision and on the device of a field."""
    dtype = torch.complex128 if like.dtype in (torch.float64, torch.complex128) else torch.complex64
    return tuple((1j * k).to(like.device, dtype) for k in grid.odd_wavenumbers())


def _to_field(spectrum: Tensor, grid: Grid) -> Tensor:
    return torch.fft.irfftn(spectrum, s=grid.n, dim=grid.dims)
