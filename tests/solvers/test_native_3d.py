"""The inner steps in space in C++ give the numbers of torch's operations."""

import pickle

import pytest
import torch

from solvers import Grid
from solvers.backends.cpp_library import why_not_compiled
from solvers.equation import TransportedScalar
from solvers.fixed_power_forcing import FixedPowerForcing
from solvers.navier_stokes_3d import NavierStokes3D

missing = why_not_compiled(3)
pytestmark = pytest.mark.skipif(missing is not None, reason=str(missing))
TOLERANCES = {torch.float64: 1e-12, torch.float32: 2e-5}
GRID = Grid((12, 16, 20), (1.0, 2.0, 3.0))
TERMS = {
    "velocity": {},
    "drag and mean velocity": {"drag": 0.3, "mean_velocity": (1.0, -2.0, 0.5)},
    "body force": {"forcing": "random"},
    "fixed power": {"power_forcing": FixedPowerForcing(power=3.0, wavenumber=2.0)},
    "tracer": {"scalar": TransportedScalar(diffusivity=0.01)},
    "gradient": {"scalar": TransportedScalar(diffusivity=0.02, mean_gradient=(0.5, -1.0, 2.0))},
    "everything": {
        "drag": 0.1,
        "forcing": "random",
        "mean_velocity": (1.0, -2.0, 0.5),
        "power_forcing": FixedPowerForcing(power=0.3, wavenumber=1.5),
        "scalar": TransportedScalar(diffusivity=0.02, mean_gradient=(0.5, -1.0, 2.0), gravity=(2.0, 3.0, -5.0)),
    },
}


def fields(components, grid, batch=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, components, *grid.n, generator=generator, dtype=torch.float64)


def solver(backend, grid=GRID, **options):
    if options.get("forcing") == "random":
        options["forcing"] = 10 * fields(3, grid, seed=5)[0]
    return NavierStokes3D(grid, **{"viscosity": 0.02, "interval": 0.1, "backend": backend} | options)


def state(grid=GRID, batch=1, has_scalar=False):
    scale = torch.tensor([1.0, 0.3, 0.6, 0.2])[: 2 if batch == 2 else batch]
    return scale[:, None, None, None, None] * fields(4 if has_scalar else 3, grid, batch)


def both(grid=GRID, batch=1, intervals=2, **options):
    """The states after some intervals, by C++ and by torch, and the carries."""
    found = []
    for backend in ("native", "torch"):
        stepper = solver(backend, grid, **options)
        carry = stepper.start(state(grid, batch, "scalar" in options))
        with torch.no_grad():
            for _ in range(intervals):
                carry = stepper.advance(carry)
        found.append((stepper.state(carry), carry))
    return (*(f[0] for f in found), *(f[1] for f in found))


def distance(a, b):
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("terms", TERMS)
def test_native_steps_are_torch_s(terms, order, dtype):
    """All terms, two trajectories with steps of their own, on a box with unequal sides and cells."""
    ours, theirs, carry, other = both(batch=2, order=order, dtype=dtype, **TERMS[terms])
    assert distance(ours, theirs) < TOLERANCES[dtype]
    assert carry.steps_taken == other.steps_taken
    assert len(set(carry.steps_taken)) == 2 or terms != "velocity"


def test_terms_count():
    """The control: without a term the numbers are others."""
    plain = both()[0]
    for name in ("drag and mean velocity", "body force", "fixed power"):
        assert distance(both(**TERMS[name])[0], plain) > 1e-2, name
    scalar = {"scalar": TransportedScalar(diffusivity=0.02)}
    assert distance(both(**TERMS["gradient"])[0], both(**scalar)[0]) > 1e-3


@pytest.mark.parametrize("n", [(8, 8, 8), (8, 10, 12), (14, 22, 26), (10, 8, 48), (50, 8, 8), (8, 36, 10), (32, 18, 8)])
def test_any_even_grid(n):
    """Odd and even largest modes, the radices 2 to 8, and primes."""
    grid = Grid(n, (1.0, 2.0, 3.0))
    scalar = TransportedScalar(diffusivity=0.01)
    ours, theirs, *_ = both(grid, intervals=1, dt=0.005, interval=0.01, scalar=scalar, dtype=torch.float64)
    assert distance(ours, theirs) < 1e-12
    assert distance(ours, state(grid, has_scalar=True)) > 1e-3


def test_fewer_modes():
    ours, theirs, *_ = both(modes=(2, 5, 3), dtype=torch.float64)
    assert distance(ours, theirs) < 1e-12


def test_terms_of_each_trajectory():
    given = {
        "viscosity": torch.tensor([0.01, 0.1]), "diffusivity": torch.tensor([0.02, 0.03]),
        "gravity": torch.tensor([[1.0, 2.0, 3.0], [4.0, -5.0, 6.0]]),
        "mean_gradient": torch.tensor([[0.5, 2.0, 1.0], [1.0, -1.0, 2.0]]),
        "mean_velocity": torch.tensor([[0.5, 0.0, 1.0], [1.0, -1.0, 0.0]]),
    }  # fmt: skip
    inputs = {name: value.reshape(2, -1, 1, 1, 1) for name, value in given.items()}
    inputs["forcing"] = fields(3, GRID, 2, seed=3)
    options = TERMS["everything"] | {"varying": ("viscosity", "diffusivity"), "dtype": torch.float64}
    results = []
    for backend in ("native", "torch"):
        stepper = solver(backend, **options)
        results.append(stepper.state(stepper.advance(stepper.start(state(batch=2, has_scalar=True), inputs))))
    assert distance(*results) < 1e-12


def test_bits_depend_on_no_neighbour_and_on_no_number_of_threads():
    """Threads share a trajectory, and groups of planes that are left over."""
    grid = Grid((40, 24, 20), (1.0, 2.0, 3.0))
    stepper = solver("native", grid, **TERMS["everything"])
    carry, native = stepper.start(state(grid, 3, has_scalar=True)), stepper._interval_solver.chosen_backend
    schemes = [stepper._interval_solver.integrator(carry, i, 9) for i in range(3)]
    after, rate = native.advance(carry.spectrum, carry.terms, schemes, [3, 2, 0], watch_rate=True)
    assert torch.equal(after[2], carry.spectrum[2])
    assert rate[:2].min() > 0
    try:
        for threads in (2, 3, 4, 7):
            torch.set_num_threads(threads)
            threaded, other = native.advance(carry.spectrum, carry.terms, schemes, [3, 2, 0], watch_rate=True)
            assert torch.equal(threaded, after)
            assert torch.equal(other, rate)
            for i in range(2):
                one = slice(i, i + 1)
                alone, _ = native.advance(carry.spectrum[one], carry.terms, schemes[one], [3 - i], watch_rate=True)
                assert torch.equal(alone[0], after[i])
    finally:
        torch.set_num_threads(1)


def test_many_steps_are_several_calls_with_the_same_bits(monkeypatch):
    stepper = solver("native", **TERMS["everything"])
    carry, native = stepper.start(state(batch=2, has_scalar=True)), stepper._interval_solver.chosen_backend
    schemes = [stepper._interval_solver.integrator(carry, i, 9) for i in range(2)]
    whole, rate = native.advance(carry.spectrum, carry.terms, schemes, [7, 4], watch_rate=True)
    monkeypatch.setattr("solvers.backends.native.CALL_CELLS", 12 * 16 * 20 * 2 * 3)
    parts, fastest = native.advance(carry.spectrum, carry.terms, schemes, [7, 4], watch_rate=True)
    assert torch.equal(parts, whole)
    assert torch.equal(fastest, rate)


def test_a_flow_at_rest_is_not_forced_and_a_state_that_is_not_finite_stays_so():
    stepper = solver("native", **TERMS["fixed power"])
    assert torch.equal(stepper(torch.zeros(1, 3, *GRID.n)), torch.zeros(1, 3, *GRID.n))
    broken = state(batch=2).clone()
    broken[1, 0, 0, 0, 0] = torch.nan
    after = stepper(broken)
    assert after[0].isfinite().all()
    assert after[1].isnan().all()


def test_gradients_take_pytorch_operations_and_a_pickle_steps_on():
    gradients = []
    for backend in ("native", "torch"):
        start = state().requires_grad_()
        stepper = solver(backend, dt=0.05, dtype=torch.float64)
        gradients.append(torch.autograd.grad(stepper(start).square().sum(), start)[0])
    assert distance(*gradients) < 1e-12
    stepper = solver("auto", dtype=torch.float64)
    assert stepper.backend == "native"
    assert torch.equal(pickle.loads(pickle.dumps(stepper))(state()), stepper(state()))
