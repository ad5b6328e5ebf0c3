"""Generate trajectories with the classical solver: in memory, or block by block into a Zarr folder.

A generation into a folder that is killed continues where it stopped.
"""

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
from fluidsurrogate.simulation.resolution import (
    RESOLVED,
    Resolution,
    ResolutionSample,
    describe_resolution,
    measure_resolution,
)
from fluidsurrogate.simulation.stored_fields import block_coordinates, stored_dataset
from fluidsurrogate.simulation.trajectory_blocks import check_block_memory, plan_blocks, simulate, stack_inputs
from solvers import NavierStokes

log = logging.getLogger("fluidsurrogate")
SAMPLE_FILE = "sample.npz"
RESOLUTION_ADVICE = "raise grid.n (grid.store keeps the stored size) or flow.viscosity"


def data_provenance(experiment: Experiment) -> dict[str, Any]:
    """Return the parts of an experiment that generated data depend on.

    Parameters
    ----------
    experiment : Experiment
        The experiment.

    Returns
    -------
    dict
        Some of its tables, as plain data.
    """
    tree = experiment.tree()
    tree["data"].pop("max_resolution_error", None)  # it refuses data but does not change them
    return {key: tree[key] for key in ("seed", "dtype", "grid", "flow", "solver", "data")}


def generate_in_memory(experiment: Experiment) -> xr.Dataset:
    """Generate all trajectories of an experiment in memory.

    Parameters
    ----------
    experiment : Experiment
        The experiment.

    Returns
    -------
    xr.Dataset
        With the dims trajectory, time, y and x.

    Raises
    ------
    UsageError
        If the solver cannot run the flow, or the data are less well resolved than the experiment asks for.
    """
    solver, parts, inner_step = experiment.build_solver(), [], math.inf
    check_block_memory(experiment, solver)
    with Progress(sum(b.count for b in plan_blocks(experiment)), "generate", "trajectories") as progress:
        for block in plan_blocks(experiment):
            run = simulate(experiment, solver, block)
            parts.append(stored_dataset(experiment, solver, run))
            inner_step = min(inner_step, run.smallest_inner_step)
            if block.is_sampled:
                sample = run.sample(solver)
            progress.update(block.count)
    resolution = measure_and_check_resolution(experiment, solver, sample)
    dataset = xr.concat(parts, "trajectory", data_vars="minimal", coords="minimal", compat="override", join="override")
    attributes = solver_attributes(experiment, solver, inner_step, data_provenance(experiment))
    attributes |= {**resolution.attributes, CONTENT: json.dumps(hash_variables(dataset))}
    return dataset.assign_attrs(attributes)


def read_progress(folder: Path, block_count: int) -> dict[str, Any]:
    """Read the progress of an interrupted generation.

    Parameters
    ----------
    folder : Path
        The folder of the unfinished data.
    block_count : int
        Number of blocks of the dataset.

    Returns
    -------
    dict
        "blocks", the number of blocks that are done, and "inner_step", their smallest inner step (None without any).

    Raises
    ------
    UsageError
        If the progress file is corrupt.
    """
    done = read_json(folder / "progress.json")
    if done is None:
        return {"blocks": 0, "inner_step": None}
    match done:
        case {"blocks": int(count), "inner_step": float()} if 0 < count <= block_count:
            return done
    raise UsageError(
        f"{folder / 'progress.json'} is not the progress file of a generation: delete {folder} to start again"
    )


def measure_and_check_resolution(experiment: Experiment, solver: NavierStokes, sample: ResolutionSample) -> Resolution:
    """Measure how well the data are resolved, and report it in the log.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    solver : NavierStokes
        Its classical solver.
    sample : ResolutionSample
        A test trajectory at full resolution.

    Returns
    -------
    Resolution
        The resolution.

    Raises
    ------
    UsageError
        If the data are less well resolved than the experiment asks for.
    """
    resolution = measure_resolution(experiment, sample, stack_inputs(experiment.flows("test", [sample.number]), solver))
    report_resolution(experiment, resolution)
    return resolution


def report_resolution(experiment: Experiment, resolution: Resolution) -> None:
    """Report in the log how well the data are resolved.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    resolution : Resolution
        The resolution.

    Raises
    ------
    UsageError
        If the data are less well resolved than the experiment asks for.
    """
    error = resolution.error
    log.info(f"  resolution: {describe_resolution(resolution.attributes)}")
    check_resolution(experiment, error)
    if error is not None and not error <= RESOLVED:
        finer = "twice the cells" if resolution.refinement == "2n" else "one and a half times the cells along each axis"
        log.warning(
            f"  not resolved: on {finer} the flow differs by {error:.2%} after one interval; {RESOLUTION_ADVICE}"
        )


def check_resolution(experiment: Experiment, error: float | None) -> None:
    """Check that data are as well resolved as `data.max_resolution_error` asks for.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    error : float or None
        The resolution error of the data; None if it is not known.

    Raises
    ------
    UsageError
        If the experiment limits the error, and it is larger or not known.
    """
    limit = experiment.data.max_resolution_error
    if limit is not None and (error is None or not error <= limit):
        found = "is not known" if error is None else f"is {error:.2%}"
        raise UsageError(
            f"the resolution error {found}, but data.max_resolution_error = {limit:g}: {RESOLUTION_ADVICE}"
        )


def generate_to_zarr(experiment: Experiment, path: Path, force: bool) -> None:
    """Generate all trajectories of an experiment into a Zarr folder, block by block.

    Memory holds one block. The data are written to a folder beside `path`, which gets its name when everything is done.
    An interrupted generation from the same inputs is continued: a block is done if `progress.json`, which is replaced
    after the chunks of the block are written, says so. An unfinished block is computed again, to the same bits.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    path : Path
        The Zarr folder.
    force : bool
        Start again if an interrupted generation was from other inputs.

    Raises
    ------
    UsageError
        If the solver cannot run the flow, the data are less well resolved than the experiment asks for, or an
        interrupted generation was from other inputs.
    """
    solver, provenance = experiment.build_solver(), data_provenance(experiment)
    check_block_memory(experiment, solver)
    folder = start_or_resume(path, {**provenance, "device": str(solver.device), "kernel": solver.backend}, force)
    store = folder / "result"
    blocks = plan_blocks(experiment)
    done = read_progress(folder, len(blocks))
    total, finished = blocks[-1].offset + blocks[-1].count, sum(b.count for b in blocks[: done["blocks"]])
    with Progress(total, "generate", "trajectories", finished) as progress:
        for i in range(done["blocks"], len(blocks)):
            block = blocks[i]
            try:
                run = simulate(experiment, solver, block)
            except UsageError:
                delete_folder(
                    folder
                )  # data that these parameters cannot finish must not block those of other parameters
                raise
            part, inner_step = stored_dataset(experiment, solver, run), run.smallest_inner_step
            if block.is_sampled:
                run.sample(solver).write(folder / SAMPLE_FILE)
            if i == 0:
                template = zarr_template(part, block_coordinates(experiment, blocks))
                encoding = {name: {"compressors": zarr_compressors()} for name in template.data_vars}
                template.to_zarr(store, mode="w", compute=False, consolidated=False, encoding=encoding)
            region = {"trajectory": slice(block.offset, block.offset + block.count)}
            varying = [name for name in part.variables if "trajectory" not in part[name].dims]
            part.drop_vars([*varying, *part.coords], errors="ignore").to_zarr(store, region=region, consolidated=False)
            done = {"blocks": i + 1, "inner_step": min(inner_step, done["inner_step"] or inner_step)}
            write_json(folder / "progress.json", done)
            progress.update(block.count)
    resolution = measure_and_check_resolution(experiment, solver, ResolutionSample.read(folder / SAMPLE_FILE))
    attributes = solver_attributes(experiment, solver, done["inner_step"], provenance) | resolution.attributes
    with open_data(store) as made:
        attributes = made.attrs | attributes | {CONTENT: json.dumps(hash_variables(made))}
    xr.Dataset(attrs=attributes).to_zarr(store, mode="a", consolidated=False)
    publish(path)


def solver_attributes(
    experiment: Experiment, solver: NavierStokes, inner_step: float, provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the attributes of a dataset that say what computed it, taken from the solver and not from the experiment.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    solver : NavierStokes
        The solver that ran.
    inner_step : float
        The smallest inner time step, in s.
    provenance : mapping
        What the data depend on.

    Returns
    -------
    dict
        The attributes.
    """
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
        **{f"solver_n{axis}": n for axis, n in zip(solver.grid.axes, solver.grid.n, strict=True)},
        "solver_dtype": str(solver.dtype).removeprefix("torch."),
        "device": str(solver.device),
        "kernel": solver.backend,
        "threads": experiment.data.threads,
    } | provenance_attributes(experiment.tree(), provenance)
