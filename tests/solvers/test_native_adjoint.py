"""The gradients of the native steps in C++: those of torch's operations, finite differences, and what falls back."""

import math

import pytest
import torch
from examples import EXAMPLES

from solvers import FLOWS, Grid, NavierStokes2D, TransportedScalar
from solvers.backends import NativeAdjoint
from solvers.backends.cpp_library import compiled_library, why_not_compiled

missing = why_not_compiled()
pytestmark = pytest.mark.skipif(missing is not None, reason=str(missing))
GRID = Grid((16, 20), (3.0, 4.0))
KNOWN = {
    "viscosity": (1e-2, 3e-2), "drag": (0.1, 0.2), "diffusivity": (2e-2, 1e-2), "gravity": ((0.0, -1.0), (2.0, 0.5)),
    "mean_gradient": ((0.0, 1.0), (-1.0, 0.3)), "mean_velocity": ((0.3, 0.0), (-1.0, 2.0)),
}  # fmt: skip


def distance(a, b):
    return float((a - b).detach().norm() / b.detach().norm())


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def advanced(solver, state, inputs=None, intervals=2):
    carry = solver.start(state, inputs)
    for _ in range(intervals):
        carry = solver.advance(carry)
    return solver.state(carry), carry


@pytest.fixture
def operations(monkeypatch):
    """Within this fixture's call, gradients of native steps are torch's operations."""

    def without_adjoint(function):
        with monkeypatch.context() as patch:
            patch.setattr(NativeAdjoint, "why_unavailable", classmethod(lambda *_: "not wanted"))
            return function()

    return without_adjoint


def everything(dtype=torch.float64, **options):
    """Forced convection in a mean flow, and state and inputs of two trajectories."""
    given = {k: torch.tensor(v, dtype=torch.float64).reshape(2, -1, 1, 1) for k, v in KNOWN.items()}
    given |= {"state": 3 * random(2, 2, *GRID.n), "forcing": random(2, 1, *GRID.n, seed=1)}
    given["state"][1] *= 0.2
    scalar = TransportedScalar(diffusivity=0.1, gravity=(0.0, 1.0), mean_gradient=(0.0, 1.0))
    solver = NavierStokes2D(
        GRID, viscosity=0.1, scalar=scalar, forcing=torch.zeros(GRID.n), mean_velocity=(0.0, 1.0),
        varying=["viscosity", "drag", "diffusivity"], dtype=dtype, **{"interval": 0.1, **options},
    )  # fmt: skip
    return solver, {name: value.to(dtype).requires_grad_() for name, value in given.items()}


def gradients(solver, given, wanted=None):
    inputs = {name: value for name, value in given.items() if name != "state"}
    after, carry = advanced(solver, given["state"], inputs)
    loss = (after * random(*after.shape, seed=2).to(after)).sum() + (after**2).sum()
    return torch.autograd.grad(loss, [given[name] for name in wanted or given]), carry.steps_taken


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("name", EXAMPLES)
def test_gradients_are_those_of_torch_s_operations(name, order):
    """Every flow: a scalar, coupling, a mean velocity, kicks and plates, with steps of its own."""
    example = EXAMPLES[name]
    grid = example.grid(24)
    state = torch.cat([example.anything(grid, seed, rms) for seed, rms in ((0, 3.0), (1, 0.5))]).requires_grad_()
    found = []
    for backend in ("native", "torch"):
        interval = 0.1 * grid.length[0] / 6.28
        solver = example.flow.solver(grid, interval=interval, order=order, backend=backend, dtype=torch.float64)
        after, _ = advanced(solver, state)
        found.append(torch.autograd.grad((after * random(*after.shape)).sum(), state)[0])
    assert distance(*found) < 1e-12


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-4)], ids=str)
@pytest.mark.parametrize("order", [2, 4])
def test_gradients_for_state_and_all_inputs(order, dtype, tolerance):
    """Together, with steps of its own for each trajectory."""
    (ours, taken), (theirs, _) = (gradients(*everything(dtype, order=order, backend=k)) for k in ("native", "torch"))
    assert taken[0] != taken[1]
    for a, b in zip(ours, theirs, strict=True):
        assert distance(a, b) < tolerance


@pytest.mark.parametrize("order", [2, 4])
def test_gradients_match_finite_differences(order):
    """Of the native steps themselves, along a random direction of state and inputs."""
    solver, given = everything(order=order, backend="native", dt=0.0125)
    found, _ = gradients(solver, given)
    directions = [0.02 * random(*value.shape, seed=i) * value.detach().abs() for i, value in enumerate(given.values())]
    slope = sum(float((a * b).sum()) for a, b in zip(found, directions, strict=True))

    def loss(h):
        with torch.no_grad():
            moved = {k: v + h * d for (k, v), d in zip(given.items(), directions, strict=True)}
            after, _ = advanced(solver, moved.pop("state"), moved)
            return float((after * random(*after.shape, seed=2)).sum() + (after**2).sum())

    h = 2e-2
    measured = (8 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12 * h)
    assert abs(measured / slope - 1) < 1e-7


@pytest.mark.parametrize("n", [(8, 10), (34, 66), (48, 80), (100, 60), (56, 22)])
def test_any_even_grid(n):
    state, found = random(3, 1, *n).requires_grad_(), []
    for backend in ("native", "torch"):
        solver = NavierStokes2D(Grid(n, (1.0, 2.0)), viscosity=1e-3, interval=0.1, backend=backend, dtype=torch.float64)
        found.append(torch.autograd.grad((solver(state) * random(3, 1, *n, seed=1)).sum(), state)[0])
    assert distance(*found) < 1e-12


def test_terms_that_trajectories_share():
    """A forcing and a viscosity for all of the batch, through the carry: their gradients are sums over the batch."""
    found = []
    for backend in ("native", "torch"):
        solver, given = everything(backend=backend)
        shared = {name: value.detach()[:1].requires_grad_() for name, value in given.items() if name != "state"}
        carry = solver.start(given["state"].detach()[:1], shared)
        spectrum = solver.start(given["state"], {k: v.expand(2, *v.shape[1:]) for k, v in shared.items()}).spectrum
        carry = type(carry)(spectrum, carry.terms, (3, 2))
        loss = solver.state(solver.advance(carry)).square().sum()
        found.append(torch.autograd.grad(loss, list(shared.values())))
    for a, b in zip(*found, strict=True):
        assert distance(a, b) < 1e-12


def test_second_derivatives_are_torch_s():
    """A gradient of a gradient, for inputs of which one depends on another, and all rows of a Jacobian at once."""
    found = []
    for backend in ("native", "torch"):
        solver, given = everything(backend=backend, dt=0.05)
        given["forcing"] = 0.1 * given["state"][:, :1].square()
        wanted = [given[name] for name in ("state", "viscosity", "gravity")]
        after, _ = advanced(solver, given["state"], {k: v for k, v in given.items() if k != "state"})
        first = torch.autograd.grad((after**3).sum(), wanted, create_graph=True)
        norm = sum((g * random(*g.shape, seed=i)).sum() for i, g in enumerate(first))
        second = torch.autograd.grad(norm, wanted, retain_graph=True)
        rows = torch.stack([random(*after.shape, seed=i) for i in range(3)])
        jacobian = torch.autograd.grad(after, wanted, rows, is_grads_batched=True)
        found.append([*first, *second, *jacobian])
    for a, b in zip(*found, strict=True):
        assert distance(a, b) < 1e-11


@pytest.mark.parametrize("every", [1, 3, 100])
def test_a_way_back_in_several_calls(monkeypatch, every):
    """After as many steps as the user asks for, or as memory allows."""
    whole = gradients(*everything(backend="native", dt=0.0125))[0]
    asked = gradients(*everything(backend="native", dt=0.0125, checkpoint_every=every))[0]
    monkeypatch.setattr("solvers.backends.native_adjoint.KEPT_BYTES", every * 4 * 16 * 20 * 8 * 4)
    short = gradients(*everything(backend="native", dt=0.0125))[0]
    for a, b, c in zip(whole, asked, short, strict=True):
        assert distance(b, a) < 1e-13
        assert distance(c, a) < 1e-13


def test_bits_depend_on_no_neighbour_and_on_no_number_of_threads():
    example, grid = EXAMPLES["convection, tilted"], Grid.square(32)
    solver = example.flow.solver(grid, interval=0.1, dt=0.025, backend="native")
    state = torch.cat([example.anything(grid, seed, 3.0 / (1 + seed)) for seed in range(4)]).float()

    def gradient(state):
        state = state.requires_grad_()
        return torch.autograd.grad(solver(state).square().sum(), state)[0]

    alone = [gradient(one) for one in state.split(1)]
    torch.set_num_threads(3)
    try:
        assert torch.equal(gradient(state), torch.cat(alone))
    finally:
        torch.set_num_threads(1)


def test_the_forward_pass_is_that_without_gradients_and_keeps_one_spectrum():
    flow, grid = FLOWS[2]["decaying"](viscosity=1e-3), Grid.square(32)
    solver = flow.solver(grid, interval=0.1, dt=0.01, backend="native")
    state, kept = flow.starts(grid, [0, 1]).float(), {}
    plain = solver.advance(solver.start(state)).spectrum
    carry = solver.start(state.clone().requires_grad_())

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        after = solver.advance(carry)
    assert torch.equal(after.spectrum, plain)
    assert sum(math.prod(t.shape) for t in kept.values() if len(t) == 2) == carry.spectrum.numel()


def test_without_a_compiler_of_the_adjoint_torch_s_operations_are_differentiated(operations):
    made = operations(lambda: gradients(*everything(backend="native", dt=0.05)))[0]
    solver, given = everything(backend="native", dt=0.05)
    assert isinstance(solver._interval_solver.adjoint_backend, NativeAdjoint)
    for a, b in zip(made, gradients(solver, given)[0], strict=True):
        assert distance(a, b) < 1e-12


def test_three_dimensions_and_other_devices_have_no_native_adjoint(monkeypatch):
    assert NativeAdjoint.why_unavailable(torch.device("cpu"), False, 3) == "it is for two dimensions"
    assert NativeAdjoint.why_unavailable(torch.device("meta"), False, 2) == "it runs on a CPU, not on meta"
    monkeypatch.setenv("CXX", "/nowhere/c++")
    compiled_library.cache_clear()
    try:
        assert "cannot compile" in NativeAdjoint.why_unavailable(torch.device("cpu"), False, 2)
    finally:
        compiled_library.cache_clear()
