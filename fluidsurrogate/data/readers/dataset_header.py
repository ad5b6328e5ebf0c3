"""What a NetCDF file or Zarr folder says about itself before any of its values is read."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import h5py
import numpy as np
import xarray as xr

from fluidsurrogate.data.readers import netcdf, zarr
from fluidsurrogate.data.readers.facts import Facts
from fluidsurrogate.data.readers.registry import is_hdf5
from fluidsurrogate.data.readers.stored_arrays import StoredArray, lazy


@final
@dataclass(frozen=True)
class Header:
    """Dims, variables and attributes.

    Parameters
    ----------
    variables : mapping of str to tuple
        The dims and the attributes of each variable, by its name.
    attributes : mapping of str to object
        The attributes of the whole.
    """

    variables: Mapping[str, tuple[tuple[str, ...], Mapping[str, Any]]]
    attributes: Mapping[str, Any]


# The classic formats are read by the NetCDF library, which is not made for several threads, and xarray guards only some
# of its calls: two threads of dask that open files at the same time can crash the process.
_one_thread_at_a_time = threading.RLock()


@contextmanager
def _opened(path: Path) -> Iterator[xr.Dataset]:
    """Open a NetCDF file or Zarr folder, a NetCDF file in one thread at a time."""
    if zarr._recognises(path):
        with zarr._open(path, Facts(path)) as dataset:
            yield dataset
    else:
        with _one_thread_at_a_time, netcdf._open(path, Facts(path)) as dataset:
            yield dataset


def header_of(path: Path) -> Header:
    """Return the header of a NetCDF file or Zarr folder.

    Parameters
    ----------
    path : Path
        Any path.

    Returns
    -------
    Header
        An empty one if the path is neither, or damaged.
    """
    try:
        if is_hdf5(path):  # not by netCDF4, which leaves HDF5 files open that are no NetCDF files
            with h5py.File(path, "r") as hdf5:
                arrays = {name: v for name, v in hdf5.items() if isinstance(v, h5py.Dataset)}
                return Header({n: (_hdf5_dims(v), dict(v.attrs)) for n, v in arrays.items()}, dict(hdf5.attrs))
        if netcdf._recognises(path):
            import netCDF4

            with _one_thread_at_a_time, netCDF4.Dataset(path) as file:
                found = {n: (v.dimensions, {a: v.getncattr(a) for a in v.ncattrs()}) for n, v in file.variables.items()}
                return Header(found, {a: file.getncattr(a) for a in file.ncattrs()})
        if zarr._recognises(path):
            import zarr as zarr_library

            group = zarr_library.open_group(path, mode="r", use_consolidated=False)
            found = {str(name): (_zarr_dims(array), dict(array.attrs)) for name, array in group.arrays()}
            return Header(found, dict(group.attrs))
    except Exception:  # of a damaged file: the libraries raise whatever they do, and the general reader says it
        pass
    return Header({}, {})


def open_general(path: Path) -> xr.Dataset:
    """Open a NetCDF file or Zarr folder as it is, lazily.

    Parameters
    ----------
    path : Path
        The file or folder.

    Returns
    -------
    xr.Dataset
        The dataset: its fields are dask arrays, which open the file for each read.
    """
    with _opened(path) as dataset:
        fields = {name: v for name, v in dataset.data_vars.items() if v.ndim > 1}
        rest = dataset.drop_vars(list(fields)).load()
        arrays = {name: _GeneralArray(path, str(name), v.shape, v.dtype) for name, v in fields.items()}
        stored = {
            name: (v.dims, lazy(arrays[name], ["trajectory" if d == "sample" else str(d) for d in v.dims]), v.attrs)
            for name, v in fields.items()
        }
        return rest.assign(stored)


@final
class _GeneralArray(StoredArray):
    """A variable of a NetCDF file or Zarr folder, decoded."""

    def read(self, key: Any) -> np.ndarray:
        with _opened(self.path) as dataset:
            return dataset[self.name].variable[key].values


def _hdf5_dims(array: h5py.Dataset) -> tuple[str, ...]:
    if array.is_scale:
        return (array.name.lstrip("/"),)
    return tuple(scales[0].name.lstrip("/") if len(scales) else "" for scales in array.dims)


def _zarr_dims(array: Any) -> tuple[str, ...]:
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS", ())
    return tuple(map(str, names))
