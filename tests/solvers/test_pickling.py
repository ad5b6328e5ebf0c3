"""A solver, its carry and what describes a flow can be pickled and copied, before and after they were used."""

import copy
import pickle

import pytest
import torch
from examples import EXAMPLES

from solvers import D4, FLOWS, GROUPS, Grid, NavierStokes2D, Resampled, VelocityForm
from solvers.backends import cuda_graph
from solvers.backends import native as module
from solvers.backends.cpp_library import why_not_compiled

COPIES = {"pickled": lambda thing: pickle.loads(pickle.dumps(thing)), "copied": copy.deepcopy}
NO_COMPILER = why_not_compiled()
NATIVE = pytest.param("native", marks=pytest.mark.skipif(NO_COMPILER is not None, reason=str(NO_COMPILER)))
copies = pytest.mark.parametrize("again", COPIES.values(), ids=COPIES)


@copies
@pytest.mark.parametrize("backend", ["auto", "torch", NATIVE])
@pytest.mark.parametrize("name", EXAMPLES)
def test_a_used_solver_and_its_carry_go_on_with_the_same_bits(name, backend, again):
    example, grid = EXAMPLES[name], EXAMPLES[name].grid(16)
    solver = example.flow.solver(grid, interval=0.1 * grid.length[0] / 6.28, backend=backend)
    state = torch.cat([example.anything(grid, seed, 2.0) for seed in range(2)])
    carry = solver.advance(solver.start(state, seeds=[3, 4]))
    expected = solver.state(solver.advance(carry))
    other, other_carry = again((solver, carry))
    assert torch.equal(other.state(other.advance(other_carry)), expected)
    assert torch.equal(other.state(other.advance(carry)), expected)
    assert torch.equal(solver.state(solver.advance(other_carry)), expected)
    assert other.spec == solver.spec
    assert other.backend == solver.backend


def test_a_pickle_holds_no_cache():
    """A used solver takes no more room than a new one, nor a carry than its state."""
    solver = NavierStokes2D(Grid.square(32), viscosity=1e-2, interval=0.1, varying=["viscosity"])
    new = len(pickle.dumps(solver))
    carry = solver.start(torch.zeros(1, 1, 32, 32), {"viscosity": torch.full((1, 1, 1, 1), 0.1, dtype=torch.float64)})
    empty = len(pickle.dumps(carry))
    for _ in range(3):
        carry = solver.advance(carry)
    solver(torch.zeros(1, 1, 32, 32), {"viscosity": torch.full((1, 1, 1, 1), 0.2, dtype=torch.float64)})
    assert len(pickle.dumps(solver)) == new
    assert len(pickle.dumps(carry)) < empty + 1000


@copies
@pytest.mark.parametrize("backend", ["compile", "graph"])
def test_what_was_compiled_or_recorded_is_made_again(monkeypatch, backend, again):
    """With stand-ins for torch.compile and CUDA's graphs, neither of which can be pickled."""
    monkeypatch.setattr(torch, "compile", lambda function: lambda *given: function(*given))
    monkeypatch.setattr(cuda_graph, "CudaGraph", lambda function, example: function)
    solver = NavierStokes2D(Grid.square(16), viscosity=1e-2, interval=0.1, dt=0.05, backend="torch")
    solver._interval_solver.backend_name = backend
    state = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = solver(state)
        other = again(solver)
        assert other.backend == backend
        assert torch.equal(other(state), expected)


@copies
def test_a_native_solver_where_there_is_no_compiler_says_so(monkeypatch, again):
    solver = NavierStokes2D(Grid.square(16), viscosity=1e-2, interval=0.1, backend="torch")
    solver._interval_solver.backend_name = "native"
    other = again(solver)
    monkeypatch.setattr(module, "load_library", lambda *_: "g++ cannot compile the solver's C++")
    with pytest.raises(ValueError, match=r"backend 'native' is not available: g\+\+ cannot compile the solver's C++"):
        other(torch.zeros(1, 1, 16, 16))


@copies
def test_what_describes_a_flow(again):
    """Used first: a group keeps a table of its elements."""
    grid = Grid.square(16)
    for group in GROUPS[2].values():
        group.index(group.elements[-1])
        assert again(group) == group
        assert again(group).restriction(GROUPS[2]["C1"]) == group.restriction(GROUPS[2]["C1"])
    for element in D4:
        assert again(element) == element
    for example in EXAMPLES.values():
        flow, box = example.flow, example.grid(16)
        assert again(flow) == flow
        assert again(box) == box
        assert again(flow.stochastic_forcing(box)) == flow.stochastic_forcing(box)
        assert again(flow.solver(box, interval=0.1).spec) == flow.solver(box, interval=0.1).spec
    decaying = FLOWS[2]["decaying"](viscosity=1e-2, wavenumber=2.0)
    inner = decaying.solver(Grid.square(24), interval=0.1, dtype=torch.float64)
    state = decaying.starts(grid, [0])
    for stepper, given in (
        (Resampled(inner, grid), state),
        (VelocityForm(Resampled(inner, grid)), torch.cat([state - state, state], dim=1)),
    ):
        expected = stepper(given)
        assert torch.equal(again(stepper)(given), expected)
