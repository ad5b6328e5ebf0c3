"""NetCDF files: NetCDF-4, which are HDF5 files, and the classic formats."""

from __future__ import annotations

from pathlib import Path

import h5py
import xarray as xr

from fluidsurrogate.data.readers.facts import Facts
from fluidsurrogate.data.readers.hdf5 import arrays_of, choose_group
from fluidsurrogate.data.readers.registry import Reader, is_hdf5, register_reader, starts_with

# https://docs.unidata.ucar.edu/netcdf-c/current/file_format_specifications.html: classic, 64-bit offset, 64-bit data
CLASSIC = (b"CDF\x01", b"CDF\x02", b"CDF\x05")


def _recognises(path: Path) -> bool:
    return starts_with(path, *CLASSIC) or is_hdf5(path)


def _open(path: Path, facts: Facts) -> xr.Dataset:
    # Times stay numbers, so that their units can be checked. `open_data` caches what is read.
    root = xr.open_dataset(path, engine="netcdf4", decode_timedelta=False, cache=False)
    if any(v.ndim >= 3 for v in root.variables.values()) or starts_with(path, *CLASSIC):
        return root
    with h5py.File(path, "r") as file:
        names = [array.name.lstrip("/") for array in arrays_of(file) if array.ndim >= 3]
    if not (group := choose_group(names, facts)):
        return root
    own = xr.open_dataset(path, group=group, engine="netcdf4", decode_timedelta=False, cache=False)
    return own.assign_coords({name: c for name, c in root.variables.items() if name not in own.variables and c.ndim < 2
                              and set(c.dims) <= set(own.dims)}).assign_attrs({**root.attrs, **own.attrs})  # fmt: skip


def _write_sample(dataset: xr.Dataset, path: Path) -> None:
    dataset.to_netcdf(path)


register_reader(Reader("NetCDF file", _recognises, _open, _write_sample, is_plain=True))
