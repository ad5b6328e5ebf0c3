"""Generate trajectories on the workers of a Dask cluster: a block is a task, and all write to one Zarr store.

It is the generation of one machine, block by block (`trajectory_blocks.simulate`), with the same bits wherever
processor, kernel and threads are the same. The client computes nothing.
"""

from __future__ import annotations

import json
import math
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.core.cluster import check_versions, connected, describe_machine, run_task, run_tasks
from fluidsurrogate.core.devices import fixed_threads
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.progress import Progress
from fluidsurrogate.core.provenance import package_versions
from fluidsurrogate.core.stores import is_address
from fluidsurrogate.data.block_store import BlockStore
from fluidsurrogate.data.content_hash import CONTENT, MAX_HASHED_BYTES, hash_variables
from fluidsurrogate.data.layout import zarr_template
from fluidsurrogate.simulation.cluster_store import (
    check_is_seen,
    delete_unfinished,
    is_complete,
    open_block_store,
    sharded,
)
from fluidsurrogate.simulation.generation import data_provenance, report_resolution, solver_attributes
from fluidsurrogate.simulation.resolution import Resolution, measure_resolution
from fluidsurrogate.simulation.stored_fields import block_coordinates, stored_dataset
from fluidsurrogate.simulation.trajectory_blocks import (
    SimulatedBlock,
    check_block_memory,
    plan_blocks,
    simulate,
    stack_inputs,
)
from solvers import NavierStokes

if TYPE_CHECKING:
    from distributed import Client

Machine = dict[str, Any]  # what decides the last bits: versions, processor, kernel, device
_kept = threading.local()  # the solver that a worker has built last


def generate_on_cluster(
    experiment: Experiment, location: str | Path, dask: str | Client, force: bool = False, lock: bool = False
) -> None:
    """Generate all trajectories of an experiment on a Dask cluster.

    A worker that dies costs the block that it was computing, which another one repeats. If this process dies, the same
    call continues with the blocks that are not done.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    location : str or Path
        The Zarr folder, on a file system that all machines share, or an address, such as "s3://bucket/data.zarr".
    dask : str or distributed.Client
        The cluster: see `connected`.
    force : bool
        Replace what is at an address; start again if an interrupted generation was from other inputs.
    lock : bool, default False
        Whether a path is to be locked here, because the caller has not locked its folder.

    Raises
    ------
    UsageError
        If the solver cannot run the flow, the data are less well resolved than the experiment asks for, an interrupted
        generation was from other inputs, or the cluster is not there or not usable.
    """
    provenance = data_provenance(experiment)
    if is_address(location) and is_complete(location, provenance, force):
        return
    with connected(dask) as client:
        machine = run_task(client, _describe_worker, experiment)
        check_versions(machine["versions"], package_versions())
        bits = {key: machine[key] for key in ("device", "kernel")}
        with open_block_store(location, {**provenance, **bits}, force, lock) as store:
            markers = _generate_blocks(client, store, experiment, machine)
            resolution = Resolution(**next(m["resolution"] for m in markers if "resolution" in m))
            inner_step = min(marker["inner_step"] for marker in markers)
            attributes = run_task(client, _attributes, experiment, inner_step, provenance) | resolution.attributes
            attributes |= {"processor": ", ".join(sorted({marker["processor"] for marker in markers}))}
            content = store.hash_content([marker["hashes"] for marker in markers])
            store.finish({**attributes, CONTENT: json.dumps(content)})


def _generate_blocks(client: Client, store: BlockStore, experiment: Experiment, machine: Machine) -> list[Any]:
    """Let the workers lay out the store and generate all blocks that are not done; return all markers in order."""
    blocks, markers = plan_blocks(experiment), store.markers()
    if store.layout() is None:
        run_task(client, _lay_out, store, experiment)
        check_is_seen(store)
    waiting = [i for i in range(len(blocks)) if i not in markers]
    waiting.sort(key=lambda i: not blocks[i].is_sampled)  # first the one that says whether the flow is resolved
    done = sum(blocks[i].count for i in markers)

    def keep(number: int, marker: dict[str, Any]) -> None:
        if "error" in marker:  # data that these parameters cannot finish must not block those of other parameters
            delete_unfinished(store)
            raise UsageError(marker["error"])
        markers[number] = marker
        if "resolution" in marker:
            report_resolution(experiment, Resolution(**marker["resolution"]))

    if any("resolution" in marker for marker in markers.values()):
        report_resolution(
            experiment, Resolution(**next(m["resolution"] for m in markers.values() if "resolution" in m))
        )
    with Progress(blocks[-1].offset + blocks[-1].count, "generate", "trajectories", done) as progress:
        counts = {i: blocks[i].count for i in waiting}
        run_tasks(client, _generate_block, counts, (store, experiment, machine), store.token, progress, keep)
    return [markers[i] for i in range(len(blocks))]


def _solver_of(experiment: Experiment) -> NavierStokes:
    """Return the solver of an experiment, built once in each thread that works for it."""
    text = json.dumps(experiment.tree())
    if getattr(_kept, "text", None) != text:
        _kept.solver, _kept.text = experiment.build_solver(), text
    return _kept.solver


def _describe_worker(experiment: Experiment) -> Machine:
    """Return, on a worker, what the last bits of the data depend on, if it can hold a block."""
    machine, solver = describe_machine(), _solver_of(experiment)
    check_block_memory(experiment, solver)
    return {**machine, "kernel": solver.backend, "device": str(solver.device)}


def _lay_out(store: BlockStore, experiment: Experiment) -> None:
    """Lay out, on a worker, the Zarr store of an experiment. What does not depend on the flow's motion is written."""
    solver, blocks = _solver_of(experiment), plan_blocks(experiment)
    block, numbers = blocks[0], range(blocks[0].first, blocks[0].first + experiment.data.block)
    flows = experiment.flows(block.split, numbers)[: block.count]
    shape = (block.count, experiment.data.stored_intervals + 1, solver.spec.components, *solver.grid.n)
    states = torch.zeros(shape, dtype=solver.dtype, device=solver.device)
    nothing_fed = [torch.zeros(block.count, 2, dtype=torch.float64)] * experiment.data.stored_intervals
    with torch.no_grad(), fixed_threads(experiment.data.threads):
        still = SimulatedBlock(block, flows, states, stack_inputs(flows, solver), [], nothing_fed, math.inf)
        template = zarr_template(stored_dataset(experiment, solver, still), block_coordinates(experiment, blocks))
    shard = math.gcd(*(b.offset for b in blocks)) or blocks[0].count  # every block is a whole number of shards
    store.lay_out(*sharded(template, shard))


def _generate_block(number: int, store: BlockStore, experiment: Experiment, machine: Machine) -> dict[str, Any]:
    """Generate one block on a worker, write it and mark it as done; return the marker."""
    store.check_current()
    if (known := store.marker(number)) is not None:  # by a task of a client that died
        return known
    solver, block = _solver_of(experiment), plan_blocks(experiment)[number]
    here = describe_machine()
    check_versions(here["versions"], machine["versions"])
    if solver.backend != machine["kernel"]:
        raise UsageError(
            f"a worker of the Dask cluster has the solver's kernel {solver.backend!r}, others have "
            f"{machine['kernel']!r}: install a C++ compiler on all of them, or set solver.kernel"
        )
    try:
        run = simulate(experiment, solver, block)
    except UsageError as error:
        return {"error": str(error)}
    about = {"inner_step": run.smallest_inner_step, "processor": here["processor"]}
    with torch.no_grad(), fixed_threads(experiment.data.threads):
        part = stored_dataset(experiment, solver, run)
    if block.is_sampled:
        sample = run.sample(solver)
        inputs = stack_inputs(experiment.flows("test", [sample.number]), solver)
        about["resolution"] = asdict(measure_resolution(experiment, sample, inputs))
    part = part.drop_vars([name for name in part.variables if "trajectory" not in part[name].dims])
    part = part.drop_vars(list(part.coords))
    store.write(part, {"trajectory": slice(block.offset, block.offset + block.count)})
    total = part.nbytes * sum(b.count for b in plan_blocks(experiment)) / block.count
    hashes = hash_variables(part) if total > MAX_HASHED_BYTES else {}  # smaller data are hashed whole, by the client
    return store.mark(number, {**about, "hashes": hashes})


def _attributes(experiment: Experiment, inner_step: float, provenance: dict[str, Any]) -> dict[str, Any]:
    """Return, on a worker, the attributes that say what computed the data."""
    return solver_attributes(experiment, _solver_of(experiment), inner_step, provenance)
