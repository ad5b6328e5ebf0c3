"""Rollouts of any length from any number of initial states, written to a Zarr folder while they run."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import xarray as xr

from fluidsurrogate.core.errors import UsageError, check_integer
from fluidsurrogate.core.locks import output_lock
from fluidsurrogate.core.memory import check_free_memory
from fluidsurrogate.core.provenance import check_same_provenance, package_versions, parse_json_attribute
from fluidsurrogate.core.resumable import delete_leftovers, publish, start_or_resume
from fluidsurrogate.core.stores import as_location
from fluidsurrogate.data.readers import open_data
from fluidsurrogate.data.schema import check_matches
from fluidsurrogate.simulation.batched_rollout import BatchedRollout
from fluidsurrogate.simulation.cluster_rollout import rollout_on_cluster
from fluidsurrogate.simulation.cluster_store import is_complete
from fluidsurrogate.simulation.initial_states import InitialStates
from fluidsurrogate.simulation.rollout_writer import RolloutWriter
from solvers import Stepper

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger("fluidsurrogate")
TIME_BYTES = 32  # memory that each stored time takes until its coordinate is written


def rollout_to_zarr(
    stepper: Stepper,
    dataset: xr.Dataset,
    steps: int,
    path: str | Path,
    *,
    provenance: Mapping[str, Any],
    start_time: float | None = None,
    keep_every: int = 1,
    batch: int | None = None,
    seeds: Sequence[int] | None = None,
    attributes: Mapping[str, Any] | None = None,
    force: bool = False,
    dask: str | Client | None = None,
) -> xr.Dataset:
    """Roll any stepper out from every trajectory of a dataset into a Zarr folder, in bounded memory.

    Trajectories are read, rolled out and written batch by batch, and each batch in pieces of time. Memory thus holds
    some tens of megabytes of states, however many there are. `path` appears when everything is done.

    A run that is killed is continued by the same call, and ends with the same bits. A stepper whose carry is no more
    than its state (`Stepper.is_markov`, such as a surrogate) continues from the last stored piece, any other from the
    first time of the interrupted batch. A finished rollout that was made from the same inputs is only opened. A state
    that becomes NaN or infinite is stored as it is, with a warning.

    Parameters
    ----------
    stepper : Stepper
        A solver, a surrogate, persistence or a hybrid.
    dataset : xr.Dataset
        Initial states with the dims trajectory, time, y and x, of any size, opened lazily or not.
    steps : int
        Number of intervals.
    path : str or Path
        The Zarr folder to write; its name ends in .zarr. With `dask` also an address, such as "s3://bucket/name.zarr".
    provenance : mapping
        What the stepper is, as plain data. An interrupted rollout is continued only if this and the initial states are
        the same.
    start_time : float, optional
        The stored time to start from; by default the first one.
    keep_every : int, default 1
        Number of intervals between two stored times.
    batch : int, optional
        Number of trajectories at a time; by default what fits in the free memory.
    seeds : sequence of int, optional
        One for each trajectory, for steppers that are random; by default the coordinate `seed`, or else 0, 1, 2 and
        so on.
    attributes : mapping, optional
        Further attributes of the result.
    force : bool, default False
        Replace a rollout of something else at `path`.
    dask : str or distributed.Client, optional
        A Dask cluster that computes the batches: the address of its scheduler, "local:N" for N workers on this machine,
        or a client. By default they are computed here.

    Returns
    -------
    xr.Dataset
        The rollout with the dims trajectory, time, y and x, opened lazily. The first time is the initial state.

    Raises
    ------
    UsageError
        If the dataset does not hold states of the stepper, an argument is not valid, or `path` holds something else.
    """
    check_matches(dataset, stepper.spec)
    return write_rollout(
        stepper, InitialStates(dataset, stepper.spec, start_time), steps, path, provenance=provenance,
        keep_every=keep_every, batch=batch, seeds=seeds, attributes=attributes, force=force, dask=dask,
    )  # fmt: skip


def write_rollout(
    stepper: Stepper,
    initial_states: InitialStates,
    steps: int,
    path: str | Path,
    *,
    provenance: Mapping[str, Any],
    keep_every: int = 1,
    batch: int | None = None,
    seeds: Sequence[int] | None = None,
    attributes: Mapping[str, Any] | None = None,
    force: bool = False,
    dask: str | Client | None = None,
) -> xr.Dataset:
    """Write a rollout from initial states that are known to match the stepper: see `rollout_to_zarr`.

    Parameters
    ----------
    stepper : Stepper
        A solver, a surrogate, persistence or a hybrid.
    initial_states : InitialStates
        The states to start from.
    steps : int
        Number of intervals.
    path : str or Path
        The Zarr folder to write; its name ends in .zarr. With `dask` also an address, such as "s3://bucket/name.zarr".
    provenance : mapping
        What the stepper is, as plain data.
    keep_every : int
        Number of intervals between two stored times.
    batch : int, optional
        Number of trajectories at a time; by default what fits in the free memory.
    seeds : sequence of int, optional
        One a trajectory; by default those of the initial states.
    attributes : mapping, optional
        Further attributes of the result.
    force : bool
        Replace a rollout of something else at `path`.
    dask : str or distributed.Client, optional
        A Dask cluster that computes the batches: the address of its scheduler, "local:N" for N workers on this machine,
        or a client. By default they are computed here.

    Returns
    -------
    xr.Dataset
        The rollout, opened lazily.

    Raises
    ------
    UsageError
        If an argument is not valid, or `path` holds something else.
    """
    path = as_location(path)
    if dask is None and isinstance(path, str):
        raise UsageError(
            f"{path}: a rollout is written to an address by workers of Dask: give --dask local:1, or a path"
        )
    steps, keep_every = check_integer("steps", steps, 1), check_integer("keep_every", keep_every, 1)
    batch = None if batch is None else check_integer("batch", batch, 1)
    if steps % keep_every:
        raise UsageError(f"steps must be a multiple of keep_every = {keep_every} (got {steps})")
    if Path(path).suffix != ".zarr":
        raise UsageError(f"{path}: this forecast is written to a Zarr folder: choose a name that ends in .zarr")
    times = steps // keep_every
    check_free_memory(TIME_BYTES * times, f"the times of {steps} steps", "give fewer steps or a larger keep_every")
    seeds = initial_states.seeds if seeds is None else list(seeds)
    if len(seeds) != initial_states.count:
        raise UsageError(f"seeds must be one a trajectory, {initial_states.count} (got {len(seeds)})")
    provenance = {
        "stepper": json.loads(json.dumps(provenance)),
        "starts": initial_states.fingerprint(),
        "start_time": initial_states.start_time,
        "steps": steps,
        "keep_every": keep_every,
        "batch": "as memory allows" if batch is None else batch,
        "seeds": _hash(seeds),
    }
    record = {
        **(attributes or {}),
        "provenance": json.dumps(provenance),
        "fingerprint": _hash(provenance),
        "versions": json.dumps(package_versions()),
    }
    arguments = stepper, initial_states, seeds, steps, keep_every
    try:
        if isinstance(path, str):
            assert dask is not None
            if not is_complete(path, provenance, force):
                rollout = BatchedRollout(*arguments, name=path.rpartition("/")[2])
                rollout_on_cluster(rollout, path, dask, batch, provenance, record, force)
            return open_data(path)
        with output_lock(path):
            if not is_up_to_date(path, provenance, force):
                if dask is None:
                    folder = start_or_resume(path, provenance, force)
                    RolloutWriter(*arguments, folder, path.name).run(batch, record)
                    publish(path)
                else:
                    rollout = BatchedRollout(*arguments, name=path.name)
                    rollout_on_cluster(rollout, path, dask, batch, provenance, record, force)
    except torch.OutOfMemoryError:
        raise UsageError(f"{path}: out of memory; give a smaller batch, with force to start again") from None
    except UsageError:
        raise
    except ValueError as error:  # a solver, on numbers that it cannot run
        raise UsageError(f"{path}: {error}") from None
    return open_data(path)


def is_up_to_date(path: Path, provenance: Mapping[str, Any], force: bool) -> bool:
    """Return whether a Zarr folder was made from the same inputs and is not to be replaced.

    Parameters
    ----------
    path : Path
        The Zarr folder.
    provenance : mapping
        What it would be made from now.
    force : bool
        Whether a result is made again.

    Returns
    -------
    bool
        False if there is nothing at `path`.

    Raises
    ------
    UsageError
        If there is something else.
    """
    if not path.exists():
        return False
    if not (path / "zarr.json").exists():  # `force` replaces forecasts, not whatever a mistyped name points to
        raise UsageError(f"{path} exists already and is not a Zarr folder; choose another name")
    if force:
        return False
    with open_data(path) as dataset:
        check_same_provenance(path, parse_json_attribute(dataset.attrs.get("provenance")), provenance)
    delete_leftovers(path)
    log.info(f"{path} is up to date")
    return True


def _hash(value: Any) -> str:
    """Return a hash of plain data as 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
