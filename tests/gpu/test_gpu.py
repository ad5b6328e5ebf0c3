"""A GPU gives the numbers of the CPU by every back end, and the same bits again; its memory bounds the batches.

With FLUIDSURROGATE_TEST_DEVICE=cpu, all tests that are not about CUDA alone run on the CPU, as a trial of the tests.
"""

import contextlib
import os
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from device_checks import CHECKS, KOLMOGOROV, MINIATURE, Device, experiment_on, starts_of
from examples import EXAMPLES
from torch.nn import functional as F

import fluidsurrogate as fs
from fluidsurrogate import UsageError
from fluidsurrogate.cli import main
from fluidsurrogate.core import jobs
from fluidsurrogate.core.devices import reproducible_kernels, single_precision_convolutions
from fluidsurrogate.data.conversion import to_dataset
from fluidsurrogate.simulation import batch_sizes
from fluidsurrogate.simulation.rollout import rollout
from fluidsurrogate.training.train import train_model
from solvers import D4, VORTICITY, Grid, NavierStokes2D

DEVICE = os.environ.get("FLUIDSURROGATE_TEST_DEVICE", "cuda")
HAS_CUDA = torch.cuda.is_available()
if DEVICE == "cuda" and not HAS_CUDA:
    pytest.skip("there is no CUDA device", allow_module_level=True)
needs_cuda = pytest.mark.skipif(not HAS_CUDA, reason="it is about CUDA alone")
BOUNDS = {torch.float64: 1e-11, torch.float32: 2e-4}


def distance(a, b):
    return float((a.detach().cpu().double() - b.detach().cpu().double()).norm() / b.detach().cpu().double().norm())


class Waits:
    """What CUDA said that the host waited for. It says nothing of copies for which the host does not wait."""

    def __init__(self):
        self.waits, self.copies = [], []


@contextlib.contextmanager
def counting():
    """Count what the host waits for while the block runs."""
    seen = Waits()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield seen
        finally:
            torch.cuda.set_sync_debug_mode("default")
            said = [str(warning.message) for warning in caught]
            seen.waits += [message for message in said if "called a synchronizing" in message]


ON_DEVICE = Device(DEVICE, counting=counting) if HAS_CUDA else Device(DEVICE)


@pytest.mark.parametrize("name", CHECKS)
def test_numbers_are_those_of_the_cpu(tmp_path, name):
    CHECKS[name](ON_DEVICE, tmp_path)


# -- the solver's back ends


@needs_cuda
@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("name", ["convection, tilted", "kolmogorov", "stirred", "rayleigh_benard"])
def test_a_recorded_graph_gives_the_numbers_of_the_cpu(name, dtype):
    """Three intervals replay it, other starts record it again, and no replay overwrites an earlier result."""
    example, grid = EXAMPLES[name], EXAMPLES[name].grid(32)
    interval = 0.1 * grid.length[0] / 6.28
    options = {"interval": interval, "dt": interval / 24, "dtype": dtype}
    cpu = example.flow.solver(grid, backend="torch", **options)
    graph = example.flow.solver(grid, backend="graph", device="cuda", **options)
    states = starts_of(example, grid)
    kept = []
    for state in (states, states.flip(0)):
        expected, found = (
            rollout(solver, given, 3, seeds=[5, 6]) for solver, given in ((cpu, state), (graph, state.cuda()))
        )
        assert distance(found[:, 3], expected[:, 3]) < BOUNDS[dtype]
        kept.append((found, found.clone()))
    assert all(torch.equal(*pair) for pair in kept)
    assert distance(kept[0][0][:, 3], kept[1][0][:, 3]) > 1e-3


@needs_cuda
def test_a_recorded_graph_takes_gradients_by_pytorch_operations():
    example, grid = KOLMOGOROV, Grid.square(16)
    gradients = []
    for options in ({"backend": "torch"}, {"backend": "graph", "device": "cuda"}):
        solver = example.flow.solver(grid, interval=0.1, dt=0.02, dtype=torch.float64, **options)
        state = example.anything(grid).to(solver.device).requires_grad_()
        gradients.append(torch.autograd.grad(solver(state).square().sum(), state)[0])
    assert distance(*gradients) < 1e-10


COMPILED = """
import sys, torch
from solvers import FLOWS, Grid
device, grid = sys.argv[1], Grid.square(32)
flow = FLOWS[2]["kolmogorov"](viscosity=1e-2, waves=2, wavenumber=2.0, spin_up=0)
state = flow.starts(grid, [0, 1])
for dtype, dt in ((torch.float64, 0.05), (torch.float32, 0.05), (torch.float64, None)):
    options = {"interval": 0.1, "dt": dt, "dtype": dtype}
    there = flow.solver(grid, backend="compile", device=device, **options)
    one, other = there(state.to(device)).cpu(), flow.solver(grid, backend="torch", **options)(state)
    print(float((one - other).norm() / other.norm()), float((state - other).norm() / other.norm()))
"""


def test_compiled_steps_give_the_numbers_of_the_cpu():
    """In a process of its own: the shape checks of the tests are not for compiling."""
    done = subprocess.run([sys.executable, "-c", COMPILED, DEVICE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    errors, changes = zip(*(map(float, line.split()) for line in done.stdout.splitlines()), strict=True)
    assert errors[0] < 1e-11
    assert errors[1] < 2e-5
    assert errors[2] < 1e-11
    assert min(changes) > 1e-3


@needs_cuda
def test_the_graph_back_end_in_an_experiment(tmp_path):
    """Its data, in memory and in a folder, are those of the CPU."""
    overrides = ("dtype=float64", "solver.dt=0.0125")
    expected = fs.generate(experiment_on("cpu", *overrides))
    graph = experiment_on("cuda", *overrides, "solver.kernel=graph")
    for found in (fs.generate(graph), fs.generate(graph, tmp_path / "run")):
        np.testing.assert_allclose(found["vorticity"], expected["vorticity"], rtol=0, atol=1e-9)


@needs_cuda
def test_the_host_waits_once_an_interval_for_the_steps_to_take():
    solver = KOLMOGOROV.flow.solver(Grid.square(64), interval=0.1, device="cuda")
    carry = solver.advance(solver.start(KOLMOGOROV.anything(Grid.square(64)).cuda()))
    with counting() as seen:
        solver.advance(carry)
    assert len(seen.waits) == 1, seen.waits


# -- precision and reproducibility


def convolved(precise):
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(shape, generator=generator) for shape in ((8, 128, 64, 64), (128, 128, 3, 3)))
    exact = F.conv2d(x.double().cuda(), weight.double().cuda())
    with single_precision_convolutions(torch.device("cuda")) if precise else contextlib.nullcontext():
        return distance(F.conv2d(x.cuda(), weight.cuda()), exact)


@needs_cuda
def test_convolutions_are_in_single_precision():
    """The control: by default, torch rounds their operands to ten bits."""
    before = torch.backends.cudnn.allow_tf32
    assert convolved(precise=True) < 1e-5
    assert torch.backends.cudnn.allow_tf32 == before
    if before:
        assert convolved(precise=False) > 5e-5


@needs_cuda
def test_several_threads_may_ask_for_single_precision():
    before, inside, leave = torch.backends.cudnn.allow_tf32, threading.Barrier(3), threading.Event()

    def work():
        with single_precision_convolutions(torch.device("cuda")):
            inside.wait()
            leave.wait()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    inside.wait()
    with single_precision_convolutions(torch.device("cuda")):
        pass
    assert torch.backends.cudnn.allow_tf32 is False  # for the threads
    leave.set()
    for thread in threads:
        thread.join()
    assert torch.backends.cudnn.allow_tf32 == before


@needs_cuda
@pytest.mark.filterwarnings("error:.*deterministic.*")
@pytest.mark.parametrize(("options", "precision"), [
    ("kind = 'gcnn', width = 32", "full"), ("kind = 'gcnn', width = 32", "bfloat16"),
    ("kind = 'gunet', width = 32, levels = 2", "full"), ("kind = 'gunet', width = 32, levels = 2", "bfloat16"),
    ("kind = 'gfno', width = 32, layers = 2, modes = 6", "full"), ("kind = 'cnn', width = 32", "full"),
    ("kind = 'unet', width = 16, levels = 2", "full"), ("kind = 'gcnn', width = 16, networks = 3", "full"),
])  # fmt: skip
def test_training_gives_the_same_bits_again(options, precision):
    """Of every architecture, on 64 x 64 cells; no operation warns that it has no reproducible kernel."""
    sizes = ["grid.n=64", "data.train=4", "train.batch=8", "train.steps=6", f"train.precision={precision}"]
    experiment = fs.Experiment.read(MINIATURE, [f"models={{n = {{{options}}}}}", f"device={DEVICE}", *sizes])
    data = fs.generate(experiment)
    before = torch.cuda.get_rng_state()
    models = [train_model(experiment, "n", data, {}) for _ in range(2)]
    assert torch.equal(torch.cuda.get_rng_state(), before), "the user's random generator was used"
    first, second = (model.network.state_dict() for model in models)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.are_deterministic_algorithms_enabled()
    assert fs.forecast(models[0], data, 3).equals(fs.forecast(models[1], data, 3))


@needs_cuda
@pytest.mark.parametrize(("enabled", "warns"), [(False, False), (True, False), (True, True)])
def test_reproducible_kernels_leave_the_settings_as_they_were(enabled, warns):
    def settings():
        return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()

    torch.use_deterministic_algorithms(enabled, warn_only=warns)
    try:
        with reproducible_kernels(torch.device("cuda")):
            assert settings() == (True, warns or not enabled)
            assert not torch.backends.cudnn.allow_tf32
        assert settings() == (enabled, warns)
        assert torch.utils.deterministic.fill_uninitialized_memory
    finally:
        torch.use_deterministic_algorithms(False)


@needs_cuda
def test_a_numbered_device_is_the_same_device():
    data = fs.generate(experiment_on("cpu"))
    plain, numbered = (train_model(experiment_on(name), "n", data, {}) for name in ("cuda", "cuda:0"))
    assert numbered.device == torch.device("cuda", 0)
    for name, weight in plain.network.state_dict().items():
        assert torch.equal(weight, numbered.network.state_dict()[name])
    assert numbered.to("cpu").device.type == "cpu"
    with pytest.raises(UsageError, match=r"device 'cuda:63' is not available here"):
        numbered.to("cuda:63")


TRAINED = """
import sys, fluidsurrogate as fs
from fluidsurrogate.training.train import train_model
toml, device = sys.argv[1:]
weights = []
for compiled in ("false", "true"):
    overrides = [f"device={device}", "models={n = {kind = 'gcnn', group = 'D4', width = 16}}", "dtype=float64",
                 f"train.compile={compiled}", "train.steps=3"]
    experiment = fs.Experiment.read(toml, overrides)
    model = train_model(experiment, "n", fs.generate(experiment), {})
    weights.append({name: value.cpu() for name, value in model.network.state_dict().items()})
pairs = [(weights[1][name], value) for name, value in weights[0].items()]
print(max(float((a - b).norm() / b.norm().clamp(min=1e-3)) for a, b in pairs))
"""


def test_compiled_training(tmp_path):
    done = subprocess.run([sys.executable, "-c", TRAINED, str(MINIATURE), DEVICE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert float(done.stdout.splitlines()[-1]) < 1e-5


# -- data from other processes, models in other processes, several threads


def test_data_read_ahead_by_other_processes(tmp_path):
    made = fs.generate(experiment_on("cpu"), tmp_path)
    in_memory, read = (train_model(experiment_on(DEVICE, f"train.loaders={count}"), "n", made, {}) for count in (0, 2))
    for name, weight in in_memory.network.state_dict().items():
        assert torch.equal(weight, read.network.state_dict()[name])


def test_two_models_at_a_time_on_one_device(tmp_path, monkeypatch):
    """Each in a process of its own: the same files as one after the other."""
    arguments = ["run", str(MINIATURE), "--device", DEVICE, "--set", "train.workers=2"]
    assert main([*arguments, "--out", str(tmp_path / "one")]) == 0
    monkeypatch.setattr(jobs, "MIN_CELLS_FOR_PROCESSES", 0)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert main([*arguments, "--out", str(tmp_path / "two")]) == 0
    for name in ("small-d4", "small-cnn"):
        weights = [(tmp_path / run / "models" / name / "weights.safetensors").read_bytes() for run in ("one", "two")]
        assert weights[0] == weights[1]


def test_forecasts_in_several_threads():
    experiment = experiment_on("cpu", "train.steps=2")
    data = fs.generate(experiment)
    model = fs.train(experiment, data)["n"].to(DEVICE)
    expected, found = fs.forecast(model, data, 5), []
    threads = [threading.Thread(target=lambda: found.append(fs.forecast(model, data, 5))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for one in found:
        np.testing.assert_allclose(one["vorticity"], expected["vorticity"], rtol=0, atol=1e-5)


# -- memory


def stepper_and_state(kind, n):
    """A solver, or a network, with a start on n x n cells."""
    grid = Grid.square(n)
    state = KOLMOGOROV.anything(grid).float().to(DEVICE)
    if kind == "solver":
        return KOLMOGOROV.flow.solver(grid, interval=0.1, device=DEVICE, backend="torch"), state
    experiment = experiment_on("cpu", "train.steps=1", kind="gunet")
    model = fs.train(experiment, fs.generate(experiment))["n"]
    return fs.move_to_grid(model.to(DEVICE), grid), state


@needs_cuda
@pytest.mark.parametrize("kind", ["solver", "network"])
def test_a_batch_takes_no_more_memory_than_was_counted(kind):
    stepper, state = stepper_and_state(kind, 128)
    cost, batch = batch_sizes.bytes_per_interval(stepper, state, None, [0]), 16
    starts = state.expand(batch, -1, -1, -1).contiguous()
    with torch.no_grad():
        stepper.advance(stepper.start(starts))  # FFT plans and the libraries' own memory
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        stepper.advance(stepper.start(starts))
    taken = torch.cuda.max_memory_allocated() - before
    assert 0 < taken <= cost * batch


@needs_cuda
def test_a_batch_is_as_large_as_the_memory_of_the_gpu_allows():
    stepper, state = stepper_and_state("solver", 64)
    free = torch.cuda.mem_get_info()[0]
    assert abs(batch_sizes.memory_for_batch(torch.device("cuda")) - free // 4) < free // 50
    cost = batch_sizes.bytes_per_interval(stepper, state, None, [0])
    plan = batch_sizes.plan_batches(stepper, state, None, [0], 10**7, 3)
    assert plan.is_valid
    assert 0.3 * free / 4 < plan.batch * cost < 1.05 * free / 4
    assert plan.batch * cost > batch_sizes.MAX_CPU_BATCH_BYTES  # more than on a CPU


@needs_cuda
def test_too_large_a_batch_is_one_line(tmp_path):
    grid = Grid.square(256)
    solver = KOLMOGOROV.flow.solver(grid, interval=0.1, device="cuda")
    states = KOLMOGOROV.anything(grid).float()[:, None].expand(64, -1, -1, -1, -1)
    data = to_dataset(solver.spec, states, inputs={"forcing": solver.forcing.cpu().expand(64, 1, 256, 256)})
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 60 * 2**20) / total)
    try:
        with pytest.raises(UsageError, match=r"out of memory; give a smaller batch"):
            fs.rollout_to_zarr(solver, data, 2, tmp_path / "a.zarr", provenance={}, batch=64)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


@needs_cuda
def test_thousands_of_starts_in_batches(tmp_path):
    """Written to Zarr as on the CPU, whatever the size of the batches there."""
    experiment = experiment_on("cpu", "dtype=float64", "train.steps=1")
    data = fs.generate(experiment)
    model = fs.train(experiment, data)["n"]
    many = xr.concat([data.isel(time=[0])] * 300, "trajectory", data_vars="all")
    many = many.assign_coords(trajectory=np.arange(many.sizes["trajectory"]))
    with fs.forecast_to_zarr(model.to("cuda"), many, 3, tmp_path / "a.zarr") as found:
        first = found.isel(trajectory=slice(0, data.sizes["trajectory"])).load()
        last = found.isel(trajectory=slice(-data.sizes["trajectory"], None)).load()
    expected = fs.forecast(model, data.isel(time=[0]), 3)["vorticity"].values
    for part in (first, last):
        np.testing.assert_allclose(part["vorticity"].values, expected, rtol=0, atol=1e-9)


@needs_cuda
def test_large_grids_in_single_precision():
    """512 x 512 cells: the flow on the GPU is that on the CPU, and the D4 symmetry of the solver holds."""
    grid = Grid.square(512)
    options = {"viscosity": 1e-3, "interval": 0.05, "dt": 0.0025}
    cpu, gpu = (NavierStokes2D(grid, device=name, **options) for name in ("cpu", "cuda"))
    state = EXAMPLES["decaying"].anything(grid).float()
    assert distance(gpu(state.cuda()), cpu(state)) < 2e-5
    assert gpu.spec.fields == (VORTICITY,)
    assert max(fs.equivariance_error(gpu, state.cuda(), D4).values()) < 3e-4
