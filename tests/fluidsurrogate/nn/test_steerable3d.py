"""Networks of irreps in space: exact on the lattice, close off it, and a plain CNN when folded."""

import math
import re
import sys

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("e3nn", reason="e3nn is not installed")

from scipy.spatial.transform import Rotation

from fluidsurrogate.nn import ARCHITECTURES, EXACT_GROUPS, DeepEnsemble, cast_weights
from fluidsurrogate.nn.layers.irreps_matrix import MatrixFeature
from solvers import GROUPS, TRACER, VELOCITY, VISCOSITY, VORTICITY, FieldSpec, act_on_fields, field_in

FLOW, SWIRL, DYE, NUMBER = (field_in(field, 3) for field in (VELOCITY, VORTICITY, TRACER, VISCOSITY))
HELICITY = FieldSpec("helicity", 0, -1, dimensions=3)
OH = GROUPS[3]["Oh"]
TYPES = {
    "velocity": ((FLOW,), (FLOW,)),
    "velocity and tracer to vorticity": ((FLOW, DYE), (SWIRL,)),
    "all": ((DYE, SWIRL, FLOW, HELICITY), (HELICITY, FLOW, DYE, SWIRL)),
}
LATTICE = {"SO3": "O", "O3": "Oh"}
N = 6

every_group = pytest.mark.parametrize("group", LATTICE)
every_type = pytest.mark.parametrize("fields", TYPES.values(), ids=TYPES)


@pytest.fixture(autouse=True)
def _same_weights():
    torch.manual_seed(0)


def build(fields=((FLOW,), (FLOW,)), **options):
    """A small network in double precision, with random biases."""
    options = {"width": 24, "dilations": (1, 2), "lifting_size": 3} | options
    network = ARCHITECTURES["steerable3d"](*fields, **options)
    for weight in network.parameters():
        if weight.numel() and weight.abs().max() == 0:
            nn.init.normal_(weight, std=0.3)
    return cast_weights(network, torch.float64)


def noise(fields, seed=0, n=N, dtype=torch.float64, batch=1):
    """White noise, more of it along some directions than along others."""
    x = np.random.default_rng(seed).standard_normal((batch, sum(field.components for field in fields), n, n, n))
    x *= 1 + 0.5 * np.sin(np.arange(n))[:, None, None] + 0.3 * np.cos(np.arange(n))[:, None]
    return torch.from_numpy(x).to(dtype)


def errors(network, fields, x):
    """‖f(g x) − g f(x)‖ / ‖f(x)‖ for all 48 elements."""
    with torch.no_grad():
        y = network(x)
        return {
            g: float((network(act_on_fields(fields[0], x, g)) - act_on_fields(fields[1], y, g)).norm() / y.norm())
            for g in OH
        }


def train(network, fields, dtype=torch.float64):
    """Ten steps towards random targets, which no symmetry helps to reach."""
    x, target = noise(fields[0], dtype=dtype), noise(fields[1], seed=5, dtype=dtype)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(10):
        loss = (network(x) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    return network


@every_type
@every_group
def test_the_lattices_symmetries_are_exact(group, fields):
    network = build(fields, group=group)
    assert network.group.name == EXACT_GROUPS["steerable3d"](group, 3).name == LATTICE[group]
    for g, error in errors(network, fields, noise(fields[0])).items():
        assert error < 1e-10 if g in network.group.elements else error > 1e-2, g.name


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@every_group
def test_they_stay_exact_in_training(group, dtype, tolerance):
    fields = TYPES["all"]
    network = train(build(fields, group=group, norm=True).to(dtype), fields, dtype)
    for g, error in errors(network, fields, noise(fields[0], dtype=dtype)).items():
        assert error < tolerance if g in network.group.elements else error > 1e-2, g.name


def test_elements_that_do_not_commute():
    """A quarter turn about x after one about z, and the other way round, are not the same."""
    network, x = build(), noise((FLOW,))
    a, b = (next(g for g in OH if g.name == f"rotation 90 about {axis}") for axis in "xz")
    with torch.no_grad():
        y = network(x)
        for first, second, other in ((a, b, b), (b, a, a)):
            moved = network(act_on_fields((FLOW,), act_on_fields((FLOW,), x, first), second))
            expected = act_on_fields((FLOW,), act_on_fields((FLOW,), y, first), second)
            wrong = act_on_fields((FLOW,), act_on_fields((FLOW,), y, second), first)
            assert (moved - expected).norm() / y.norm() < 1e-10
            assert (moved - wrong).norm() / y.norm() > 0.1
            assert other in (a, b)


@pytest.mark.parametrize(
    "wrong", [((SWIRL,), (FLOW,)), ((FLOW,), (SWIRL,)), ((SWIRL,), (SWIRL,))], ids=["in", "out", "both"]
)
def test_the_wrong_parity_breaks_every_mirror_and_no_rotation(wrong):
    for g, error in errors(build(wrong), ((FLOW,), (FLOW,)), noise((FLOW,))).items():
        assert error > 1e-2 if g.determinant < 0 else error < 1e-10


def test_three_scalars_are_no_vector():
    network = build(((DYE,) * 3, (FLOW,)))
    for g, error in errors(network, ((FLOW,), (FLOW,)), noise((FLOW,))).items():
        assert (error > 1e-2) == (g.name != "identity"), g.name


@pytest.mark.parametrize("options", [{"size": 5}, {"anisotropy": math.inf},
                                     {"norm": True}], ids=str)  # fmt: skip
def test_options(options):
    assert max(errors(build(**options), ((FLOW,), (FLOW,)), noise((FLOW,))).values()) < 1e-10


@every_group
def test_shifts_are_exact_and_boxes_keep_what_they_have(group):
    network, x = build(group=group), noise((FLOW,), n=12)[:, :, :, :10, :8]
    with torch.no_grad():
        y = network(x)
        by = (1, -3, 2)
        assert (network(x.roll(by, (2, 3, 4))) - y.roll(by, (2, 3, 4))).abs().max() < 1e-12
        mirror = next(g for g in OH if g.name == "rotation 180 about z")
        moved = network(act_on_fields((FLOW,), x, mirror))
        assert (moved - act_on_fields((FLOW,), y, mirror)).norm() / y.norm() < 1e-10


def test_numbers_of_the_flow_modulate():
    fields = ((FLOW, NUMBER), (FLOW,))
    network, x = build(fields, modulate=True), noise((FLOW, NUMBER), batch=2)
    x[:, 3:] = torch.tensor([0.2, 1.5])[:, None, None, None, None]
    assert max(errors(network, fields, x).values()) < 1e-10
    with torch.no_grad():
        y = network(x)
        x[:, 3:] += 1
        assert (network(x) - y).norm() / y.norm() > 1e-2
    plain = build(fields)  # as a channel
    assert max(errors(plain, fields, x).values()) < 1e-10


class Plain(nn.Module):
    """The same layers without a symmetry."""

    def __init__(self, width, size, blocks):
        super().__init__()
        circular = {"padding": size // 2, "padding_mode": "circular"}
        self.lift = nn.Conv3d(3, width, size, **circular)
        self.blocks = nn.ModuleList(nn.Conv3d(width, width, size, **circular) for _ in range(blocks))
        self.head = nn.Conv3d(width, 3, 1)

    def forward(self, x):
        h = nn.functional.gelu(self.lift(x))
        for block in self.blocks:
            h = h + nn.functional.gelu(block(h))
        return self.head(h)


def waves(points, wavelength, radius, seed):
    """A velocity of random waves of one length under a smooth window of this radius, at any points."""
    rng, total = np.random.default_rng(seed), np.zeros((len(points), 3))
    for _ in range(16):
        k = rng.standard_normal(3)
        k *= 2 * math.pi / wavelength / np.linalg.norm(k)
        along = np.cross(k, rng.standard_normal(3))
        phase = 2 * math.pi * rng.random()
        total += along / np.linalg.norm(along) * np.cos(points @ k + phase)[:, None]
    return total / math.sqrt(8) * np.exp(-(((points**2).sum(1) / radius**2) ** 2))[:, None]


def interpolated(values, points):
    """Periodic values (component, z, y, x) at points (x, y, z) from the middle, by trigonometric interpolation."""
    n = values.shape[-1]
    k, spectrum = 2 * np.pi * np.fft.fftfreq(n), np.fft.fftn(values, axes=(1, 2, 3)) / n**3
    for axis in (1, 2, 3):
        np.moveaxis(spectrum, axis, 0)[n // 2] = 0
    x, y, z = (np.exp(1j * np.outer(along + (n - 1) / 2, k)) for along in points.T)
    parts = np.einsum("pz,czyx->pcyx", z, spectrum, optimize=True)
    parts = np.einsum("py,pcyx->pcx", y, parts, optimize=True)
    return np.einsum("px,pcx->cp", x, parts, optimize=True).real


def off_lattice(network, wavelength, n=20, seed=0):
    """‖f(R u) − R f(u)‖ / ‖f(u)‖ in the middle of the box for a random rotation R of a velocity u."""
    z, y, x = np.meshgrid(*3 * [np.arange(n) + 0.5 - n / 2], indexing="ij")
    points = np.stack([x, y, z], -1).reshape(-1, 3)
    turn = Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
    before = waves(points, wavelength, 0.35 * n, seed)
    moved = waves(points @ turn, wavelength, 0.35 * n, seed) @ turn.T  # R u(R⁻¹ x)
    inside = np.linalg.norm(points, axis=1) < 0.2 * n
    with torch.no_grad():
        both = torch.from_numpy(np.stack([before.T, moved.T]).reshape(2, 3, n, n, n)).float()
        after, of_moved = network.float()(both).numpy().astype(float)
    expected = turn @ interpolated(after, points[inside] @ turn)
    return np.linalg.norm(of_moved.reshape(3, -1)[:, inside] - expected) / np.linalg.norm(expected)


def mean_off_lattice(make, wavelength):
    found = []
    for seed in range(2):
        torch.manual_seed(seed)
        found.append(off_lattice(make(), wavelength, seed=seed))
    return np.mean(found)


@pytest.mark.parametrize("size", [3, 5])
def test_random_rotations(size):
    """Untrained: at eight cells a wavelength at most 0.10, a fifth of the plain CNN's, and less at longer waves."""

    def make(**options):
        return build(width=24, size=size, lifting_size=size, dilations=(1, 1), **options)

    short, middle, long = (mean_off_lattice(make, wavelength) for wavelength in (5, 8, 16))
    plain = mean_off_lattice(lambda: Plain(24, size, 2), 8)
    assert middle < 0.10
    assert plain > 5 * middle
    assert long < 0.7 * middle < middle < short
    if size == 3:
        assert mean_off_lattice(lambda: make(anisotropy=math.inf), 8) > 2 * middle


@every_group
def test_the_network_is_the_same_folded_and_plain(group):
    network = build(TYPES["all"], group=group, norm=True)
    x = noise(TYPES["all"][0])
    with torch.no_grad():
        y = network(x)
        for other in (network.fold(), network.to_plain()):
            torch.testing.assert_close(other(x), y, rtol=0, atol=1e-12)
    assert all(not weight.requires_grad for weight in network.to_plain().parameters())


def test_the_plain_network_is_exported():
    network = build(lifting_size=5).float()
    x = noise((FLOW,), dtype=torch.float32)
    program = torch.export.export(network.to_plain(), (x,))
    operators = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert "aten.conv3d.default" in operators
    assert "aten.index_select.default" not in operators
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x), network(x), rtol=0, atol=1e-5)


@every_group
def test_every_weight_has_a_finite_gradient_and_a_use(group):
    fields = ((*TYPES["all"][0], NUMBER), TYPES["all"][1])
    network, x = build(fields, group=group, norm=True, modulate=True), noise(fields[0])
    (network(x) * noise(fields[1], seed=1)).sum().backward()
    for key, weight in network.named_parameters():
        assert weight.grad.isfinite().all(), key
        if key.endswith("weight") and "modulation.inner" not in key:
            used = weight.grad != 0
            assert used.all(), (key, used.float().mean())


def test_variance_is_kept_at_the_start():
    """White noise through a convolution keeps its variance, and no channel is dead."""
    network = ARCHITECTURES["steerable3d"]((FLOW,), (FLOW,))
    y = network.blocks[0].conv(torch.randn(4, 48, N, N, N))
    squares = y.square().mean((0, 2, 3, 4)).detach()
    assert 0.7 < squares.mean() < 1.4
    assert squares.min() > 0.1


def test_it_learns_the_advection_of_a_flow():
    """u·∇u without its gradient part, for random u without divergence. Gates in place of products learn nothing."""
    k = torch.stack(torch.meshgrid(*3 * [torch.fft.fftfreq(8, 1 / 8)], indexing="ij")).flip(0)
    square = k.square().sum(0)

    def solenoidal(spectrum):
        return spectrum - k * (k * spectrum).sum(1, keepdim=True) / square.clamp(min=1)

    def inverse(spectrum):
        return torch.fft.ifftn(spectrum, dim=(-3, -2, -1)).real

    noise = torch.fft.fftn(torch.randn(8, 3, 8, 8, 8), dim=(2, 3, 4))
    spectrum = solenoidal(noise * ((square > 0) & (square < 3.5)))
    flow = inverse(spectrum)
    flow, spectrum = flow / flow.std(), spectrum / flow.std()
    advection = (flow[:, None] * inverse(1j * k * spectrum[:, :, None])).sum(2)
    target = inverse(solenoidal(torch.fft.fftn(advection, dim=(2, 3, 4))))
    target = target / target.std()
    network = ARCHITECTURES["steerable3d"]((FLOW,), (FLOW,), width=40, lifting_size=3, dilations=(1,))
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for step in range(60):
        some = slice(4 * (step % 2), 4 * (step % 2) + 4)
        loss = (network(flow[some]) - target[some]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.3


def test_members_of_an_ensemble():
    torch.manual_seed(0)
    members = [build() for _ in range(2)]
    x = noise((FLOW,))
    with torch.no_grad():
        together = DeepEnsemble(members)(torch.cat([x, x]))
        torch.testing.assert_close(together, torch.cat([member(x) for member in members]), rtol=0, atol=1e-10)


def test_another_basis_on_disk_is_the_one_that_counts():
    """What the weights mean is saved with them: another machine may find other bases of the same kernels."""
    network, other = build(), build()
    with torch.no_grad():
        for half in ("high", "low"):
            network.basis.get_buffer(f"{half}_1_1").mul_(-1)
    other.load_state_dict(network.state_dict())
    assert torch.equal(network(noise((FLOW,))), other(noise((FLOW,))))


def test_a_cast_to_double_precision_loses_nothing():
    single = build().float()
    assert max(errors(cast_weights(single, torch.float64), ((FLOW,), (FLOW,)), noise((FLOW,))).values()) < 1e-12


def test_shares_of_the_channels():
    feature = MatrixFeature.of_width(48, True)
    assert (feature.scalars, feature.matrices) == (12, 2)
    assert str(feature.irreps) == "14x0e + 2x0o + 2x1o + 2x1e + 2x2e + 2x2o"
    assert str(MatrixFeature.of_width(48, False).irreps) == "16x0e + 4x1e + 4x2e"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"group": "Oh"}, "unknown group 'Oh'; one of SO3, O3"),
        ({"width": 10}, "width must be at least 20, for one matrix and its scalars (got 10)"),
        ({"size": 4}, "kernel size must be odd and at least 3, to have directions (got 4)"),
        ({"dilations": (0,)}, "dilation must be at least 1 (got 0)"),
    ],
)
def test_bad_options_are_refused(options, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        build(**options)


def test_fields_of_the_plane_are_refused():
    with pytest.raises(ValueError, match=r"'steerable3d' is not for 2 dimensions; take one of .*steerable"):
        ARCHITECTURES["steerable3d"]((VORTICITY,), (VORTICITY,))


def test_without_e3nn_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "e3nn.o3", None)
    with pytest.raises(ValueError, match=r"'steerable3d' needs e3nn .*: pip install \"fluidsurrogate\[e3nn\]\""):
        build(anisotropy=0.0123)  # kernels that are not cached


def test_it_is_built_on_the_meta_device():
    with torch.device("meta"):
        network = ARCHITECTURES["steerable3d"]((FLOW,), (FLOW,))
        assert network(torch.empty(1, 3, 8, 8, 8)).shape == (1, 3, 8, 8, 8)
    assert {weight.device.type for weight in (*network.parameters(), *network.buffers())} == {"meta"}
