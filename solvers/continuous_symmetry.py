"""Shifts by any distance and turns by any angle of periodic, band-limited fields: what the lattice does not hold.

A field stands for its trigonometric interpolant, which may be read anywhere. A shift maps the periodic box onto itself;
a turn does not, so that it means something only for what is `localised`: small outside a disc about the middle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from solvers.diagnostics import stream_function, velocity, vorticity
from solvers.fields import VORTICITY, FieldSpec
from solvers.grid import Grid

WIDTH = 0.1  # of the Gaussian window, over the shorter side: 4e-6 of its top half a side away
CUT = 0.25  # of the largest wavenumber: the window widens the spectrum, which must stay round within the grid's
POINTS = 4096  # read at once, to bound memory

Fields = Float[Tensor, "batch component y x"]


def shift(values: Float[Tensor, "*batch y x"], cells: tuple[float, float]) -> Float[Tensor, "*batch y x"]:
    """f(x) → f(x − a), a by `cells` as (y, x): a roll for whole cells, else exp(−i k·a) on the spectrum.

    Of a Nyquist mode a part of a cell keeps what the real interpolant says, its cosine. Uniform fields stay.
    """
    if values.shape[-2:] == (1, 1):
        return values
    if all(float(c).is_integer() for c in cells):
        return values.roll((int(cells[0]), int(cells[1])), (-2, -1))
    n = (values.shape[-2], values.shape[-1])
    phases = []
    for count, cell, fft in zip(n, cells, (torch.fft.fftfreq, torch.fft.rfftfreq), strict=True):
        phase = torch.exp(-2j * math.pi * cell * fft(count, dtype=torch.float64))
        phase[count // 2] = phase[count // 2].real.clone()
        phases.append(phase)
    factor = phases[0][:, None] * phases[1][None, :]
    spectrum = torch.fft.rfft2(values.double())
    return torch.fft.irfft2(spectrum * factor.to(spectrum.device), s=n).to(values)


def disc(grid: Grid, radius: float) -> Bool[Tensor, "y x"]:
    """The cells whose centres lie within `radius`, a fraction of the shorter side, of the middle of the box."""
    y, x = _from_the_middle(grid)
    return torch.hypot(y[:, None], x[None, :]) <= radius * min(grid.length)


def rotate(
    fields: Sequence[FieldSpec], state: Fields, grid: Grid, degrees: float, where: Bool[Tensor, "ny nx"]
) -> Fields:
    """(g f)(x) = R f(R⁻¹ x), R a turn by `degrees` counter-clockwise about the middle, at the cells `where`; else 0.

    The interpolant is read exactly, mode by mode, in double precision: n⁴ operations for n² cells. The components of
    vectors turn too; scalars of either parity do not change under rotations. Uniform fields keep their one value.
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
        moved[..., where.to(state.device)] = _read(state.double(), grid, matrix.T @ points)
    parts = moved.split([field.components for field in fields], dim=1)
    turned = [torch.einsum("ij,bjyx->biyx", matrix.to(p.device), p) if field.order else p
              for field, p in zip(fields, parts, strict=True)]  # fmt: skip
    return torch.cat(turned, dim=1).to(state)


def localised(fields: Sequence[FieldSpec], state: Fields, grid: Grid) -> Fields:
    """The state without its waves shorter than eight cells, times exp(−r²/2σ²), σ a tenth of the shorter side.

    Of a vorticity, and of a solenoidal velocity through its vorticity, it is the stream function that the window
    multiplies, ω = −∇²(w ψ), so that the velocity ends with the window and stays free of divergence; the far field of
    a vortex would feel the shape of the box. Uniform fields stay as they are.
    """
    if state.shape[-2:] == (1, 1):
        return state
    ky, kx = grid.wavenumbers()
    square = ky**2 + kx**2
    keep = square.sqrt() <= CUT * math.pi / max(grid.spacing)
    y, x = _from_the_middle(grid)
    window = torch.exp(-0.5 * (y[:, None] ** 2 + x[None, :] ** 2) / (WIDTH * min(grid.length)) ** 2)
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
    y, x = grid.coordinates()
    return y - grid.length[0] / 2, x - grid.length[1] / 2


def _read(values: Fields, grid: Grid, points: Float[Tensor, "2 point"]) -> Float[Tensor, "batch component point"]:
    """The interpolant at `points` (x, y) from the middle, without the Nyquist modes."""
    ky, kx = (k.flatten() for k in grid.wavenumbers())
    first_y, first_x = (c[0] for c in _from_the_middle(grid))
    spectrum = torch.fft.rfft2(values, norm="forward")
    twice = torch.full_like(kx, 2.0)  # a half spectrum holds each pair ±kx once
    twice[0], twice[-1] = 1.0, 0.0
    spectrum[..., grid.n[0] // 2, :] = 0
    read = []
    for part in points.split(POINTS, dim=1):
        in_x = twice * torch.exp(1j * kx * (part[0][:, None] - first_x))
        in_y = torch.exp(1j * ky * (part[1][:, None] - first_y))
        rows = torch.einsum("py,bcyx->bcpx", in_y.to(spectrum.device), spectrum)
        read.append((rows * in_x.to(rows.device)).sum(-1).real)
    return torch.cat(read, dim=-1)
