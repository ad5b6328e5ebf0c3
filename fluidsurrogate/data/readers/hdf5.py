"""Plain HDF5 files, which no NetCDF library wrote or can read: arrays in groups, of any type, with any filter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.readers.facts import Facts
from fluidsurrogate.data.readers.registry import Reader, is_hdf5, register_reader
from fluidsurrogate.data.readers.stored_arrays import HDF5Array, lazy

NETCDF_MARK = "_NCProperties"  # the attribute that NetCDF libraries write
UNREADABLE_FILTERS = {"lzf"}  # by the NetCDF library
HIDDEN_ATTRIBUTES = {"CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "_Netcdf4Dimid", "_Netcdf4Coordinates"}


def is_readable_by_netcdf(path: Path) -> bool:
    """Return whether an HDF5 file was written by a NetCDF library, and that of netCDF4 reads all its arrays.

    Parameters
    ----------
    path : Path
        An HDF5 file.

    Returns
    -------
    bool
        False for files with the filter LZF or numbers of half precision, too.
    """
    with h5py.File(path, "r") as file:
        return NETCDF_MARK in file.attrs and all(
            array.compression not in UNREADABLE_FILTERS and array.dtype != np.float16 for array in arrays_of(file)
        )


def _recognises(path: Path) -> bool:
    if not is_hdf5(path):
        return False
    try:
        return not is_readable_by_netcdf(path)
    except (OSError, RuntimeError, KeyError):
        return False  # damaged: the reader of NetCDF files says so


def arrays_of(group: h5py.Group) -> Iterator[h5py.Dataset]:
    """Yield the arrays in a group and the groups within it.

    Parameters
    ----------
    group : h5py.Group
        The group, or the open file.

    Yields
    ------
    h5py.Dataset
        Each array.
    """
    for value in group.values():
        if isinstance(value, h5py.Group):
            yield from arrays_of(value)
        elif isinstance(value, h5py.Dataset) and value.shape is not None:
            yield value


def _open(path: Path, facts: Facts) -> xr.Dataset:
    variables = {}
    with h5py.File(path, "r") as file:
        paths = {array.name.lstrip("/"): array for array in arrays_of(file) if array.dtype.kind in "fiuSO"}
        group = choose_group([name for name, array in paths.items() if array.ndim >= 3], facts)
        attributes = _attributes(file) | (_attributes(file[group]) if group else {})
        names = {name.rpartition("/")[2]: name for name in paths if is_visible(name, group)}
        for short, name in names.items():
            array = paths[name]
            dims = [_dim_name(array, axis, short) for axis in range(array.ndim)]
            if array.dtype.kind in "SO":
                if array.ndim == 1 and h5py.check_string_dtype(array.dtype):
                    variables[short] = xr.Variable(dims, np.array(array.asstr()[...], dtype=object))
                continue
            values = array[...] if array.ndim < 2 else lazy(HDF5Array(path, name), dims)
            variables[short] = xr.Variable(dims, values, _attributes(array))
    dataset = xr.Dataset(variables, attrs=attributes)
    # Packed integers and missing values as NetCDF has them; times stay numbers if they are.
    return xr.decode_cf(dataset, decode_timedelta=False)


def _dim_name(array: h5py.Dataset, axis: int, short: str) -> str:
    """Return the name of a dim: that of its scale, or one of its own."""
    if array.is_scale:
        return short
    dim = array.dims[axis]
    if len(dim) and dim[0].name:
        return dim[0].name.rsplit("/", 1)[-1]
    return dim.label or f"{short}_dim_{axis}"


def _attributes(holder: h5py.Group | h5py.Dataset) -> dict:
    """Return attributes as plain values, without those of the HDF5 and NetCDF libraries."""
    found = {}
    for key, value in holder.attrs.items():
        if key in HIDDEN_ATTRIBUTES or isinstance(value, h5py.Reference | h5py.Empty):
            continue
        value = value.decode(errors="replace") if isinstance(value, bytes) else value
        found[key] = value[0] if isinstance(value, np.ndarray) and value.shape == (1,) else value
    return found


def choose_group(names: list[str], facts: Facts) -> str:
    """Return the group of a file that holds the states.

    Parameters
    ----------
    names : list of str
        The arrays with three axes and more, with their groups: "fields/vorticity".
    facts : Facts
        What the user states: a name with a group in `--map` chooses it.

    Returns
    -------
    str
        Its path without slashes at the ends; empty for the root.

    Raises
    ------
    UsageError
        If several groups hold such arrays, and the user names none of them.
    """
    given = [str(v) for v in (facts.given.get("names") or {}).values() if "/" in str(v)]
    if given:
        return given[0].strip("/").rpartition("/")[0]
    groups = sorted({name.rpartition("/")[0] for name in names})
    if len(groups) > 1 and "" not in groups:
        raise UsageError(f"{facts.path}: which group holds the states? It has {', '.join(groups)}: fluidsurrogate "
                         f"import {facts.path} --map vorticity={groups[0]}/NAME --to FOLDER")  # fmt: skip
    group = "" if not groups or "" in groups else groups[0]
    if group:
        facts.note("group", group, reason="the only one with arrays of three axes and more")
    return group


def is_visible(name: str, group: str) -> bool:
    """Return whether an array is in a group or in one that holds the group.

    Parameters
    ----------
    name : str
        The array with its groups.
    group : str
        The group.

    Returns
    -------
    bool
        True for arrays of the group itself, and of those above it, such as coordinates at the root.
    """
    own = name.rpartition("/")[0]
    return not own or own == group or group.startswith(f"{own}/")


register_reader(Reader("HDF5 file", _recognises, _open, priority=1, is_plain=True))
