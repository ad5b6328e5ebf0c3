"""What a vorticity field says of its flow, and how it follows from the velocity, by exact spectral inversion and
derivatives on the periodic box; tensors in and out.

Nyquist modes, of which an odd derivative has no value, are left out, and so is the mean flow, which vorticity does not
hold. Every function raises ValueError for a field that is not (batch, component, y, x) on the grid.
"""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from solvers.grid import Grid

ScalarField = Float[Tensor, "batch 1 y x"]
Vector = Float[Tensor, "batch 2 y x"]


def stream_function(vorticity: ScalarField, grid: Grid) -> ScalarField:
    """ψ with ∇²ψ = −ω and zero mean."""
    return _synthesise(_stream(vorticity, grid), grid)


def velocity(vorticity: ScalarField, grid: Grid) -> Vector:
    """u = (∂ψ/∂y, −∂ψ/∂x): components x, y; the mean flow is zero."""
    _require(vorticity, grid, 1)
    spectrum = torch.fft.rfft2(vorticity)
    return _synthesise(velocity_multiplier(grid).to(spectrum) * spectrum, grid)


def vorticity(velocity: Vector, grid: Grid) -> ScalarField:
    """ω = ∂v/∂x − ∂u/∂y."""
    _require(velocity, grid, 2)
    ky, kx = _derivatives(grid, velocity)
    u, v = torch.fft.rfft2(velocity).split(1, dim=1)
    return _synthesise(kx * v - ky * u, grid)


def velocity_multiplier(grid: Grid) -> Complex[Tensor, "2 ky kx"]:
    """û = i ky ω̂/k², v̂ = −i kx ω̂/k²: complex128 on the CPU."""
    k2 = _square(grid)
    ky, kx = grid.odd_wavenumbers()
    return 1j * torch.stack(torch.broadcast_tensors(ky, -kx)) / k2.where(k2 > 0, 1.0)


def velocity_gradient(vorticity: ScalarField, grid: Grid) -> Float[Tensor, "batch 4 y x"]:
    """∂u/∂x, ∂u/∂y, ∂v/∂x, ∂v/∂y."""
    ky, kx = _derivatives(grid, vorticity)
    psi = _stream(vorticity, grid)
    return _synthesise(torch.cat([kx * ky * psi, ky * ky * psi, -kx * kx * psi, -kx * ky * psi], dim=1), grid)


def q_criterion(vorticity: ScalarField, grid: Grid) -> ScalarField:
    """Q = ½ (‖Ω‖² − ‖S‖²) = ∂u/∂x ∂v/∂y − ∂u/∂y ∂v/∂x: positive where rotation beats strain (Weiss 1991,
    doi:10.1016/0167-2789(91)90088-Q)."""
    ux, uy, vx, vy = velocity_gradient(vorticity, grid).split(1, dim=1)
    return ux * vy - uy * vx


def strain_rate(vorticity: ScalarField, grid: Grid) -> ScalarField:
    """√(2 S:S), S the symmetric part of the velocity gradient."""
    ux, uy, vx, _ = velocity_gradient(vorticity, grid).split(1, dim=1)
    return (4 * ux**2 + (uy + vx) ** 2).sqrt()


def pressure(vorticity: ScalarField, grid: Grid) -> ScalarField:
    """p / ρ with ∇²p = −∇·(u·∇u) = 2Q and zero mean; without a body force's share."""
    k2 = _square(grid).to(vorticity)
    q = torch.fft.rfft2(q_criterion(vorticity, grid))
    return _synthesise(torch.where(k2 > 0, -2 * q / k2.where(k2 > 0, 1.0), 0.0), grid)


def _require(field: Tensor, grid: Grid, components: int) -> None:
    """ValueError for another shape: a second field, or a batch without its components, would broadcast in silence."""
    if field.ndim != 4 or tuple(field.shape[1:]) != (components, *grid.n):
        raise ValueError(f"expected (batch, {components}, {grid.n[0]}, {grid.n[1]}); got {tuple(field.shape)}")


def _stream(vorticity: Tensor, grid: Grid) -> Tensor:
    _require(vorticity, grid, 1)
    k2 = _square(grid).to(vorticity)
    return torch.where(k2 > 0, torch.fft.rfft2(vorticity) / k2.where(k2 > 0, 1.0), 0.0)


def _square(grid: Grid) -> Tensor:
    ky, kx = grid.wavenumbers()
    return ky**2 + kx**2


def _derivatives(grid: Grid, like: Tensor) -> tuple[Tensor, Tensor]:
    """i ky and i kx."""
    ky, kx = grid.odd_wavenumbers()
    dtype = torch.complex128 if like.dtype == torch.float64 else torch.complex64
    return (1j * ky).to(like.device, dtype), (1j * kx).to(like.device, dtype)


def _synthesise(spectrum: Tensor, grid: Grid) -> Tensor:
    return torch.fft.irfft2(spectrum, s=grid.n)
