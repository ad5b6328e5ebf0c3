"""Our layers against escnn's: the same functions of the same weights, with the same gradients.

escnn's plane has y upwards and its rows grow downwards; our rows grow with y. With J = diag(1, −1) our element g is
escnn's J g J, our vector v its J v, and a quarter turn goes the other way round; arrays stay as they are. Both order a
regular representation by (a·F)(g) = F(a⁻¹g), so that features differ by the order of elements alone. A default R2Conv
spans a part of all equivariant kernels, and our layers span all of them: weights are carried from escnn to us.
"""

import numpy as np
import pytest
import torch

pytest.importorskip("escnn.nn", reason="escnn is not installed: see `make test-escnn`")

from escnn import gspaces, nn
from escnn.group import directsum

from fluidsurrogate.nn import GroupConv, GroupPool, LiftingConv
from solvers import C4, D4, TRACER, VELOCITY, VORTICITY

N, CHANNELS, TOLERANCE = 10, 3, 1e-5  # escnn samples its kernels in single precision
DOWN = np.diag([1.0, -1.0])
SPACES = {C4: gspaces.rot2dOnR2(4), D4: gspaces.flipRot2dOnR2(4)}
TYPES = {
    "scalar": (TRACER,),
    "pseudoscalar": (VORTICITY,),
    "vector": (VELOCITY,),
    "mixed": (VORTICITY, VELOCITY, TRACER),
}

every_group = pytest.mark.parametrize("group", [C4, D4], ids=lambda group: group.name)
every_type = pytest.mark.parametrize("fields", TYPES.values(), ids=TYPES)
every_size = pytest.mark.parametrize("size", [3, 5])


def matrices(space):
    """g as escnn's action on the plane says, for its elements in its order."""
    return [space.basespace_action(element) for element in space.fibergroup.elements]


def order(group, to_escnn=lambda g: DOWN @ g @ DOWN):
    """The position in escnn's regular representation of each of our elements."""
    theirs = matrices(SPACES[group])
    return [next(i for i, m in enumerate(theirs) if np.allclose(m, to_escnn(np.array(g.matrix)))) for g in group]


def same_matrix(g):
    """The wrong correspondence: as if escnn's rows grew upwards, too."""
    return g


def irreps(group, fields):
    """escnn's irreps for a stack of fields, and M with (escnn's components) = M (ours)."""
    space, mirrors = SPACES[group], group is D4
    vector = space.basespace_action
    frequency_1 = space.irrep(1, 1) if mirrors else space.irrep(1)
    found, maps = [], []
    for field in fields:
        if field.order:
            found.append(frequency_1)  # the action on the plane is Q irrep Q⁻¹
            maps.append(torch.from_numpy(vector.change_of_basis_inv @ DOWN))
        else:
            found.append(space.irrep(1, 0) if mirrors and field.parity < 0 else space.trivial_repr)
            maps.append(torch.eye(1, dtype=torch.float64))
    return found, torch.block_diag(*maps)


def regular(group, channels=CHANNELS):
    return nn.FieldType(SPACES[group], [SPACES[group].regular_repr] * channels)


def convolution(type_in, type_out, size, dilation=1):
    """escnn's layer with circular padding, in double precision, with a random bias."""
    pad = dilation * (size // 2)
    layer = nn.R2Conv(type_in, type_out, size, pad, dilation=dilation, padding_mode="circular", recompute=True).double()
    torch.nn.init.normal_(layer.bias)
    return layer


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def distance(a, b):
    return float(((a - b).norm() / b.norm()).detach())


@pytest.fixture(autouse=True)
def _same_weights():
    torch.manual_seed(0)


def carried(theirs, group, elements, map_in, layer):
    """escnn's expanded kernel and bias as ours: the slice on the identity. Differentiable."""
    kernel, bias = theirs.expand_parameters()
    kernel = kernel.unflatten(0, (CHANNELS, len(group)))[:, elements[0]]
    kernel = torch.einsum("oiyx,ij->ojyx", kernel, map_in).reshape(layer.weight.shape)
    return kernel, bias.unflatten(0, (CHANNELS, len(group)))[:, elements[0]]


def compare(ours, theirs, group, elements, map_in, values):
    """Relative errors of output, input gradient and weight gradients; `map_in` takes our components to escnn's."""
    ours = ours.double()
    with torch.no_grad():
        for mine, given in zip((ours.weight, ours.bias), carried(theirs, group, elements, map_in, ours), strict=True):
            mine.copy_(given)
    cotangent = noise(2, CHANNELS, len(group), N, N, seed=1)

    x = values.clone().requires_grad_()
    flat = x.flatten(1, -3)
    y = ours(x)
    (y * cotangent).sum().backward()

    z = torch.einsum("ij,bjyx->biyx", map_in, flat.detach()).requires_grad_()
    out = theirs(nn.GeometricTensor(z, theirs.in_type)).tensor.unflatten(1, (CHANNELS, len(group)))[:, :, elements]
    (out * cotangent).sum().backward()
    theirs_in = torch.einsum("ij,biyx->bjyx", map_in, z.grad).reshape(x.shape)

    # Our gradient is with respect to the free kernel; pulled back to what escnn trains it must be escnn's.
    pulled = torch.autograd.grad(
        carried(theirs, group, elements, map_in, ours),
        (theirs.weights, theirs.bias),
        (ours.weight.grad, ours.bias.grad),
    )
    return {
        "output": distance(y, out),
        "input gradient": distance(x.grad, theirs_in),
        "weight gradient": distance(pulled[0], theirs.weights.grad),
        "bias gradient": distance(pulled[1], theirs.bias.grad),
    }


def compare_lifting(group, fields, size, elements):
    found, map_in = irreps(group, fields)
    theirs = convolution(nn.FieldType(SPACES[group], found), regular(group), size)
    return compare(LiftingConv(group, fields, CHANNELS, size), theirs, group, elements, map_in,
                   noise(2, len(map_in), N, N))  # fmt: skip


def compare_group_convolution(group, size, elements, dilation=1):
    theirs = convolution(regular(group, 2), regular(group), size, dilation)
    # (escnn's channel) = (ours) in the order of elements
    reorder = torch.eye(len(group), dtype=torch.float64)[elements].T
    return compare(GroupConv(group, 2, CHANNELS, size, dilation), theirs, group, elements,
                   torch.block_diag(reorder, reorder), noise(2, 2, len(group), N, N))  # fmt: skip


@every_size
@every_type
@every_group
def test_lifting_is_escnns_convolution_onto_the_regular_representation(group, fields, size):
    errors = compare_lifting(group, fields, size, order(group))
    assert max(errors.values()) < TOLERANCE, errors


@pytest.mark.parametrize(("size", "dilation"), [(3, 1), (5, 1), (3, 2)])
@every_group
def test_group_convolution_is_escnns_between_regular_representations(group, size, dilation):
    errors = compare_group_convolution(group, size, order(group), dilation)
    assert max(errors.values()) < TOLERANCE, errors


@every_size
@every_group
def test_the_wrong_order_of_elements_is_far_off(group, size):
    wrong = order(group, same_matrix)
    assert wrong != order(group)
    for errors in (
        compare_lifting(group, (TRACER,), size, wrong),
        compare_lifting(group, (VORTICITY, VELOCITY, TRACER), size, wrong),
        compare_group_convolution(group, size, wrong),
    ):
        assert errors["output"] > 1e-2


@pytest.mark.parametrize(("ours", "theirs"), [((TRACER,), (VORTICITY,)), ((VORTICITY,), (TRACER,))])
def test_the_wrong_parity_is_far_off(ours, theirs):
    found, map_in = irreps(D4, theirs)
    theirs, ours = convolution(nn.FieldType(SPACES[D4], found), regular(D4), 5), LiftingConv(D4, ours, CHANNELS, 5)
    assert compare(ours, theirs, D4, order(D4), map_in, noise(2, 1, N, N))["output"] > 1e-2


@every_group
def test_a_mirrored_kernel_is_far_off(group):
    found, map_in = irreps(group, (VORTICITY,))
    theirs = convolution(nn.FieldType(SPACES[group], found), regular(group), 5)
    ours, elements, x = LiftingConv(group, (VORTICITY,), CHANNELS, 5).double(), order(group), noise(2, 1, N, N)
    out = theirs(nn.GeometricTensor(x, theirs.in_type)).tensor.unflatten(1, (CHANNELS, len(group)))[:, :, elements]
    for mirrored in (False, True):
        with torch.no_grad():
            kernel, bias = carried(theirs, group, elements, map_in, ours)
            ours.weight.copy_(kernel.flip(-2) if mirrored else kernel)
            ours.bias.copy_(bias)
            error = distance(ours(x), out)
        assert error > 1e-2 if mirrored else error < TOLERANCE


@every_group
def test_pooling_scalars_by_the_maximum_is_escnns(group):
    x, elements = noise(2, CHANNELS, len(group), N, N).float(), order(group)  # escnn's output is of single precision
    theirs = torch.empty_like(x)
    theirs[:, :, elements] = x
    pooled = nn.GroupPooling(regular(group))(nn.GeometricTensor(theirs.flatten(1, 2), regular(group))).tensor
    assert torch.equal(GroupPool(group, (TRACER,) * CHANNELS, "max")(x), pooled)


def distance_from_intertwiners(group, fields, claimed, elements):
    """How far mean pooling onto `fields` is from all that escnn's 1 × 1 convolutions onto `claimed` can do."""
    found, components = irreps(group, claimed)
    # escnn tells representations apart by name
    target = nn.FieldType(SPACES[group], [directsum(found, name="+".join(["stack", *(f.name for f in found)]))])
    layer = nn.R2Conv(regular(group, len(components)), target, 1, bias=False, recompute=True).double()
    span = []
    for coefficients in torch.eye(len(layer.weights), dtype=torch.float64):
        with torch.no_grad():
            layer.weights.copy_(coefficients)
        kernel = layer.expand_parameters()[0][:, :, 0, 0].detach().unflatten(1, (-1, len(group)))[:, :, elements]
        span.append((components.T @ kernel.flatten(1)).flatten())
    pool = GroupPool(group, fields).double()
    unit = torch.eye(len(components) * len(group), dtype=torch.float64)
    ours = pool(unit.unflatten(1, (len(components), len(group)))[..., None, None])[..., 0, 0].T.flatten()
    columns = torch.stack(span, 1)
    return distance(columns @ torch.linalg.lstsq(columns, ours[:, None]).solution[:, 0], ours)


@every_type
@every_group
def test_pooling_by_the_mean_is_one_of_escnns_intertwiners(group, fields):
    assert distance_from_intertwiners(group, fields, fields, order(group)) < TOLERANCE


def test_pooling_by_the_mean_with_the_wrong_type_or_order_is_none():
    assert distance_from_intertwiners(D4, (VORTICITY,), (TRACER,), order(D4)) > 1e-2
    assert distance_from_intertwiners(D4, (TRACER,), (VORTICITY,), order(D4)) > 1e-2
    for group in (C4, D4):
        assert distance_from_intertwiners(group, (VELOCITY,), (VELOCITY,), order(group, same_matrix)) > 1e-2


@every_group
def test_pooling_scalars_by_the_mean_is_the_average_of_escnns_feature(group):
    x, elements = noise(2, CHANNELS, len(group), N, N), order(group)
    theirs = torch.empty_like(x)
    theirs[:, :, elements] = x
    torch.testing.assert_close(GroupPool(group, (TRACER,) * CHANNELS)(x), theirs.mean(2))
