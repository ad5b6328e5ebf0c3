"""Shifts by parts of a cell and turns by any rotation in three dimensions, against functions known in closed form."""

import math

import pytest
import torch
from flows_3d import distance, mesh, random_field

from solvers import TRACER, VELOCITY, VISCOSITY, VORTICITY, Grid, diagnostics, field_in
from solvers.continuous_symmetry import disc_mask, localise, rotate, rotation_matrix, shift

GRID = Grid((20, 16, 18), (2.5, 2.0, 2.25))  # cubic cells, no cube
FIELDS = (field_in(TRACER, 3), field_in(VELOCITY, 3))


def turn(axis, degrees):
    """Rodrigues' formula."""
    x, y, z = torch.tensor(axis, dtype=torch.float64) / math.hypot(*axis)
    k = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    angle = math.radians(degrees)
    return torch.eye(3, dtype=torch.float64) + math.sin(angle) * k + (1 - math.cos(angle)) * (k @ k)


def lump(x, y, z):
    """Without any symmetry, and nothing where the box ends."""
    return (1 + 2 * x - 3 * y * z) * torch.exp(-((x - 0.03) ** 2 + 1.3 * (y + 0.02) ** 2 + 1.1 * z**2) / 0.06)


@pytest.mark.parametrize("cells", [(1, 0, -3), (0.5, 0, 0), (0.25, -1.3, 2.6)])
def test_a_shift_moves_the_function(cells):
    def wave(x, y, z):
        two_pi = 2 * math.pi
        return torch.cos(two_pi * (3 * x / 2.25 + 2 * y / 2.0 - z / 2.5) + 0.4) + torch.sin(two_pi * 2 * z / 2.5)

    moved = shift(wave(*mesh(GRID))[None, None], cells)[0, 0]
    distances = [c * d for c, d in zip(reversed(cells), reversed(GRID.spacing), strict=True)]
    assert distance(moved, wave(*mesh(GRID, distances))) < 1e-12


@pytest.mark.parametrize(("axis", "degrees"), [((0, 0, 1), 90.0), ((1, 2, 3), 37.0), ((-1, 0.5, 0), -120.0)])
def test_rotations_are_counter_clockwise_about_their_axis(axis, degrees):
    matrix = rotation_matrix(degrees, axis)
    assert distance(matrix, turn(axis, degrees)) < 1e-14
    direction = torch.tensor(axis, dtype=torch.float64)
    assert distance(matrix @ direction, direction) < 1e-14
    if axis == (0, 0, 1):
        assert (
            distance(matrix @ torch.tensor([1.0, 0, 0], dtype=torch.float64), torch.eye(3, dtype=torch.float64)[1])
            < 1e-14
        )


@pytest.mark.parametrize("rotation", [turn((0, 0, 1), 90), turn((1, 2, 3), 37.0), turn((-1, 0.5, 0), -120)])
def test_a_turn_turns_the_function_and_the_components_of_vectors(rotation):
    middle = [side / 2 for side in reversed(GRID.length)]
    x, y, z = mesh(GRID, middle)
    state = torch.stack([lump(x, y, z), lump(y, z, x), lump(z, x, -y), lump(-x, y, z)])[None]
    where = disc_mask(GRID, 0.48)
    turned = rotate(FIELDS, state, GRID, rotation, where)[0]
    back = torch.einsum("ji,jzyx->izyx", rotation, torch.stack([x, y, z]))
    x, y, z = back
    vector = torch.einsum("ij,jzyx->izyx", rotation, torch.stack([lump(y, z, x), lump(z, x, -y), lump(-x, y, z)]))
    expected = torch.cat([lump(*back)[None], vector]) * where
    assert float((turned - expected).abs().max()) < 2e-3 * float(expected.abs().max())  # tails, and few cells
    assert distance(turned, expected) < 1e-3
    assert distance(rotate(FIELDS, state, GRID, rotation.T, where)[0], expected) > 0.1
    uniform = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64).reshape(1, 3, 1, 1, 1)
    assert distance(rotate(FIELDS[1:], uniform, GRID, rotation, where).flatten(), rotation @ uniform.flatten()) < 1e-14
    assert float(rotate([field_in(VISCOSITY, 3)], torch.full((1, 1, 1, 1, 1), 3.0), GRID, rotation, where)) == 3.0


@pytest.mark.parametrize("name", ["velocity", "vorticity"])
def test_a_localised_flow_ends_before_the_box_does(name):
    grid = Grid.cube(16)
    u = random_field(grid, reach=2)
    field = field_in(VELOCITY if name == "velocity" else VORTICITY, 3)
    lumps = localise([field], u if name == "velocity" else diagnostics.vorticity(u, grid), grid)
    flow = lumps if name == "velocity" else diagnostics.velocity(lumps, grid)
    beyond = ~disc_mask(grid, 0.47)
    assert flow[..., beyond].abs().max() < 2e-3 * flow.abs().max()
    assert lumps[..., beyond].abs().max() < 5e-3 * lumps.abs().max()
    gradient = diagnostics.velocity_gradient(lumps, grid)
    assert (gradient[:, 0] + gradient[:, 4] + gradient[:, 8]).abs().max() < 1e-12 * gradient.abs().max()


def test_what_is_no_rotation_is_refused():
    where = disc_mask(GRID, 0.4)
    state = random_field(GRID)
    with pytest.raises(ValueError, match="must be a matrix"):
        rotate(FIELDS[1:], state, GRID, 30.0, where)
    with pytest.raises(ValueError, match="proper rotation"):
        rotate(FIELDS[1:], state, GRID, -torch.eye(3, dtype=torch.float64), where)
