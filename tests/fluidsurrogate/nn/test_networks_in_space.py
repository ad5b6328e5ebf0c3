"""Whole networks in space: exact under the rotations and mirrors of the cube, and under nothing else."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from reference import acted, noise

from fluidsurrogate.nn import ARCHITECTURES, DIMENSIONS, SPACE_DEFAULTS, DeepEnsemble
from fluidsurrogate.nn.layers import EquivariantConv
from fluidsurrogate.nn.losses import LOSSES, LossContext
from fluidsurrogate.nn.registry import options_of
from solvers import GROUPS, TEMPERATURE, TRACER, VELOCITY, VISCOSITY, VORTICITY, Grid, StateSpec, field_in

OH = GROUPS[3]["Oh"]
U, OMEGA, SCALAR, HEAT, NU = (field_in(f, 3) for f in (VELOCITY, VORTICITY, TRACER, TEMPERATURE, VISCOSITY))
HELICITY = replace(SCALAR, name="helicity", parity=-1)
TYPES = {
    "vector": ((U,), (U,)),
    "pseudovector": ((OMEGA,), (OMEGA,)),
    "vector and scalar": ((U, HEAT, NU), (U, HEAT)),
    "vector to pseudotensors": ((U,), (OMEGA, HELICITY)),
}
DRESSED = {"activation": "gated", "norm": True, "modulate": True, "pool": "gated"}
VARIANTS = {"default": {}, "dressed": DRESSED, "separable": {"separable": True}}
APART = {"steerable3d"}  # over groups of its own: test_steerable3d.py
KINDS = [kind for kind, build in ARCHITECTURES.items()
         if 3 in DIMENSIONS[kind] and "group" in options_of(build) and kind not in APART]  # fmt: skip
NAMES, N = ("Oh", "O", "C4v", "D2h", "C3"), 6
PRECISIONS = {"float64": 1e-10, "float32": 1e-5}
# Every kind with every group, and all else in turn.
TURNS = zip(itertools.cycle(TYPES), itertools.cycle(VARIANTS), itertools.cycle(["random", "trained"]), strict=False)
CASES = [(*pair, *turn) for pair, turn in zip(itertools.product(KINDS, NAMES), TURNS, strict=False)]
# A seventh of all combinations: 7 divides none of the numbers of choices, so that every pair of choices occurs.
PRODUCT = list(itertools.product(KINDS, GROUPS[3], TYPES, VARIANTS, ["random", "trained"]))[::7]


def build(kind, name, fields, **options):
    """A small network with random biases, in double precision."""
    torch.manual_seed(0)
    small = {"group": name, "width": len(GROUPS[3][name]) * (48 // len(GROUPS[3][name]) // 16 or 1), "lifting_size": 3,
             "dilations": (1, 2), "levels": 1}  # fmt: skip
    if kind in ("cnn", "unet"):
        small["width"] = 4
    known = options_of(ARCHITECTURES[kind])
    network = ARCHITECTURES[kind](*fields, **{k: v for k, v in (small | options).items() if k in known})
    for weight in network.parameters():
        if weight.abs().max() == 0:  # biases, and what starts as the identity
            torch.nn.init.normal_(weight, std=0.3)
    return network.double()


def state(fields, dtype=torch.float64, seed=0, batch=1, n=N):
    """Random fields that prefer a direction: smooth along z, sheared along y; numbers of the flow are uniform."""
    values = noise(fields, n, dtype, seed, batch)
    values = values + values.cumsum(-3) / 2 + values.roll(1, -2)
    values[:, 0] *= torch.linspace(0.2, 2, n, dtype=dtype)[:, None]
    values = values / values.std()
    first = 0
    for field in fields:
        if field.uniform:
            values[:, first] = values[:, first, :1, :1, :1]
        first += field.components
    return values


def errors(network, fields, x, group=OH):
    """‖f(g x) − g f(x)‖ / ‖f(x)‖ for each element, all of them in one batch."""
    with torch.no_grad():
        y = network(x)
        made = network(torch.cat([acted(fields[0], x, g) for g in group])).split(len(x))
    expected = [acted(fields[1], y, g) for g in group]
    return {g: float((a - b).norm() / y.norm()) for g, a, b in zip(group, made, expected, strict=True)}


def train(network, fields):
    """A few steps towards random fields, which no symmetry helps to reach."""
    x, target = state(fields[0], batch=2), noise(fields[1], N, seed=9)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-4)  # 3e-3 turns all units of so small a network off
    before = (network(x) - target).square().mean().item()
    for _ in range(8):
        loss = (network(x) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        assert all(w.grad.isfinite().all() for w in network.parameters() if w.grad is not None)
        optimiser.step()
    assert loss.item() < before


def check(kind, name, types, variant, weights):
    fields, group = TYPES[types], GROUPS[3][name]
    network, x = build(kind, name, fields, **VARIANTS[variant]), state(TYPES[types][0])
    if weights == "trained":
        train(network, fields)
    for g, error in errors(network, fields, x).items():
        if g in group.elements:
            assert error < PRECISIONS["float64"], g.name
        elif weights == "random":  # a network may learn some of a symmetry that it lacks
            assert error > 1e-2, g.name
    with torch.no_grad():
        y, cells = network(x), [network.stride * m for m in (1, -2, 3)]
        assert (network(x.roll(cells, (-3, -2, -1))) - y.roll(cells, (-3, -2, -1))).norm() / y.norm() < 1e-12
        for folded in (network.fold(), network.to_plain()):
            assert (folded(x) - y).norm() / y.norm() < 1e-12
    single = network.float()
    with torch.no_grad():
        rounding = float((single(x.float()).double() - y).norm() / y.norm())
    # Where a trained or normalised network amplifies rounding itself, its symmetry is as exact as its numbers.
    bound = max(PRECISIONS["float32"], 4 * rounding)
    assert bound < 1e-4
    assert max(errors(single, fields, x.float(), group).values()) < bound


@pytest.mark.parametrize(("kind", "name", "types", "variant", "weights"), CASES)
def test_contract(kind, name, types, variant, weights):
    check(kind, name, types, variant, weights)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name", "types", "variant", "weights"), PRODUCT)
def test_contract_in_full(kind, name, types, variant, weights):
    check(kind, name, types, variant, weights)


def test_rotations_that_do_not_commute_act_in_their_order():
    fields = (U,), (U,)
    network, x = build("gcnn", "O", fields), state((U,))
    turns = [g for g in GROUPS[3]["O"] if g.name in ("rotation 90 about x", "rotation 90 about y")]
    assert len(turns) == 2
    with torch.no_grad():
        a, b = (acted((U,), network(acted((U,), acted((U,), x, g), h)), h) for g, h in (turns, turns[::-1]))
        y = network(x)
        for g, h in (turns, turns[::-1]):
            ahead = acted((U,), acted((U,), y, g), h)
            after = network(acted((U,), acted((U,), x, g), h))
            assert (after - ahead).norm() / y.norm() < 1e-10
            assert (after - acted((U,), acted((U,), y, h), g)).norm() / y.norm() > 1e-2  # the control
    assert (a - b).norm() / y.norm() > 1e-2


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_wrong_parity_breaks_every_mirror(variant):
    """A velocity that is said to be a pseudovector."""
    wrong = replace(U, parity=-1)
    network = build("gcnn", "Oh", ((wrong,), (wrong,)), **VARIANTS[variant])
    for g, error in errors(network, ((U,), (U,)), state((U,))).items():
        assert error > 1e-2 if g.determinant < 0 else error < 1e-10, g.name


def test_three_scalars_are_no_vector():
    network = build("gcnn", "O", ((SCALAR,) * 3, (SCALAR,) * 3))
    found = errors(network, ((U,), (U,)), state((U,)), GROUPS[3]["O"])
    assert min(list(found.values())[1:]) > 1e-2


@pytest.mark.parametrize("kind", ["cnn", "unet"])
def test_plain_networks_keep_translations_only(kind):
    network, x = build(kind, "C1", ((U,), (U,))), state((U,))
    assert min(list(errors(network, ((U,), (U,)), x).values())[1:]) > 1e-2
    with torch.no_grad():
        y, cells = network(x), [network.stride * m for m in (1, -2, 3)]
        assert (network(x.roll(cells, (-3, -2, -1))) - y.roll(cells, (-3, -2, -1))).norm() / y.norm() < 1e-12


def test_boxes_of_unequal_sides():
    """D2h, without turns that swap axes, needs no cube."""
    network, x = build("gunet", "D2h", ((U,), (OMEGA,))), torch.randn(1, 3, 6, 8, 10, dtype=torch.float64)
    with torch.no_grad():
        y = network(x)
        for g in GROUPS[3]["D2h"]:
            sign = torch.tensor(g.signs)[:, None, None, None]
            flips = [-1 - i for i, s in enumerate(g.signs) if s < 0]
            error = network((sign * x).flip(flips)) - (g.determinant * sign * y).flip(flips)
            assert error.norm() / y.norm() < 1e-10
    with pytest.raises(ValueError, match=r"multiples of 2 cells \(got 6 x 9 x 8\)"):
        network(torch.zeros(1, 3, 6, 9, 8, dtype=torch.float64))


def test_defaults_in_space():
    network = ARCHITECTURES["gcnn"]((U,), (U,))
    assert network.group is OH
    assert network.lift.expand_kernel()[0].shape == (48, 3, 5, 5, 5)
    assert ARCHITECTURES["gcnn"]((VELOCITY,), (VELOCITY,)).group.name == "D4"
    assert ARCHITECTURES["unet"]((U,), (U,)).lift.weight.shape[:2] == (48, 3)
    assert set(SPACE_DEFAULTS["gunet"]) == {"group", "width"}


def test_architectures_of_the_plane_refuse_space():
    assert DIMENSIONS["gfno"] == (2,)
    with pytest.raises(ValueError, match=r"'gfno' is not for 3 dimensions; take one of cnn, gcnn, gunet, .*unet"):
        ARCHITECTURES["gfno"]((U,), (U,))
    with pytest.raises(ValueError, match="unknown group 'D1' in three dimensions; one of C1, Ci, "):
        ARCHITECTURES["gcnn"]((U,), (U,), group="D1")
    with pytest.raises(ValueError, match="acts on 3 dimensions, and one of the fields has others"):
        ARCHITECTURES["gcnn"]((U, TRACER), (U,))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_separable_networks_have_fewer_weights(dimensions):
    fields = (field_in(VELOCITY, dimensions),)
    dense, separable = (ARCHITECTURES["gcnn"](fields, fields, separable=s) for s in (False, True))
    assert len(dense.group) == (8, 48)[dimensions - 2]
    blocks = [sum(p.numel() for name, p in network.named_parameters() if "lift" not in name and "out" not in name)
              for network in (dense, separable)]  # fmt: skip
    assert blocks[1] < blocks[0] / (5, 15)[dimensions - 2]


@pytest.mark.parametrize("separable", [False, True])
def test_variance_is_kept_at_the_start(separable):
    """Every convolution gives out what it takes in, within a factor of two on average over smooth fields."""
    gain = {}

    def look(name):
        def hook(layer, given, made):
            gain.setdefault(name, []).append(float(made.square().mean() / given[0].square().mean()))

        return hook

    for seed in range(8):
        torch.manual_seed(seed)
        network = ARCHITECTURES["gcnn"]((SCALAR,), (SCALAR,), group="O", separable=separable, dilations=(1, 1))
        for name, layer in network.named_modules():
            if isinstance(layer, EquivariantConv):
                layer.register_forward_hook(look(name))
        spectrum = torch.fft.rfftn(torch.randn(1, 1, 8, 8, 8), dim=(-3, -2, -1))
        spectrum[..., 3:-2, :, :], spectrum[..., 3:-2, :], spectrum[..., 3:] = 0, 0, 0
        x = torch.fft.irfftn(spectrum, s=(8, 8, 8), dim=(-3, -2, -1))
        with torch.no_grad():
            network(x / x.std())
    means = {name: np.mean(values) for name, values in gain.items()}
    assert len(means) == (6 if separable else 4)
    assert means.pop("out.head") < 1
    assert 0.5 < min(means.values()) < max(means.values()) < 2, means


def test_an_ensemble_is_its_members():
    fields = (U, HEAT)
    networks = [ARCHITECTURES["gcnn"](fields, fields, group="O", separable=s % 2 == 1, dilations=(1,)) for s in (0, 0)]
    x = torch.randn(2, 1, 4, N, N, N)
    with torch.no_grad():
        expected = torch.cat([network(part) for network, part in zip(networks, x, strict=True)])
        torch.testing.assert_close(DeepEnsemble(networks)(x.flatten(0, 1)), expected, rtol=1e-4, atol=1e-5)


def test_a_plain_network_leaves_by_onnx(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install onnx onnxscript onnxruntime")
    network = build("gunet", "O", ((U,), (U,)), separable=True, levels=1).float()
    x, plain = state((U,), torch.float32, batch=2), network.to_plain()
    program = torch.onnx.export(plain, (x,), dynamo=True, input_names=["state"], verbose=False)
    program.save(tmp_path / "model.onnx")
    (got,) = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(None, {"state": x.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(got, network(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_move_with_the_group(name):
    spec = StateSpec(Grid.cube(8), (U, OMEGA, SCALAR), 1.0)
    context = LossContext(spec, torch.full((7, 1, 1, 1), 2.0, dtype=torch.float64), (4, 4, 4))
    predicted, truth = (state(spec.fields, seed=s, n=8) for s in (1, 2))
    expected = float(LOSSES[name](predicted[None], truth[None], context))
    for g in list(OH)[1::7]:
        moved = [acted(spec.fields, values, g)[None] for values in (predicted, truth)]
        assert float(LOSSES[name](*moved, context)) == pytest.approx(expected, rel=1e-12)
    turned = predicted.transpose(-1, -3)
    assert float(LOSSES[name](turned[None], truth[None], context)) != pytest.approx(expected, rel=1e-3)
