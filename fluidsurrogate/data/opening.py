"""Datasets from files: paths as a shell user writes them, and one line where a file is broken."""

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


def open_data(path: str | Path) -> xr.Dataset:
    """Open a dataset, Zarr folder or NetCDF file, lazily.

    Parameters
    ----------
    path
        The folder or file; `~` stands for the home folder.

    Returns
    -------
    xr.Dataset
        Its values are read when they are used.

    Raises
    ------
    UsageError
        If there is no such dataset; or, later, when a variable is used whose part of the file is damaged.
    """
    path = as_path(path)
    if not path.exists():
        raise UsageError(f"{path}: no such dataset")
    with _explained(f"{path}: neither a Zarr folder nor a NetCDF file"):
        # Times stay numbers, so that their units are seen. What is read is cached by the wrapper below.
        options: dict[str, Any] = {"engine": "netcdf4"}
        if path.is_dir():
            options = {"engine": "zarr", "consolidated": False}
        dataset = xr.open_dataset(path, decode_timedelta=False, cache=False, **options)
    for name, variable in dataset.variables.items():
        lazy = variable._data  # `Variable.data` would read it
        if isinstance(lazy, indexing.ExplicitlyIndexed) and not isinstance(variable, xr.IndexVariable):
            guarded: Any = indexing.LazilyIndexedArray(_Guarded(lazy, f"{path}: variable {str(name)!r} cannot be read"))
            variable.data = indexing.MemoryCachedArray(indexing.CopyOnWriteArray(guarded))
    return dataset


def as_dataset(data: xr.Dataset | str | Path) -> xr.Dataset:
    """A dataset as it is, or the one in a Zarr folder or NetCDF file, opened lazily."""
    return open_data(data) if isinstance(data, str | Path) else data


@final
class _Guarded(BackendArray):
    """A variable of a file, which raises UsageError where the file is damaged."""

    def __init__(self, array: Any, fault: str) -> None:
        self.array, self.fault = array, fault
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        with _explained(self.fault):
            return indexing.apply_indexer(self.array, key).get_duck_array()


@contextmanager
def _explained(fault: str) -> Iterator[None]:
    """Turn whatever xarray's backends and the libraries under them raise into one line."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UsageError(f"{fault}: {reason[:200]}") from None
