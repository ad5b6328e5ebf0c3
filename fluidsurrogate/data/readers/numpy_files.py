"""NumPy's files: `.npy`, one array, and `.npz`, several by name."""

from __future__ import annotations

import zipfile
from pathlib import Path

import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.readers.facts import Facts
from fluidsurrogate.data.readers.registry import Reader, register_reader, starts_with
from fluidsurrogate.data.readers.stored_arrays import NumpyArray, lazy

NUMPY, ZIP = b"\x93NUMPY", b"PK\x03\x04"


def _is_npz(path: Path) -> bool:
    return starts_with(path, ZIP) and any(name.endswith(".npy") for name in member_names(path))


def member_names(path: Path) -> list[str]:
    """Return the names of the files in a zip file.

    Parameters
    ----------
    path : Path
        A file that begins as zip files do.

    Returns
    -------
    list of str
        Empty if it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return []


def _recognises(path: Path) -> bool:
    return starts_with(path, NUMPY) or _is_npz(path)


def _open(path: Path, facts: Facts) -> xr.Dataset:
    if starts_with(path, NUMPY):
        given = facts.given.get("names") or {}
        arrays = {next(iter(given.values()), path.stem): NumpyArray(path)}
    else:
        names = [name.removesuffix(".npy") for name in member_names(path) if name.endswith(".npy")]
        arrays = {name: NumpyArray(path, name) for name in names}
    variables = {}
    for name, array in arrays.items():
        if array.dtype.kind not in "fiuUSM":
            raise UsageError(f"{path}: {name} is of the type {array.dtype}; expected real numbers")
        dims = [f"{name}_dim_{axis}" for axis in range(array.ndim)]
        values = lazy(array, dims) if array.ndim >= 2 else array[()] if array.ndim == 0 else array[:]
        values = values.astype(object) if array.dtype.kind in "US" else values
        variables[name] = xr.Variable(dims, values)
    return xr.Dataset(variables)


register_reader(Reader("NumPy file", _recognises, _open, priority=1, is_plain=True))
