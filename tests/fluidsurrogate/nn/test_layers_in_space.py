"""Layers in space: against sums over group and lattice, and their equivariance against index arithmetic. Separable
convolutions, which are new in the plane too, are here for both."""

import itertools

import numpy as np
import pytest
import torch
from reference import acted, moved

from fluidsurrogate.nn import GroupConv, GroupPool, LiftingConv, SeparableGroupConv
from fluidsurrogate.nn.layers import DepthwiseGroupConv, FeatureNorm, FiLM, Readout, downsample, periodic_conv, upsample
from fluidsurrogate.nn.layers.depthwise_conv import periodic_depthwise_conv
from fluidsurrogate.nn.layers.group_action import restrict
from fluidsurrogate.nn.layers.periodic_padding import CircularPad
from solvers import D4, GROUPS, TRACER, VELOCITY, VORTICITY, field_in, subgroups

U, OMEGA, SCALAR = (field_in(f, 3) for f in (VELOCITY, VORTICITY, TRACER))
FIELDS = {"vector": (U,), "pseudovector": (OMEGA,), "mixed": (SCALAR, OMEGA, U)}
every_type = pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)
some_groups = pytest.mark.parametrize("name", ["C3", "D2h", "C4v", "O", "Oh"])
small_groups = pytest.mark.parametrize("name", ["C3", "C4v", "T"])
ORDERS = (-1, 0, 1)


@pytest.fixture(autouse=True)
def _same_weights():
    torch.manual_seed(0)


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def randomised(layer):
    for weight in layer.parameters():
        torch.nn.init.normal_(weight)
    return layer.double().requires_grad_(False)


def components(fields):
    return sum(field.components for field in fields)


def distance(a, b):
    return float((a - b).norm() / b.norm())


def order_after(group, a):
    """For each element g of the group the index of a⁻¹ g."""
    matrices = [np.array(g.matrix) for g in group]
    return [next(i for i, m in enumerate(matrices) if np.array_equal(m, np.array(a.matrix).T @ g)) for g in matrices]


def acted_on_feature(group, feature, a):
    """(a·F)(g, x) = F(a⁻¹g, a⁻¹x), (batch, channel, α, z, y, x)."""
    return torch.from_numpy(np.ascontiguousarray(moved(feature.numpy(), a)))[:, :, order_after(group, a)]


def some(group):
    """All elements of a small group, and every fifth of a large one."""
    return group.elements if len(group) < 10 else group.elements[1::5]


@every_type
@some_groups
def test_lifting_pooling_and_readout_are_equivariant(name, fields):
    group, width = GROUPS[3][name], components(fields)
    lift = randomised(LiftingConv(group, fields, width, 3))
    ways = [GroupPool(group, fields), *(randomised(Readout(group, width, fields, pool)) for pool in ("mean", "gated"))]
    f = noise(1, width, 4, 4, 4)
    feature = lift(f)
    for a in some(group):
        turned = lift(acted(fields, f, a))
        assert distance(turned, acted_on_feature(group, feature, a)) < 1e-12
        for way in ways:
            assert distance(way.double()(turned), acted(fields, way(feature), a)) < 1e-12


@some_groups
def test_layers_between_features_are_equivariant(name):
    group = GROUPS[3][name]
    film, numbers = randomised(FiLM(1, 2)), noise(1, 1)
    layers = {
        "dense": randomised(GroupConv(group, 2, 2, 3)),
        "pointwise": randomised(GroupConv(group, 2, 2, 1)),
        "dilated": randomised(GroupConv(group, 2, 2, 3, dilation=2)),
        "depthwise": randomised(DepthwiseGroupConv(group, 2, 5)),
        "separable": randomised(SeparableGroupConv(group, 2, 2, 3, dilation=2)),
        "downsample": downsample,
        "upsample": upsample,
        "norm": FeatureNorm(2).double().requires_grad_(False),
        "modulation": lambda x: film(x, numbers),
    }
    f = noise(1, 2, len(group), 4, 4, 4)
    for key, layer in layers.items():
        after = layer(f)
        for a in some(group)[:5]:
            assert distance(layer(acted_on_feature(group, f, a)), acted_on_feature(group, after, a)) < 1e-12, key
    strided = f[..., ::2, ::2, ::2]  # the control: every second cell, where a flip does not keep the first cell
    for a in [g for g in group if min(g.signs) < 0][:3]:
        assert distance(acted_on_feature(group, f, a)[..., ::2, ::2, ::2], acted_on_feature(group, strided, a)) > 1e-2


@every_type
@small_groups
def test_lifting_is_the_sum_over_the_lattice(name, fields):
    """Cohen & Welling 2016 eq. 10 as a correlation: [f ⋆ ψ](g, x) = Σ_y Σ_j [g·ψ]_j(y) f_j(x + y)."""
    group, layer = GROUPS[3][name], randomised(LiftingConv(GROUPS[3][name], fields, 1, 3))
    f, weight = noise(1, components(fields), 4, 4, 4), layer.weight.numpy()
    expected = np.full((len(group), 4, 4, 4), layer.bias.item())
    for i, x, y, z in itertools.product(range(len(group)), *3 * [ORDERS]):
        matrix = np.array(group.elements[i].matrix)
        x0, y0, z0 = matrix.T @ (x, y, z)  # [g·ψ](y) = ρ(g) ψ(g⁻¹y)
        psi, first = weight[0, :, z0 + 1, y0 + 1, x0 + 1], 0
        there = f[0].roll((-z, -y, -x), (-3, -2, -1)).numpy()
        for field in fields:
            part = slice(first, first + field.components)
            sign = round(np.linalg.det(matrix)) if field.parity < 0 else 1
            turned = matrix @ psi[part] if field.order else psi[part]
            expected[i] += sign * np.tensordot(turned, there[part], 1)
            first += field.components
    np.testing.assert_allclose(layer(f)[0, 0], expected, atol=1e-12)


@pytest.mark.parametrize("dilation", [1, 2])
@small_groups
def test_group_convolution_is_the_sum_over_group_and_lattice(name, dilation):
    """Cohen & Welling 2016 eq. 11 as a correlation: [F ⋆ ψ](g, x) = Σ_h Σ_y ψ(g⁻¹h, g⁻¹y) F(h, x + y)."""
    group = GROUPS[3][name]
    layer = randomised(GroupConv(group, 2, 1, 3, dilation))
    f, weight, order = noise(1, 2, len(group), 4, 4, 4), layer.weight.numpy(), len(group)
    expected = np.full((order, 4, 4, 4), layer.bias.item())
    for x, y, z in itertools.product(*3 * [ORDERS]):
        there = f[0].roll([-dilation * m for m in (z, y, x)], (-3, -2, -1)).numpy()
        for i, g in enumerate(group):
            x0, y0, z0 = np.array(g.matrix).T @ (x, y, z)
            kernel = weight[0, :, order_after(group, g), z0 + 1, y0 + 1, x0 + 1].T  # (in, h)
            expected[i] += np.einsum("ch,chzyx->zyx", kernel, there)
    np.testing.assert_allclose(layer(f)[0, 0], expected, atol=1e-12)


@pytest.mark.parametrize("group", [D4, GROUPS[3]["C4v"], GROUPS[3]["O"]], ids=["D4", "C4v", "O"])
@pytest.mark.parametrize("dilation", [1, 2])
def test_a_separable_convolution_is_a_dense_one_whose_kernel_is_a_product(group, dilation):
    """ψ_cc'(h, y) = w_cc'(h) k_c'(h⁻¹y)."""
    separable = randomised(SeparableGroupConv(group, 3, 2, 3, dilation))
    dense = GroupConv(group, 3, 2, 3, dilation).double().requires_grad_(False)
    turned = np.stack([moved(separable.depthwise.weight.numpy(), h) for h in group], 1)  # (c', h, *kernel)
    mixing = separable.pointwise.weight.numpy()  # (c, c', h, 1, …)
    dense.weight.copy_(torch.from_numpy(mixing * turned))
    dense.bias.copy_(separable.pointwise.bias)
    f = noise(2, 3, len(group), *group.dimensions * [6])
    assert distance(separable(f), dense(f)) < 1e-12
    assert sum(p.numel() for p in separable.parameters()) == 3 * 3**group.dimensions + 2 * 3 * len(group) + 2


@pytest.mark.parametrize("name", GROUPS[2])
def test_separable_convolutions_in_the_plane_are_equivariant(name):
    group = GROUPS[2][name]
    layer, f = randomised(SeparableGroupConv(group, 2, 3, 5)), noise(1, 2, len(group), 6, 6)
    after = layer(f)
    for a in group:
        assert distance(layer(acted_on_feature(group, f, a)), acted_on_feature(group, after, a)) < 1e-12


@pytest.mark.parametrize("name", ["T", "C4v", "Oh"])
def test_a_restricted_feature_is_a_feature_of_the_subgroup(name):
    """(a·F)_r = a·F_r for a in H, by index arithmetic on both sides."""
    group = GROUPS[3][name]
    f = noise(1, 2, len(group), 3, 3, 3)
    for subgroup in subgroups(group):
        restricted = restrict(f, group, subgroup)
        assert restricted.shape[1:3] == (2 * len(group) // len(subgroup), len(subgroup))
        for a in subgroup.elements[1:4]:
            there = restrict(acted_on_feature(group, f, a), group, subgroup)
            assert torch.equal(there, acted_on_feature(subgroup, restricted, a))


@pytest.mark.parametrize(
    ("name", "size", "dimension"), [("Oh", 3, 8), ("O", 3, 12), ("Oh", 5, 30), ("O", 5, 50), ("C1", 3, 243)]
)
def test_dimensions_of_the_kernels_from_vectors_to_vectors(name, size, dimension):
    """How many kernels with K(gx) = ρ(g) K(x) ρ(g)⁻¹ there are on the lattice: the rank of the mean over the group of
    K → ρ(g) K(g⁻¹x) ρ(g)⁻¹, which is its trace."""
    group, points = GROUPS[3][name], np.array(list(itertools.product(range(size), repeat=3))) - size // 2
    places = {tuple(p): i for i, p in enumerate(points)}
    mean = np.zeros((len(points) * 9,) * 2)
    for g in group:
        matrix = np.array(g.matrix)
        permutation = np.zeros((len(points),) * 2)
        permutation[[places[tuple(matrix @ p)] for p in points], range(len(points))] = 1
        mean += np.kron(permutation, np.kron(matrix, matrix)) / len(group)
    assert np.trace(mean) == pytest.approx(dimension)
    if size == 3:
        assert np.linalg.matrix_rank(mean) == dimension
        np.testing.assert_allclose(mean @ mean, mean, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize(("batch", "sides"), [(1, (6, 4, 8)), (1, (5, 3, 4)), (2, (4, 5, 6))])
def test_periodic_convolution_is_the_sum_over_the_lattice(batch, sides, dilation, dtype):
    """For a batch of one too, which is convolved in halves; and so is its gradient."""
    x, weight = noise(batch, 2, *sides).to(dtype).requires_grad_(), noise(3, 2, 3, 3, 3).to(dtype)
    bias = noise(3).to(dtype)
    expected = bias[:, None, None, None] + sum(
        torch.einsum(
            "oi,bizyx->bozyx",
            weight[..., z + 1, y + 1, x0 + 1],
            x.roll([-dilation * m for m in (z, y, x0)], (-3, -2, -1)),
        )
        for z, y, x0 in itertools.product(*3 * [ORDERS])
    )
    made = periodic_conv(x, (weight, bias), dilation)
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=2e-5)
    ours, theirs = (torch.autograd.grad(y.square().sum(), x, retain_graph=True)[0] for y in (made, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


def test_periodic_padding_in_space_and_its_gradient():
    x = torch.randn(1, 2, 4, 6, 5, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.pad(x, (2,) * 6, mode="circular")
    assert torch.equal(CircularPad.apply(x, 2), expected)
    weight = torch.randn_like(expected)
    ours, theirs = (torch.autograd.grad((y * weight).sum(), x)[0] for y in (CircularPad.apply(x, 2), expected))
    torch.testing.assert_close(ours, theirs)


def test_upsampling_in_space_is_linear_along_each_axis():
    f = noise(1, 1, 1, 4, 4, 4)
    expected = f
    for axis in (-3, -2, -1):
        near = expected.repeat_interleave(2, axis)
        before, after = (expected.roll(shift, axis) for shift in (1, -1))
        far = torch.stack([before, after], expected.ndim + axis + 1).flatten(
            expected.ndim + axis, expected.ndim + axis + 1
        )
        expected = 0.75 * near + 0.25 * far
    torch.testing.assert_close(upsample(f), expected)
    assert downsample(f)[0, 0, 0, 1, 0, 1] == pytest.approx(float(f[0, 0, 0, 2:4, :2, 2:4].mean()))


def test_bad_arguments_are_refused():
    group = GROUPS[3]["O"]
    for make in (DepthwiseGroupConv, lambda *given: SeparableGroupConv(group, *given[1:2], *given[1:])):
        with pytest.raises(ValueError, match="must be odd"):
            make(group, 2, 4)
        with pytest.raises(ValueError, match="dilation must be at least 1"):
            make(group, 2, 3, 0)
    with pytest.raises(ValueError, match=r"a grid of 4 x 5 x 4 cells cannot be halved"):
        downsample(torch.zeros(1, 1, 1, 4, 5, 4))
    with pytest.raises(ValueError, match=r"reaches 2 cells does not fit a grid of \(4, 1, 4\)"):
        periodic_conv(torch.zeros(1, 1, 4, 1, 4), (torch.zeros(1, 1, 5, 5, 5), torch.zeros(1)))


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("sides", [(8, 12), (5, 7), (4, 8, 6), (4, 5, 7)])
def test_depthwise_convolution_and_its_gradients_are_those_of_torch(sides, dilation):
    """On sides that are multiples of the dilation, and on others."""
    dimensions = len(sides)
    x, weight = (noise(*shape).requires_grad_() for shape in ((2, 3, *sides), (3, 1, *[3] * dimensions)))
    convolve = torch.nn.functional.conv2d if dimensions == 2 else torch.nn.functional.conv3d
    padded = torch.nn.functional.pad(x, (dilation,) * 2 * dimensions, mode="circular")
    expected, made = convolve(padded, weight, dilation=dilation, groups=3), periodic_depthwise_conv(x, weight, dilation)
    torch.testing.assert_close(made, expected)
    torch.testing.assert_close(periodic_depthwise_conv(x.detach(), weight.detach(), dilation), expected)
    cotangent = noise(*expected.shape, seed=1)
    ours, theirs = (torch.autograd.grad(y, (x, weight), cotangent) for y in (made, expected))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)
    assert torch.autograd.gradgradcheck(
        lambda x: periodic_depthwise_conv(x, weight.detach()[:1], dilation).sin(), x[:1, :1].detach().requires_grad_()
    )
