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
    if starts_with(path, *CLASSIC):
        return xr.open_dataset(path, engine="netcdf4", decode_timedelta=False, cache=False)
    root = _open_group(path)
    if any(v.ndim >= 3 for v in root.variables.values()):
        return root
    with h5py.File(path, "r") as file:
        names = [array.name.lstrip("/") for array in arrays_of(file) if array.ndim >= 3]
    if not (group := choose_group(names, facts)):
        return root
    own = _open_group(path, group)
    return own.assign_coords({name: c for name, c in root.variables.items() if name not in own.variables and c.ndim < 2
                              and set(c.dims) <= set(own.dims)}).assign_attrs({**root.attrs, **own.attrs})  # fmt: skip


def _open_group(path: Path, group: str | None = None) -> xr.Dataset:
    # By h5py, which lets one thread at a time into the HDF5 library. netCDF4 does not: a file that is collected as
    # garbage in one thread, while another reads, ends the process.
    return xr.open_dataset(
        path, group=group, engine="h5netcdf", phony_dims="access", decode_timedelta=False, cache=False
    )


def _write_sample(dataset: xr.Dataset, path: Path) -> None:
    dataset.to_netcdf(path)


register_reader(Reader("NetCDF file", _recognises, _open, _write_sample, is_plain=True))
