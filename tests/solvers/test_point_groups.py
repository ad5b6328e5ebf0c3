"""The point groups of the cube, and the action of their elements on fields in space."""

import itertools

import pytest
import torch

from solvers import (
    GROUPS,
    TRACER,
    VELOCITY,
    VORTICITY,
    FieldSpec,
    Grid,
    act,
    field_in,
    generate_group,
    group_named,
    point_group,
    resample,
    subgroups,
)
from solvers.grid import sample_modes
from solvers.point_groups import stabiliser
from solvers.symmetry import move

OH = GROUPS[3]["Oh"]
ORDERS = {"C1": 1, "Ci": 2, "C2": 2, "C3": 3, "C4": 4, "D2": 4, "D4": 8, "C2h": 4, "C4v": 8, "D2h": 8, "D4h": 16,
          "T": 12, "Th": 24, "O": 24, "Oh": 48}  # fmt: skip
FIELDS = [
    field_in(TRACER, 3),
    FieldSpec("helicity", 0, -1, dimensions=3),
    field_in(VELOCITY, 3),
    field_in(VORTICITY, 3),
]
every_field = pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)


def noise(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_orders_are_those_of_the_tables():
    assert {name: len(group) for name, group in GROUPS[3].items()} == ORDERS


def test_elements_of_oh_are_all_signed_permutations():
    expected = set()
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            expected.add(tuple(tuple(signs[i] * (order[i] == j) for j in range(3)) for i in range(3)))
    assert {g.matrix for g in OH} == expected
    assert all(g.determinant == round(float(torch.linalg.det(torch.tensor(g.matrix).double()))) for g in OH)


def test_names_are_distinct_and_say_what_an_element_is():
    names = [g.name for g in OH]
    assert len(set(names)) == 48
    by_matrix = {g.matrix: g.name for g in OH}
    assert by_matrix[(0, -1, 0), (1, 0, 0), (0, 0, 1)] == "rotation 90 about z"
    assert by_matrix[(0, 0, 1), (1, 0, 0), (0, 1, 0)] == "rotation 120 about x+y+z"
    assert by_matrix[(-1, 0, 0), (0, 1, 0), (0, 0, 1)] == "mirror x"
    assert by_matrix[(0, 1, 0), (1, 0, 0), (0, 0, 1)] == "mirror x-y"
    assert by_matrix[(-1, 0, 0), (0, -1, 0), (0, 0, -1)] == "inversion"


@pytest.mark.parametrize("name", ORDERS)
def test_products_and_inverses_stay_in_the_group(name):
    group = group_named(name, 3)
    assert group.elements[0].name == "identity"
    assert all(group.product(g, group.inverse(g)) == group.elements[0] for g in group)
    assert all(group.product(g, h) in group.elements for g in group for h in group)
    for subgroup in subgroups(group):
        rows = group.restriction(subgroup)
        assert sorted(itertools.chain(*rows)) == list(range(len(group)))


def test_an_unknown_name_lists_those_of_space():
    with pytest.raises(ValueError, match=r"unknown group 'p4m' in three dimensions; one of C1, .*Oh"):
        group_named("p4m", 3)


@every_field
def test_action_is_a_homomorphism_with_elements_that_do_not_commute(field):
    values = noise(2, field.components, 8, 8, 8)
    for g, h in itertools.product(OH.elements[::5], OH.elements[::7]):
        together = act(field, values, OH.product(g, h))
        assert torch.equal(act(field, act(field, values, h), g), together)


@every_field
def test_action_is_the_representation_times_the_move(field):
    """The control: the wrong parity disagrees for every mirror."""
    wrong = FieldSpec("wrong", field.order, -field.parity, dimensions=3)
    values = noise(field.components, 4, 6, 8)
    for g in OH:
        expected = torch.einsum("ij,j...->i...", g.representation(field), move(values, g))
        assert torch.equal(act(field, values, g), expected)
        assert torch.equal(act(wrong, values, g), expected) == (g.determinant > 0)


def test_moved_samples_are_those_of_the_rotated_function():
    """Coordinates about the centre of a box that is no cube: f(g⁻¹ x) at every cell."""
    grid = Grid((12, 8, 10), (1.2, 0.8, 1.0))
    z, y, x = (c - side / 2 for c, side in zip(grid.coordinates(), grid.length, strict=True))
    field = x[None, None, :] + 10 * y[None, :, None] + 100 * z[:, None, None] + x**2
    for g in OH:
        matrix = torch.tensor(g.matrix).double()
        sides = [(x, y, z)[i] for i in g.sources]
        new = torch.stack(torch.meshgrid(*reversed(sides), indexing="ij"))  # (z, y, x) of the moved box
        old = torch.einsum("ji,j...->i...", matrix, new.flip(0))
        expected = old[0] + 10 * old[1] + 100 * old[2] + old[0] ** 2
        assert torch.allclose(move(field, g), expected, atol=1e-12)


def test_curl_of_a_velocity_transforms_as_a_pseudovector():
    """Central differences of a random field; with the parity of a vector every mirror fails."""

    def curl(u):
        def derivative(component, axis):
            return u[component].roll(-1, axis) - u[component].roll(1, axis)

        x, y, z = -1, -2, -3
        return torch.stack(
            [
                derivative(2, y) - derivative(1, z),
                derivative(0, z) - derivative(2, x),
                derivative(1, x) - derivative(0, y),
            ]
        )

    velocity, vorticity = field_in(VELOCITY, 3), field_in(VORTICITY, 3)
    u = noise(3, 8, 8, 8)
    for g in OH:
        after = curl(act(velocity, u, g))
        assert torch.allclose(after, act(vorticity, curl(u), g), atol=1e-12)
        assert torch.allclose(after, act(velocity, curl(u), g), atol=1e-2) == (g.determinant > 0)


def test_point_group_of_boxes():
    assert point_group(Grid.cube(8)).name == "Oh"
    assert point_group(Grid((16, 8, 8))).name == "D4h"
    assert point_group(Grid((8, 12, 16))).name == "D2h"
    assert point_group(Grid((8, 8, 8), (1.0, 1.0, 2.0))).name not in ORDERS  # a D4h with its axis along x
    assert len(point_group(Grid((8, 8, 8), (1.0, 1.0, 2.0)))) == 16


def test_stabilisers():
    assert stabiliser(OH, [(0.0, 0.0, -9.8)]).name == "C4v"
    assert stabiliser(OH, [(1.0, 1.0, 1.0)]).contains(GROUPS[3]["C3"])
    assert stabiliser(OH, [(1.0, 2.0, 3.0)]).name == "C1"


def test_generated_group():
    group = generate_group("C4 about x", ((1, 0, 0), (0, 0, -1), (0, 1, 0)))
    assert group.elements[0].name == "identity"
    assert {g.name for g in group} == {
        "identity",
        "rotation 90 about x",
        "rotation 180 about x",
        "rotation 90 about -x",
    }


@pytest.mark.parametrize("target", [(16, 20, 24), (12, 10, 8)])
def test_resampling_in_space_is_exact_on_modes_of_both_grids(target):
    source = Grid((12, 14, 16), (2.0, 3.0, 4.0))
    target = Grid(target, source.length)
    coefficients = noise(2, 5, 5, 3).to(torch.complex128) + 1j * noise(3, 5, 5, 3)[:2]
    coefficients[..., 0] = 0
    fields = sample_modes(coefficients, source)
    assert torch.allclose(resample(fields, source, target), sample_modes(coefficients, target), atol=1e-12)


def test_resampling_in_space_commutes_with_every_element():
    fine, coarse = Grid.cube(16), Grid.cube(8)
    velocity, values = field_in(VELOCITY, 3), noise(3, 16, 16, 16)
    for g in OH:
        turned = resample(act(velocity, values, g), fine, coarse)
        assert torch.allclose(turned, act(velocity, resample(values, fine, coarse), g), atol=1e-12)
    strided = act(velocity, values, OH.elements[1])[:, ::2, ::2, ::2]
    assert not torch.allclose(strided, act(velocity, values[:, ::2, ::2, ::2], OH.elements[1]), atol=1e-1)
