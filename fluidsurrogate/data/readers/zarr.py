"""Zarr folders and Zarr in a zip file, of versions 2 and 3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xarray as xr

from fluidsurrogate.data.readers.facts import Facts
from fluidsurrogate.data.readers.hdf5 import choose_group
from fluidsurrogate.data.readers.numpy_files import ZIP, member_names
from fluidsurrogate.data.readers.registry import Reader, register_reader, starts_with

GROUP_FILES = ("zarr.json", ".zgroup")  # one of them lies at the root of a Zarr group: of version 3, of version 2


def _recognises(path: Path) -> bool:
    if path.is_dir():
        return any((path / name).exists() for name in GROUP_FILES)
    return starts_with(path, ZIP) and bool({*GROUP_FILES} & {*member_names(path)})


def _open(path: Path, facts: Facts) -> xr.Dataset:
    if path.is_dir():
        return open_store(path, facts)
    import zarr  # imported late, because the import takes time

    return open_store(zarr.storage.ZipStore(path, read_only=True), facts)


def open_store(store: Any, facts: Facts) -> xr.Dataset:
    """Open a Zarr store, or the group of it that holds the states.

    Parameters
    ----------
    store : Path, str or zarr store
        The folder, an address as fsspec takes it, or an open store.
    facts : Facts
        What the user states.

    Returns
    -------
    xr.Dataset
        Opened lazily.
    """
    # Times stay numbers, so that their units can be checked. `open_data` caches what is read.
    root = xr.open_dataset(store, engine="zarr", consolidated=False, decode_timedelta=False, cache=False)
    if root.variables or (isinstance(store, Path) and not any(file.is_dir() for file in store.iterdir())):
        return root
    import zarr

    group = zarr.open_group(store, mode="r")
    names = [path for path, member in group.members(max_depth=None) if getattr(member, "ndim", 0) >= 3]
    if not (chosen := choose_group(names, facts)):
        return root
    own = xr.open_dataset(
        store, group=chosen, engine="zarr", consolidated=False, decode_timedelta=False, cache=False
    )  # fmt: skip
    return own.assign_attrs({**root.attrs, **own.attrs})


def _write_sample(dataset: xr.Dataset, path: Path) -> None:
    dataset.to_zarr(path, consolidated=False)


register_reader(Reader("Zarr folder", _recognises, _open, _write_sample, priority=2, is_plain=True))
