"""The inner steps in C++, and through torch.compile and CUDA graphs, give the numbers of torch's operations."""

import os
import subprocess
import sys

import pytest
import torch
from examples import EXAMPLES

from solvers import FLOWS, Grid, NavierStokes2D
from solvers.backends import TorchBackend, base
from solvers.backends.cpp_library import compiled_library, why_not_compiled

missing = why_not_compiled()
needs_compiler = pytest.mark.skipif(missing is not None, reason=str(missing))
TOLERANCES = {torch.float64: 1e-11, torch.float32: 2e-4}


def distance(a, b):
    return float((a - b).norm() / b.norm())


def run(flow, grid, state, backend, intervals=3, seeds=None, **options):
    solver = flow.solver(grid, interval=0.1 * grid.length[0] / 6.28, backend=backend, **options)
    carry = solver.start(state, seeds=seeds)
    with torch.no_grad():
        for _ in range(intervals):
            carry = solver.advance(carry)
    return solver.state(carry), carry


@needs_compiler
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("name", EXAMPLES)
def test_native_steps_are_torch_s(name, order, dtype):
    """Every flow: forcing, scalar, coupling, mean velocity, kicks and plates, with steps of its own."""
    example = EXAMPLES[name]
    grid, options = example.grid(24), {"order": order, "dtype": dtype}
    state = torch.cat([example.anything(grid, seed, rms) for seed, rms in ((0, 3.0), (1, 0.5))])
    (ours, carry), (theirs, other) = (run(example.flow, grid, state, k, **options) for k in ("native", "torch"))
    assert distance(ours, theirs) < TOLERANCES[dtype]
    assert carry.steps_taken == other.steps_taken
    assert distance(ours, state) > 1e-3
    torch.testing.assert_close(carry.injected, other.injected, rtol=1e-3, atol=1e-9)


@needs_compiler
@pytest.mark.parametrize("n", [(8, 10), (34, 66), (48, 80), (100, 60), (56, 22)])
def test_any_even_grid(n):
    grid = Grid(n, (1.0, 2.0))
    flow = FLOWS[2]["decaying"](viscosity=1e-3)
    state = torch.randn(3, 1, *n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours, theirs = (run(flow, grid, state, k, dtype=torch.float64)[0] for k in ("native", "torch"))
    assert distance(ours, theirs) < 1e-11


@needs_compiler
def test_bits_depend_on_no_neighbour_and_on_no_number_of_threads():
    example, grid = EXAMPLES["convection, tilted"], Grid.square(32)
    state = torch.cat([example.anything(grid, seed, 3.0 / (1 + seed)) for seed in range(5)])
    solver = example.flow.solver(grid, interval=0.1, backend="native")
    carry, native = solver.start(state), solver._interval_solver.chosen_backend
    schemes = [solver._interval_solver.integrator(carry, i, 4) for i in range(5)]
    after, _ = native.advance(carry.spectrum, carry.terms, schemes, [4, 3, 2, 1, 0], watch_rate=True)
    torch.set_num_threads(3)
    try:
        threaded, _ = native.advance(carry.spectrum, carry.terms, schemes, [4, 3, 2, 1, 0], watch_rate=True)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(threaded, after)
    assert torch.equal(after[4], carry.spectrum[4])
    for i in range(4):
        one = slice(i, i + 1)
        alone, _ = native.advance(carry.spectrum[one], carry.terms, schemes[one], [4 - i], watch_rate=True)
        assert torch.equal(alone[0], after[i])


@needs_compiler
@pytest.mark.parametrize("name", ["kolmogorov", "convection, tilted"])
def test_bits_depend_on_no_number_of_threads_within_a_trajectory(name):
    """Enough work for several threads; in columns and rows that do not come out even."""
    example, grid, steps = EXAMPLES[name], Grid((216, 240), (2.0, 3.0)), 20
    solver = example.flow.solver(grid, interval=0.1, order=4, backend="native")
    carry, native = solver.start(example.anything(grid)), solver._interval_solver.chosen_backend
    scheme = [solver._interval_solver.integrator(carry, 0, 2 * steps)]
    after, rate = native.advance(carry.spectrum, carry.terms, scheme, [steps], watch_rate=True)
    assert after.isfinite().all()
    try:
        for threads in (2, 3):
            torch.set_num_threads(threads)
            for _ in range(3):
                threaded, other = native.advance(carry.spectrum, carry.terms, scheme, [steps], watch_rate=True)
                assert torch.equal(threaded, after)
                assert torch.equal(other, rate)
    finally:
        torch.set_num_threads(1)


@needs_compiler
@pytest.mark.parametrize("name", ["kolmogorov", "convection, tilted"])
def test_the_advection_rate_of_states_is_torch_s(name):
    example, grid = EXAMPLES[name], Grid((24, 36), (2.0, 3.0))
    solver = example.flow.solver(grid, interval=0.1, backend="native", dtype=torch.float64)
    carry = solver.start(torch.cat([example.anything(grid, seed, 3.0 - seed) for seed in range(3)]))
    equation, native = solver._equation, solver._interval_solver.chosen_backend
    spectrum = carry.spectrum.clone()
    rate = native.rate(spectrum, carry.terms)
    assert torch.equal(spectrum, carry.spectrum)
    assert (
        distance(rate, equation.advection_rate(equation.velocity_and_scalar(spectrum, carry.terms), carry.terms))
        < 1e-12
    )
    for broken in (torch.nan, torch.inf):
        spectrum[1, 0, 1, 1] = broken
        assert native.rate(spectrum, carry.terms).isfinite().tolist() == [True, False, True]


@needs_compiler
@pytest.mark.filterwarnings(
    "ignore:.torch.jit.script. is deprecated:DeprecationWarning"
)  # torch's own, of forward mode
def test_native_steps_have_gradients_in_both_modes():
    """In reverse mode those of torch's operations, and in forward mode its operations."""
    example, grid = EXAMPLES["kolmogorov"], Grid.square(24)
    gradients = []
    for backend in ("native", "torch"):
        state = example.anything(grid).requires_grad_()
        solver = example.flow.solver(grid, interval=0.1, dt=0.02, backend=backend, dtype=torch.float64)
        gradients.append(torch.autograd.grad(solver(state).square().sum(), state)[0])
    assert distance(*gradients) < 1e-12
    solver = example.flow.solver(grid, interval=0.1, dt=0.02, backend="native", dtype=torch.float64)
    tangent = torch.func.jvp(solver, (example.anything(grid),), (example.anything(grid, 1),))[1]
    assert float((tangent * 1.0).norm()) > 1.0


COMPILED = """
import torch
from solvers import FLOWS, Grid
flow, grid = FLOWS[2]["kolmogorov"](viscosity=1e-2, waves=2, wavenumber=2.0, spin_up=0), Grid.square(16)
state = flow.starts(grid, [0])
options = {"interval": 0.1, "dt": 0.05, "dtype": torch.float64}
one, other = (flow.solver(grid, backend=backend, **options)(state) for backend in ("compile", "torch"))
print(float((one - other).norm() / other.norm()), float((state - other).norm() / other.norm()))
"""


@needs_compiler
def test_torch_compile_gives_the_same_numbers():
    """In a process of its own: the shape checks of the tests are not for compiling."""
    made = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=True)
    error, change = map(float, made.stdout.split())
    assert error < 1e-12
    assert change > 1e-3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_cuda_graph_gives_the_same_numbers_without_synchronising():
    example, grid = EXAMPLES["convection, tilted"], Grid.square(64)
    state = example.anything(grid).cuda()
    options = {"interval": 0.1, "dt": 0.01, "device": "cuda", "dtype": torch.float64}
    graph, plain = (example.flow.solver(grid, backend=k, **options) for k in ("graph", "torch"))
    assert distance(graph(state), plain(state)) < 1e-11
    carry = plain.start(state)
    torch.cuda.set_sync_debug_mode("error")
    try:
        plain.advance(carry)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_without_a_compiler_torch_does_the_steps_and_native_says_why(monkeypatch):
    monkeypatch.setenv("CXX", "/nowhere/c++")
    compiled_library.cache_clear()
    try:
        flow = FLOWS[2]["decaying"](viscosity=1e-2)
        assert flow.solver(Grid.square(32), interval=0.1).backend == "torch"
        with pytest.raises(
            ValueError, match=r"backend 'native' is not available: /nowhere/c\+\+ cannot compile native_2d"
        ):
            flow.solver(Grid.square(32), interval=0.1, backend="native")
    finally:
        compiled_library.cache_clear()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "fortran"}, "backend must be one of auto, compile, graph, native, torch"),
        ({"backend": "graph"}, "backend 'graph' is not available: it needs a fixed dt on a CUDA device"),
        ({"backend": "native", "device": "meta"}, "it runs on a CPU, not on meta"),
    ],
)
def test_a_backend_that_is_not_available_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        NavierStokes2D(Grid.square(16), viscosity=1e-2, interval=0.1, **options)


@needs_compiler
@pytest.mark.parametrize("name", ["kolmogorov", "rayleigh_benard"])
def test_many_steps_are_several_calls_with_the_same_bits(monkeypatch, name):
    """So that Ctrl-C need not wait for all of an interval; uneven batches, and what was the fastest on the way."""
    example = EXAMPLES[name]
    grid = example.grid(24)
    state = torch.cat([example.anything(grid, seed, rms) for seed, rms in ((0, 3.0), (1, 0.5))])
    solver = example.flow.solver(grid, interval=0.1, backend="native")
    carry, native = solver.start(state), solver._interval_solver.chosen_backend
    schemes = [solver._interval_solver.integrator(carry, i, 7) for i in range(2)]
    whole, rate = native.advance(carry.spectrum, carry.terms, schemes, [7, 4], watch_rate=True)
    calls = []
    function = native._function
    monkeypatch.setattr(native, "_function", lambda *given: calls.append(1) or function(*given))
    monkeypatch.setattr("solvers.backends.native.CALL_CELLS", 24 * 24 * 2 * 3)
    parts, fastest = native.advance(carry.spectrum, carry.terms, schemes, [7, 4], watch_rate=True)
    assert len(calls) == 3
    assert torch.equal(parts, whole)
    assert torch.equal(fastest, rate)


WITHOUT_ROOM = """
import resource, torch
from solvers import Grid, NavierStokes2D
solver = NavierStokes2D(Grid.square({n}), viscosity=1e-2, interval=0.1, backend="native")
torch.set_num_threads(1)
carry = solver.start(torch.randn({threads}, 1, {n}, {n}, generator=torch.Generator().manual_seed(0)))
schemes = [solver._interval_solver.integrator(carry, i, 2) for i in range({threads})]
arguments = carry.spectrum, carry.terms, schemes, [2] * {threads}
expected = solver._interval_solver.chosen_backend.advance(*arguments, watch_rate=False)[0]
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
torch.set_num_threads({threads})
resource.setrlimit(resource.RLIMIT_AS, (held + {room},) * 2)
try:
    after = solver._interval_solver.chosen_backend.advance(*arguments, watch_rate=False)[0]
    print(torch.equal(after, expected))
except MemoryError as error:
    print(error)
"""


@needs_compiler
@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
@pytest.mark.parametrize(
    ("n", "room", "threads", "said"),
    [(32, 2**21, 4, "True"), (1024, 2**23, 1, "no memory for the solver's steps on 1024 x 1024 cells")],
    ids=["no room for another thread", "no room for the fields"],
)
def test_without_room_for_threads_or_fields(n, room, threads, said):
    """Threads that cannot be had are done without; memory that cannot is an exception, not the end of the process."""
    script = WITHOUT_ROOM.format(n=n, room=room, threads=threads)
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed is given back, and counts again
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment)
    assert made.stdout.strip() == said, made.stderr
    assert made.returncode == 0


def test_a_new_back_end_is_chosen_by_its_name():
    """One class under `register_backend`: the solver asks it whether it can run, and takes its steps."""
    steps_taken = []

    class Counting(base.Backend):
        is_differentiable = True

        def __init__(self, setup):
            self.torch = TorchBackend(setup)

        @classmethod
        def why_unavailable(cls, device, has_fixed_step, dimensions):
            return None if has_fixed_step else "it counts fixed steps only"

        def advance(self, spectrum, terms, integrators, counts, watch_rate):
            steps_taken.extend(counts)
            return self.torch.advance(spectrum, terms, integrators, counts, watch_rate)

    try:
        base.register_backend("counting")(Counting)
        assert Counting.advance.__doc__ == base.Backend.advance.__doc__
        options = {"viscosity": 1e-2, "interval": 0.1, "dtype": torch.float64}
        with pytest.raises(ValueError, match="backend 'counting' is not available: it counts fixed steps only"):
            NavierStokes2D(Grid.square(16), backend="counting", **options)
        state = EXAMPLES["kolmogorov"].anything(Grid.square(16))
        ours, theirs = (NavierStokes2D(Grid.square(16), backend=name, dt=0.02, **options)(state)
                        for name in ("counting", "torch"))  # fmt: skip
    finally:
        base.BACKENDS.pop("counting")
    assert torch.equal(ours, theirs)
    assert steps_taken == [5]
