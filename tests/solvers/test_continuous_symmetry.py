"""Shifts by parts of a cell and turns by any angle, against functions known in closed form."""

import math

import numpy as np
import pytest
import torch

from solvers import TRACER, VELOCITY, VISCOSITY, VORTICITY, Grid
from solvers.continuous_symmetry import disc_mask, localise, rotate, shift
from solvers.spectra import kinetic_energy

GRID = Grid((48, 64), (3.0, 4.0))  # square cells, no square box


def points(grid):
    y, x = (c.numpy() for c in grid.coordinates())
    return np.meshgrid(y, x, indexing="ij")


def as_state(*components):
    return torch.from_numpy(np.stack(components)[None])


def waves(y, x):
    return np.cos(2 * math.pi * (3 * x / 4 + 2 * y / 3) + 0.4) + np.sin(2 * math.pi * 5 * y / 3) + 0.7


def lump(y, x):
    """Without any symmetry, and nothing where the box ends; y and x from the middle."""
    return (1 + 2 * x - 3 * y * x) * np.exp(-((x - 0.1) ** 2 + 1.5 * (y + 0.05) ** 2) / 0.06)


@pytest.mark.parametrize("cells", [(0, 1), (3, 5), (-2, 0), (0, 0.5), (0.5, 0), (0.5, 0.5), (1.25, -2.3)])
def test_a_shift_moves_the_function(cells):
    y, x = points(GRID)
    dy, dx = GRID.spacing
    moved = shift(as_state(waves(y, x)), cells)[0, 0]
    np.testing.assert_allclose(moved, waves(y - cells[0] * dy, x - cells[1] * dx), atol=1e-12)


def test_shifts_keep_precision_and_uniform_fields():
    values = torch.randn(2, 1, 8, 8)
    assert shift(values, (0.5, 0)).dtype == torch.float32
    assert torch.equal(shift(values, (3, 2)), values.roll((3, 2), (-2, -1)))
    assert torch.equal(shift(torch.ones(2, 2, 1, 1), (1, 0.5)), torch.ones(2, 2, 1, 1))


def test_half_a_cell_leaves_of_a_nyquist_mode_what_the_cosine_leaves():
    alternating = (-1.0) ** torch.arange(8, dtype=torch.float64).expand(1, 1, 8, 8)
    assert float(shift(alternating, (0, 0.5)).abs().max()) < 1e-14
    third = shift(alternating, (0, 1 / 3))
    np.testing.assert_allclose(third, math.cos(math.pi / 3) * alternating, atol=1e-14)


@pytest.mark.parametrize("degrees", [0.0, 15.0, 37.0, 90.0, -120.0])
def test_a_turn_turns_the_function_and_the_components_of_vectors(degrees):
    y, x = points(GRID)
    y, x = y - 1.5, x - 2.0
    state = as_state(lump(y, x), lump(x, y), np.zeros_like(x) + lump(y, -x))
    where = disc_mask(GRID, 0.5)
    assert where[24, 32]
    assert not where[0, 0]
    turned = rotate([TRACER, VELOCITY], state, GRID, degrees, where)[0].numpy()
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    back_x, back_y = c * x + s * y, -s * x + c * y
    scalar, u, v = lump(back_y, back_x), lump(back_x, back_y), lump(back_y, -back_x)
    expected = np.stack([scalar, c * u - s * v, s * u + c * v]) * where.numpy()
    np.testing.assert_allclose(turned, expected, atol=2e-6)  # the lump's tail at the edge of the disc
    uniform = rotate([VELOCITY], torch.tensor([1.0, 2.0])[None, :, None, None], GRID, degrees, where)
    np.testing.assert_allclose(uniform.flatten(), [c - 2 * s, s + 2 * c], rtol=1e-6)
    assert float(rotate([VISCOSITY], torch.full((1, 1, 1, 1), 3.0), GRID, degrees, where)) == 3.0


@pytest.mark.parametrize("field", [TRACER, VORTICITY], ids=lambda field: field.name)
def test_what_is_localised_ends_before_the_box_does(field):
    grid = Grid.square(32)
    state = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 1, 32, 32)))
    lumps = localise([field], state, grid)
    assert lumps[..., ~disc_mask(grid, 0.48)].abs().max() < 1e-3 * lumps.abs().max()
    spectrum = torch.fft.rfft2(lumps).abs()
    my, mx = grid.modes()
    assert spectrum[..., torch.hypot(my, mx) > 14].max() < 1e-4 * spectrum.max()


def test_a_localised_vortex_has_no_far_field():
    """Half its energy would be beyond the window if the vorticity itself were cut."""
    grid = Grid.square(32)
    state = torch.from_numpy(np.random.default_rng(1).standard_normal((1, 1, 32, 32)))
    lumps = localise([VORTICITY], state, grid)
    assert abs(float(lumps.mean())) < 1e-15
    ky, kx = grid.wavenumbers()
    k2 = ky**2 + kx**2
    psi = torch.fft.irfft2(torch.where(k2 > 0, torch.fft.rfft2(lumps) / k2.where(k2 > 0, 1.0), 0.0))
    uv = [torch.fft.irfft2(1j * k * torch.fft.rfft2(psi)) for k in (ky, kx)]
    speed = torch.hypot(*uv)
    assert speed[..., ~disc_mask(grid, 0.45)].max() < 1e-3 * speed.max()
    assert float(kinetic_energy(lumps, grid.length)) > 0
