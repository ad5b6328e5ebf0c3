"""Shifts by any distance and rotations by any angle of periodic fields: symmetries that the lattice does not have.

A field stands for its trigonometric interpolant, which can be evaluated anywhere. A shift maps the periodic box onto
itself. A rotation does not, so that it has a meaning only for fields that are small outside a disc, in three dimensions
a ball, about the middle of the box, as `localise` makes them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

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
        Shape (..., y, x) or (..., z, y, x).
    cells : sequence of float
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


def disc_mask(grid: Grid, radius: float) -> Bool[Tensor, "*space"]:
    """Return which cells lie in a disc, or a ball, about the middle of the box.

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
    return reduce(torch.hypot, _from_the_middle(grid)) <= radius * min(grid.length)


def rotation_matrix(degrees: float, axis: Sequence[float]) -> Float[Tensor, "3 3"]:
    r"""Return the matrix of a rotation of space about an axis (Rodrigues' formula).

    .. math:: R = \cos\theta \, I + \sin\theta \, [e]_\times + (1 - \cos\theta) \, e e^T

    Parameters
    ----------
    degrees : float
        The angle θ, counter-clockwise.
    axis : sequence of float
        Direction (x, y, z) of the axis.

    Returns
    -------
    Tensor
        Shape (3, 3), acting on (x, y, z), float64.
    """
    angle = math.radians(degrees)
    c, s = math.cos(angle), math.sin(angle)
    x, y, z = (value / math.hypot(*axis) for value in axis)
    unit = torch.tensor([x, y, z], dtype=torch.float64)
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    return c * torch.eye(3, dtype=torch.float64) + s * cross + (1 - c) * torch.outer(unit, unit)


def rotate(
    fields: Sequence[FieldSpec],
    state: State,
    grid: Grid,
    rotation: float | Float[Tensor, "3 3"],
    where: Bool[Tensor, "*cells"],
) -> State:
    r"""Rotate fields by any angle about the middle of the box.

    .. math:: (g f)(x) = R f(R^{-1} x)

    The interpolant is evaluated exactly, mode by mode, in double precision: n⁴ operations for n² cells, n⁶ for n³. The
    components of vectors turn too; scalars of either parity do not change under rotations. Uniform fields keep their
    one value.

    Parameters
    ----------
    fields : sequence of FieldSpec
        The types of the fields, in order along the component axis.
    state : Tensor
        Shape (batch, component, y, x) or (batch, component, z, y, x).
    grid : Grid
        The grid.
    rotation : float or Tensor
        In two dimensions the angle in degrees, counter-clockwise; in three the matrix that acts on (x, y, z), which
        must be a proper rotation.
    where : Tensor
        Boolean, shape (y, x) or (z, y, x): the cells to compute; the others become zero.

    Returns
    -------
    Tensor
        Of the shape of `state`.

    Raises
    ------
    ValueError
        If the matrix of three dimensions is no rotation.
    """
    matrix = _rotation_matrix(rotation, grid)
    if all(count == 1 for count in state.shape[2:]):
        moved = state.double()
    else:
        centres = reversed(_from_the_middle(grid))  # x first
        points = torch.stack([c.expand(grid.n)[where] for c in centres])
        moved = torch.zeros_like(state, dtype=torch.float64)
        moved[..., where.to(state.device)] = _evaluate(state.double(), grid, matrix.T @ points)
    parts = moved.split([field.components for field in fields], dim=1)
    turned = [torch.einsum("ij,bj...->bi...", matrix.to(p.device), p) if field.order else p
              for field, p in zip(fields, parts, strict=True)]  # fmt: skip
    return torch.cat(turned, dim=1).to(state)


def localise(fields: Sequence[FieldSpec], state: State, grid: Grid) -> State:
    """Make fields small outside a disc, or a ball, about the middle of the box.

    Waves shorter than eight cells are removed, and the rest is multiplied by the window w = exp(−r²/2σ²), σ a tenth of
    the shortest side. For a vorticity, and for a solenoidal velocity through its vorticity, the window multiplies the
    stream function, ω = −∇²(w ψ), in three dimensions the vector potential, u = ∇×(w ψ), so that the velocity ends
    with the window and stays free of divergence; otherwise the far field of a vortex would feel the shape of the box.
    Uniform fields stay as they are.

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
    if all(count == 1 for count in state.shape[2:]):
        return state
    first, *others = (k**2 for k in grid.wavenumbers())
    square = sum(others, start=first)
    keep = square.sqrt() <= CUTOFF * math.pi / max(grid.spacing)
    first, *others = (c**2 for c in _from_the_middle(grid))
    window = torch.exp(-0.5 * sum(others, start=first) / (WINDOW_WIDTH * min(grid.length)) ** 2)
    parts = []
    for field, part in zip(fields, state.double().split([f.components for f in fields], dim=1), strict=True):
        spectrum = torch.fft.rfftn(part, dim=grid.dims) * keep.to(part.device)
        smooth = torch.fft.irfftn(spectrum, s=grid.n, dim=grid.dims)
        is_vorticity = field.name == VORTICITY.name
        if not is_vorticity and not field.solenoidal:
            parts.append(window.to(part) * smooth)
            continue
        potential = window.to(part) * stream_function(smooth if is_vorticity else vorticity(smooth, grid), grid)
        if grid.dimensions == 3:
            flow = vorticity(potential, grid)  # the curl
            parts.append(vorticity(flow, grid) if is_vorticity else flow)
            continue
        psi = torch.fft.rfft2(potential)
        swirl = torch.fft.irfft2(square.to(part) * psi, s=grid.n)
        parts.append(swirl if is_vorticity else velocity(swirl, grid))
    return torch.cat(parts, dim=1).to(state)


def _rotation_matrix(rotation: float | Tensor, grid: Grid) -> Float[Tensor, "i i"]:
    """Return the matrix of a rotation, float64."""
    if isinstance(rotation, Tensor):
        matrix = rotation.to("cpu", torch.float64)
        if grid.dimensions == 2 or not _is_rotation(matrix):
            raise ValueError("rotation must be an angle in two dimensions, and a proper rotation matrix in three")
        return matrix
    if grid.dimensions == 3:
        raise ValueError("rotation must be a matrix of shape (3, 3) in three dimensions")
    angle = math.radians(rotation)
    rows = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    return torch.tensor(rows, dtype=torch.float64)


def _is_rotation(matrix: Tensor) -> bool:
    orthogonal = torch.allclose(matrix @ matrix.T, torch.eye(len(matrix), dtype=matrix.dtype), rtol=0, atol=1e-9)
    return orthogonal and float(torch.linalg.det(matrix)) > 0


def _from_the_middle(grid: Grid) -> tuple[Float[Tensor, "..."], ...]:
    """Return the coordinates of the cell centres, measured from the middle of the box, shaped to broadcast."""
    return tuple(c - side / 2 for c, side in zip(grid.mesh(), grid.length, strict=True))


def _evaluate(
    values: State, grid: Grid, points: Float[Tensor, "axis point"]
) -> Float[Tensor, "batch component point"]:  # fmt: skip
    """Evaluate the interpolant at points (x, y) or (x, y, z), measured from the middle, without the Nyquist modes."""
    wavenumbers = [k.flatten() for k in grid.odd_wavenumbers()]
    firsts = [float(c.flatten()[0]) for c in _from_the_middle(grid)]
    spectrum = torch.fft.rfftn(values, dim=grid.dims, norm="forward")
    weights = [torch.ones_like(k) for k in wavenumbers]
    weights[-1][1:] = 2.0  # a half spectrum holds each pair ±kx once
    for weight, count in zip(weights, grid.n, strict=True):
        weight[count // 2] = 0.0
    read = []
    for part in points.split(POINTS_AT_ONCE if grid.dimensions == 2 else POINTS_AT_ONCE // 16, dim=1):
        # Axis by axis: first the first, over whose modes there is one sum for each point, then the others by pairs.
        waves = [(weight * torch.exp(1j * k * (at[:, None] - first))).to(spectrum.device)
                 for weight, k, first, at in zip(weights, wavenumbers, firsts, part.flip(0), strict=True)]  # fmt: skip
        summed = torch.einsum("pk,bck...->bcp...", waves[0], spectrum)
        for wave in waves[1:-1]:
            summed = torch.einsum("pk,bcpk...->bcp...", wave, summed)
        read.append((summed * waves[-1]).sum(-1).real)
    return torch.cat(read, dim=-1)
