"""NetCDF files: NetCDF-4, which are HDF5 files, and the classic formats."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from fluidsurrogate.data.readers.facts import Facts
from fluidsurrogate.data.readers.registry import Reader, register_reader, starts_with

# https://docs.unidata.ucar.edu/netcdf-c/current/file_format_specifications.html: classic, 64-bit offset, 64-bit data
CLASSIC = (b"CDF\x01", b"CDF\x02", b"CDF\x05")
HDF5 = b"\x89HDF\r\n\x1a\n"
FIRST_BLOCK = 512  # bytes: behind a block of the user's, HDF5's signature lies at this offset, its double, ...


def _recognises(path: Path) -> bool:
    if not path.is_file():
        return False
    if starts_with(path, *CLASSIC, HDF5):
        return True
    offset, size = FIRST_BLOCK, path.stat().st_size
    while offset < size:
        if starts_with(path, HDF5, offset=offset):
            return True
        offset *= 2
    return False


def _open(path: Path, facts: Facts) -> xr.Dataset:
    # Times stay numbers, so that their units can be checked. `open_data` caches what is read.
    return xr.open_dataset(path, engine="netcdf4", decode_timedelta=False, cache=False)


def _write_sample(dataset: xr.Dataset, path: Path) -> None:
    dataset.to_netcdf(path)


register_reader(Reader("NetCDF file", _recognises, _open, _write_sample))
