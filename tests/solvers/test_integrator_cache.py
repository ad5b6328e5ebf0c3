"""The integrators that a solver keeps: few, those of its own coefficients, and never another carry's."""

import gc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from solvers import Grid, NavierStokes2D, integrator_cache
from solvers.backends import cuda_graph
from solvers.backends.cpp_library import why_not_compiled
from solvers.etdrk import INTEGRATORS
from solvers.integrator_cache import IntegratorCache

GRID = Grid.square(16)
NATIVE = pytest.param("native", marks=pytest.mark.skipif(why_not_compiled() is not None, reason="no g++"))


def start(batch, n=16):
    return torch.randn(batch, 1, n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def viscosities(*values):
    return {"viscosity": torch.tensor(values, dtype=torch.float64).view(-1, 1, 1, 1)}


def solver(**options):
    return NavierStokes2D(GRID, **{"viscosity": 1e-2, "interval": 0.1, "dtype": torch.float64, **options})


def schemes_alive():
    gc.collect()
    return [thing for thing in gc.get_objects() if type(thing) in INTEGRATORS.values()]


@pytest.mark.parametrize("backend", ["torch", NATIVE])
@pytest.mark.parametrize("varying", [(), ("viscosity",)], ids=["one viscosity", "one each"])
def test_memory_is_flat_in_the_number_of_intervals(monkeypatch, backend, varying):
    """Every interval takes another number of inner steps; what was dropped is made again to the same bits."""
    monkeypatch.setattr(integrator_cache, "CACHE_BYTES", 10 * 6 * 16 * 6 * 16)  # ten of complex128
    before = len(schemes_alive())
    ours, fresh = (solver(varying=varying, backend=backend) for _ in range(2))
    carry = ours.start(start(3), viscosities(1e-2, 2e-2, 3e-2) if varying else None)
    alive = []
    for interval in range(40):
        steps = (1 + interval % 20, 2 + interval % 20, 3 + interval % 20)
        carry = replace(carry, planned_steps=steps)
        if interval in (19, 39):
            again = replace(carry, integrators=IntegratorCache())
            assert torch.equal(fresh.advance(again).spectrum, ours.advance(carry).spectrum)
            del again
            fresh = solver(varying=varying, backend=backend)
            alive.append(len(schemes_alive()) - before)
        carry = ours.advance(carry)
    assert alive[1] == alive[0] <= 10
    assert backend == "torch" or len(ours._interval_solver.chosen_backend._packed) <= 10


def test_a_cache_holds_16_megabytes():
    """400 numbers of inner steps on 64 x 64 cells would be 27 MB."""
    long = NavierStokes2D(Grid.square(64), viscosity=1e-3, interval=1.0)
    carry = long.start(start(1, 64))
    for steps in range(1, 401):
        made = long._interval_solver.integrator(carry, 0, steps)
    held = list(carry.integrators.held.values())
    assert 15e6 < sum(c.nbytes for scheme in held for c in scheme.coefficients) <= 2**24
    assert long._interval_solver.integrator(carry, 0, 400) is made  # what was used last is there


def test_a_large_batch_makes_each_scheme_once(monkeypatch):
    """As many as an interval takes are kept, however small the bound."""
    monkeypatch.setattr(integrator_cache, "CACHE_BYTES", 1)
    ours, made = solver(varying=["viscosity"], backend="torch"), []
    of = ours.scheme.from_linear
    monkeypatch.setattr(ours.scheme, "from_linear", lambda linear, dt: made.append(dt) or of(linear, dt))
    carry = ours.start(start(5), viscosities(1e-2, 2e-2, 3e-2, 4e-2, 5e-2))
    for _ in range(4):
        carry = ours.advance(replace(carry, planned_steps=(1, 2, 3, 4, 5)))
    assert len(made) == 5


@pytest.mark.parametrize("backend", ["torch", NATIVE])
def test_one_trajectory_s_viscosity_is_its_own(backend):
    """A batch of one has the shape of the solver's own numbers: its schemes must not become those of the next."""
    ours, state = solver(varying=["viscosity"], dt=0.05, backend=backend), start(1)
    for value in (1.0, 1e-3):
        expected = solver(viscosity=value, dt=0.05, backend=backend)(state)
        assert float((ours(state, viscosities(value)) - expected).norm() / expected.norm()) < 1e-14
    assert float((ours(state) - solver(dt=0.05, backend=backend)(state)).norm()) == 0


def test_a_graph_is_recorded_once_for_trajectories_of_different_viscosity(monkeypatch):
    """With a stand-in for CUDA's graphs, which need a GPU: what is recorded, and when it is recorded again."""
    recorded = []
    monkeypatch.setattr(cuda_graph, "CudaGraph", lambda function, example: recorded.append(1) or function)
    ours = solver(varying=["viscosity"], dt=0.05, backend="torch")
    plain = solver(varying=["viscosity"], dt=0.05, backend="torch")
    ours._interval_solver.backend_name = "graph"
    given = viscosities(1e-2, 2e-2)
    with torch.no_grad():
        carry, other = ours.start(start(2), given), plain.start(start(2), given)
        for _ in range(3):
            carry, other = ours.advance(carry), plain.advance(other)
        assert len(recorded) == 1
        assert torch.equal(carry.spectrum, other.spectrum)
        ours.advance(ours.start(start(2), viscosities(2e-2, 1e-2)))
    assert len(recorded) == 2


@pytest.mark.parametrize("backend", ["torch", NATIVE])
def test_threads_may_share_a_solver(monkeypatch, backend):
    """As Dask's do: what one drops from the cache another makes again."""
    monkeypatch.setattr(integrator_cache, "CACHE_BYTES", 1)
    states = [(1 + 5 * i) * start(2) for i in range(8)]

    def run(shared, state):
        carry = shared.start(state)
        for _ in range(5):
            carry = shared.advance(carry)
        return shared.state(carry)

    alone = [run(solver(backend=backend), state) for state in states]
    shared = solver(backend=backend)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda state: run(shared, state), states * 3))
    assert all(torch.equal(a, b) for a, b in zip(alone * 3, together, strict=True))
    assert len(shared._integrators) <= 4
