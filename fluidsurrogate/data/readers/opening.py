"""Opening a dataset of any registered format lazily, with one-line errors for missing and damaged files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.paths import as_path
from fluidsurrogate.data.readers.facts import Facts
from fluidsurrogate.data.readers.registry import READERS, find_reader


def open_data(path: str | Path, facts: Facts | None = None) -> xr.Dataset:
    """Open a dataset lazily: a Zarr folder, a NetCDF file, or any other format that has a reader.

    The format is recognised by the content of the file or folder, not by its name.

    Parameters
    ----------
    path : str or Path
        The folder or file; `~` stands for the home folder.
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
    path = as_path(path)
    if not path.exists():
        raise UsageError(f"{path}: no such dataset")
    with _as_usage_error(f"{path}: cannot be read"):
        reader = find_reader(path)
    if reader is None:
        raise UsageError(f"{path}: unknown data format; known formats: {', '.join(sorted(READERS))}")
    with _as_usage_error(f"{path}: the {reader.name} cannot be opened"):
        dataset = reader.open(path, facts or Facts(path))
    for name, variable in dataset.variables.items():
        lazy = variable._data  # `Variable.data` would read it
        if isinstance(lazy, indexing.ExplicitlyIndexed) and not isinstance(variable, xr.IndexVariable):
            checked: Any = indexing.LazilyIndexedArray(
                _CheckedArray(lazy, f"{path}: variable {str(name)!r} cannot be read")
            )
            variable.data = indexing.MemoryCachedArray(indexing.CopyOnWriteArray(checked))
    return dataset


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


@final
class _CheckedArray(BackendArray):
    """A variable of a file, which raises UsageError if that part of the file is damaged."""

    def __init__(self, array: Any, error_prefix: str) -> None:
        self.array, self.error_prefix = array, error_prefix
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        with _as_usage_error(self.error_prefix):
            return indexing.apply_indexer(self.array, key).get_duck_array()


@contextmanager
def _as_usage_error(prefix: str) -> Iterator[None]:
    """Turn whatever a reader and the libraries under it raise into a UsageError of one line."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UsageError(f"{prefix}: {reason[:200]}") from None
