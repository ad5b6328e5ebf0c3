"""Rollouts on the workers of a Dask cluster: a batch of trajectories is a task, and all write to one Zarr store."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fluidsurrogate.core.cluster import check_versions, connected, describe_machine, run_task, run_tasks
from fluidsurrogate.core.devices import fixed_threads
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.progress import Progress
from fluidsurrogate.core.provenance import package_versions
from fluidsurrogate.data.block_store import BlockStore
from fluidsurrogate.simulation.batch_sizes import BatchPlan
from fluidsurrogate.simulation.batched_rollout import BatchedRollout
from fluidsurrogate.simulation.cluster_store import check_is_seen, open_block_store, sharded

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger("fluidsurrogate")


def rollout_on_cluster(
    rollout: BatchedRollout,
    location: str | Path,
    dask: str | Client,
    batch: int | None,
    provenance: Mapping[str, Any],
    attributes: Mapping[str, Any],
    force: bool,
) -> None:
    """Compute all batches of a rollout on a Dask cluster, and write them to a Zarr store.

    A worker that dies costs the batch that it was computing. The bits are those of one machine with the same plan:
    batch, threads of torch, processor.

    Parameters
    ----------
    rollout : BatchedRollout
        The rollout, which is sent to the workers.
    location : str or Path
        The Zarr folder, on a file system that all machines share and locked by the caller, or an address.
    dask : str or distributed.Client
        The cluster: see `connected`.
    batch : int, optional
        Number of trajectories at a time; by default what fits in the free memory of a worker.
    provenance : mapping
        What the rollout is made from.
    attributes : mapping
        The attributes of the dataset.
    force : bool
        Replace what is at an address, or unfinished work on something else.

    Raises
    ------
    UsageError
        If there is unfinished work on something else, or the cluster is not there or not usable.
    """
    with connected(dask) as client, open_block_store(location, provenance, force) as store:
        # Workers get the rollout from each other; the scheduler makes it again if those that have it die.
        shared = client.submit(_same, rollout, pure=False)
        if store.layout() is None:
            run_task(client, _lay_out, store, shared, batch, attributes)
        plan, machine = _recorded(check_is_seen(store))
        check_versions(machine["versions"], package_versions())
        count, markers = rollout.initial_states.count, store.markers()
        batches = -(-count // plan.batch)
        if batches < len(client.nthreads()):
            log.warning(f"  {batches} batch{'es' * (batches != 1)} of {plan.batch} trajectories for "
                        f"{len(client.nthreads())} workers: a smaller --batch employs more of them")  # fmt: skip
        intervals = (rollout.times - 1) * rollout.keep_every
        sizes = {i: (min((i + 1) * plan.batch, count) - i * plan.batch) * intervals for i in range(batches)}
        waiting = {i: size for i, size in sizes.items() if i not in markers}

        def keep(number: int, marker: dict[str, Any]) -> None:
            markers[number] = marker

        done = sum(sizes[i] for i in markers)
        with Progress(count * intervals, "rollout", "steps", done) as progress:
            run_tasks(client, _compute_batch, waiting, (store, shared, plan, machine), store.token, progress, keep)
        if not all(marker["finite"] for marker in markers.values()):
            log.warning(f"{rollout.name}: a forecast has become NaN or infinite; it is continued and stored as it is")
        store.finish({"processor": ", ".join(sorted({marker["processor"] for marker in markers.values()}))})


def _same(rollout: BatchedRollout) -> BatchedRollout:
    return rollout


def _lay_out(store: BlockStore, rollout: BatchedRollout, batch: int | None, attributes: Mapping[str, Any]) -> None:
    """Choose the batches by the memory of a worker, and lay out the Zarr store."""
    machine, plan = describe_machine(), rollout.plan(batch)
    template, chunks = rollout.template(plan, attributes)
    lazy = {name: template[name].chunk(dict(zip(template[name].dims, sizes, strict=True)))
            for name, sizes in chunks.items() if "trajectory" in template[name].dims}  # fmt: skip
    template, encoding = sharded(template.assign(lazy), plan.batch, plan.piece)
    store.lay_out(template, encoding, {"batches": asdict(plan), "machine": machine})


def _recorded(layout: Mapping[str, Any]) -> tuple[BatchPlan, dict[str, Any]]:
    """Return the plan and the machine that the layout records; UsageError if it is corrupt."""
    try:
        plan, machine = BatchPlan(**layout["plan"]["batches"]), layout["plan"]["machine"]
    except (KeyError, TypeError):
        plan, machine = None, {}
    if plan is None or not plan.is_valid:
        raise UsageError("the layout of the unfinished rollout is corrupt: give --force to begin again")
    return plan, machine


def _compute_batch(
    number: int, store: BlockStore, rollout: BatchedRollout, plan: BatchPlan, machine: Mapping[str, Any]
) -> dict[str, Any]:
    """Compute one batch on a worker, write it and mark it as done; return the marker."""
    store.check_current()
    if (known := store.marker(number)) is not None:  # by a task of a client that died
        return known
    here, is_finite = describe_machine(), True
    check_versions(here["versions"], machine["versions"])
    with torch.no_grad(), fixed_threads(plan.threads), Progress(0, "", "", silent=True) as silent:
        try:
            for part, region in rollout.parts(plan, number, silent):
                store.write(part, region)
                is_finite &= all(bool(v.notnull().all()) for v in part.data_vars.values())
        except torch.OutOfMemoryError:
            raise UsageError(
                f"{rollout.name}: out of memory; give a smaller batch, with force to start again"
            ) from None
        except UsageError:
            raise
        except ValueError as error:  # a solver, on numbers that it cannot run
            raise UsageError(f"{rollout.name}: {error}") from None
    return store.mark(number, {"processor": here["processor"], "finite": is_finite})
