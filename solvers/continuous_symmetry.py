"""Shifts by any distance and rotations by any angle of periodic fields: symmetries that the lattice does not have.

A field stands for its trigonometric interpolant, which can be evaluated anywhere. A shift maps the periodic box onto
itself. A rotation does not, so that it has a meaning only for fields that are small outside a disc about the middle of
the box, as `localise` makes them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from solvers.array_types import State
from solvers.diagnostics import stream_function, velocity, vorticity
from solvers.fields import VORTICITY, FieldSpec
from solvers.grid import Grid

WINDOW_WIDTH = 0.1  # of the Gaussian, over the shorter side: 4e-6 of its maximum half a side away
CUTOFF = 0.25  # of the largest wavenumber: the window widens the spectrum, which must stay isotropic within the grid's
POINTS_AT_ONCE = 4096  # to bound memory


def shift(values: Float[Tensor, "..."], cells: tuple[float, ...]) -> Float[Tensor, "..."]:
    """Shift fields by any number of cells: f(x) becomes f(x − a).

    Whole cells are a roll of the array; otherwise the spectrum is multiplied by exp(−i k·a). The Nyquist modes become
    what the real interpolant says, of which a cosine is left. Uniform fields stay as they are.

    Parameters
    ----------
    values : Tensor
        Shape (..., y, x) or (..., z, y, x).
    cells : tuple of float
        The shift a along (y, x) or (z, y, x), in cells.

    Returns
    -------
    Tensor
        Of the same shape.
    """
    dims, n = tuple(range(-len(cells), 0)), tuple(values.shape[-len(cells) :])
    if n == (1,) * len(cells):
        return values
    if all(float(c).is_integer() for c in cells):
        return values.roll([int(c) for c in cells], dims)
    phases = []
    for axis, (count, cell) in enumerate(zip(n, cells, strict=True)):
        fft = torch.fft.rfftfreq if axis == len(n) - 1 else torch.fft.fftfreq
        phase = torch.exp(-2j * math.pi * cell * fft(count, dtype=torch.float64))
        phase[count // 2] = phase[count // 2].real.clone()
        phases.append(phase.reshape([-1 if i == axis else 1 for i in range(len(n))]))
    factor = math.prod(phases[1:], start=phases[0])
    spectrum = torch.fft.rfftn(values.double(), dim=dims)
    return torch.fft.irfftn(spectrum * factor.to(spectrum.device), s=n, dim=dims).to(values)


def disc_mask(grid: Grid, radius: float) -> Bool[Tensor, "y x"]:
    """Return which cells lie in a disc about the middle of the box.

    Parameters
    ----------
    grid : Grid
        The grid.
    radius : float
        Radius of the disc as a fraction of the shorter side.

    Returns
    -------
    Tensor
        Boolean, shape (y, x): true for cells whose centres lie in the disc.
    """
    y, x = _from_the_middle(grid)
    return torch.hypot(y[:, None], x[None, :]) <= radius * min(grid.length)


def rotate(
    fields: Sequence[FieldSpec], state: State, grid: Grid, degrees: float, where: Bool[Tensor, "ny nx"]
) -> State:
    r"""Rotate fields by any angle about the middle of the box.

    .. math:: (g f)(x) = R f(R^{-1} x)

    The interpolant is evaluated exactly, mode by mode, in double precision: n⁴ operations for n² cells. The components
    of vectors turn too; scalars of either parity do not change under rotations. Uniform fields keep their one value.

    Parameters
    ----------
    fields : sequence of FieldSpec
        The types of the fields, in order along the component axis.
    state : Tensor
        Shape (batch, component, y, x).
    grid : Grid
        The grid.
    degrees : float
        The angle, counter-clockwise.
    where : Tensor
        Boolean, shape (y, x): the cells to compute; the others become zero.

    Returns
    -------
    Tensor
        Of the shape of `state`.
    """
    angle = math.radians(degrees)
    rows = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    matrix = torch.tensor(rows, dtype=torch.float64)
    if state.shape[-2:] == (1, 1):
        moved = state.double()
    else:
        y, x = _from_the_middle(grid)
        points = torch.stack([x.expand(grid.n)[where], y[:, None].expand(grid.n)[where]])
        moved = torch.zeros_like(state, dtype=torch.float64)
        moved[..., where.to(state.device)] = _evaluate(state.double(), grid, matrix.T @ points)
    parts = moved.split([field.components for field in fields], dim=1)
    turned = [torch.einsum("ij,bjyx->biyx", matrix.to(p.device), p) if field.order else p
              for field, p in zip(fields, parts, strict=True)]  # fmt: skip
    return torch.cat(turned, dim=1).to(state)


def localise(fields: Sequence[FieldSpec], state: State, grid: Grid) -> State:
    """Make fields small outside a disc about the middle of the box.

    Waves shorter than eight cells are removed, and the rest is multiplied by the window w = exp(−r²/2σ²), σ a tenth of
    the shorter side. For a vorticity, and for a solenoidal velocity through its vorticity, the window multiplies the
    stream function, ω = −∇²(w ψ), so that the velocity ends with the window and stays free of divergence; otherwise the
    far field of a vortex would feel the shape of the box. Uniform fields stay as they are.

    Parameters
    ----------
    fields : sequence of FieldSpec
        The types of the fields, in order along the component axis.
    state : Tensor
        Shape (batch, component, y, x).
    grid : Grid
        The grid.

    Returns
    -------
    Tensor
        Of the shape of `state`.
    """
    if state.shape[-2:] == (1, 1):
        return state
    ky, kx = grid.wavenumbers()
    square = ky**2 + kx**2
    keep = square.sqrt() <= CUTOFF * math.pi / max(grid.spacing)
    y, x = _from_the_middle(grid)
    window = torch.exp(-0.5 * (y[:, None] ** 2 + x[None, :] ** 2) / (WINDOW_WIDTH * min(grid.length)) ** 2)
    parts = []
    for field, part in zip(fields, state.double().split([f.components for f in fields], dim=1), strict=True):
        smooth = torch.fft.irfft2(torch.fft.rfft2(part) * keep.to(part.device), s=grid.n)
        if field.name == VORTICITY.name or field.solenoidal:
            swirl = vorticity(smooth, grid) if field.solenoidal else smooth
            psi = torch.fft.rfft2(window.to(part) * stream_function(swirl, grid))
            swirl = torch.fft.irfft2(square.to(part) * psi, s=grid.n)
            parts.append(velocity(swirl, grid) if field.solenoidal else swirl)
        else:
            parts.append(window.to(part) * smooth)
    return torch.cat(parts, dim=1).to(state)


def _from_the_middle(grid: Grid) -> tuple[Float[Tensor, " y"], Float[Tensor, " x"]]:
    """Return the coordinates of the cell centres, measured from the middle of the box."""
    y, x = grid.coordinates()
    return y - grid.length[0] / 2, x - grid.length[1] / 2


def _evaluate(values: State, grid: Grid, points: Float[Tensor, "2 point"]) -> Float[Tensor, "batch component point"]:
    """Evaluate the interpolant at points (x, y), measured from the middle, without the Nyquist modes."""
    ky, kx = (k.flatten() for k in grid.wavenumbers())
    first_y, first_x = (c[0] for c in _from_the_middle(grid))
    spectrum = torch.fft.rfft2(values, norm="forward")
    twice = torch.full_like(kx, 2.0)  # a half spectrum holds each pair ±kx once
    twice[0], twice[-1] = 1.0, 0.0
    spectrum[..., grid.n[0] // 2, :] = 0
    read = []
    for part in points.split(POINTS_AT_ONCE, dim=1):
        in_x = twice * torch.exp(1j * kx * (part[0][:, None] - first_x))
        in_y = torch.exp(1j * ky * (part[1][:, None] - first_y))
        rows = torch.einsum("py,bcyx->bcpx", in_y.to(spectrum.device), spectrum)
        read.append((rows * in_x.to(rows.device)).sum(-1).real)
    return torch.cat(read, dim=-1)
