"""Writing NetCDF files: compressed, with checksums, complete or not at all, and with a hash of every variable."""

from __future__ import annotations

import json
from pathlib import Path

import xarray as xr

from fluidsurrogate.core.files import atomic_write
from fluidsurrogate.data.content_hash import CONTENT, hash_variables
from fluidsurrogate.data.coordinates import spatial_dims
from fluidsurrogate.data.readers import open_data

COMPRESSED = {"zlib": True, "complevel": 1, "shuffle": True, "fletcher32": True}


def write_netcdf(dataset: xr.Dataset, path: Path) -> None:
    """Write a dataset as a NetCDF file, complete or not at all.

    Fields are compressed without loss. The attribute `content` records a hash of every variable.

    Parameters
    ----------
    dataset : xr.Dataset
        What to write.
    path : Path
        The file; an existing one is replaced when the new one is complete.
    """
    dims = set(spatial_dims(dataset))
    fields = [name for name, variable in dataset.data_vars.items() if dims <= set(variable.dims)]
    with atomic_write(path) as temporary:
        dataset.to_netcdf(temporary, engine="netcdf4", encoding={name: COMPRESSED for name in fields})
        with open_data(temporary) as written:
            content = hash_variables(written)
        xr.Dataset(attrs={CONTENT: json.dumps(content)}).to_netcdf(temporary, mode="a", engine="netcdf4")
