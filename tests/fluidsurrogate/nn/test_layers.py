"""Group convolutions against sums over group and lattice, and their equivariance against index arithmetic."""

import itertools

import numpy as np
import pytest
import torch

from fluidsurrogate.nn import GroupConv, GroupPool, LiftingConv
from fluidsurrogate.nn.layers import (
    FeatureNorm,
    FiLM,
    Readout,
    ReadoutConv,
    SpectralGroupConv2d,
    downsample,
    upsample,
)
from fluidsurrogate.nn.layers.group_action import restrict
from fluidsurrogate.nn.layers.periodic_padding import CircularPad
from solvers import C2, C4, D1, D2, D4, GROUPS, TRACER, VELOCITY, VORTICITY, subgroups
from solvers.point_groups import IDENTITY, MIRROR_DIAGONAL, ROTATION_90

PSEUDO = VORTICITY
TYPES = {
    "scalar": (TRACER,),
    "pseudoscalar": (PSEUDO,),
    "vector": (VELOCITY,),
    "mixed": (PSEUDO, VELOCITY, TRACER),
}
PRECISIONS = [(torch.float64, 1e-10), (torch.float32, 1e-4)]

every_group = pytest.mark.parametrize("group", list(GROUPS[2].values())[1:], ids=lambda group: group.name)
every_type = pytest.mark.parametrize("fields", TYPES.values(), ids=TYPES)
both_precisions = pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS, ids=["float64", "float32"])


@pytest.fixture(autouse=True)
def _same_weights():
    torch.manual_seed(0)


def moved(values, g):
    """f(x) → f(g⁻¹x) by index arithmetic, x in half cells from the centre; g⁻¹ is the transpose."""
    ny, nx = values.shape[-2:]
    y, x = np.meshgrid(2 * np.arange(ny) + 1 - ny, 2 * np.arange(nx) + 1 - nx, indexing="ij")
    (a, b), (c, d) = g.matrix
    return values[..., (b * x + d * y + ny - 1) // 2, (a * x + c * y + nx - 1) // 2]


def acted(fields, values, g):
    """ρ(g) f(g⁻¹x) for a stack of fields, (batch, component, y, x)."""
    out, first, matrix = [], 0, np.array(g.matrix, dtype=float)
    for field in fields:
        part = moved(values[:, first : first + field.components], g)
        part = np.einsum("ij,bjyx->biyx", matrix, part) if field.order else part
        out.append(part * np.linalg.det(matrix) if field.parity < 0 else part)
        first += field.components
    return np.concatenate(out, axis=1)


def acted_on_feature(group, feature, a):
    """(a·F)(g, x) = F(a⁻¹g, a⁻¹x), (batch, channel, α, y, x)."""
    matrices = [np.array(g.matrix) for g in group]
    sources = [np.array(a.matrix).T @ g for g in matrices]
    order = [next(i for i, g in enumerate(matrices) if np.array_equal(g, source)) for source in sources]
    return moved(feature, a)[:, :, order]


def tensor(values, dtype=torch.float64):
    return torch.from_numpy(np.ascontiguousarray(values)).to(dtype)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def apply(layer, values, dtype=torch.float64):
    with torch.no_grad():
        return layer.to(dtype)(tensor(values, dtype)).double().numpy()


def components(fields):
    return sum(field.components for field in fields)


def distance(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def randomised(layer):
    torch.nn.init.normal_(layer.bias)
    return layer


def grid_of(group):
    """A rectangle where the group allows it."""
    return (10, 10) if any(g.swaps_axes for g in group) else (8, 12)


@both_precisions
@every_type
@every_group
def test_lifting_is_equivariant(group, fields, dtype, tolerance):
    layer, f = randomised(LiftingConv(group, fields, 3, 5)), noise(2, components(fields), *grid_of(group))
    after = apply(layer, f, dtype)
    for a in group:
        assert distance(apply(layer, acted(fields, f, a), dtype), acted_on_feature(group, after, a)) < tolerance


@both_precisions
@pytest.mark.parametrize(("size", "dilation"), [(1, 1), (3, 1), (3, 2), (5, 1)])
@every_group
def test_group_convolution_is_equivariant(group, size, dilation, dtype, tolerance):
    layer = randomised(GroupConv(group, 2, 3, size, dilation))
    f = noise(2, 2, len(group), *grid_of(group))
    after = apply(layer, f, dtype)
    for a in group:
        assert (
            distance(apply(layer, acted_on_feature(group, f, a), dtype), acted_on_feature(group, after, a)) < tolerance
        )


@both_precisions
@pytest.mark.parametrize("reduce", ["mean", "max"])
@every_type
@every_group
def test_pooling_is_equivariant(group, fields, reduce, dtype, tolerance):
    if reduce == "max" and any(field.order for field in fields):
        fields = (PSEUDO, TRACER)
    layer = GroupPool(group, fields, reduce)
    f = noise(2, components(fields), len(group), *grid_of(group))
    after = apply(layer, f, dtype)
    for a in group:
        assert distance(apply(layer, acted_on_feature(group, f, a), dtype), acted(fields, after, a)) < tolerance


@every_group
def test_lifting_with_the_wrong_parity_is_not_equivariant(group):
    layer, f = LiftingConv(group, (TRACER,), 3, 3), noise(2, 1, *grid_of(group))
    after = apply(layer, f)
    for a in group.elements[1:]:
        error = distance(apply(layer, acted((PSEUDO,), f, a)), acted_on_feature(group, after, a))
        assert error > 1e-2 if a.determinant < 0 else error < 1e-10


@pytest.mark.parametrize("group", [D1, D2, D4], ids=lambda group: group.name)
def test_the_plain_maximum_is_no_pseudoscalar(group):
    plain, right = GroupPool(group, (TRACER,), "max"), GroupPool(group, (PSEUDO,), "max")
    f = noise(2, 1, len(group), *grid_of(group))
    np.testing.assert_array_equal(apply(plain, f), f.max(2))
    for a in group.elements[1:]:
        error, typed = (
            distance(apply(pool, acted_on_feature(group, f, a)), acted((PSEUDO,), apply(pool, f), a))
            for pool in (plain, right)
        )
        assert error > 1e-2 if a.determinant < 0 else error < 1e-10
        assert typed < 1e-10


def test_c4_layers_do_not_commute_with_mirrors():
    """From 5 × 5 on, that is: a 3 × 3 kernel averaged over C4 has all of D4."""
    layer, pool, f = LiftingConv(C4, (TRACER,), 3, 5), GroupPool(C4, (TRACER,) * 3), noise(2, 1, 8, 8)
    after = apply(pool, apply(layer, f))
    for a in D4:
        error = distance(apply(pool, apply(layer, moved(f, a))), moved(after, a))
        assert error > 1e-2 if a.determinant < 0 else error < 1e-10


@every_type
@pytest.mark.parametrize("group", [C4, D2, D4], ids=lambda group: group.name)
def test_lifting_is_the_sum_over_the_lattice(group, fields):
    """Cohen & Welling 2016 eq. 10 as a correlation: [f ⋆ ψ](g, x) = Σ_y Σ_j [g·ψ]_j(y) f_j(x + y)."""
    n, layer, f = 6, randomised(LiftingConv(group, fields, 2, 3)).double(), noise(1, components(fields), 6, 6)
    weight, bias = (p.detach().numpy() for p in (layer.weight, layer.bias))
    expected = np.zeros((1, 2, len(group), n, n)) + bias[:, None, None, None]
    cells = itertools.product(range(2), range(len(group)), range(n), range(n), (-1, 0, 1), (-1, 0, 1))
    for channel, i, row, column, y, x in cells:
        matrix = np.array(group.elements[i].matrix)
        x0, y0 = matrix.T @ (x, y)  # [g·ψ](y) = ρ(g) ψ(g⁻¹y)
        psi, first, f_there = weight[channel, :, y0 + 1, x0 + 1], 0, f[0, :, (row + y) % n, (column + x) % n]
        for field in fields:
            part = slice(first, first + field.components)
            sign = round(np.linalg.det(matrix)) if field.parity < 0 else 1
            turned = matrix @ psi[part] if field.order else psi[part]
            expected[0, channel, i, row, column] += sign * (turned @ f_there[part])
            first += field.components
    np.testing.assert_allclose(apply(layer, f), expected, atol=1e-12)


@pytest.mark.parametrize("dilation", [1, 2])
@every_group
def test_group_convolution_is_the_sum_over_group_and_lattice(group, dilation):
    """Cohen & Welling 2016 eq. 11 as a correlation: [F ⋆ ψ](g, x) = Σ_h Σ_y ψ(g⁻¹h, g⁻¹y) F(h, x + y)."""
    n, order, layer = 6, len(group), randomised(GroupConv(group, 2, 1, 3, dilation)).double()
    f, weight = noise(1, 2, order, n, n), layer.weight.detach().numpy()
    matrices = [np.array(g.matrix) for g in group]
    expected = np.full((1, 1, order, n, n), layer.bias.item())
    rows, columns = np.indices((n, n))
    for i, h, y, x in itertools.product(range(order), range(order), (-1, 0, 1), (-1, 0, 1)):
        back = matrices[i].T  # g⁻¹
        source = next(k for k, m in enumerate(matrices) if np.array_equal(m, back @ matrices[h]))
        x0, y0 = back @ (x, y)
        there = f[0][:, h, (rows + dilation * y) % n, (columns + dilation * x) % n]
        expected[0, 0, i] += np.einsum("c,cyx->yx", weight[0, :, source, y0 + 1, x0 + 1], there)
    np.testing.assert_allclose(apply(layer, f), expected, atol=1e-12)


@every_type
def test_pooling_is_the_projection_onto_the_field(fields):
    """f(x) = 1/|G| Σ_g ρ(g) F(g, x)."""
    f = noise(1, components(fields), len(D4), 4, 4)
    expected = sum(
        acted(fields, moved(f[:, :, i], D4.inverse(g)), g)  # the position moved back: ρ(g) alone
        for i, g in enumerate(D4)
    )
    np.testing.assert_allclose(apply(GroupPool(D4, fields), f), expected / 8, atol=1e-14)


def test_a_kernel_turns_counter_clockwise():
    layer = LiftingConv(C4, (TRACER,), 1, 3).double()
    free, turned = layer.weight.detach()[0, 0], layer.expand_kernel()[0][C4.index(ROTATION_90), 0].detach()
    assert torch.equal(turned, torch.rot90(free, -1))  # rows grow upwards, rot90 draws them downwards
    assert (turned - torch.rot90(free, 1)).norm() > 1e-2


@pytest.mark.parametrize("group", GROUPS[2].values(), ids=lambda group: group.name)
def test_bad_arguments_are_refused(group):
    for size in (2, 0, -1, 4):
        with pytest.raises(ValueError, match="must be odd"):
            LiftingConv(group, (TRACER,), 2, size)
        with pytest.raises(ValueError, match="must be odd"):
            GroupConv(group, 2, 2, size)
    with pytest.raises(ValueError, match="'mean' or 'max'"):
        GroupPool(group, (TRACER,), "sum")
    with pytest.raises(ValueError, match="a vector leaves by"):
        GroupPool(group, (TRACER, VELOCITY), "max")


@every_group
def test_a_restricted_feature_is_a_feature_of_the_subgroup(group):
    """(a·F)_r = a·F_r for a in H, by index arithmetic on both sides."""
    f = noise(1, 2, len(group), *grid_of(group))
    for subgroup in subgroups(group):
        restricted = restrict(tensor(f), group, subgroup).numpy()
        assert restricted.shape[1:3] == (2 * len(group) // len(subgroup), len(subgroup))
        for a in subgroup:
            moved_first = restrict(tensor(acted_on_feature(group, f, a)), group, subgroup).numpy()
            np.testing.assert_array_equal(moved_first, acted_on_feature(subgroup, restricted, a))


@both_precisions
@every_type
@every_group
def test_readout_is_equivariant(group, fields, dtype, tolerance):
    for pool in ("mean", "gated"):
        layer = Readout(group, 3, fields, pool)
        torch.nn.init.normal_(layer.head.bias)
        f = noise(2, 3, len(group), *grid_of(group))
        after = apply(layer, f, dtype)
        for a in group:
            assert distance(apply(layer, acted_on_feature(group, f, a), dtype), acted(fields, after, a)) < tolerance


@every_type
@every_group
def test_readout_is_a_1x1_group_convolution_and_the_projection(group, fields):
    """Σ_g ρ(g) w_c F_c(g) is what a convolution whose kernel is w_c at every h gives, projected, times |G|."""
    readout, convolution = ReadoutConv(group, 2, fields), GroupConv(group, 2, components(fields), 1)
    torch.nn.init.normal_(readout.bias)
    # [F ⋆ ψ](g) = Σ_h ψ(g⁻¹h) F(h): at g⁻¹h = 1 alone, it is w F(g).
    with torch.no_grad():
        convolution.weight.zero_()
        convolution.weight[:, :, 0, 0, 0] = readout.weight * len(group)
        convolution.bias.copy_(readout.bias)
    f = noise(1, 2, len(group), *grid_of(group))
    by_two = apply(GroupPool(group, fields), apply(convolution, f))
    np.testing.assert_allclose(apply(readout, f), by_two, atol=1e-12)


def test_a_gate_multiplies_each_field_by_twice_the_sigmoid_of_a_scalar():
    fields, f = (PSEUDO, VELOCITY), noise(1, 3, len(D4), 4, 4)
    layer = Readout(D4, 3, fields, "gated")
    weight = layer.head.weight.detach()
    plain = ReadoutConv(D4, 3, (*fields, TRACER, TRACER))
    with torch.no_grad():
        plain.weight.copy_(weight)
    read = apply(plain, f)
    gates = 2 / (1 + np.exp(-read[:, 3:]))
    np.testing.assert_allclose(apply(layer, f), read[:, :3] * gates[:, [0, 1, 1]], atol=1e-12)


@pytest.mark.parametrize("pad", [1, 3, 8])
def test_periodic_padding_and_its_gradient(pad):
    x = torch.randn(2, 3, 8, 10, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.pad(x, (pad,) * 4, mode="circular")
    assert torch.equal(CircularPad.apply(x, pad), expected)
    weight = torch.randn_like(expected)
    ours, theirs = (torch.autograd.grad((y * weight).sum(), x)[0] for y in (CircularPad.apply(x, pad), expected))
    torch.testing.assert_close(ours, theirs)
    assert torch.autograd.gradgradcheck(lambda x: CircularPad.apply(x, pad).sin(), x[:1, :1].detach().requires_grad_())


@pytest.mark.parametrize("group", [C2, D2, D4], ids=lambda group: group.name)
def test_spectral_convolution_is_the_sum_over_the_modes(group):
    """F̂'(g, ξ) = Σ_h ψ̂(g⁻¹h, g⁻¹ξ) F̂(h, ξ), ψ̂ the even part of A plus i times its odd part; zero beyond the modes."""
    n, most, order = 8, 2, len(group)
    layer = SpectralGroupConv2d(group, 2, 1, most).double()
    a = layer.weight.detach().numpy()
    psi = (a + a[..., ::-1, ::-1]) / 2 + 0.5j * (a - a[..., ::-1, ::-1])
    f = noise(1, 2, order, n, n)
    spectrum, expected = np.fft.fft2(f[0]), np.zeros((order, n, n), complex)
    matrices = [np.array(g.matrix) for g in group]
    for i, h, my, mx in itertools.product(range(order), range(order), *2 * [range(-most, most + 1)]):
        back = matrices[i].T
        source = next(k for k, m in enumerate(matrices) if np.array_equal(m, back @ matrices[h]))
        x0, y0 = back @ (mx, my)
        expected[i, my, mx] += psi[0, :, source, y0 + most, x0 + most] @ spectrum[:, h, my, mx]
    np.testing.assert_allclose(apply(layer, f)[0, 0], np.fft.ifft2(expected).real, atol=1e-13)
    assert abs(np.fft.ifft2(expected).imag).max() < 1e-14


def test_spectral_convolution_refuses_grids_without_its_modes():
    with pytest.raises(ValueError, match="modes = 4 needs a grid of more than 8 cells"):
        SpectralGroupConv2d(C4, 1, 1, 4)(torch.zeros(1, 1, 4, 8, 8))
    with pytest.raises(ValueError, match="modes must be at least 1"):
        SpectralGroupConv2d(C4, 1, 1, 0)


@every_group
def test_downsampling_and_upsampling_commute_with_the_group(group):
    """On cell-centred grids; the control, every second cell, does not."""
    f = noise(1, 2, len(group), 8, 8)
    for change in (downsample, upsample):
        after = change(tensor(f)).numpy()
        for a in group:
            assert (
                distance(change(tensor(acted_on_feature(group, f, a))).numpy(), acted_on_feature(group, after, a))
                < 1e-14
            )
            strided = distance(
                acted_on_feature(group, f, a)[..., ::2, ::2], acted_on_feature(group, f[..., ::2, ::2], a)
            )
            assert strided > 1e-2 or a in (IDENTITY, MIRROR_DIAGONAL)  # which keep the first cell where it is


def test_downsampling_takes_means_and_upsampling_is_bilinear():
    y, x = (np.arange(8) + 0.5) / 8, (np.arange(4) + 0.5) / 4
    wave = np.broadcast_to(np.cos(2 * np.pi * y)[None, None, None, :, None], (1, 1, 1, 8, 8))
    half = downsample(tensor(wave)).numpy()[0, 0, 0, :, 0]
    np.testing.assert_allclose(half, np.cos(2 * np.pi * x) * np.cos(np.pi / 8), atol=1e-14)
    fine = upsample(tensor(np.broadcast_to(half[:, None], (1, 1, 1, 4, 4)))).numpy()[0, 0, 0, :, 0]
    near, far = np.repeat(half, 2), np.roll(half, 1).repeat(2)
    far[1::2] = np.roll(half, -1)
    np.testing.assert_allclose(fine, 0.75 * near + 0.25 * far, atol=1e-14)


@pytest.mark.parametrize("condition", [0.3, -2.0])
def test_modulation_scales_and_shifts_channels_alike_over_the_group(condition):
    layer = FiLM(1, 3).double()
    f = tensor(noise(2, 3, 8, 4, 4))
    numbers = torch.full((2, 1), condition, dtype=torch.float64)
    assert torch.equal(layer(f, numbers), f)  # the identity at the start
    torch.nn.init.normal_(layer.outer.weight)
    made = layer(f, numbers)
    factor = (made[:, :, :1, :1, :1] - made[:, :, 1:2, :1, :1]) / (f[:, :, :1, :1, :1] - f[:, :, 1:2, :1, :1])
    shift = made[:, :, :1, :1, :1] - factor * f[:, :, :1, :1, :1]
    torch.testing.assert_close(made, factor * f + shift)
    assert factor.std() > 1e-2


def test_normalisation_is_over_channels_and_group_together():
    f = tensor(noise(3, 4, 8, 6, 6) * 5 + 2)
    made = FeatureNorm(4).double()(f)
    flat = f.flatten(1)
    expected = (flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True, correction=0)
    torch.testing.assert_close(made.flatten(1), expected, rtol=1e-5, atol=1e-5)
