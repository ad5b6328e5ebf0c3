"""Zarr of versions 2 and 3: in a folder, in a ZIP file, or at an address of a remote storage."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.stores import Store
from fluidsurrogate.data.readers.facts import Facts
from fluidsurrogate.data.readers.hdf5 import choose_group
from fluidsurrogate.data.readers.registry import Reader, register_reader, starts_with

GROUP_FILES = ("zarr.json", ".zgroup")  # one of them lies at the root of a Zarr group: of version 3, of version 2
ZIP = b"PK\x03\x04"


def open_address(address: str, facts: Facts) -> xr.Dataset:
    """Open a Zarr group in any storage that fsspec knows, lazily.

    Parameters
    ----------
    address : str
        Its address, such as "s3://bucket/data.zarr".
    facts : Facts
        What the user states.

    Returns
    -------
    xr.Dataset
        The values are read when they are used.

    Raises
    ------
    UsageError
        If there is no Zarr group, or one that is not complete.
    """
    store = Store(address)
    if not any(store.exists(name) for name in GROUP_FILES):
        raise UsageError(f"{address}: there is no Zarr group here, or one that is still being made")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where names cannot be listed, consolidated metadata are needed
        return open_store(store.zarr(read_only=True), facts, consolidated=None)


def _recognises(path: Path) -> bool:
    if path.is_dir():
        return any((path / name).exists() for name in GROUP_FILES)
    return _group_in_zip(path) is not None


def _open(path: Path, facts: Facts) -> xr.Dataset:
    if path.is_dir():
        return open_store(path, facts)
    import zarr  # imported late, because the import takes time

    return open_store(zarr.storage.ZipStore(path, read_only=True), facts, within=_group_in_zip(path) or "")


def open_store(store: Any, facts: Facts, consolidated: bool | None = False, within: str = "") -> xr.Dataset:
    """Open a Zarr store, or the group of it that holds the states.

    Parameters
    ----------
    store : Path, str or zarr store
        The folder, an address as fsspec takes it, or an open store.
    facts : Facts
        What the user states.
    consolidated : bool or None, default False
        Whether the metadata are read from one file; None takes that file if it is there.
    within : str, default ""
        The group in which to look; by default the root.

    Returns
    -------
    xr.Dataset
        Opened lazily.
    """
    # Times stay numbers, so that their units can be checked. `open_data` caches what is read.
    root = xr.open_dataset(
        store, engine="zarr", consolidated=consolidated, group=within or None, decode_timedelta=False, cache=False
    )
    if root.variables or (isinstance(store, Path) and not any(file.is_dir() for file in store.iterdir())):
        return root
    import zarr

    group = zarr.open_group(store, mode="r", path=within)
    names = [path for path, member in group.members(max_depth=None) if getattr(member, "ndim", 0) >= 3]
    if not (chosen := choose_group(names, facts)):
        return root
    inner = f"{within}/{chosen}".lstrip("/")
    own = xr.open_dataset(store, group=inner, engine="zarr", consolidated=False, decode_timedelta=False, cache=False)
    return own.assign_attrs({**root.attrs, **own.attrs})


def _write_sample(dataset: xr.Dataset, path: Path) -> None:
    dataset.to_zarr(path, consolidated=False)


def _group_in_zip(path: Path) -> str | None:
    """Return the folder of the first Zarr group in a ZIP file, "" for the root; None if there is none."""
    if not starts_with(path, ZIP):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return None
    folders = [name.removesuffix(file).rstrip("/") for file in GROUP_FILES for name in names if name.endswith(file)]
    return min(folders, key=lambda folder: (folder.count("/") + bool(folder), folder), default=None)


register_reader(Reader("Zarr folder", _recognises, _open, _write_sample, priority=2, is_plain=True))
