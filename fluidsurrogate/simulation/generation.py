"""Trajectories from the classical solver: in memory, or chunk by chunk into a Zarr folder, through any kill."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.config.parameter_sampling import value_for
from fluidsurrogate.core.devices import fixed_threads
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import read_json, write_json, zarr_compressors
from fluidsurrogate.core.progress import Progress
from fluidsurrogate.core.provenance import provenance_attributes
from fluidsurrogate.core.resumable import delete_folder, publish, start_or_resume
from fluidsurrogate.core.seeding import derive_seed
from fluidsurrogate.data.content_hash import CONTENT, content_of
from fluidsurrogate.data.conversion import empty_like_blocks, to_dataset
from fluidsurrogate.data.readers import open_data
from fluidsurrogate.simulation.resolution import RESOLVED, Resolution, ResolutionSample, describe_resolution, measure
from fluidsurrogate.simulation.rollout import rollout
from solvers import Flow, NavierStokes2D, resample
from solvers.navier_stokes import SpectralCarry
from solvers.velocity_form import with_velocity

log = logging.getLogger("fluidsurrogate")
SPLITS = ("train", "valid", "test")
SAMPLE = "sample.npz"


@dataclass(frozen=True)
class Block:
    """`count` trajectories of one split, numbers `first` … of that split, at `offset` of the dataset."""

    split: str
    first: int
    count: int
    offset: int

    @property
    def is_sampled(self) -> bool:
        """True for the block with test trajectory 0, by which the resolution is measured whatever `data.train` is."""
        return self.split == "test" and self.first == 0


def blocks(experiment: Experiment) -> list[Block]:
    """The dataset in blocks of `data.block` trajectories, split by split."""
    data, offset, plan = experiment.data, 0, []
    for split in SPLITS:
        size = getattr(data, split)
        for first in range(0, size, data.block):
            count = min(data.block, size - first)
            plan.append(Block(split, first, count, offset))
            offset += count
    return plan


def data_provenance(experiment: Experiment) -> dict[str, Any]:
    """The parts of an experiment that generated data depend on."""
    tree = experiment.tree()
    tree["data"].pop("max_resolution_error", None)  # refuses data, and changes none
    return {key: tree[key] for key in ("seed", "dtype", "grid", "flow", "solver", "data")}


def generate_in_memory(experiment: Experiment) -> xr.Dataset:
    """All trajectories as one Dataset."""
    solver, parts, inner = experiment.build_solver(), [], math.inf
    with Progress(sum(b.count for b in blocks(experiment)), "generate", "trajectories") as progress:
        for block in blocks(experiment):
            run = simulate(experiment, solver, block)
            parts.append(stored_dataset(experiment, solver, run))
            inner = min(inner, run.inner_step)
            if block.is_sampled:
                sample = run.sample(solver)
            progress.update(block.count)
    resolution = resolution_of(experiment, solver, sample)
    dataset = xr.concat(parts, "trajectory", data_vars="minimal", coords="minimal", compat="override", join="override")
    about = solver_attributes(experiment, solver, inner, data_provenance(experiment))
    about |= {**resolution.attributes, CONTENT: json.dumps(content_of(dataset))}
    return dataset.assign_attrs(about)


def read_progress(folder: Path, most: int) -> dict[str, Any]:
    """How many blocks an interrupted run has done, and their smallest inner step; UsageError for a damaged record."""
    done = read_json(folder / "progress.json")
    if done is None:
        return {"blocks": 0, "inner_step": None}
    match done:
        case {"blocks": int(count), "inner_step": float()} if 0 < count <= most:
            return done
    raise UsageError(f"{folder / 'progress.json'} is no record of a generation: delete {folder} to begin again")


REMEDY = "raise grid.n (grid.store keeps the stored size) or flow.viscosity"


def resolution_of(experiment: Experiment, solver: NavierStokes2D, sample: ResolutionSample) -> Resolution:
    """How well the data are resolved, said in a line; UsageError where the experiment refuses such data."""
    resolution = measure(experiment, sample, stack_inputs(experiment.flows("test", [0]), solver))
    error = resolution.error
    log.info(f"  resolution: {describe_resolution(resolution.attributes)}")
    refuse_unresolved(experiment, error)
    if error is not None and not error <= RESOLVED:
        log.warning(f"  not resolved: on twice the cells the flow differs by {error:.2%} after one interval; {REMEDY}")
    return resolution


def refuse_unresolved(experiment: Experiment, error: float | None) -> None:
    """UsageError where `data.max_resolution_error` is less than the error of the data, or that is not known."""
    limit = experiment.data.max_resolution_error
    if limit is not None and (error is None or not error <= limit):
        found = "is not known" if error is None else f"is {error:.2%}"
        raise UsageError(f"the resolution error {found}, and data.max_resolution_error = {limit:g}: {REMEDY}")


def generate_to_zarr(experiment: Experiment, path: Path, force: bool) -> None:
    """Fill `path` block by block, beside its name; what an interrupted run left with the same inputs goes on.

    A block counts as done when it is in `progress.json`, which is replaced after its chunks are written; a block that
    was cut short is computed again to the same bits. Memory holds one block.
    """
    solver, provenance = experiment.build_solver(), data_provenance(experiment)
    folder = start_or_resume(path, {**provenance, "device": str(solver.device), "kernel": solver.kernel}, force)
    store = folder / "result"
    plan = blocks(experiment)
    done = read_progress(folder, len(plan))
    total, finished = plan[-1].offset + plan[-1].count, sum(b.count for b in plan[: done["blocks"]])
    with Progress(total, "generate", "trajectories", finished) as progress:
        for i in range(done["blocks"], len(plan)):
            try:
                run = simulate(experiment, solver, plan[i])
            except UsageError:
                delete_folder(folder)  # what these parameters cannot finish must not stand in the way of others
                raise
            part, inner = stored_dataset(experiment, solver, run), run.inner_step
            if plan[i].is_sampled:
                run.sample(solver).write(folder / SAMPLE)
            if i == 0:
                template = empty_like_blocks(part, block_coordinates(experiment, plan))
                encoding = {name: {"compressors": zarr_compressors()} for name in template.data_vars}
                template.to_zarr(store, mode="w", compute=False, consolidated=False, encoding=encoding)
            region = {"trajectory": slice(plan[i].offset, plan[i].offset + plan[i].count)}
            varying = [name for name in part.variables if "trajectory" not in part[name].dims]
            part.drop_vars([*varying, *part.coords], errors="ignore").to_zarr(store, region=region, consolidated=False)
            done = {"blocks": i + 1, "inner_step": min(inner, done["inner_step"] or inner)}
            write_json(folder / "progress.json", done)
            progress.update(plan[i].count)
    resolution = resolution_of(experiment, solver, ResolutionSample.read(folder / SAMPLE))
    attributes = solver_attributes(experiment, solver, done["inner_step"], provenance) | resolution.attributes
    with open_data(store) as made:
        attributes = made.attrs | attributes | {CONTENT: json.dumps(content_of(made))}
    xr.Dataset(attrs=attributes).to_zarr(store, mode="a", consolidated=False)
    publish(path)


@final
@dataclass(frozen=True)
class SimulatedBlock:
    """The trajectories of a block on the solver's grid: states (trajectory, time, component, y, x), inputs and flows,
    the inner steps that each took in every interval, and what the stirring fed in it."""

    block: Block
    flows: Sequence[Flow]
    states: Tensor
    inputs: dict[str, Tensor]
    taken: Sequence[tuple[int, ...]]
    injected: Sequence[Tensor]
    inner_step: float  # the smallest that any trajectory took

    def sample(self, solver: NavierStokes2D) -> ResolutionSample:
        """The first trajectory, to measure the resolution by."""
        return ResolutionSample.of(self.states[0], solver, self.flows[0].viscosity, self.taken[0][0] * solver.slots)


def compute(experiment: Experiment, solver: NavierStokes2D, block: Block) -> xr.Dataset:
    """The trajectories of one block as they are stored."""
    return stored_dataset(experiment, solver, simulate(experiment, solver, block))


def simulate(experiment: Experiment, solver: NavierStokes2D, block: Block) -> SimulatedBlock:
    """The trajectories of one block on the solver's grid.

    Always `data.block` trajectories are computed, whatever is kept of them: an FFT's last bits depend on the size of
    its batch, and so no trajectory depends on which others were asked for.
    """
    numbers = range(block.first, block.first + experiment.data.block)
    seeds = [experiment.trajectory_seed(block.split, i) for i in numbers]
    flows = experiment.flows(block.split, numbers)
    carries: list[SpectralCarry] = []
    with torch.no_grad(), fixed_threads(experiment.data.threads):
        try:
            starts = [flow.starts(solver.grid, [seed]) for flow, seed in zip(flows, seeds, strict=True)]
            state = torch.cat(starts).to(solver.device, solver.dtype)
            if not bool(state.isfinite().all()):
                raise ValueError(f"its start is not finite in {experiment.dtype}; choose parameters closer to 1")
            inputs = stack_inputs(flows, solver)
            state = spin_up(experiment, state, inputs, seeds)
            states = rollout(solver, state, experiment.data.stored_steps, inputs, seeds, carries.append)
        except ValueError as error:
            raise UsageError(f"the solver cannot run this flow: {error}") from None
    count = block.count
    finite = states[:count].isfinite().all(dim=(-3, -2, -1)).cpu().numpy()
    if not finite.all():
        which, step = (int(i[0]) for i in np.nonzero(~finite))
        raise UsageError(
            f"the solver turned non-finite at step {step} of {block.split} trajectory {block.first + which}: "
            "try a smaller solver.dt, a larger flow.viscosity or a larger grid.n"
        )
    taken = [carry.taken[:count] for carry in carries]
    return SimulatedBlock(
        block,
        flows[:count],
        states[:count],
        {name: value[:count] for name, value in inputs.items()},
        taken,
        [carry.injected[:count] for carry in carries if carry.injected is not None],
        solver.spec.interval / solver.slots / max(map(max, taken)),
    )


def stored_dataset(experiment: Experiment, solver: NavierStokes2D, run: SimulatedBlock) -> xr.Dataset:
    """A run as it is stored: on the stored grid, in the fields that are stored."""
    grid, uniform = experiment.spec.grid, {field.name for field in solver.spec.inputs if field.uniform}
    states = with_velocity(run.states, solver.grid) if experiment.data.state == "velocity" else run.states
    part = to_dataset(
        experiment.spec,
        resample(states, solver.grid, grid),
        inputs={name: v if name in uniform else resample(v, solver.grid, grid) for name, v in run.inputs.items()},
        coordinates=block_coordinates(experiment, [run.block]),
        attributes={"title": f"{run.flows[0].kind} flow"},
    )
    return part if solver.stirring is None else part.assign(injected(run.injected))


def stack_inputs(flows: Sequence[Flow], solver: NavierStokes2D) -> dict[str, Tensor]:
    """What the solver's step depends on, one value a trajectory; a vector that a flow lacks is zero."""
    own, stacked = [flow.inputs(solver.grid) for flow in flows], {}
    for field in solver.spec.inputs:
        none = torch.zeros(1, field.components, *field.extent(solver.grid), dtype=torch.float64)
        values = torch.cat([inputs.get(field.name, none) for inputs in own])
        stacked[field.name] = values if field.uniform else values.to(solver.dtype)
    return stacked


def spin_up(experiment: Experiment, state: Tensor, inputs: Mapping[str, Tensor], seeds: Sequence[int]) -> Tensor:
    """The state after the flow's spin-up."""
    if not experiment.build_flow().spin_up:
        return state
    solver, intervals = experiment.build_spin_up()
    carry = solver.start(state, inputs, [derive_seed(seed, "spin-up") for seed in seeds])
    for _ in range(intervals):
        carry = solver.advance(carry)
    return solver.state(carry)


def injected(amounts: Sequence[Tensor]) -> dict[str, Any]:
    """What the stirring fed in the interval behind each time, as variables (trajectory, time); 0 at the start."""
    fed = np.stack([np.zeros(tuple(amounts[0].shape)), *(amount.cpu().numpy() for amount in amounts)], axis=1)
    return {
        f"injected_{name}": (("trajectory", "time"), fed[..., i], {"long_name": f"{name} fed by the stirring",
                                                                   "units": units})
        for i, (name, units) in enumerate((("energy", "m2 s-2"), ("enstrophy", "s-2")))
    }  # fmt: skip


def block_coordinates(experiment: Experiment, plan: list[Block]) -> dict[str, Any]:
    """Number, split and seed of every trajectory in `plan`, as coordinates along `trajectory`."""
    splits = [b.split for b in plan for _ in range(b.count)]
    numbers = [b.first + i for b in plan for i in range(b.count)]
    seeds = [experiment.trajectory_seed(split, i) for split, i in zip(splits, numbers, strict=True)]
    index = np.concatenate([b.offset + np.arange(b.count) for b in plan])
    known = {field.name for field in experiment.spec.inputs}
    varying = {}
    for name, parameter in experiment.flow.varying().items():
        if name.rpartition(".")[2] not in known:
            values = [value_for(parameter, name, *at) for at in zip(numbers, seeds, strict=True)]
            about = {"long_name": f"parameter {name} of the flow"}
            varying[name.replace(".", "_")] = ("trajectory", np.array(values), about)
    return {
        "trajectory": ("trajectory", index, {"long_name": "trajectory", "units": "1"}),
        "split": ("trajectory", np.array(splits, dtype=object), {"long_name": "part of the dataset"}),
        "seed": ("trajectory", np.array(seeds), {"long_name": "seed of the start", "units": "1"}),
    } | varying


def solver_attributes(
    experiment: Experiment, solver: NavierStokes2D, inner_step: float, provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """Attributes that say what ran: read off the solver object, not off the configuration."""
    inputs = {field.name for field in solver.spec.inputs}
    numbers = {name: v for name, v in experiment.build_flow().numbers.items() if name not in inputs}
    return {
        "source": "fluidsurrogate classical solver",
        "equation": solver.equation,
        **numbers,
        "forcing": "none" if solver.forcing is None else "variable 'forcing'",
        "scheme": solver.scheme.name,
        "order": solver.scheme.order,
        "interval": solver.spec.interval,
        "inner_step": inner_step,
        "inner_step_rule": "fixed" if solver.fixed_substeps else f"CFL <= {solver.scheme.cfl}",
        "dealiasing": "two-thirds",
        "solver_ny": solver.grid.n[0],
        "solver_nx": solver.grid.n[1],
        "solver_dtype": str(solver.dtype).removeprefix("torch."),
        "device": str(solver.device),
        "kernel": solver.kernel,
        "threads": experiment.data.threads,
    } | provenance_attributes(experiment.tree(), provenance)


def split_of(dataset: xr.Dataset, split: str, experiment: Experiment) -> xr.Dataset:
    """The trajectories of one split: by the coordinate `split`, or, where a user's dataset has none, the first
    `data.train`, the next `data.valid` and the next `data.test`. Where `data.test_steps` is given, as many intervals of
    them as are this split's. UsageError where they are not there."""
    if "trajectory" not in dataset.dims:
        raise UsageError("the dataset has no dimension 'trajectory'")
    if experiment.data.test_steps is not None:
        times = experiment.data.steps_of(split) + 1
        if dataset.sizes.get("time", 1) < times:
            raise UsageError(
                f"the dataset has {dataset.sizes.get('time', 1)} times; its {split} trajectories need {times}"
            )
        dataset = dataset.isel(time=slice(0, times))
    if "split" in dataset.coords:
        chosen = np.flatnonzero(np.asarray(dataset["split"].values, dtype=object) == split)
        if not len(chosen):
            raise UsageError(f"the dataset has no trajectories for the split {split!r}")
        return dataset.isel(trajectory=chosen)
    sizes = [getattr(experiment.data, name) for name in SPLITS]
    if dataset.sizes["trajectory"] < sum(sizes):
        raise UsageError(
            f"the dataset has {dataset.sizes['trajectory']} trajectories and no coordinate 'split'; "
            f"data.train + data.valid + data.test are {sum(sizes)}"
        )
    first = sum(sizes[: SPLITS.index(split)])
    return dataset.isel(trajectory=slice(first, first + sizes[SPLITS.index(split)]))
