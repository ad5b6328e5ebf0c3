"""Write Datasets as NetCDF files: compressed, with checksums, in one piece, and with a record of what they hold."""

from __future__ import annotations

import json
from pathlib import Path

import xarray as xr

from fluidsurrogate.core.files import atomic_write
from fluidsurrogate.data.content_hash import CONTENT, content_of
from fluidsurrogate.data.readers import open_data

COMPRESSED = {"zlib": True, "complevel": 1, "shuffle": True, "fletcher32": True}


def write_netcdf(dataset: xr.Dataset, path: Path) -> None:
    """Write a Dataset as NetCDF in one piece.

    Fields are compressed without loss. The attribute `content` records a hash of every variable.

    Parameters
    ----------
    dataset : Dataset
        What to write.
    path : Path
        The file; one that is there is replaced when the new one is complete.
    """
    fields = [name for name, variable in dataset.data_vars.items() if {"y", "x"} <= set(variable.dims)]
    with atomic_write(path) as beside:
        dataset.to_netcdf(beside, engine="netcdf4", encoding={name: COMPRESSED for name in fields})
        with open_data(beside) as written:
            content = content_of(written)
        xr.Dataset(attrs={CONTENT: json.dumps(content)}).to_netcdf(beside, mode="a", engine="netcdf4")
