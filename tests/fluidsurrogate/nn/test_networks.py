"""Whole networks commute with their group and with nothing else."""

import numpy as np
import pytest
import torch
from reference import acted, noise

from fluidsurrogate.nn import ARCHITECTURES
from solvers import D4, GROUPS, TRACER, VELOCITY, VORTICITY

NAMES = ["C2", "C4", "D1", "D2", "D4"]
TYPES = {
    "pseudoscalar to pseudoscalar": ((VORTICITY,), (VORTICITY,)),
    "scalar and vector to scalar": ((TRACER, VELOCITY), (TRACER,)),
    "mixed to mixed": ((VORTICITY, VELOCITY, TRACER), (VELOCITY, VORTICITY, TRACER)),
}
PRECISIONS = [(torch.float64, 1e-10), (torch.float32, 1e-4)]
N = 16

every_group = pytest.mark.parametrize("name", NAMES)
every_type = pytest.mark.parametrize("fields", TYPES.values(), ids=TYPES)
both_precisions = pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS, ids=["float64", "float32"])


@pytest.fixture(autouse=True)
def _same_weights():
    torch.manual_seed(0)


def components(fields):
    return sum(field.components for field in fields)


def build(name, fields_in, fields_out, pool="mean", dtype=torch.float64):
    """A small group CNN with random biases; the plain CNN for the name "cnn"."""
    options = {"width": 16, "dilations": (1, 2)}
    if name == "cnn":
        network = ARCHITECTURES["cnn"](fields_in, fields_out, **options)
    else:
        network = ARCHITECTURES["gcnn"](fields_in, fields_out, group=name, pool=pool, **options)
    for key, weight in network.named_parameters():
        if key.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.3)
    return network.to(dtype)


def errors(network, fields_in, fields_out, x, group=D4):
    """‖f(g x) − g f(x)‖ / ‖f(x)‖ for every element but the identity."""
    with torch.no_grad():
        y = network(x)
        return {
            g: float((network(acted(fields_in, x, g)) - acted(fields_out, y, g)).norm() / y.norm())
            for g in group.elements[1:]
        }


@both_precisions
@every_type
@every_group
def test_networks_are_equivariant(name, fields, dtype, tolerance):
    network = build(name, *fields, dtype=dtype)
    assert max(errors(network, *fields, noise(fields[0], N, dtype), GROUPS[2][name]).values()) < tolerance


@both_precisions
@pytest.mark.parametrize("out", [(TRACER,), (VORTICITY,), (VORTICITY, TRACER)], ids=["scalar", "pseudoscalar", "both"])
@every_group
def test_networks_that_pool_by_the_maximum_are_equivariant(name, out, dtype, tolerance):
    network = build(name, (VORTICITY, VELOCITY), out, "max", dtype)
    x = noise((VORTICITY, VELOCITY), N, dtype)
    assert max(errors(network, (VORTICITY, VELOCITY), out, x, GROUPS[2][name]).values()) < tolerance


@pytest.mark.parametrize("pool", ["mean", "max"])
@pytest.mark.parametrize("wrong", [((TRACER,), (VORTICITY,)), ((VORTICITY,), (TRACER,)), ((TRACER,), (TRACER,))])
def test_the_wrong_parity_breaks_every_mirror_and_no_rotation(wrong, pool):
    network = build("D4", *wrong, pool)
    for g, error in errors(network, (VORTICITY,), (VORTICITY,), noise((VORTICITY,), N)).items():
        assert error > 1e-2 if g.determinant < 0 else error < 1e-10


@every_type
def test_the_plain_network_keeps_nothing(fields):
    assert min(errors(build("cnn", *fields), *fields, noise(fields[0], N)).values()) > 1e-2


@every_type
@pytest.mark.parametrize("name", ["C2", "C4", "D2"])
def test_a_smaller_group_keeps_no_more_than_itself(name, fields):
    network = build(name, *fields)
    for g, error in errors(network, *fields, noise(fields[0], N)).items():
        assert error < 1e-10 if g in GROUPS[2][name].elements else error > 1e-2


@pytest.mark.parametrize("name", ["D4", "cnn"])
def test_networks_commute_with_whole_cells(name):
    network, x = build(name, (VORTICITY,), (VORTICITY,)), noise((VORTICITY,), N)
    with torch.no_grad():
        y = network(x)
        for cells in ((1, 0), (0, -3), (5, 7)):
            assert (network(x.roll(cells, (-2, -1))) - y.roll(cells, (-2, -1))).norm() / y.norm() < 1e-12
        assert (network(x.roll(1, -1)) - y).norm() / y.norm() > 1e-2


@pytest.mark.parametrize("pool", ["mean", "max"])
@pytest.mark.parametrize("name", ["C4", "D4"])
def test_folding_once_is_the_network(name, pool):
    network, x = build(name, (VORTICITY,), (VORTICITY,), pool), noise((VORTICITY,), N)
    folded = network.fold()
    with torch.no_grad():
        assert (folded(folded(x)) - network(network(x))).abs().max() < 1e-13
    by_fold, directly = (
        torch.autograd.grad(f(f(x)).square().sum(), network.parameters(), allow_unused=True)
        for f in (network.fold(), network)
    )
    for a, b in zip(by_fold, directly, strict=True):
        assert (a - b).norm() <= 1e-10 * b.norm() + 1e-12


@every_type
@pytest.mark.parametrize("name", [*NAMES, "cnn"])
def test_every_weight_has_a_finite_gradient_and_a_use(name, fields):
    network = build(name, *fields)
    (network(noise(fields[0], N)) * noise(fields[1], N, seed=1)).sum().backward()
    for key, weight in network.named_parameters():
        assert weight.grad.isfinite().all(), key
        assert key == "out.head.bias" or weight.grad.abs().max() > 1e-6, key
    # The last bias is used where a constant may be added: where the mean of ρ(g) over the group is not zero.
    alive = []
    for field in fields[1]:
        signs = [np.linalg.det(g.matrix) if field.parity < 0 else 1 for g in network.group]
        matrices = [np.array(g.matrix) if field.order else np.eye(1) for g in network.group]
        mean = sum(sign * matrix for sign, matrix in zip(signs, matrices, strict=True))
        alive += (np.abs(mean).sum(0) > 1e-9).tolist()
    assert (network.out.head.bias.grad.abs() > 1e-6).tolist() == alive


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": "D3"}, "unknown group 'D3'"),
        ({"group": "D4", "width": 12}, "width must be a multiple of the 8 elements"),
        ({"group": "D4", "width": 0}, "width must be a multiple"),
        ({"lifting_size": 4}, "must be odd"),
        ({"size": 2}, "must be odd"),
        ({"pool": "sum"}, "'mean', 'gated' or 'max'"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ARCHITECTURES["gcnn"]((VORTICITY,), (VORTICITY,), **options)


def test_a_vector_does_not_leave_by_the_maximum():
    with pytest.raises(ValueError, match="vector"):
        ARCHITECTURES["gcnn"]((VORTICITY,), (VELOCITY,), pool="max")
