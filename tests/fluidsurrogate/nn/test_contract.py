"""What every architecture, group and typing promises, held to one contract: a pairwise covering of all choices in every
run, the full product under the marker `slow`. A new architecture is tested without an edit here."""

import itertools
from dataclasses import dataclass, fields, replace
from functools import cache

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from reference import acted

import fluidsurrogate as fs
from fluidsurrogate import Surrogate
from fluidsurrogate.config.experiment import AnyModelConfig
from fluidsurrogate.models.normalisation import Normalisation
from fluidsurrogate.nn import ARCHITECTURES, DIMENSIONS
from fluidsurrogate.nn.layers import EquivariantConv
from fluidsurrogate.nn.registry import options_of
from solvers import (
    D4,
    FORCING,
    GRAVITY,
    GROUPS,
    TEMPERATURE,
    TRACER,
    VELOCITY,
    VISCOSITY,
    VORTICITY,
    FieldSpec,
    Grid,
    StateSpec,
    act_on_fields,
)  # fmt: skip
from solvers.symmetry import act_on_inputs

# These need a package or are code of the user's: they have tests of their own.
APART = {"fno", "module", "steerable"} | {kind for kind, known in DIMENSIONS.items() if 2 not in known}
OPTIONS = {kind: options_of(build) for kind, build in ARCHITECTURES.items() if kind not in APART}
WITH_GROUP = [kind for kind, options in OPTIONS.items() if "group" in options]
TYPES = {
    "scalar": ((TRACER,), ()),
    "pseudoscalar": ((VORTICITY,), (FORCING, VISCOSITY)),
    "vector": ((VELOCITY,), (VISCOSITY,)),
    "pseudovector": ((FieldSpec("pseudovector", 1, -1),), ()),
    "flow and tracer": ((VORTICITY, TRACER), ()),
    "convection": ((VORTICITY, TEMPERATURE), (GRAVITY,)),
    "velocity and tracer": ((VELOCITY, TRACER), (FORCING,)),
}
# Options that change what a symmetry could break on, for those architectures that have them.
DRESSED = {"activation": "gated", "norm": True, "modulate": True, "pool": "gated"}
VARIANTS = {"default": {}, "dressed": DRESSED, "separable": {"separable": True, "norm": True}}
# Small networks, for those architectures that have these options.
SMALL = {"width": 8, "dilations": (1, 2), "levels": 1, "modes": 3, "layers": 2}


def options_for(architecture, **options):
    """Those of the small options, and of these, that an architecture has."""
    return {key: value for key, value in (SMALL | options).items() if key in OPTIONS[architecture]}


@cache
def own_group(architecture):
    """The group of an architecture that has no choice."""
    return ARCHITECTURES[architecture]((TRACER,), (TRACER,), **options_for(architecture)).group.name


@dataclass(frozen=True)
class Case:
    """One choice of everything."""

    architecture: str
    group: str
    types: str
    variant: str
    dtype: str
    n: int
    state: str

    def __str__(self):
        return "-".join(str(getattr(self, field.name)) for field in fields(self))

    @property
    def is_possible(self):
        return self.architecture in WITH_GROUP or self.group == own_group(self.architecture)


CHOICES = {
    "architecture": list(OPTIONS),
    "group": list(GROUPS[2]),
    "types": list(TYPES),
    "variant": list(VARIANTS),
    "dtype": ["float64", "float32"],
    "n": [12, 16],
    "state": ["fresh", "optimised", "eval", "loaded"],
}
ALL = [case for case in itertools.starmap(Case, itertools.product(*CHOICES.values())) if case.is_possible]


def pairwise():
    """Cases that show every possible pair of choices at least once, chosen greedily."""
    bits: dict[tuple, int] = {}  # one bit a pair, so that a set of pairs is an integer: every collection runs this

    def pairs(case):
        values = enumerate(vars(case).values())
        return sum(1 << bits.setdefault(pair, len(bits)) for pair in itertools.combinations(values, 2))

    shuffled = [(ALL[i], pairs(ALL[i])) for i in np.random.default_rng(0).permutation(len(ALL))]
    missing, chosen = (1 << len(bits)) - 1, []
    while missing:
        some = shuffled[len(chosen) * 37 % len(ALL) :][:600] or shuffled
        best, shown = max(some, key=lambda entry: (entry[1] & missing).bit_count())
        if not shown & missing:
            best, shown = max(shuffled, key=lambda entry: (entry[1] & missing).bit_count())
        chosen.append(best)
        missing &= ~shown
    return chosen


def the_product():
    """Every architecture, group, typing, variant and precision; size and state in turn."""
    turn = itertools.cycle(itertools.product(CHOICES["n"], CHOICES["state"]))
    products = itertools.product(*(CHOICES[key] for key in ("architecture", "group", "types", "variant", "dtype")))
    cases = [Case(*choice, *next(turn)) for choice in products]
    return [case for case in cases if case.is_possible]


def model_of(case, types=None, group=None):
    """A surrogate with random weights throughout; `types` in place of its fields in, to get them wrong."""
    state, inputs = TYPES[case.types]
    spec = StateSpec(Grid.square(case.n), state, 0.1, inputs)
    options = options_for(case.architecture, group=group or case.group, **VARIANTS[case.variant])
    keys = {"kind": case.architecture, **options}
    config = TypeAdapter(AnyModelConfig).validate_python(keys, strict=False)
    torch.manual_seed(1)
    network = (
        config.build(spec) if types is None else ARCHITECTURES[case.architecture](*types, **config.builder_options())
    )
    for weight in network.parameters():
        if weight.abs().max() == 0:  # biases, and what starts as the identity
            torch.nn.init.normal_(weight, std=0.3)
    typed = spec.fields + spec.inputs
    shift = tuple(0.3 if field.order == 0 and field.parity > 0 else 0.0 for field in typed)
    velocity_scale = 0.3 if types is None and config.takes_velocity(spec) else None
    scale = tuple(1.0 + 0.1 * i for i in range(len(typed)))
    normalisation = Normalisation(shift, scale, (0.5,) * len(state), (5, 5), velocity_scale=velocity_scale)
    return Surrogate(network.to(getattr(torch, case.dtype)), spec, normalisation, config, {"name": "contract"})


def start_of(model, seed=0):
    """A random state and inputs of the model's types."""
    rng, spec, dtype = np.random.default_rng(seed), model.spec, model.step.scale.dtype

    def values(field):
        return torch.from_numpy(rng.standard_normal((2, field.components, *field.extent(spec.grid)))).to(dtype)

    state = torch.cat([values(field) for field in spec.fields], dim=1)
    return state, {field.name: values(field) for field in spec.inputs}


def turned(spec, state, inputs, g):
    """State and inputs moved by index arithmetic."""
    typed = {field.name: field for field in spec.inputs}
    moved = {}
    for name, value in inputs.items():
        whole = value.expand(-1, -1, *spec.grid.n)
        moved[name] = acted((typed[name],), whole, g)[..., : value.shape[-2], : value.shape[-1]]
    return acted(spec.fields, state, g), moved


def errors_of(model):
    """‖f(gx) − g f(x)‖ / ‖f(x) − x‖ for every element of D4."""
    state, inputs = start_of(model)
    with torch.no_grad():
        after = model(state, inputs)
        change, errors = float((after - state).norm()), {}
        for g in D4:
            moved = model(*turned(model.spec, state, inputs, g))
            errors[g] = float((moved - acted(model.spec.fields, after, g)).norm()) / change
    assert change > 1e-4 * float(state.norm())
    return errors


def optimise(model):
    """Twenty steps towards random targets, which no symmetry helps to reach; every gradient is finite."""
    state, inputs = start_of(model)
    target = state + start_of(model, seed=9)[0]
    optimiser = torch.optim.AdamW(model.network.parameters(), lr=3e-3)
    for _ in range(20):
        loss = (model(state, inputs) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        assert all(weight.grad.isfinite().all() for weight in model.network.parameters() if weight.grad is not None)
        optimiser.step()


def check(case, tmp_path):
    model, group = model_of(case), GROUPS[2][case.group]
    if case.state == "optimised":
        optimise(model)
    elif case.state == "eval":
        model.network.eval()
    elif case.state == "loaded":
        before = model(*start_of(model)).detach()
        fs.save(model, tmp_path / "model")
        model = fs.load(tmp_path / "model")
        assert torch.equal(model(*start_of(model)).detach(), before)
    tolerance = 1e-10 if case.dtype == "float64" else 1e-4
    for g, error in errors_of(model).items():
        if g in group.elements:
            assert error < tolerance, g.name
        elif case.state != "optimised":  # a network may learn some of a symmetry that it lacks
            assert error > 1e-2, g.name
    state, inputs = start_of(model)
    with torch.no_grad():
        after = model(state, inputs)
        assert (after - state).mean((-2, -1)).abs().max() < 1e-5  # means are conserved
        by = (model.network.stride, -3 * model.network.stride)
        shifted = {k: v if v.shape[-1] == 1 else v.roll(by, (-2, -1)) for k, v in inputs.items()}
        error = model(state.roll(by, (-2, -1)), shifted) - after.roll(by, (-2, -1))
        assert error.norm() / (after - state).norm() < tolerance
        folded = fs.as_module(model)(state, *(inputs[field.name] for field in model.spec.inputs))
        assert (folded - after).norm() / (after - state).norm() < tolerance


def test_the_known_architectures_are_here():
    assert set(OPTIONS) >= {"cnn", "gcnn", "gfno", "gunet", "unet"}
    assert set(ARCHITECTURES) >= APART


@pytest.mark.parametrize("third", [VELOCITY, TRACER], ids=["velocity in the state", "velocity of the vorticity"])
@pytest.mark.parametrize("architecture", WITH_GROUP)
def test_contract_between_plates_on_a_rectangle(architecture, third):
    """D2 where dx is not dy, fields with a parity about the plates, gravity turning along."""
    fields = (replace(VORTICITY, wall=-1), replace(TEMPERATURE, wall=-1), replace(third, wall=1))
    spec = StateSpec(Grid((16, 12), (2.0, 5.0)), fields, 0.1, (GRAVITY,))
    keys = {"kind": architecture, **options_for(architecture, group="D2")}
    config = TypeAdapter(AnyModelConfig).validate_python(keys, strict=False)
    torch.manual_seed(0)
    assert config.takes_velocity(spec) == (third is TRACER)
    velocity_scale = 0.3 if third is TRACER else None
    normalisation = Normalisation(
        (0.0, 0.2, 0.0, 0.0), (1.0, 1.0, 2.0, 1.0), (0.5, 0.5, 0.5), (5, 3), velocity_scale=velocity_scale
    )
    model = Surrogate(config.build(spec, torch.float64).double(), spec, normalisation, config, {})
    state, inputs = start_of(model)
    with torch.no_grad():
        after = model(state, inputs)
        change = (after - state).norm()
        for g in GROUPS[2]["D2"]:
            moved = model(act_on_fields(fields, state, g), act_on_inputs(spec, inputs, g))
            assert (moved - act_on_fields(fields, after, g)).norm() / change < 1e-10
        signs = torch.tensor([-1.0, -1.0, 1.0, -1.0][: spec.components])[:, None, None]
        assert ((after - state).flip(-2) - signs * (after - state)).abs().max() < 1e-12


@pytest.mark.parametrize("case", pairwise(), ids=str)
def test_contract(case, tmp_path):
    check(case, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", the_product(), ids=str)
def test_contract_in_full(case, tmp_path):
    check(case, tmp_path)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("architecture", WITH_GROUP)
def test_the_wrong_parity_breaks_every_mirror(architecture, variant):
    case = Case(architecture, "D4", "pseudoscalar", variant, "float64", 16, "fresh")
    plain = replace(VORTICITY, name="plain", parity=1)
    inputs = tuple(replace(field, parity=1) for field in (FORCING, VISCOSITY))
    for g, error in errors_of(model_of(case, types=((plain, *inputs), (plain,)))).items():
        assert error > 1e-2 if g.determinant < 0 else error < 1e-10


@pytest.mark.parametrize("architecture", ["gcnn", "gfno"])
@pytest.mark.parametrize("group", ["C4", "D1d", "D4"])
def test_networks_on_odd_sides(architecture, group):
    """Nothing but halving needs an even side."""
    network = ARCHITECTURES[architecture]((VORTICITY,), (VORTICITY,), group=group, width=8).double()
    x = torch.randn(2, 1, 15, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = network(x)
        for g in GROUPS[2][group]:
            assert (network(acted((VORTICITY,), x, g)) - acted((VORTICITY,), y, g)).norm() / y.norm() < 1e-10


def test_an_odd_level_is_refused():
    network = ARCHITECTURES["gunet"]((VORTICITY,), (VORTICITY,), width=8, levels=2)
    with pytest.raises(ValueError, match=r"multiples of 4 cells \(got 18 x 18\)"):
        network(torch.zeros(1, 1, 18, 18))


@pytest.mark.parametrize("group", ["C2", "D1", "D1y", "D2"])
@pytest.mark.parametrize("architecture", WITH_GROUP)
def test_rectangles(architecture, group):
    """C2, and the mirrors along the axes, need no square."""
    options = options_for(architecture, group=group)
    network = ARCHITECTURES[architecture]((VORTICITY, VELOCITY), (VELOCITY,), **options).double()
    x = torch.randn(2, 3, 16, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = network(x)
        for g in GROUPS[2][group]:
            sign = np.array(g.matrix).diagonal()
            flips = [axis for axis, s in ((-1, sign[0]), (-2, sign[1])) if s < 0]
            vector = torch.tensor(sign.copy())[:, None, None]
            moved = torch.cat([g.determinant * x[:, :1], vector * x[:, 1:]], 1).flip(flips)
            assert (network(moved) - (vector * y).flip(flips)).norm() / y.norm() < 1e-10


@pytest.mark.parametrize("group", ["C1", "C4", "D4"])
@pytest.mark.parametrize("architecture", ["gcnn", "gunet", "gfno"])
def test_variance_is_kept_at_the_start(architecture, group):
    """Every convolution gives out what it takes in, within a factor of two, and no channel is dead. The readout, which
    averages over the group, gives out no more."""
    drawn = [gains(architecture, group, seed) for seed in range(8)]
    assert len(drawn[0]) >= 5
    means = {name: float(np.mean([gain[name] for gain in drawn])) for name in drawn[0]}
    assert max(means.values()) < 2, means
    assert means.pop("out.head") > 0.02
    assert min(means.values()) > 0.5, means


def gains(architecture, group, seed):
    """Mean square out over mean square in, of the modes that it keeps, for every convolution of a fresh network."""
    torch.manual_seed(seed)
    network = ARCHITECTURES[architecture]((VORTICITY,), (VORTICITY,) * 8, group=group)
    names = {layer: name for name, layer in network.named_modules() if isinstance(layer, EquivariantConv)}
    gain = {}

    def look(layer, given, made):
        taken = given[0] if given[0].ndim == 4 else given[0].flatten(1, 2)
        taken = low_pass(taken, layer.modes) if hasattr(layer, "modes") else taken
        gain[names[layer]] = float(made.square().mean() / taken.square().mean())
        assert (made.flatten(-2).std(-1) > 0.02 * made.std()).all(), names[layer]

    for layer in names:
        layer.register_forward_hook(look)
    x = low_pass(torch.randn(2, 1, 32, 32), 8)
    with torch.no_grad():
        network(x / x.std())
    return gain


def low_pass(x, modes):
    spectrum = torch.fft.rfft2(x)
    rows = torch.fft.fftfreq(x.shape[-2], 1 / x.shape[-2]).abs()
    spectrum[..., rows > modes, :] = 0
    spectrum[..., modes + 1 :] = 0
    return torch.fft.irfft2(spectrum, s=x.shape[-2:])
