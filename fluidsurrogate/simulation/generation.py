"""Trajectories from the classical solver: in memory, or chunk by chunk into a Zarr folder, through any kill."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import read_json, write_json, zarr_compressors
from fluidsurrogate.core.progress import Progress
from fluidsurrogate.core.provenance import provenance_attributes
from fluidsurrogate.core.resumable import delete_folder, publish, start_or_resume
from fluidsurrogate.data.content_hash import CONTENT, hash_variables
from fluidsurrogate.data.layout import zarr_template
from fluidsurrogate.data.readers import open_data
from fluidsurrogate.simulation.resolution import RESOLVED, Resolution, ResolutionSample, describe_resolution, measure
from fluidsurrogate.simulation.stored_fields import block_coordinates, stored_dataset
from fluidsurrogate.simulation.trajectory_blocks import plan_blocks, simulate, stack_inputs
from solvers import NavierStokes2D

log = logging.getLogger("fluidsurrogate")
SAMPLE = "sample.npz"


def data_provenance(experiment: Experiment) -> dict[str, Any]:
    """The parts of an experiment that generated data depend on."""
    tree = experiment.tree()
    tree["data"].pop("max_resolution_error", None)  # refuses data, and changes none
    return {key: tree[key] for key in ("seed", "dtype", "grid", "flow", "solver", "data")}


def generate_in_memory(experiment: Experiment) -> xr.Dataset:
    """All trajectories as one Dataset."""
    solver, parts, inner = experiment.build_solver(), [], math.inf
    with Progress(sum(b.count for b in plan_blocks(experiment)), "generate", "trajectories") as progress:
        for block in plan_blocks(experiment):
            run = simulate(experiment, solver, block)
            parts.append(stored_dataset(experiment, solver, run))
            inner = min(inner, run.inner_step)
            if block.is_sampled:
                sample = run.sample(solver)
            progress.update(block.count)
    resolution = resolution_of(experiment, solver, sample)
    dataset = xr.concat(parts, "trajectory", data_vars="minimal", coords="minimal", compat="override", join="override")
    about = solver_attributes(experiment, solver, inner, data_provenance(experiment))
    about |= {**resolution.attributes, CONTENT: json.dumps(hash_variables(dataset))}
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
    folder = start_or_resume(path, {**provenance, "device": str(solver.device), "kernel": solver.backend}, force)
    store = folder / "result"
    plan = plan_blocks(experiment)
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
                template = zarr_template(part, block_coordinates(experiment, plan))
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
        attributes = made.attrs | attributes | {CONTENT: json.dumps(hash_variables(made))}
    xr.Dataset(attrs=attributes).to_zarr(store, mode="a", consolidated=False)
    publish(path)


def solver_attributes(
    experiment: Experiment, solver: NavierStokes2D, inner_step: float, provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """Attributes that say what ran: read off the solver object, not off the configuration."""
    inputs = {field.name for field in solver.spec.inputs}
    numbers = {name: v for name, v in experiment.build_flow().coefficients.items() if name not in inputs}
    return {
        "source": "fluidsurrogate classical solver",
        "equation": solver.equation,
        **numbers,
        "forcing": "none" if solver.forcing is None else "variable 'forcing'",
        "scheme": solver.scheme.name,
        "order": solver.scheme.order,
        "interval": solver.spec.interval,
        "inner_step": inner_step,
        "inner_step_rule": "fixed" if solver.step_control.fixed_steps else f"CFL <= {solver.scheme.cfl}",
        "dealiasing": "two-thirds",
        "solver_ny": solver.grid.n[0],
        "solver_nx": solver.grid.n[1],
        "solver_dtype": str(solver.dtype).removeprefix("torch."),
        "device": str(solver.device),
        "kernel": solver.backend,
        "threads": experiment.data.threads,
    } | provenance_attributes(experiment.tree(), provenance)
