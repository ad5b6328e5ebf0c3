"""Checks that another device computes the numbers of the CPU.

`test_pretend_device.py` runs them on a pretend device, `gpu/test_gpu.py` on a GPU. Every check is a function of a
`Device` and of an empty folder, and registers itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import xarray as xr
from examples import EXAMPLES
from safetensors.torch import load_file
from torch import Tensor

import fluidsurrogate as fs
from fluidsurrogate.cli import main
from fluidsurrogate.nn import ARCHITECTURES, DIMENSIONS, DeepEnsemble
from fluidsurrogate.nn.losses import LOSSES, LossContext
from fluidsurrogate.nn.registry import options_of
from fluidsurrogate.training import trainer
from fluidsurrogate.training.train import train_model
from fluidsurrogate.training.trainer import Trainer
from solvers import (
    D4,
    FLOWS,
    FORCING,
    TRACER,
    VELOCITY,
    VISCOSITY,
    VORTICITY,
    Grid,
    NavierStokes2D,
    Resampled,
    StateSpec,
    act_on_fields,
    field_in,
    resample,
    spectra,
)  # fmt: skip
from solvers.continuous_symmetry import shift
from solvers.velocity_form import with_velocity

MINIATURE = Path(__file__).with_name("miniature.toml")
CHECKS: dict[str, Callable[..., None]] = {}


class NoTraffic:
    """Nothing is counted."""

    waits: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Device:
    """A device, a context that refuses what is computed elsewhere, and one that counts what the host waits for.

    The latter gives an object whose `waits` and `copies` list what happens in the block, as far as it can be seen.
    """

    name: str
    only_there: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext
    counting: Callable[[], contextlib.AbstractContextManager] = lambda: contextlib.nullcontext(NoTraffic())

    def of(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.name)

    @contextlib.contextmanager
    def without_traffic(self) -> Iterator[None]:
        """Hold a block to what a GPU needs to be kept busy: no wait of the host, no copy to or from the device."""
        with self.only_there(), self.counting() as traffic:
            yield
        assert not traffic.waits, f"the host waits for {traffic.waits}"
        assert not traffic.copies, f"tensors are copied by {traffic.copies}"

    def check(self, own: Tensor, cpu: Tensor, bound: float | None = None) -> None:
        """Hold a tensor of this device to the CPU's: it is there, and the difference is small beside the CPU's."""
        assert own.device.type == torch.device(self.name).type, f"it is on {own.device}"
        self.check_numbers(own.detach().cpu(), cpu.detach(), bound)

    def check_numbers(self, own: Tensor, cpu: Tensor, bound: float | None = None) -> None:
        """Hold numbers to the CPU's, wherever they are."""
        assert own.shape == cpu.shape
        assert own.dtype == cpu.dtype
        assert cpu.isfinite().all()
        bound = bound or (1e-11 if cpu.dtype in (torch.float64, torch.complex128) else 2e-5)
        error = float((own - cpu).norm() / cpu.norm().clamp(min=1e-300))
        assert error <= bound, f"they differ by {error:.2e}"


def check(function: Callable[..., None]) -> Callable[..., None]:
    CHECKS[function.__name__] = function
    return function


def parametrised(**cases: Any) -> Callable:
    """Register a check once for each case."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        for name, case in cases.items():
            CHECKS[f"{function.__name__}, {name}"] = lambda device, folder, case=case: function(device, folder, case)
        return function

    return register


# -- the solver

SQUARE, CUBE = Grid.square(16), Grid.cube(8)
KOLMOGOROV = EXAMPLES["kolmogorov"]


def starts_of(example, grid):
    """Two starts, a fast and a slow one, so that their inner steps differ."""
    return torch.cat([example.anything(grid, seed, rms) for seed, rms in ((0, 3.0), (1, 0.5))])


@parametrised(**EXAMPLES)
def solver_of_a_flow(device, folder, example):
    """With forcing, scalar, coupling, mean velocity, kicks and plates, and with inner steps of its own choice."""
    grid = example.grid(16)
    state, carries = starts_of(example, grid), []
    for name in ("cpu", device.name):
        solver = example.flow.solver(
            grid, interval=0.1 * grid.length[0] / 6.28, backend="torch", device=name, dtype=torch.float64
        )
        carry = solver.start(state, seeds=[5, 6])
        with torch.no_grad():
            carries.append(solver.advance(solver.advance(carry)))
    device.check(solver.state(carries[1]), solver_on_cpu(example, grid).state(carries[0]))
    assert carries[0].steps_taken == carries[1].steps_taken
    if carries[0].injected is not None:
        device.check(carries[1].injected, carries[0].injected)


def solver_on_cpu(example, grid):
    return example.flow.solver(grid, interval=0.1 * grid.length[0] / 6.28, backend="torch", dtype=torch.float64)


FLOWS_IN_SPACE = {f"{kind} {example.label}".strip(): cls(**example.parameters)
                  for kind, cls in FLOWS[3].items() for example in cls.examples}  # fmt: skip


@parametrised(**FLOWS_IN_SPACE)
def solver_of_a_flow_in_space(device, folder, flow):
    """With inner steps of its own choice, kicks, forcings and scalars."""
    grid = Grid.cube(16)
    state, carries = flow.starts(grid, [0, 1]), []
    state = state * torch.tensor([3.0, 0.5], dtype=torch.float64)[:, None, None, None, None]
    for name in ("cpu", device.name):
        solver = flow.solver(grid, interval=0.1, backend="torch", device=name, dtype=torch.float64)
        carry = solver.start(state, seeds=[5, 6])
        with torch.no_grad():
            carries.append((solver, solver.advance(solver.advance(carry))))
    (cpu, expected), (own, found) = carries
    device.check(own.state(found), cpu.state(expected))
    assert expected.steps_taken == found.steps_taken


@parametrised(second=(2, torch.float64), single=(4, torch.float32))
def solver_with_fixed_steps(device, folder, case):
    """Once it has begun it computes nothing on the CPU."""
    order, dtype = case
    example = EXAMPLES["convection, tilted"]
    options = {"interval": 0.1, "dt": 0.02, "order": order, "dtype": dtype, "backend": "torch"}
    cpu, own = (example.flow.solver(SQUARE, device=name, **options) for name in ("cpu", device.name))
    state = starts_of(example, SQUARE)
    carry = own.advance(own.start(device.of(state)))
    with device.without_traffic():
        after = own.state(own.advance(carry))
    device.check(after, cpu.state(cpu.advance(cpu.advance(cpu.start(state)))), None if dtype == torch.float64 else 2e-4)


@parametrised(
    **{
        f"{name}, in the plane": (example.flow, example.grid(16), lambda example=example: starts_of(example, SQUARE))
        for name, example in EXAMPLES.items()
    },
    **{
        f"{name}, in space": (flow, Grid.cube(16), lambda flow=flow: flow.starts(Grid.cube(16), [0, 1]))
        for name, flow in FLOWS_IN_SPACE.items()
    },
)
def fixed_steps_wait_for_nothing(device, folder, case):
    """Of every flow: the host never waits for the device within an interval, and copies nothing but random kicks."""
    flow, grid, starts = case
    interval, found = 0.1 * grid.length[0] / 6.28, []
    steps = 6 if flow.stochastic_forcing(grid) is not None else 2  # a whole number of them between two kicks
    options = {"interval": interval, "dt": interval / steps, "order": 2, "dtype": torch.float64, "backend": "torch"}
    for name in ("cpu", device.name):
        solver = flow.solver(grid, device=name, **options)
        carry = solver.advance(solver.start(starts(), seeds=[5, 6]))
        with torch.no_grad(), device.counting() as traffic:
            carry = solver.advance(carry)
        assert not traffic.waits, f"the host waits for {traffic.waits}"
        assert carry.injected is not None or not traffic.copies, f"tensors are copied by {traffic.copies}"
        found.append(solver.state(carry))
    device.check(found[1], found[0])


@check
def solver_that_chooses_its_steps_computes_on_the_device(device, folder):
    """The host waits once an interval, to know how many steps to take."""
    solver = KOLMOGOROV.flow.solver(SQUARE, interval=0.1, device=device.name)
    carry = solver.advance(solver.start(KOLMOGOROV.anything(SQUARE)))
    with device.only_there(), device.counting() as traffic:
        carry = solver.advance(carry)
    assert len(traffic.waits) <= 1, f"the host waits for {traffic.waits}"
    assert solver.state(carry).isfinite().all()


@check
def inputs_from_either_device(device, folder):
    """Forcing, viscosity and mean velocity of each trajectory, from the CPU or from the device."""
    state = starts_of(KOLMOGOROV, SQUARE)
    forcing = torch.cat([KOLMOGOROV.anything(SQUARE, seed) for seed in (7, 8)])
    inputs = {"forcing": forcing, "viscosity": torch.tensor([1e-2, 2e-2]).double()[:, None, None, None],
              "mean_velocity": torch.tensor([[0.1, 0.2], [0.3, 0.4]]).double()[..., None, None]}  # fmt: skip
    options = {"viscosity": 0.1, "interval": 0.1, "varying": ("viscosity",), "forcing": forcing[0, 0],
               "backend": "torch", "mean_velocity": (0.0, 0.1), "dtype": torch.float64}  # fmt: skip
    cpu, own = (NavierStokes2D(SQUARE, device=name, **options) for name in ("cpu", device.name))
    expected = cpu(state, inputs)
    device.check(own(state, inputs), expected)
    device.check(own(device.of(state), {name: device.of(value) for name, value in inputs.items()}), expected)
    device.check(own(state), cpu(state))


@parametrised(kept=None, computed_again=2)
def gradients_through_the_solver(device, folder, checkpoint_every):
    """With respect to the state and to the viscosity."""
    gradients = []
    for name in ("cpu", device.name):
        solver = NavierStokes2D(SQUARE, viscosity=0.1, interval=0.1, dt=0.02, varying=("viscosity",), device=name,
                                checkpoint_every=checkpoint_every, dtype=torch.float64)  # fmt: skip
        state = starts_of(KOLMOGOROV, SQUARE).to(name).requires_grad_()
        viscosity = torch.full((2, 1, 1, 1), 1e-2, dtype=torch.float64).to(name).requires_grad_()
        loss = solver(state, {"viscosity": viscosity}).square().sum()
        gradients.append(torch.autograd.grad(loss, (state, viscosity)))
    for cpu, own in zip(*gradients, strict=True):
        device.check(own, cpu, 1e-10)
        assert cpu.abs().max() > 0


@check
def solver_seen_through_another_grid(device, folder):
    state, fine = starts_of(KOLMOGOROV, SQUARE), Grid.square(24)
    cpu, own = (
        Resampled(KOLMOGOROV.flow.solver(fine, interval=0.1, backend="torch", dtype=torch.float64, device=name), SQUARE)
        for name in ("cpu", device.name)
    )
    device.check(own(device.of(state)), cpu(state))


@check
def functions_of_fields(device, folder):
    """Spectra, resampling, velocity, shifts, rotations and mirrors."""
    state, length = starts_of(KOLMOGOROV, SQUARE), SQUARE.length
    functions = {
        "energy": lambda w: spectra.energy_spectrum(w, length),
        "enstrophy": lambda w: spectra.enstrophy_spectrum(w, length),
        "palinstrophy": lambda w: spectra.palinstrophy(w, length),
        "finer": lambda w: resample(w, SQUARE, Grid.square(24)),
        "velocity": lambda w: with_velocity(w[:, None], SQUARE),
        "shift": lambda w: shift(w, (0.3, 1.7)),
        **{g.name: lambda w, g=g: act_on_fields((VELOCITY,), w.expand(-1, 2, -1, -1), g) for g in D4},
    }
    for function in functions.values():
        device.check(function(device.of(state)), function(state))


# -- networks

APART = {"fno", "module", "steerable"}  # which need a package, or code of the user's
SMALL = {"group": "D4", "width": 8, "dilations": (1, 2), "levels": 1, "modes": 3, "layers": 2}
DRESSED = {"activation": "gated", "norm": True, "modulate": True, "pool": "gated"}
TYPED = {"plain": ((VORTICITY,), (VORTICITY,), {}),
         "dressed": ((VELOCITY, TRACER, FORCING, VISCOSITY), (VELOCITY, TRACER), DRESSED)}  # fmt: skip
IN_SPACE = tuple(field_in(field, 3) for field in (VELOCITY, TRACER))
OPTIONS_IN_SPACE = {"gcnn": {"group": "C4v", "separable": True}, "gunet": {"group": "C4v"}, "cnn": {},
                    "steerable3d": {"group": "O3", "width": 48, "dilations": (1,)}}  # fmt: skip
NETWORKS = {
    **{f"{kind}, {name}": (kind, *typed)
       for kind in ARCHITECTURES if kind not in APART and 2 in DIMENSIONS[kind] for name, typed in TYPED.items()},
    **{f"{kind}, in space": (kind, IN_SPACE, IN_SPACE, options) for kind, options in OPTIONS_IN_SPACE.items()},
}  # fmt: skip


def network_of(kind, fields_in, fields_out, extra, seed=1):
    build = ARCHITECTURES[kind]
    options = {key: value for key, value in (SMALL | extra).items() if key in options_of(build)}
    torch.manual_seed(seed)
    network = build(fields_in, fields_out, **options).double()
    for weight in network.parameters():
        if weight.abs().max() == 0:  # biases, and what starts as the identity
            torch.nn.init.normal_(weight, std=0.3)
    return network


def values_of(fields, batch=2):
    generator, grid = torch.Generator().manual_seed(3), SQUARE if fields[0].dimensions == 2 else CUBE
    parts = [
        torch.randn(batch, f.components, *f.extent(grid), generator=generator, dtype=torch.float64) for f in fields
    ]
    return torch.cat([part.expand(-1, -1, *grid.n) for part in parts], dim=1)


@parametrised(**NETWORKS)
def network(device, folder, case):
    """Forward, backward, folded, as plain convolutions, and equivariant. Nothing is computed on the CPU."""
    _, fields_in, fields_out, _ = case
    cpu = network_of(*case)
    x = values_of(fields_in)
    expected = cpu(x)
    gradients = torch.autograd.grad(expected.square().sum(), list(cpu.parameters()))
    own = network_of(*case).to(device.name)
    there, as_plain = device.of(x), own.to_plain()
    with device.without_traffic():
        y = own(there)
        own_gradients = torch.autograd.grad(y.square().sum(), list(own.parameters()))
        folded, plain = own.fold()(there), as_plain(there)
    device.check(y, expected, 1e-10)
    for a, b in zip(own_gradients, gradients, strict=True):
        if b.norm() > 1e-9 * max(float(g.norm()) for g in gradients):  # what no symmetry makes zero
            device.check(a, b, 1e-9)
    device.check(folded, expected, 1e-10)
    device.check(plain, cpu.to_plain()(x), 1e-10)
    with torch.no_grad():
        for g in own.group:
            moved = own(act_on_fields(fields_in, there, g)) - act_on_fields(fields_out, y, g)
            assert float(moved.norm()) < 1e-12 * float(y.norm()), f"{g.name}: {float(moved.norm() / y.norm()):.1e}"


@parametrised(gcnn="gcnn", gunet="gunet", gfno="gfno")
def deep_ensemble(device, folder, kind):
    members = [network_of(kind, *TYPED["plain"], seed) for seed in (1, 2)]
    cpu, x = DeepEnsemble(members), values_of((VORTICITY,), 4)
    own = DeepEnsemble(members).to(device.name)
    expected, y = cpu(x), own(device.of(x))
    device.check(y, expected, 1e-10)
    cpu_gradients = torch.autograd.grad(expected.square().sum(), list(cpu.parameters()))
    own_gradients = torch.autograd.grad(y.square().sum(), list(own.parameters()))
    for a, b in zip(own_gradients, cpu_gradients, strict=True):
        if b.norm() > 1e-9 * max(float(g.norm()) for g in cpu_gradients):
            device.check(a, b, 1e-9)


# -- training


@parametrised(**{name: LOSSES[name] for name in LOSSES})
def loss(device, folder, function):
    """Of vorticity, and of velocity with a scalar, after the first time: value and gradient."""
    for fields in ((VORTICITY,), (VELOCITY, TRACER)):
        spec = StateSpec(SQUARE, fields, 0.1)
        states = values_of(fields, 6).unflatten(0, (2, 3))
        change = torch.linspace(1, 2, spec.components, dtype=torch.float64)[:, None, None]

        def of(states, change, spec=spec):
            states = states.detach().requires_grad_()
            value = function(states, 0.9 * states.detach().roll(1, -1), LossContext(spec, change, (5, 6)))
            return value, *torch.autograd.grad(value, states)

        there = device.of(states), device.of(change)
        of(*there)
        with device.without_traffic():
            own = of(*there)
        for a, b in zip(own, of(states, change), strict=True):
            device.check(a, b)


EACH = {
    "plain": (),
    "noise, average, parts": ("train.noise=0.1", "train.average=0.9", "train.accumulate=2"),
    "push-forward": ("train.push_forward=1", "train.unroll_fraction=0.5", "models.n.augment=D4"),
    **{f"loss {name}": (f"train.loss={name}",) for name in LOSSES if name != "change"},
    "two networks": ("models.n.networks=2",),
    "steps of several lengths": ("models.n.intervals=[1, 2]", "train.unroll=[1]", "data.steps=6"),
    "with inputs": ("flow.kind=kolmogorov", "flow.spin_up=0", "flow.viscosity=[1e-2, 2e-2]", "flow.drag=0.1"),
    "a scalar": ("flow.tracer={diffusivity = 1e-2, wavenumber = 2}",),
    "velocity": ("data.state=velocity",),
    "hybrid": ("grid.n=32", "grid.store=16", "models.n.solver={dt = 0.25, order = 2, kernel = 'torch'}"),
}
SINGLE, DOUBLE = "dtype=float32", "dtype=float64"


def experiment_on(device: str, *overrides: str, kind: str = "gcnn", group: str = "D4") -> fs.Experiment:
    """The miniature with one small network."""
    width = "width = 8, dilations = [1]" if kind == "gcnn" else "width = 8, levels = 1"
    table = f"models={{n = {{kind = '{kind}', group = '{group}', {width}}}}}"
    fixed = [table, f"device={device}", "solver.kernel=torch", "train.steps=4", "train.valid_every=2", "data.train=2"]
    return fs.Experiment.read(MINIATURE, [*fixed, *overrides])


@contextlib.contextmanager
def generators_left_alone() -> Iterator[None]:
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before), "the user's random generator was used"


@contextlib.contextmanager
def counting_steps(device: Device) -> Iterator[list[Any]]:
    """Count the traffic of every training step."""
    step, counted = Trainer._train_step, []

    def counting_step(self, batch):
        with device.counting() as traffic:
            loss = step(self, batch)
        counted.append(traffic)
        return loss

    with mock.patch.object(Trainer, "_train_step", counting_step):
        yield counted


@parametrised(**EACH)
def training(device, folder, overrides):
    """Some steps, in double precision: data, weights, validation errors and forecasts.

    The host waits for the device once in so many steps, to look at their losses, and at no other.
    """
    data = fs.generate(experiment_on("cpu", DOUBLE, *overrides))
    models = []
    for name in ("cpu", device.name):
        every_second = mock.patch.object(trainer, "STEPS_BETWEEN_READS", 2)
        with generators_left_alone(), every_second, counting_steps(device) as counted:
            models.append(train_model(experiment_on(name, DOUBLE, *overrides), "n", data, {}))
    waits = [len(traffic.waits) for traffic in counted[1:]]  # the first step also makes what the others use again
    assert waits in ([0, 0, 0], [0, 0, 1]), [traffic.waits for traffic in counted]
    cpu, own = models
    assert own.device.type == torch.device(device.name).type
    for name, weight in cpu.network.state_dict().items():
        # Where a gradient is zero up to rounding, AdamW's first steps take its sign: a bias that the conserved mean
        # removes stays near 1e-11.
        found = own.network.state_dict()[name]
        if max(float(found.norm()), float(weight.norm())) > 1e-8:
            device.check(found, weight, 1e-5)
    a, b = (fs.forecast(model, data, 3) for model in models)
    for field in cpu.spec.fields:
        device.check_numbers(*(torch.from_numpy(x[field.name].values) for x in (b, a)), 1e-6)


@check
def training_in_half_precision(device, folder):
    """Convolutions in bfloat16, the step around them in single: near to full precision, and not the same."""
    data = fs.generate(experiment_on("cpu"))
    full, half = (
        train_model(experiment_on(device.name, f"train.precision={precision}", "train.steps=8"), "n", data, {})
        for precision in ("full", "bfloat16")
    )
    assert all(weight.dtype == torch.float32 for weight in half.network.parameters())
    a, b = (fs.forecast(model, data, 2)["vorticity"].values for model in (full, half))
    assert 0 < np.linalg.norm(a - b) < 0.1 * np.linalg.norm(a)


class Stop(Exception):
    """What stands for a kill."""


def stop_at(step: int) -> Callable[[int, str], None]:
    def report(done: int, note: str) -> None:
        if done == step:
            raise Stop

    return report


RESUMED = {
    "gcnn": ("gcnn", ("train.noise=0.1", "train.average=0.9")),
    "gunet": ("gunet", ("train.loss=h1", "train.accumulate=2")),
    "two networks": ("gcnn", ("models.n.networks=2",)),
    "half precision": ("gcnn", ("train.precision=bfloat16",)),
    "hybrid": ("gcnn", EACH["hybrid"]),
}


@parametrised(**RESUMED)
def training_goes_on_to_the_same_bits(device, folder, case):
    kind, overrides = case
    experiment = experiment_on(device.name, "train.steps=12", "train.checkpoint_every=2", *overrides, kind=kind)
    data = fs.generate(experiment_on("cpu", *overrides))
    whole = train_model(experiment, "n", data, {}, made(folder / "whole"))
    for step in (5, 8):
        with contextlib.suppress(Stop):
            train_model(experiment, "n", data, {}, made(folder / "cut"), stop_at(step))
            raise AssertionError("it was not stopped")
    resumed = train_model(experiment, "n", data, {}, folder / "cut")
    for name, weight in whole.network.state_dict().items():
        assert torch.equal(weight, resumed.network.state_dict()[name]), f"{name} differs"
    curves = [(folder / run / "curve.csv").read_bytes() for run in ("whole", "cut")]
    assert curves[0] == curves[1]


def made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


# -- models and rollouts


def model_on(device: Device, *overrides: str, kind: str = "gcnn"):
    """A model trained on the CPU, the same on the device, and its data."""
    experiment = experiment_on("cpu", *overrides, kind=kind)
    data = fs.generate(experiment)
    model = fs.train(experiment, data)["n"]
    return model, model.to(device.name), data


def check_datasets(device: Device, own: xr.Dataset, cpu: xr.Dataset, bound: float) -> None:
    assert set(own.variables) == set(cpu.variables)
    for name, variable in cpu.variables.items():
        if variable.dtype.kind == "f":
            device.check_numbers(*(torch.from_numpy(x.values.copy()) for x in (own[name], variable)), bound)


@check
def model_moves_and_comes_back(device, folder):
    """Moved, saved there, loaded on the CPU and on the device."""
    model, own, data = model_on(device, DOUBLE)
    fs.save(own, folder / "model")
    loaded, there = fs.load(folder / "model"), fs.load(folder / "model", device.name)
    assert (folder / "model/weights.safetensors").exists()
    assert {w.device.type for w in there.network.parameters()} == {torch.device(device.name).type}
    for name, weight in model.network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], weight)
        assert torch.equal(there.network.state_dict()[name].cpu(), weight)
    expected = fs.forecast(model, data, 4)
    assert fs.forecast(loaded, data, 4).equals(expected)
    for moved in (own, there):
        check_datasets(device, fs.forecast(moved, data, 4), expected, 1e-10)
    assert fs.forecast(there.to("cpu"), data, 4).equals(expected)


@parametrised(vorticity=(DOUBLE,), inputs=(DOUBLE, *EACH["with inputs"]), velocity=(DOUBLE, "data.state=velocity"))
def rollouts(device, folder, overrides):
    """In memory and to Zarr; one step, a step as a module, and the errors of a symmetry."""
    model, own, data = model_on(device, *overrides)
    expected = fs.forecast(model, data, 5)
    check_datasets(device, fs.forecast(own, data, 5), expected, 1e-9)
    with fs.forecast_to_zarr(own, data, 5, folder / "own.zarr") as written:
        check_datasets(device, written.load(), expected, 1e-9)
    from fluidsurrogate.data.conversion import to_inputs, to_states

    state, inputs = to_states(data, model.spec, model.dtype)[:, 0], to_inputs(data, model.spec, model.dtype)
    there = {name: device.of(value) for name, value in inputs.items()}
    with torch.no_grad():
        rolled = fs.rollout(model, state, 3, inputs)
        device.check(fs.rollout(own, device.of(state), 3, there), rolled, 1e-9)
        ordered = [there[field.name] for field in model.spec.inputs]
        device.check(fs.as_module(own)(device.of(state), *ordered), model(state, inputs), 1e-9)
    assert max(fs.equivariance_error(own, device.of(state), D4, there).values()) < 1e-10
    moved = fs.move_to_grid(own, Grid.square(24))
    assert moved.device == own.device
    with torch.no_grad():
        device.check(
            fs.rollout(fs.Persistence(model.spec), device.of(state), 2), state[:, None].expand(-1, 3, -1, -1, -1)
        )


@check
def symmetry_in_single_precision(device, folder):
    """To rounding: convolutions are not in a precision below what they are asked for."""
    model, own, data = model_on(device, "train.steps=20")
    state = torch.from_numpy(data["vorticity"].values[:, :1])
    errors = fs.equivariance_error(own, device.of(state), D4)
    assert max(errors.values()) < 2e-5, errors
    with torch.no_grad():
        device.check(own(device.of(state)), model(state), 5e-6)


@check
def solver_to_zarr(device, folder):
    """Random forcing too: the same kicks on every device."""
    overrides = ("flow.kind=stirred", "flow.spin_up=0", DOUBLE)
    cpu, own = (experiment_on(name, *overrides) for name in ("cpu", device.name))
    data = fs.generate(cpu)
    written = {}
    for name, experiment in (("cpu", cpu), ("own", own)):
        path = folder / f"{name}.zarr"
        with fs.rollout_to_zarr(experiment.build_solver(), data, 3, path, provenance={"a": 1}) as rolled:
            written[name] = rolled.load()
    check_datasets(device, written["own"], written["cpu"], 1e-9)


@parametrised(decaying=(), stirred=("flow.kind=stirred", "flow.spin_up=0"), velocity=("data.state=velocity",),
              inputs=EACH["with inputs"], coarse=("grid.n=32", "grid.store=16"))  # fmt: skip
def generation(device, folder, overrides):
    """In memory and to a folder, with spin-up and the measure of the resolution."""
    cpu, own = (experiment_on(name, DOUBLE, *overrides) for name in ("cpu", device.name))
    expected = fs.generate(cpu)
    found = fs.generate(own)
    check_datasets(device, found, expected, 1e-9)
    with fs.generate(own, folder / "run") as stored:
        assert stored.load().equals(found)
    assert np.isclose(found.attrs["resolution_error"], expected.attrs["resolution_error"], rtol=1e-6)
    assert found.attrs["device"].startswith(device.name)


@parametrised(one=(), hybrid=EACH["hybrid"])
def calibration_and_members(device, folder, overrides):
    """Perturbed members with their bound, from the same random numbers as on the CPU."""
    experiment = experiment_on("cpu", DOUBLE, *overrides)
    data = fs.generate(experiment)
    fs.save(fs.train(experiment, data)["n"], folder / "model")
    cpu, own = (fs.load(folder / "model", name) for name in ("cpu", device.name))
    cpu, own = (fs.calibrate(model, 20, 3, members=3) for model in (cpu, own))
    a, b = cpu.calibration, own.calibration
    device.check_numbers(torch.tensor(b.nrmse), torch.tensor(a.nrmse), 1e-5)
    device.check_numbers(torch.tensor(b.ratio), torch.tensor(a.ratio), 1e-5)
    check_datasets(device, fs.forecast(own, data, 3, members=4), fs.forecast(cpu, data, 3, members=4), 1e-5)


@check
def members_of_a_deep_ensemble(device, folder):
    model, own, data = model_on(device, DOUBLE, "models.n.networks=2")
    check_datasets(device, fs.forecast(own, data, 3, members=2), fs.forecast(model, data, 3, members=2), 1e-9)


@check
def audit(device, folder):
    model, own, data = model_on(device, DOUBLE)
    cpu, there = (fs.audit(one, states=data, steps=3) for one in (model, own))
    assert set(cpu.variables) == set(there.variables)
    assert cpu.attrs["failed"] == there.attrs["failed"]
    for name, variable in cpu.data_vars.items():
        np.testing.assert_allclose(there[name].values, variable.values, rtol=1e-6, atol=1e-9, err_msg=str(name))


@parametrised(miniature=(), two=("compare.members=3", "compare.calibration_starts=20", "models.small-cnn.networks=2",
                                "models.small-d4.augment=D4"))  # fmt: skip
def whole_run(device, folder, overrides):
    """`fluidsurrogate run`, end to end, in double precision: the scores of the CPU. A second run does nothing."""
    sets = [part for override in (DOUBLE, "solver.kernel=torch", *overrides) for part in ("--set", override)]
    for name in ("cpu", device.name):
        out = folder / name.replace(":", "-")
        arguments = ["run", str(MINIATURE), "--out", str(out), "--device", name, *sets]
        assert main(arguments) == 0
    cpu, own = (xr.load_dataset(path / "scores.nc") for path in (folder / "cpu", out))
    assert set(own["source"].values) >= {"small-d4", "small-cnn", "persistence"}
    assert float(own["equivariance_error"].sel(source="small-d4")) < 1e-9
    for name, variable in cpu.data_vars.items():
        if variable.dtype.kind == "f" and "seconds" not in str(name):
            np.testing.assert_allclose(own[name], variable, rtol=1e-4, atol=1e-9, err_msg=str(name))
    with fs.open_data(out / "data.zarr") as data:
        assert data.attrs["device"].startswith(device.name)
    weights = load_file(out / "models/small-d4/weights.safetensors")
    assert all(value.isfinite().all() for value in weights.values())
    before = {path: path.stat().st_mtime_ns for path in out.rglob("weights.safetensors")}
    assert main(arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("weights.safetensors")} == before


def run(device: Device, name: str, folder: Path) -> None:
    """Run one check."""
    CHECKS[name](device, folder)
