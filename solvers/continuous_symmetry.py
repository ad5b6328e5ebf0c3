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


def shift(values: Float[Tensor, "..."], cells: Sequence[float]) -> Float[Tensor, "..."]:
    """Shift fields by any number of cells: f(x) becomes f(x − a).

    Whole cells are a roll of the array; otherwise the spectrum is multiplied by exp(−i k·a). The Nyquist modes become
    what the real interpolant says, of which a cosine is left. Uniform fields stay as they are.

    Parameters
    ----------
    values : Tensor
        Shape (..., y, x), or (..., z, y, x) for a shift in three dimensions.
    cells : sequence of float
        The shift a along (y, x) or (z, y, x), in cells.

    Returns
    -------
    Tensor
        Of the same shape.
    """
    dims = tuple(range(-len(cells), 0))
    n = tuple(values.shape[-len(cells) :])
    if set(n) == {1}:
        return values
    if all(float(c).is_integer() for c in cells):
        return values.roll(tuple(int(c) for c in cells), dims)
    factor = torch.ones((), dtype=torch.complex128)
    for axis, (count, cell) in zip(dims, zip(n, cells, strict=True), strict=True):
        fft = torch.fft.rfftfreq if axis == -1 else torch.fft.fftfreq
        phase = torch.exp(-2j * math.pi * cell * fft(count, dtype=torch.float64))
        phase[count // 2] = phase[count // 2].real.clone()
        factor = factor * phase.reshape(-1, *(1 for _ in range(-1 - axis)))
    spectrum = torch.fft.rfftn(values.double(), dim=dims)
    return torch.fft.irfftn(spectrum * factor.to(spectrum.device), s=n, dim=dims).to(values)


def disc_mask(grid: Grid, radius: float) -> Bool[Tensor, "*space"]:
    """Return which cells lie in a disc, in three dimensions in a ball, about the middle of the box.

    Parameters
    ----------
    grid : Grid
        The grid.
    radius : float
        Radius of the disc as a fraction of the shortest side.

    Returns
    -------
    Tensor
        Boolean, shape (y, x) or (z, y, x): true for cells whose centres lie in the disc.
    """
    first, *others = _from_the_middle(grid)
    for coordinate in others:
        first = torch.hypot(first, coordinate)
    return first <= radius * min(grid.length)


def rotation_matrix(degrees: float, axis: Sequence[float] | None = None) -> Float[Tensor, "row column"]:
    r"""Return the matrix of a rotation of the plane or, about an axis, of space (Rodrigues' formula).

    .. math:: R = \cos\theta \, I + \sin\theta \, [e]_\times + (1 - \cos\theta) \, e e^T

    Parameters
    ----------
    degrees : float
        The angle θ, counter-clockwise.
    axis : sequence of float, optional
        Direction (x, y, z) of the axis; none for a rotation of the plane.

    Returns
    -------
    Tensor
        Shape (2, 2) on (x, y), or (3, 3) on (x, y, z), float64.
    """
    angle = math.radians(degrees)
    c, s = math.cos(angle), math.sin(angle)
    if axis is None:
        return torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    x, y, z = (value / math.hypot(*axis) for value in axis)
    unit = torch.tensor([x, y, z], dtype=torch.float64)
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    return c * torch.eye(3, dtype=torch.float64) + s * cross + (1 - c) * torch.outer(unit, unit)


def rotate(
    fields: Sequence[FieldSpec],
    state: State,
    grid: Grid,
    degrees: float,
    where: Bool[Tensor, "*cells"],
    axis: Sequence[float] | None = None,
) -> State:
    r"""Rotate fields by any angle about the middle of the box.

    .. math:: (g f)(x) = R f(R^{-1} x)

    The interpolant is evaluated exactly, mode by mode, in double precision: n⁴ operations for n² cells, and n⁶ for n³.
    The components of vectors turn too; scalars of either parity do not change under rotations. Uniform fields keep
    their one value.

    Parameters
    ----------
    fields : sequence of FieldSpec
        The types of the fields, in order along the component axis.
    state : Tensor
        Shape (batch, component, y, x) or (batch, component, z, y, x).
    grid : Grid
        The grid.
    degrees : float
        The angle, counter-clockwise.
    where : Tensor
        Boolean, shape (y, x) or (z, y, x): the cells to compute; the others become zero.
    axis : sequence of float, optional
        Direction (x, y, z) of the axis in three dimensions; by default the z axis.

    Returns
    -------
    Tensor
        Of the shape of `state`.
    """
    matrix = rotation_matrix(degrees, None if grid.dimensions == 2 else axis or (0.0, 0.0, 1.0))
    if set(state.shape[2:]) == {1}:
        moved = state.double()
    else:
        points = torch.stack([c.expand(grid.n)[where] for c in reversed(_from_the_middle(grid))])
        moved = torch.zeros_like(state, dtype=torch.float64)
        moved[..., where.to(state.device)] = _evaluate(state.double(), grid, matrix.T @ points)
    parts = moved.split([field.components for field in fields], dim=1)
    turned = [torch.einsum("ij,bj...->bi...", matrix.to(p.device), p) if field.order else p
              for field, p in zip(fields, parts, strict=True)]  # fmt: skip
    return torch.cat(turned, dim=1).to(state)


def localise(fields: Sequence[FieldSpec], state: State, grid: Grid) -> State:
    """Make fields small outside a disc about the middle of the box.

    Waves shorter than eight cells are removed, and the rest is multiplied by the window w = exp(−r²/2σ²), σ a tenth of
    the shorter side. For a vorticity, and for a solenoidal velocity through its vorticity, the window multiplies the
    stream function, ω = −∇²(w ψ), in three dimensions the vector potential. So the velocity ends with the window and
    stays free of divergence; otherwise the far field of a vortex would feel the shape of the box. Uniform fields stay
    as they are.

    Parameters
    ----------
    fields : sequence of FieldSpec
        The types of the fields, in order along the component axis.
    state : Tensor
        Shape (batch, component, y, x) or (batch, component, z, y, x).
    grid : Grid
        The grid.

    Returns
    -------
    Tensor
        Of the shape of `state`.
    """
    if set(state.shape[2:]) == {1}:
        return state
    square, distance2 = (
        sum((v**2 for v in others), start=first**2) for first, *others in (grid.wavenumbers(), _from_the_middle(grid))
    )
    keep = square.sqrt() <= CUTOFF * math.pi / max(grid.spacing)
    window = torch.exp(-0.5 * distance2 / (WINDOW_WIDTH * min(grid.length)) ** 2)

    def forward(values: Tensor) -> Tensor:
        return torch.fft.rfftn(values, dim=grid.dims)

    def inverse(spectrum: Tensor) -> Tensor:
        return torch.fft.irfftn(spectrum, s=grid.n, dim=grid.dims)

    parts = []
    for field, part in zip(fields, state.double().split([f.components for f in fields], dim=1), strict=True):
        smooth = inverse(forward(part) * keep.to(part.device))
        if field.name == VORTICITY.name or field.solenoidal:
            swirl = vorticity(smooth, grid) if field.solenoidal else smooth
            psi = forward(window.to(part) * stream_function(swirl, grid))
            swirl = inverse(square.to(part) * psi)
            parts.append(velocity(swirl, grid) if field.solenoidal else swirl)
        else:
            parts.append(window.to(part) * smooth)
    return torch.cat(parts, dim=1).to(state)


def _from_the_middle(grid: Grid) -> tuple[Float[Tensor, "..."], ...]:
    """Return the coordinates of the cell centres, measured from the middle of the box, to broadcast against a field."""
    return tuple(c - side / 2 for c, side in zip(grid.mesh(), grid.length, strict=True))


def _evaluate(values: State, grid: Grid, points: Float[Tensor, "axis point"]) -> Float[Tensor, "batch component point"]:
    """Evaluate the interpolant at points (x, y) or (x, y, z), measured from the middle, without the Nyquist modes."""
    wavenumbers = [k.flatten() for k in grid.wavenumbers()]
    corner = [c.flatten()[0] for c in _from_the_middle(grid)]
    spectrum = torch.fft.rfftn(values, dim=grid.dims, norm="forward")
    twice = torch.full_like(wavenumbers[-1], 2.0)  # a half spectrum holds each pair ±kx once
    twice[0], twice[-1] = 1.0, 0.0
    for axis in grid.dims[:-1]:
        spectrum.select(axis, grid.n[axis] // 2).zero_()
    read = []
    for part in points.split(max(1, POINTS_AT_ONCE // math.prod(grid.n[1:-1])), dim=1):
        # One row of phases for each point, on each axis of the array: (y, x) or (z, y, x).
        phases = [torch.exp(1j * k * (at[:, None] - first)).to(spectrum.device)
                  for k, at, first in zip(wavenumbers, part.flip(0), corner, strict=True)]  # fmt: skip
        phases[-1] = twice.to(spectrum.device) * phases[-1]
        rows = torch.einsum("pk,bck...->bcp...", phases[0], spectrum)
        for phase in phases[1:-1]:
            rows = (rows * phase.reshape(*phase.shape, *(1 for _ in range(rows.ndim - 4)))).sum(3)
        read.append((rows * phases[-1]).sum(-1).real)
    return torch.cat(read, dim=-1)
