"""Spherical harmonics, Wigner matrices, Clebsch-Gordan coefficients and the kernels made of them, against SciPy and
closed forms."""

import math

import numpy as np
import pytest
import torch

pytest.importorskip("e3nn", reason="e3nn is not installed")

from scipy.spatial.transform import Rotation
from scipy.special import sph_harm_y

from fluidsurrogate.nn.layers import irreps_basis
from fluidsurrogate.nn.layers.irreps import Irrep, Irreps, rotation_group
from fluidsurrogate.nn.layers.irreps_basis import (
    clebsch_gordan,
    isotropic_profiles,
    kernel_functions,
    lattice_kernels,
    lattice_points,
    spherical_harmonics,
    wigner_matrix,
)
from fluidsurrogate.nn.layers.irreps_conv import IrrepsBasis, IrrepsConv
from fluidsurrogate.nn.layers.irreps_matrix import FastActivation, MatrixFeature, activate_matrices
from solvers import GROUPS, VELOCITY, VORTICITY, FieldSpec, field_in
from solvers.symmetry import move

ORDERS = range(5)
OH = GROUPS[3]["Oh"]
every_order = pytest.mark.parametrize("order", ORDERS)


@pytest.fixture(autouse=True)
def _same_weights():
    torch.manual_seed(0)


def rotations(count, seed=0):
    return torch.from_numpy(Rotation.random(count, rng=np.random.default_rng(seed)).as_matrix())


def directions(count, seed=0):
    points = torch.from_numpy(np.random.default_rng(seed).standard_normal((count, 3)))
    return points / points.norm(dim=1, keepdim=True)


def matrix_of(g):
    return torch.tensor(g.matrix, dtype=torch.float64)


def represented(irrep, matrix):
    """ρ(g) of an irrep for any orthogonal matrix: D(det(g) g), times the parity if it inverts."""
    sign = round(float(torch.linalg.det(matrix)))
    return (irrep.parity if sign < 0 else 1) * wigner_matrix(irrep.order, sign * matrix)


def real_harmonics(order, points):
    """SciPy's, in the real basis and e3nn's frame: its polar axis is y, and its z and x are SciPy's x and y."""
    x, y, z = points.T.numpy()
    theta, phi = np.arccos(y), np.arctan2(x, z)
    columns = []
    for m in range(-order, order + 1):
        value = sph_harm_y(order, abs(m), theta, phi)
        columns.append(value.real if m == 0 else math.sqrt(2) * (-1) ** m * (value.imag if m < 0 else value.real))
    return math.sqrt(4 * math.pi) * torch.from_numpy(np.stack(columns, 1))


@every_order
def test_harmonics_are_scipys(order):
    points = directions(40)
    assert (spherical_harmonics(order, points) - real_harmonics(order, points)).abs().max() < 1e-12


def test_harmonics_of_order_one_are_x_y_z():
    points = directions(10)
    assert (spherical_harmonics(1, 3 * points) - math.sqrt(3) * points).abs().max() < 1e-12
    assert spherical_harmonics(1, torch.zeros(1, 3, dtype=torch.float64)).abs().max() == 0


@every_order
def test_wigner_matrices_turn_scipys_harmonics(order):
    points = directions(40)
    for turn in rotations(4):
        d = wigner_matrix(order, turn)
        assert (real_harmonics(order, points @ turn.T) - real_harmonics(order, points) @ d.T).abs().max() < 1e-12
        assert (
            real_harmonics(order, points @ turn) - real_harmonics(order, points) @ d.T
        ).abs().max() > 0.1 or not order


@every_order
def test_wigner_matrices_are_an_orthogonal_representation(order):
    first, second = rotations(2)
    a, b, both = (wigner_matrix(order, turn) for turn in (first, second, first @ second))
    unit = torch.eye(2 * order + 1, dtype=torch.float64)
    assert (a @ b - both).abs().max() < 1e-12
    assert (b @ a - both).abs().max() > 0.1 or not order  # they do not commute
    assert (a @ a.T - unit).abs().max() < 1e-12
    assert (wigner_matrix(order, torch.eye(3, dtype=torch.float64)) - unit).abs().max() < 1e-12


@every_order
@pytest.mark.parametrize("angle", [0.3, 1.7, 3.0])
def test_characters(order, angle):
    axis = directions(1)[0].numpy()
    turn = torch.from_numpy(Rotation.from_rotvec(angle * axis).as_matrix())
    expected = math.sin((order + 0.5) * angle) / math.sin(angle / 2)
    assert abs(float(wigner_matrix(order, turn).trace()) - expected) < 1e-12


@every_order
def test_harmonics_have_the_parity_of_their_order(order):
    points = directions(20)
    assert (
        spherical_harmonics(order, -points) - (-1) ** order * spherical_harmonics(order, points)
    ).abs().max() < 1e-12


def test_order_one_couples_by_the_cross_product():
    epsilon = torch.zeros(3, 3, 3, dtype=torch.float64)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        epsilon[i, j, k], epsilon[j, i, k] = 1, -1
    assert (math.sqrt(6) * clebsch_gordan(1, 1, 1) - epsilon).abs().max() < 1e-12


@pytest.mark.parametrize("first", range(3))
@pytest.mark.parametrize("second", range(3))
def test_clebsch_gordan_coefficients_are_invariant_and_complete(first, second):
    (turn,) = rotations(1)
    products = []
    for third in range(abs(first - second), first + second + 1):
        c = clebsch_gordan(first, second, third)
        moved = torch.einsum("abc,ia,jb,kc->ijk", c, *(wigner_matrix(order, turn) for order in (first, second, third)))
        assert (moved - c).abs().max() < 1e-12
        products.append(math.sqrt(2 * third + 1) * c.flatten(0, 1))
    change = torch.cat(products, dim=1)
    assert (change.T @ change - torch.eye(len(change), dtype=torch.float64)).abs().max() < 1e-12


def test_nothing_depends_on_the_default_precision():
    """Half the digits would be lost if e3nn took its tables in single precision."""
    for function in (clebsch_gordan, lambda *orders: lattice_kernels(*orders[:2], 3)[0]):
        assert function(2, 2, 2).dtype is torch.float64
    assert torch.get_default_dtype() is torch.float32


PAIRS = [(a, b) for a in range(3) for b in range(3)]


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_kernels_meet_the_constraint_before_sampling(pair):
    """κ(Rx) = D(R) κ(x) D(R)⁻¹ at random points, for random rotations."""
    points = 2 * torch.from_numpy(np.random.default_rng(1).standard_normal((30, 3)))
    for turn in rotations(3):
        left, right = (wigner_matrix(order, turn) for order in pair)
        for order in range(abs(pair[0] - pair[1]), sum(pair) + 1):
            there, here = (kernel_functions(*pair, order, at, 5, 0.1) for at in (points @ turn.T, points))
            assert (there - torch.einsum("oa,kabp,ib->koip", left, here, right)).abs().max() < 1e-10
            if len(here) and order:
                assert (there - here).abs().max() > 1e-2


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_kernels_meet_the_constraint_on_the_lattice(pair, size):
    """For all 48 elements; harmonics of odd order change their sign under the inversion."""
    kernels, orders = lattice_kernels(*pair, size)
    signs = torch.tensor([(-1.0) ** order for order in orders], dtype=torch.float64)
    for g in OH:
        turn = g.determinant * matrix_of(g)
        left, right = (wigner_matrix(order, turn) for order in pair)
        moved = torch.einsum("oa,kabzyx,ib->koizyx", left, move(kernels, g), right)
        if g.determinant < 0:
            moved = moved * signs[:, None, None, None, None, None]
        assert (moved - kernels).abs().max() < 1e-12


def test_flipped_components_in_place_of_the_lattice_are_far_off():
    """The control: harmonics of (z, y, x) are left-handed beside the components (x, y, z), which shows in a curl."""
    kernels, orders = lattice_kernels(1, 1, 3)
    curl = kernels[orders.index(1)].transpose(-1, -3)
    g = OH.elements[5]
    left = wigner_matrix(1, g.determinant * matrix_of(g))
    assert (torch.einsum("oa,abzyx,ib->oizyx", left, move(curl, g), left) - curl).abs().max() > 0.1


def test_a_kernel_of_order_one_is_the_curl():
    """On a linear velocity u = A x, with vorticity (A₃₂ − A₂₃, …), components and lattice both read as (x, y, z)."""
    matrix = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 3)))
    kernels, orders = lattice_kernels(1, 1, 3)
    points = lattice_points(3)
    answer = torch.einsum("koip,pi->ko", kernels.flatten(-3), points @ matrix.T)[orders.index(1)]
    curl = torch.stack([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]])
    ratio = answer / curl
    assert (ratio - ratio[0]).abs().max() < 1e-10
    assert ratio[0].abs() > 0.1


def kernel_space(group, irrep_out, irrep_in, size):
    """Dimension of all kernels on the lattice that a point group leaves unchanged, by the trace of its average."""
    total = 0.0
    for g in group:
        fixed = sum(int((matrix_of(g) @ point - point).abs().max() == 0) for point in lattice_points(size))
        traces = [float(represented(irrep, matrix_of(g)).trace()) for irrep in (irrep_out, irrep_in)]
        total += fixed * math.prod(traces)
    return round(total / len(group))


@pytest.mark.parametrize(("size", "of_o3", "of_oh", "of_o"), [(3, 7, 8, 12), (5, 19, 30, 50)])
def test_dimensions_of_the_kernels_between_vectors(size, of_o3, of_oh, of_o):
    """At 3³ the lattice's own groups allow hardly more than O(3)."""
    vector = Irrep(1, -1)
    kernels, orders = lattice_kernels(1, 1, size)
    even = kernels[torch.tensor([order % 2 == 0 for order in orders])]
    assert torch.linalg.matrix_rank(even.flatten(1)) == len(even) == of_o3
    assert kernel_space(OH, vector, vector, size) == of_oh
    assert kernel_space(GROUPS[3]["O"], vector, vector, size) == of_o


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_kernels_are_orthonormal_and_reach_the_corners(pair):
    for size in (3, 5):
        kernels, _ = lattice_kernels(*pair, size)
        gram = torch.einsum("aoizyx,boizyx->ab", kernels, kernels) / (2 * pair[0] + 1)
        assert (gram - torch.eye(len(gram), dtype=torch.float64)).abs().max() < 1e-12
        assert kernels[..., 0, 0, 0].abs().max() > 0.1
        centre = kernels[..., size // 2, size // 2, size // 2].abs().amax((1, 2))
        assert int((centre > 1e-12).sum()) == (pair[0] == pair[1])  # the self-connection


@pytest.mark.parametrize("size", [3, 5])
@every_order
def test_the_anisotropy_of_profiles(order, size):
    """Measured a second time, at random waves: what of the answer to waves does not turn with them."""
    coefficients, anisotropy = isotropic_profiles(order, size)
    kernels = kernel_functions(0, order, order, lattice_points(size), size, math.inf)[:, 0] * math.sqrt(2 * order + 1)
    kernels = kernels[order == 0 :]  # without the self-connection
    assert len(kernels) == len(coefficients.T) == len(anisotropy)
    rng, rest = np.random.default_rng(0), torch.zeros(len(kernels), dtype=torch.float64)
    lengths = 2 * math.pi / irreps_basis.SHORTEST * rng.random(12) ** (1 / 3)
    for k in torch.from_numpy(lengths):
        ways = directions(400, int(1e6 * k))
        waves = torch.exp(1j * (k * ways @ lattice_points(size).T))
        answer = torch.einsum("nmp,kp->nkm", kernels.to(waves.dtype), waves)
        turning = spherical_harmonics(order, ways)
        along = torch.einsum("nkm,km->n", answer, turning.to(answer.dtype)) / turning.square().sum()
        rest += (answer - along[:, None, None] * turning).abs().square().mean((1, 2)) / len(lengths)
    largest = float(anisotropy[-1])
    assert abs(float(rest[-1].sqrt()) / largest - 1) < 0.35
    assert (rest.sqrt() < 2 * anisotropy + 1e-3 * largest).all()


def test_types_of_fields():
    """The inversion changes velocities and helicities, and leaves vorticities."""
    fields = [field_in(VELOCITY, 3), field_in(VORTICITY, 3), FieldSpec("helicity", 0, -1, dimensions=3)]
    assert str(Irreps.of_fields(fields)) == "1x1o + 1x1e + 1x0o"
    assert str(Irreps.of_fields(fields, mirrors=False)) == "2x1e + 1x0e"
    for field, irrep in zip(fields, Irreps.of_fields(fields).copies, strict=True):
        for g in OH:
            assert (represented(irrep, matrix_of(g)) - g.representation(field)).abs().max() < 1e-12


@pytest.mark.parametrize("group", ["O3", "SO3"])
def test_expanded_kernels_meet_the_constraint(group):
    """κ(gx) = ρ_out(g) κ(x) ρ_in(g)⁻¹ for whole layers, whose channels come in any order."""
    mirrors, lattice = rotation_group(group)
    first = Irreps((Irrep(1, -1), Irrep(0, 1), Irrep(2, 1), Irrep(1, 1), Irrep(0, -1)))
    second = Irreps.of_multiplicities({"0e": 2, "0o": 1, "1o": 2, "1e": 1, "2e": 1, "2o": 1})
    for one, other in ((first, second), (second, first)):
        if not mirrors:
            one, other = (Irreps(tuple(Irrep(irrep.order, 1) for irrep in both.copies)) for both in (one, other))
        layer = IrrepsConv(group, one, other, IrrepsBasis(other.orders, one.orders, 3, 0.1)).double()
        layer.bias.data.fill_(1.0)
        weight, bias = layer.expand_kernel()
        assert weight.shape == (other.dimension, one.dimension, 3, 3, 3)
        for g in OH:
            left, right = (
                torch.block_diag(*(represented(irrep, matrix_of(g)) for irrep in both.copies)) for both in (other, one)
            )
            error = (torch.einsum("oa,abzyx,ib->oizyx", left, move(weight, g), right) - weight).abs().max()
            assert error < 1e-12 if g in lattice.elements else error > 1e-2
            if g in lattice.elements:
                assert (left @ bias - bias).abs().max() < 1e-12
        assert bias.norm() > 0.9


def test_what_has_no_kernel_is_zero():
    """Without neighbours nothing leads from scalars to vectors; under mirrors, from velocities to vorticities."""

    def expand(group, one, other, size):
        layer = IrrepsConv(group, Irreps((one,)), Irreps((other,)), IrrepsBasis([other.order], [one.order], size, 0.1))
        return layer.expand_kernel()[0]

    assert expand("O3", Irrep(0, 1), Irrep(1, -1), 1).abs().max() == 0
    assert expand("O3", Irrep(1, -1), Irrep(1, 1), 1).abs().max() == 0
    assert expand("O3", Irrep(1, -1), Irrep(1, 1), 3).abs().max() > 0.1  # the curl
    assert expand("O3", Irrep(0, 1), Irrep(0, -1), 5).abs().max() == 0
    assert expand("SO3", Irrep(0, 1), Irrep(0, 1), 5).abs().max() > 0.1


def test_sizes_and_dilations_are_checked():
    irreps = Irreps((Irrep(0, 1),))
    with pytest.raises(ValueError, match="kernel size must be odd"):
        IrrepsBasis([0], [0], 4, 0.1)
    with pytest.raises(ValueError, match="dilation must be at least 1"):
        IrrepsConv("O3", irreps, irreps, IrrepsBasis([0], [0], 3, 0.1), 0)
    with pytest.raises(ValueError, match="unknown group 'Oh'; one of SO3, O3"):
        rotation_group("Oh")


@pytest.mark.parametrize("width", [24, 48, 60])
@pytest.mark.parametrize("mirrors", [True, False])
def test_matrices_are_irreps(mirrors, width):
    """As g X gᵀ, of both parities under mirrors, the channels of a feature transform like the irreps it claims."""
    feature = MatrixFeature.of_width(width, mirrors)
    change = feature.channels()
    assert len(change) == feature.irreps.dimension == len(feature.part_of_channel) == width
    assert (change @ change.T - torch.eye(width, dtype=torch.float64)).abs().max() < 1e-12
    for turn in (*rotations(2), *(-turn for turn in rotations(1) if mirrors)):
        pair = torch.kron(turn, turn)
        if mirrors:  # A = (E + O) / √2 and B = (E − O) / √2 change places under the inversion
            sign = float(torch.linalg.det(turn))
            swap = torch.eye(2, dtype=torch.float64) if sign > 0 else torch.eye(2, dtype=torch.float64).flip(0)
            pair = torch.kron(swap, pair)
        channels = torch.block_diag(torch.eye(feature.scalars, dtype=torch.float64), *[pair] * feature.matrices)
        irreps = torch.block_diag(*(represented(irrep, turn) for irrep in feature.irreps.copies))
        assert (change @ irreps - channels @ change).abs().max() < 1e-12


def test_the_activation_commutes_with_any_rotation():
    feature = MatrixFeature.of_width(48, True)
    change, h = feature.channels(), torch.randn(2, 48, 3, 2, 2, dtype=torch.float64)
    for turn in (*rotations(2), *(-turn for turn in rotations(2, seed=3))):
        matrix = change @ torch.block_diag(*(represented(irrep, turn) for irrep in feature.irreps.copies)) @ change.T
        moved = activate_matrices(torch.einsum("ij,bjzyx->bizyx", matrix, h), feature)
        expected = torch.einsum("ij,bjzyx->bizyx", matrix, activate_matrices(h, feature))
        assert (moved - expected).abs().max() < 1e-12
        assert (moved - activate_matrices(h, feature)).abs().max() > 0.1


def test_the_activation_by_its_equation():
    feature = MatrixFeature.of_width(24, False)
    h = torch.randn(1, 24, 1, 1, 2, dtype=torch.float64)
    out = activate_matrices(h, feature)
    for cell in range(2):
        x, y = (v[0, feature.scalars :, 0, 0, cell].view(2, 3, 3) for v in (h, out))
        for i in (0, 1):
            other = x[1 - i] / (1 + x[1 - i].square().sum() / 3).sqrt()
            assert (y[i] - 0.5 * (x[i] + x[i] @ other)).abs().max() < 1e-14
    scalars = slice(0, feature.scalars)
    assert torch.equal(out[:, scalars], torch.nn.functional.gelu(h[:, scalars]))


@pytest.mark.parametrize("mirrors", [True, False])
def test_gradients_of_the_activation(mirrors):
    feature = MatrixFeature.of_width(21, mirrors)
    h = torch.randn(1, 21, 1, 1, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: FastActivation.apply(x, feature), h)
    assert torch.autograd.gradgradcheck(lambda x: FastActivation.apply(x, feature), h)
