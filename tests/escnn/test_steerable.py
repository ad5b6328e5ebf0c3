"""Networks over C8, C16, D8, SO(2) and O(2): exact on the lattice, close off it, and files like any other's."""

import math

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from reference import acted, noise

pytest.importorskip("escnn.nn", reason="escnn is not installed: see `make test-escnn`")

import fluidsurrogate as fs
from fluidsurrogate import Experiment, UsageError
from fluidsurrogate.config.experiment import AnyModelConfig
from fluidsurrogate.evaluation.equivariance import equivariance_error
from fluidsurrogate.nn import ARCHITECTURES
from solvers import C4, D4, TRACER, VELOCITY, VISCOSITY, VORTICITY, FieldSpec

LATTICE = {"C8": C4, "C16": C4, "D8": D4, "SO2": C4, "O2": D4}
TYPES = {
    "pseudoscalar": ((VORTICITY,), (VORTICITY,)),
    "scalar and vector to scalar": ((TRACER, VELOCITY), (TRACER,)),
    "mixed": ((VORTICITY, VELOCITY, TRACER), (VELOCITY, VORTICITY, TRACER)),
    "pseudovector to vector": ((FieldSpec("pseudovector", 1, -1),), (VELOCITY,)),
}
N = 16

every_group = pytest.mark.parametrize("name", LATTICE)
every_type = pytest.mark.parametrize("fields", TYPES.values(), ids=TYPES)


@pytest.fixture(autouse=True)
def _same_weights():
    torch.manual_seed(0)


def build(name, fields_in=(VORTICITY,), fields_out=(VORTICITY,), **options):
    """A steerable network with random biases in double precision."""
    network = ARCHITECTURES["steerable"](fields_in, fields_out, group=name, width=32, **options)
    for key, weight in network.named_parameters():
        if key.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.3)
    return network.double()


def errors(network, fields_in, fields_out, x):
    """‖f(g x) − g f(x)‖ / ‖f(x)‖ for every element of D4 but the identity."""
    with torch.no_grad():
        y = network(x)
        return {
            g: float((network(acted(fields_in, x, g)) - acted(fields_out, y, g)).norm() / y.norm())
            for g in D4.elements[1:]
        }


@every_type
@every_group
def test_the_lattices_symmetries_are_exact(name, fields):
    network = build(name, *fields)
    assert network.group is LATTICE[name]
    for g, error in errors(network, *fields, noise(fields[0], N)).items():
        assert error < 1e-12 if g in network.group.elements else error > 1e-2


@pytest.mark.parametrize(("frequency", "samples"), [(1, 4), (3, 12), (2, 64)])
@pytest.mark.parametrize("name", ["SO2", "O2"])
def test_other_frequencies_and_samples(name, frequency, samples):
    network = build(name, dilations=(1,), frequency=frequency, samples=samples)
    for g, error in errors(network, (VORTICITY,), (VORTICITY,), noise((VORTICITY,), N)).items():
        assert error < 1e-12 if g in network.group.elements else error > 1e-2


@pytest.mark.parametrize("wrong", [((TRACER,), (VORTICITY,)), ((VORTICITY,), (TRACER,)), ((TRACER,), (TRACER,))])
@pytest.mark.parametrize("name", ["D8", "O2"])
def test_the_wrong_parity_breaks_every_mirror_and_no_rotation(name, wrong):
    for g, error in errors(build(name, *wrong), (VORTICITY,), (VORTICITY,), noise((VORTICITY,), N)).items():
        assert error > 1e-2 if g.determinant < 0 else error < 1e-12


def eddies(x, y, seed, wavelength, radius):
    """A sum of random waves of at least this length under a smooth window of this radius, at any points."""
    rng, total = np.random.default_rng(seed), 0.0
    for _ in range(12):
        k, angle = 2 * math.pi / wavelength * math.sqrt(rng.random()), 2 * math.pi * rng.random()
        phase = 2 * math.pi * rng.random()
        total = total + rng.standard_normal() * np.cos(k * (math.cos(angle) * x + math.sin(angle) * y) + phase)
    return total / math.sqrt(6) * np.exp(-(((x**2 + y**2) / radius**2) ** 2))


def turned(values, x, y, xs, ys):
    """Periodic values on the grid (x, y) at the points (xs, ys), by trigonometric interpolation."""
    n = values.shape[-1]
    k = 2 * np.pi * np.fft.fftfreq(n)
    to_x, to_y = (np.exp(1j * np.multiply.outer(at.ravel() - start, k)) for at, start in ((xs, x.min()), (ys, y.min())))
    return np.einsum("...yx,py,px->...p", np.fft.fft2(values) / n**2, to_y, to_x, optimize=True).real.reshape(
        values.shape
    )


AS_LARGE = {"width": 32, "dilations": (1, 2, 4, 2, 1), "lifting_size": 5, "activation": "gelu"}  # as `steerable` is


def off_lattice(network, fields, wavelength=8, degrees=45, n=40, mirror=False):
    """‖f(g ω) − g f(ω)‖ / ‖f(ω)‖ in a disc, g a turn, after a mirror at x = 0 if so asked; ω given at any point."""
    x, y = np.meshgrid(*2 * [np.arange(n) + 0.5 - n / 2])
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    xs, ys = c * x + s * y, -s * x + c * y
    xs, sign = (-xs, -1) if mirror else (xs, 1)
    before = np.stack([eddies(x, y, seed, wavelength, 0.23 * n) for seed in range(3)])[:, None]
    moved = sign * np.stack([eddies(xs, ys, seed, wavelength, 0.23 * n) for seed in range(3)])[:, None]
    with torch.no_grad():
        a, b = network(torch.from_numpy(moved)).numpy(), network(torch.from_numpy(before)).numpy()
    b = turned(b, x, y, xs, ys)
    if fields[0].order:
        b = np.einsum("ij,bjyx->biyx", np.array([[c, -s], [s, c]]) @ np.diag([sign, 1]), b)
    elif fields[0].parity < 0:
        b = sign * b
    inside = np.hypot(x, y) < 0.4 * n
    difference, b = (a - b)[..., inside], b[..., inside]
    return np.linalg.norm(difference) / np.linalg.norm(b - b.mean(-1, keepdims=True))


@pytest.mark.parametrize("fields", [(VORTICITY,), (VELOCITY,)], ids=["vorticity", "velocity"])
@every_group
def test_half_a_right_angle_off_the_lattice(name, fields):
    """Untrained, eddies of 16 cells and more: the plain networks are far off, the steerable ones close."""
    error = off_lattice(build(name, (VORTICITY,), fields), fields, 16)
    torch.manual_seed(0)
    plain = off_lattice(ARCHITECTURES["cnn"]((VORTICITY,), fields, **AS_LARGE).double(), fields, 16)
    lattice = off_lattice(ARCHITECTURES["gcnn"]((VORTICITY,), fields, group="D4", **AS_LARGE).double(), fields, 16)
    assert error < 0.06
    assert plain > 0.3
    assert lattice > 2 * error


@pytest.mark.parametrize("name", ["D8", "O2"])
def test_mirrors_at_odd_angles(name):
    assert off_lattice(build(name), (VORTICITY,), 16, mirror=True) < 0.1
    assert off_lattice(build(name, (TRACER,), (TRACER,)), (VORTICITY,), 16, mirror=True) > 0.5


@pytest.mark.parametrize(("larger", "smaller"), [("C16", "C8"), ("SO2", "C8"), ("O2", "D8")])
def test_smaller_angles_are_kept_by_the_larger_groups(larger, smaller):
    """A turn of half a step of eight."""
    fine, coarse = (mean_off_lattice(name, 22.5) for name in (larger, smaller))
    assert fine < 0.5 * coarse


def mean_off_lattice(name, degrees):
    found = []
    for seed in range(3):
        torch.manual_seed(seed)
        found.append(off_lattice(build(name), (VORTICITY,), 16, degrees))
    return np.mean(found)


@every_group
def test_the_network_is_the_same_folded_and_plain(name):
    network, x = build(name), noise((VORTICITY,), N)
    with torch.no_grad():
        y = network(x)
        torch.testing.assert_close(network.fold()(x), y, rtol=0, atol=1e-12)
        torch.testing.assert_close(network.to_plain()(x), y, rtol=0, atol=1e-12)
        torch.testing.assert_close(network.eval()(x), y, rtol=0, atol=0)
        torch.testing.assert_close(network.train()(x), y, rtol=0, atol=0)


@every_group
def test_every_weight_has_a_finite_gradient_and_a_use(name):
    fields = TYPES["mixed"]
    network = build(name, *fields)
    (network(noise(fields[0], N)) * noise(fields[1], N, seed=1)).sum().backward()
    for key, weight in network.named_parameters():
        assert weight.grad.isfinite().all(), key
        assert weight.grad.abs().max() > 1e-6, key


def test_a_draw_of_weights_is_the_seeds_alone():
    """escnn's own random numbers, drawn when a basis is first made, are not taken from the user's."""
    first = build("O2", frequency=1).lift.weight
    torch.manual_seed(0)
    assert torch.equal(build("O2", frequency=1).lift.weight, first)


def test_trains_saves_and_loads(toml, tmp_path):
    experiment = Experiment.read(toml, ["models.o2.kind=steerable", "models.o2.dilations=[1]", "models.o2.width=20"])
    assert experiment.models["o2"].groups() == {"group": D4}
    trained = fs.train(experiment, fs.generate(experiment))["o2"]
    data = fs.generate(experiment)
    fs.save(trained, tmp_path / "o2")
    loaded = fs.load(tmp_path / "o2")
    a, b = (fs.forecast(model, data, 3)["vorticity"].values for model in (trained, loaded))
    assert np.array_equal(a, b)
    assert np.isfinite(a).all()
    fresh = experiment.models["o2"].build(experiment.spec)
    assert any(not torch.equal(p, q) for p, q in zip(fresh.parameters(), loaded.network.parameters(), strict=True))
    states = torch.from_numpy(data["vorticity"].values[:, :1])
    assert max(equivariance_error(loaded, states, D4).values()) < 1e-4


def test_another_basis_on_disk_is_the_one_that_counts(tmp_path):
    """What the weights mean is saved with them: another machine may find other bases of the same kernels."""
    network, other = build("SO2"), build("SO2")
    with torch.no_grad():
        network.basis.values.mul_(-1)
    other.load_state_dict(network.state_dict())
    x = noise((VORTICITY,), N)
    assert torch.equal(network(x), other(x))


def test_a_uniform_input_is_typed_like_the_rest():
    fields, x = (VORTICITY, VISCOSITY), noise((VORTICITY, VISCOSITY), N)
    x[:, 1] = torch.tensor([0.2, 1.5])[:, None, None]
    network = build("O2", fields)
    with torch.no_grad():
        y = network(x)
        for g in D4:
            assert (network(acted(fields, x, g)) - acted((VORTICITY,), y, g)).norm() / y.norm() < 1e-10
        x[:, 1] += 1.0
        assert (network(x) - y).norm() / y.norm() > 1e-2


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("group=D4", "models.o2: unknown group 'D4'; one of C8, C16, D8, SO2, O2"),
        ("width=4", "models.o2: width must be at least 10, one feature of O2 (got 4)"),
        ("size=2", "models.o2: kernel size must be odd and at least 3"),
        ("samples=6", "models.o2: samples must be a multiple of 4 above 2 x frequency = 4 (got 6)"),
        ("frequency=0", "models.o2: frequency must be at least 1 (got 0)"),
        ("augment=O2", "models.o2: unknown group 'O2'; one of C1, C2, C4"),
    ],
)
def test_bad_options_are_refused(toml, override, said):
    with pytest.raises(UsageError) as caught:
        Experiment.read(toml, ["models.o2.kind=steerable", f"models.o2.{override}"])
    assert said in str(caught.value)


def test_the_group_must_be_the_grids(toml):
    with pytest.raises(UsageError, match="'D4' is not a symmetry of this rectangle"):
        Experiment.read(
            toml,
            ["models.o2.kind=steerable", "models.small-d4.group=C2", "models.small-cnn.augment=C2", "grid.n=[16, 32]"],
        )


def test_the_section_is_provenance_the_signature():
    config = TypeAdapter(AnyModelConfig).validate_python({"kind": "steerable", "group": "SO2"})
    assert config.builder_options()["frequency"] == 2
