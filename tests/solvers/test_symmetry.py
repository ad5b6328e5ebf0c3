"""Point groups and their action on typed fields, against matrices, index arithmetic and calculus."""

import itertools
import math

import numpy as np
import pytest
import torch

from solvers import (
    D1,
    D4,
    GROUPS,
    TRACER,
    VELOCITY,
    VORTICITY,
    FieldSpec,
    Grid,
    act,
    act_on_fields,
    group_named,
    point_group,
    subgroups,
)  # fmt: skip
from solvers.point_groups import ROTATION_90
from solvers.symmetry import move

PSEUDOVECTOR = FieldSpec("pseudovector", 1, -1)
FIELDS = [TRACER, VORTICITY, VELOCITY, PSEUDOVECTOR]
MIRRORS = [g for g in D4 if g.determinant < 0]

every_group = pytest.mark.parametrize("group", GROUPS[2].values(), ids=lambda group: group.name)
every_field = pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
every_element = pytest.mark.parametrize("g", D4.elements, ids=lambda g: g.name)


def matrix(g):
    return np.array(g.matrix)


def turned(values, g):
    """Each value moved from the cell at x to the cell at g x, one cell at a time, x from the centre in half cells."""
    ny, nx = values.shape[-2:]
    out = np.empty(values.shape[:-2] + ((nx, ny) if g.swaps_axes else (ny, nx)))
    my, mx = out.shape[-2:]
    for i in range(ny):
        for j in range(nx):
            x, y = matrix(g) @ (2 * j + 1 - nx, 2 * i + 1 - ny)
            out[..., (y + my - 1) // 2, (x + mx - 1) // 2] = values[..., i, j]
    return out


def derivatives(field):
    """(∂/∂x, ∂/∂y) of a field on a square box of side 2π."""
    k = 1j * np.fft.fftfreq(field.shape[-1], 1 / field.shape[-1])
    return (np.fft.ifft(k * np.fft.fft(field)).real, np.fft.ifft(k[:, None] * np.fft.fft(field, axis=-2), axis=-2).real)


@every_group
def test_group_axioms(group):
    matrices = [matrix(g) for g in group]
    assert len({g.matrix for g in group}) == len(group)
    assert np.array_equal(matrices[0], np.eye(2))
    for g in group:
        assert group.elements[group.index(g)] == g
        assert g.determinant == round(np.linalg.det(matrix(g)))
        assert np.array_equal(matrix(g) @ matrix(group.inverse(g)), np.eye(2))
        for h in group:
            assert np.array_equal(matrix(group.product(g, h)), matrix(g) @ matrix(h))
            for k in group:
                left, right = group.product(group.product(g, h), k), group.product(g, group.product(h, k))
                assert left == right


def test_groups_are_all_the_subgroups_of_the_square():
    """Every set of elements of D4 that is closed is there under one name, and no other."""
    closed = set()
    for size in (1, 2, 4, 8):
        for chosen in itertools.combinations(D4.elements, size):
            products = {D4.product(a, b) for a in chosen for b in chosen}
            if products <= set(chosen):
                closed.add(frozenset(chosen))
    assert {frozenset(group.elements) for group in GROUPS[2].values()} == closed
    assert len(GROUPS[2]) == len(closed) == 10
    assert subgroups(D4) == list(GROUPS[2].values())
    assert [group.name for group in subgroups(group_named("D2"))] == ["C1", "C2", "D1", "D1y", "D2"]


def test_wallpaper_names():
    names = ["p1", "p2", "p4", "pm", "cm", "pmm", "cmm", "p4m"]
    assert [group_named(name).name for name in names] == ["C1", "C2", "C4", "D1", "D1d", "D2", "D2d", "D4"]
    with pytest.raises(ValueError, match="unknown group 'p6'; one of C1, C2"):
        group_named("p6")


@every_group
def test_restriction_to_every_subgroup(group):
    """Each row is a right coset H r, in the order of H."""
    for subgroup in subgroups(group):
        rows = group.restriction(subgroup)
        assert sorted(itertools.chain(*rows)) == list(range(len(group)))
        for row in rows:
            r = matrix(group.elements[row[0]])
            assert [group.elements[i].matrix for i in row] == [tuple(map(tuple, matrix(h) @ r)) for h in subgroup]
    with pytest.raises(ValueError, match="D4 is not a subgroup"):
        GROUPS[2]["C4"].restriction(D4)


@pytest.mark.parametrize(("name", "order", "mirrors"), [("C1", 1, 0), ("C2", 2, 0), ("C4", 4, 0), ("D4", 8, 4)])
def test_orders_and_mirrors(name, order, mirrors):
    group = GROUPS[2][name]
    assert (len(group), sum(g.determinant < 0 for g in group)) == (order, mirrors)


def test_an_element_outside_is_no_member():
    assert D4.contains(D1)
    assert not D1.contains(D4)
    with pytest.raises(KeyError):
        D1.index(ROTATION_90)


def test_point_group_of_a_rectangle_has_no_quarter_turn():
    assert point_group(Grid.square(8)).name == "D4"
    for rectangle in (Grid((8, 16)), Grid((8, 8), (1.0, 2.0))):
        assert point_group(rectangle).name == "D2"


def test_rotation_90_is_counter_clockwise():
    y, x = Grid.square(16).coordinates()

    def blob(x0, y0):
        return torch.exp(-4 * ((x[None, :] - math.pi - x0) ** 2 + (y[:, None] - math.pi - y0) ** 2))

    right, above, below = blob(1.5, 0.0), blob(0.0, 1.5), blob(0.0, -1.5)
    assert (move(right, ROTATION_90) - above).abs().max() < 1e-14
    assert (move(right, ROTATION_90) - below).abs().max() > 0.5
    arrow = act(VELOCITY, torch.stack([right, torch.zeros_like(right)]), ROTATION_90)
    assert (arrow - torch.stack([torch.zeros_like(above), above])).abs().max() < 1e-14


@every_element
def test_move_takes_the_value_at_x_to_g_x(g):
    shapes = [(6, 6)] if g.swaps_axes else [(6, 6), (4, 6)]
    for shape in shapes:
        values = np.arange(2.0 * math.prod(shape)).reshape(2, *shape)
        assert np.array_equal(move(torch.from_numpy(values), g).numpy(), turned(values, g))


@every_field
@every_group
def test_action_is_a_homomorphism(group, field):
    shapes = [(8, 8)] if any(g.swaps_axes for g in group) else [(8, 8), (8, 12)]
    for shape in shapes:
        values = torch.from_numpy(np.random.default_rng(0).standard_normal((3, field.components, *shape)))
        for g in group:
            for h in group:
                product = group.product(g, h)
                assert torch.equal(act(field, act(field, values, h), g), act(field, values, product))


def test_homomorphism_fails_in_the_wrong_order():
    values = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 8, 8)))
    g, h = ROTATION_90, MIRRORS[0]
    wrong = act(VELOCITY, act(VELOCITY, values, g), h) - act(VELOCITY, values, D4.product(g, h))
    assert wrong.norm() / values.norm() > 0.1


@every_field
@every_element
def test_components_turn_with_the_matrix(g, field):
    values = np.random.default_rng(1).standard_normal((field.components, 6, 6))
    expected = turned(values, g)
    if field.order:
        expected = np.einsum("ij,jyx->iyx", matrix(g), expected)
    if field.parity < 0:
        expected = np.linalg.det(matrix(g)) * expected
    np.testing.assert_allclose(act(field, torch.from_numpy(values), g), expected, rtol=1e-14)


@every_element
def test_vorticity_is_a_pseudoscalar(g):
    y, x = (c.numpy() for c in Grid.square(16).coordinates())
    u = np.sin(2 * x + 3 * y[:, None] + 0.4) + np.cos(x - y[:, None])
    v = np.cos(3 * x + y[:, None] + 1.0) - np.sin(2 * y[:, None] + 0.2)
    moved_u, moved_v = act(VELOCITY, torch.from_numpy(np.stack([u, v])), g).numpy()
    curl = derivatives(v)[0] - derivatives(u)[1]
    curl_of_moved = derivatives(moved_v)[0] - derivatives(moved_u)[1]

    def error(parity):
        acted = act(FieldSpec("w", 0, parity), torch.from_numpy(curl)[None], g)[0].numpy()
        return np.linalg.norm(curl_of_moved - acted) / np.linalg.norm(curl)

    assert error(-1) < 1e-13
    assert error(+1) > 1 if g in MIRRORS else error(+1) < 1e-13


@every_element
def test_act_on_fields_acts_on_each_field_of_the_stack(g):
    fields = (VORTICITY, VELOCITY, TRACER)
    state = torch.from_numpy(np.random.default_rng(2).standard_normal((5, 4, 8, 8)))
    moved = act_on_fields(fields, state, g)
    assert moved.shape == state.shape
    for field, part in zip(fields, (slice(0, 1), slice(1, 3), slice(3, 4)), strict=True):
        assert torch.equal(moved[:, part], act(field, state[:, part], g))


@pytest.mark.parametrize(("order", "parity"), [(2, 1), (-1, 1), (0, 0), (1, 2)])
def test_unknown_types_of_field_are_refused(order, parity):
    with pytest.raises(ValueError, match="order must be 0 or 1 and parity"):
        FieldSpec("w", order, parity)
