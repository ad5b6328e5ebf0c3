"""The Zarr store that a Dask cluster fills: begun, resumed and completed, at a path or at an address."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import zarr_compressors
from fluidsurrogate.core.locks import output_lock
from fluidsurrogate.core.provenance import check_same_provenance, package_versions, parse_json_attribute
from fluidsurrogate.core.resumable import publish, refuse_to_resume, start_or_resume
from fluidsurrogate.core.stores import Store, is_address
from fluidsurrogate.data.block_store import ROOT, STARTED, BlockStore

log = logging.getLogger("fluidsurrogate")
PROVENANCE = "provenance.json"
SECONDS_TO_SEE = 15.0  # until this machine sees what another one has written to a shared file system


def is_complete(location: str | Path, provenance: Mapping[str, Any], force: bool) -> bool:
    """Return whether a result at an address was made from the same inputs and is not to be replaced.

    Parameters
    ----------
    location : str
        The address.
    provenance : mapping
        What it would be made from now.
    force : bool
        Whether a result is made again.

    Returns
    -------
    bool
        False if there is nothing, or only unfinished work.

    Raises
    ------
    UsageError
        If the name does not end in .zarr, or there is something else.
    """
    store = _checked(location)
    root = store.read_json(ROOT)
    recorded = None if root is None else parse_json_attribute(root.get("attributes", {}).get("provenance"))
    if recorded is None:
        if store.exists() and _work_of(store).read_json(PROVENANCE) is None:
            raise UsageError(f"{location} exists already and was not made by this command; choose another name")
        return False
    if force:
        return False
    check_same_provenance(store.location, recorded, provenance)
    _work_of(store).delete(PROVENANCE)
    log.info(f"{location} is up to date")
    return True


@contextmanager
def open_block_store(
    location: str | Path, provenance: Mapping[str, Any], force: bool, lock: bool = False
) -> Iterator[BlockStore]:
    """Begin or resume a Zarr store that is filled block by block; it gets its place when the block ends.

    At a path, the store is made in NAME.partial and renamed. At an address, where nothing can be renamed, it is made in
    its place, and only NAME.partial is deleted at the end.

    Parameters
    ----------
    location : str or Path
        The Zarr folder, or the address of a Zarr store.
    provenance : mapping
        What it is made from, and what decides its last bits.
    force : bool
        Whether a result, or unfinished work on something else, is replaced.
    lock : bool, default False
        Whether a path is to be locked here, because the caller has not done so.

    Yields
    ------
    BlockStore
        The store, whose `finish` must be called.

    Raises
    ------
    UsageError
        If there is unfinished work on something else and `force` is False.
    """
    provenance = {**json.loads(json.dumps(provenance)), "writer": "dask"}
    if isinstance(location, Path) or not is_address(location):
        path = Path(location)
        with output_lock(path) if lock else nullcontext():
            work = Store(start_or_resume(path, provenance, force))
            yield BlockStore(work.child("result"), work, _token(work))
            publish(path)
        return
    data = _checked(location)
    work, provenance = _work_of(data), {**provenance, "versions": package_versions()}
    started = work.read_json(PROVENANCE)
    if started != provenance or data.exists(ROOT):
        if started is not None and started != provenance and not force and work.exists("blocks"):
            refuse_to_resume(data.location, work.location, started, provenance)
        work.delete(PROVENANCE)
        data.delete()
        work.write_json(PROVENANCE, provenance)
    yield BlockStore(data, work, _token(work))
    work.delete(PROVENANCE)


def delete_unfinished(store: BlockStore) -> None:
    """Delete a store that cannot be finished, so that it does not stand in the way of another.

    Parameters
    ----------
    store : BlockStore
        The store.
    """
    store.work.delete(PROVENANCE)
    store.data.delete()


def sharded(template: xr.Dataset, trajectories: int, times: int | None = None) -> tuple[xr.Dataset, dict[str, Any]]:
    """Return a lazy dataset and its encoding for Zarr with shards: files that hold many chunks each.

    Parameters
    ----------
    template : xr.Dataset
        Whose lazy variables have their chunks.
    trajectories : int
        Number of trajectories in a shard, a multiple of those in a chunk.
    times : int, optional
        Number of times in a shard; by default all.

    Returns
    -------
    template : xr.Dataset
        The dataset.
    encoding : dict
        The encoding of each variable.
    """
    import dask.array  # imported late, because the import takes time

    encoding: dict[str, Any] = {}
    lazy: dict[str, Any] = {}
    for name, variable in template.data_vars.items():
        encoding[str(name)] = {"compressors": zarr_compressors()}
        if "trajectory" not in variable.dims or variable.chunks is None:
            continue
        chunks = [sizes[0] for sizes in variable.chunks]
        wanted = {"trajectory": trajectories, "time": times or variable.sizes.get("time", 1)}
        shards = [chunk * math.ceil(wanted.get(str(dim), chunk) / chunk)
                  for dim, chunk in zip(variable.dims, chunks, strict=True)]  # fmt: skip
        # One chunk for Dask, which would make a task of each and computes none of them.
        zeros = dask.array.zeros(variable.shape, dtype=variable.dtype, chunks=variable.shape)
        lazy[str(name)] = variable.copy(data=zeros)
        encoding[str(name)]["chunks"] = tuple(chunks)
        if shards != chunks:
            encoding[str(name)]["shards"] = tuple(shards)
    return template.assign(lazy), encoding


def check_is_seen(store: BlockStore) -> dict[str, Any]:
    """Check that this machine sees what a worker has laid out.

    Parameters
    ----------
    store : BlockStore
        The store.

    Returns
    -------
    dict
        The layout.

    Raises
    ------
    UsageError
        If it does not see it within 15 seconds.
    """
    deadline = monotonic() + SECONDS_TO_SEE
    while (layout := store.layout()) is None:
        if monotonic() > deadline:
            raise UsageError(f"a worker of the Dask cluster has written to {store.data.location}, but nothing is there "
                             "for this machine: name a folder that all machines share, or an address")  # fmt: skip
        sleep(0.2)
    return layout


def _checked(location: str | Path) -> Store:
    """Return a store at an address; UsageError unless its name ends in .zarr: a bucket must not be deleted."""
    if "::" in str(location) or not str(location).rstrip("/").endswith(".zarr"):
        raise UsageError(f"{location}: choose an address that ends in .zarr, and no chain of several (::)")
    return Store(location)


def _work_of(data: Store) -> Store:
    return Store(f"{data.location}.partial")


def _token(work: Store) -> str:
    """Return what identifies this attempt: the one that is resumed, or a new one."""
    started = work.read_json(STARTED)
    if isinstance(started, dict) and isinstance(started.get("token"), str):
        return started["token"]
    token = uuid4().hex[:16]
    work.write_json(STARTED, {"token": token})
    return token
