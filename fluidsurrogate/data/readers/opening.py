"""Opening a dataset of any registered format lazily, with one-line errors for missing and damaged files."""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, final

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.stores import as_location, exists
from fluidsurrogate.data.readers.facts import Facts
from fluidsurrogate.data.readers.layout_checks import is_in_package_layout
from fluidsurrogate.data.readers.plain_layout import to_package_layout
from fluidsurrogate.data.readers.registry import READERS, Reader, find_reader, reader_named
from fluidsurrogate.data.readers.stored_arrays import as_usage_error

log = logging.getLogger("fluidsurrogate")


def open_data(path: str | Path, facts: Facts | None = None) -> xr.Dataset:
    """Open a dataset lazily: a Zarr folder, a NetCDF file, or any other format that has a reader.

    The format is recognised by the content of the file or folder, not by its name. Zarr is also read from an address of
    any storage that fsspec knows, such as "s3://bucket/data.zarr" or "zip::https://host/data.zarr.zip".

    Parameters
    ----------
    path : str or Path
        The folder or file; `~` stands for the home folder. Or, as a text, an address.
    facts : Facts, optional
        What the user states about the file, such as the viscosity; the reader adds what it finds.

    Returns
    -------
    xr.Dataset
        The values are read from the file when they are used.

    Raises
    ------
    UsageError
        If there is no such file or folder, if no reader recognises its format, or if it is damaged. If only the values
        of a variable are damaged, the error is raised when these are used.

    Examples
    --------
    >>> import tempfile
    >>> import fluidsurrogate as fs
    >>> import numpy as np
    >>> import xarray as xr
    >>> folder = tempfile.TemporaryDirectory()
    >>> dataset = xr.Dataset({"vorticity": (("y", "x"), np.ones((4, 8)))})
    >>> dataset.to_netcdf(f"{folder.name}/vorticity.nc")
    >>> with fs.open_data(f"{folder.name}/vorticity.nc") as opened:
    ...     print(dict(opened.sizes), float(opened["vorticity"].mean()))
    {'y': 4, 'x': 8} 1.0
    >>> folder.cleanup()
    """
    path = as_location(path)
    if not exists(path):
        raise UsageError(f"{path}: no such dataset")
    if isinstance(path, str):
        return _open_address(path, facts)
    reader = _reader_for(path, facts)
    with as_usage_error(f"{path}: the {reader.name} cannot be opened"):
        dataset = reader.open(path, facts or Facts(path))
    _check_what_is_read(dataset, path)
    return _converted(dataset, path, facts) if reader.is_plain else dataset


def _reader_for(path: Path, facts: Facts | None) -> Reader:
    """Return the reader that the user names, or the one that recognises the file."""
    named = None if facts is None else facts.given.get("format")
    if named is not None:
        return reader_named(named)
    with as_usage_error(f"{path}: cannot be read"):
        reader = find_reader(path)
    if reader is None:
        advice = "; fluidsurrogate import joins the files in a folder" if path.is_dir() else ""
        raise UsageError(f"{path}: unknown data format; known formats: {', '.join(sorted(READERS))}{advice}")
    return reader


def _open_address(address: str, facts: Facts | None) -> xr.Dataset:
    """Open a Zarr store at an address that fsspec takes, such as s3://bucket/data.zarr."""
    from fluidsurrogate.data.readers.zarr import open_address

    place = Path(address)
    with as_usage_error(f"{address}: cannot be opened"):
        dataset = open_address(address, facts or Facts(place))
    _check_what_is_read(dataset, place)
    return _converted(dataset, place, facts)


def _converted(dataset: xr.Dataset, path: Path, facts: Facts | None) -> xr.Dataset:
    """Return a plain dataset in the layout of this package.

    Without facts, whoever opens it may only want to look: what cannot be converted is returned as it is.
    """
    is_ready = is_in_package_layout(dataset)
    if facts is not None:
        is_own = is_ready and PROVENANCE in dataset.attrs and not facts.given.keys() - {"format"}
        return dataset if is_own else to_package_layout(dataset, facts)
    if is_ready:
        return dataset
    with suppress(UsageError):
        found = Facts(path)
        converted = to_package_layout(dataset, found)
        log_changes(found)
        return converted
    return dataset


def log_changes(facts: Facts) -> None:
    """Log what was changed in a file when it was opened, each change once a process.

    Parameters
    ----------
    facts : Facts
        The facts about the file.
    """
    for remark in facts.remarks:
        _log_once(f"{facts.path}: {remark}")


@lru_cache(maxsize=1000)
def _log_once(line: str) -> None:
    log.info(line)


def _check_what_is_read(dataset: xr.Dataset, path: Path) -> None:
    """Wrap the variables of a dataset so that damage that is found later is a UsageError."""
    for name, variable in dataset.variables.items():
        lazy = variable._data  # `Variable.data` would read it
        if isinstance(lazy, indexing.ExplicitlyIndexed) and not isinstance(variable, xr.IndexVariable):
            checked: Any = indexing.LazilyIndexedArray(
                _CheckedArray(lazy, f"{path}: variable {str(name)!r} cannot be read")
            )
            variable.data = indexing.MemoryCachedArray(indexing.CopyOnWriteArray(checked))


def as_dataset(data: xr.Dataset | str | Path) -> xr.Dataset:
    """Return a dataset as it is, or open the one at a path lazily.

    Parameters
    ----------
    data : xr.Dataset, str or Path
        A dataset, or where it is on disk.

    Returns
    -------
    xr.Dataset
        The dataset.

    Raises
    ------
    UsageError
        If there is no dataset at the path (see `open_data`).
    """
    return open_data(data) if isinstance(data, str | Path) else data


PROVENANCE = "provenance"  # the attribute of data that this package made


@final
class _CheckedArray(BackendArray):
    """A variable of a file, which raises UsageError if that part of the file is damaged."""

    def __init__(self, array: Any, error_prefix: str) -> None:
        self.array, self.error_prefix = array, error_prefix
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        with as_usage_error(self.error_prefix):
            return indexing.apply_indexer(self.array, key).get_duck_array()
