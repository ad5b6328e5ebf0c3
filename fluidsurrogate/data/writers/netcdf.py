"""One NetCDF file by the CF conventions, which xarray, ncview and Panoply open with the right axes.

The layout is that of this package: dims (trajectory, time, [component,] [z,] y, x), and the coordinate `split` says
which part a trajectory belongs to. Texts are stored as characters, which the classic tools read. The coordinates have
the attributes by which CF names axes (https://cfconventions.org/cf-conventions/cf-conventions.html, sections 4 and 5).
One rule is not kept: CF wants times as "seconds since" a date, and the times of a simulation have none; a made-up one
would turn them into dates when the file is opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr

from fluidsurrogate.data.writers.registry import Writer, register_writer
from fluidsurrogate.data.writers.source import Source
from fluidsurrogate.data.writers.staging import staged_files

CONVENTIONS = "CF-1.11"
AXES: dict[str, dict[str, Any]] = {
    "x": {"axis": "X", "standard_name": "projection_x_coordinate", "units": "m", "long_name": "x of the cell centre"},
    "y": {"axis": "Y", "standard_name": "projection_y_coordinate", "units": "m", "long_name": "y of the cell centre"},
    "z": {"axis": "Z", "positive": "up", "units": "m", "long_name": "z of the cell centre"},
    "time": {"axis": "T", "standard_name": "time", "units": "s", "long_name": "time since the start"},
    "trajectory": {"standard_name": "realization", "units": "1", "long_name": "trajectory"},
}


def _write(source: Source, folder: Path, force: bool) -> list[Path]:
    name = f"{folder.absolute().name}.nc"
    with staged_files(folder, [name], force) as beside:
        skeleton = _skeleton(source, folder.absolute().name)
        text = [key for key, variable in skeleton.variables.items() if variable.dtype.kind in "OUT"]
        skeleton.to_netcdf(beside / name, engine="netcdf4", encoding={key: {"dtype": "S1"} for key in text})
        with netCDF4.Dataset(beside / name, "a") as file:
            _fill(file, source, skeleton)
    return [folder / name]


def _skeleton(source: Source, title: str) -> xr.Dataset:
    """Return the dataset without its fields, with the attributes of CF."""
    fields = [key for key in source.first.data_vars if _is_field(source, str(key))]
    skeleton = source.dataset.drop_vars(fields, errors="ignore").load()
    if "component" in source.first.coords and "component" not in skeleton.coords:
        skeleton = skeleton.assign_coords(component=source.first["component"])
    for name, attributes in AXES.items():
        if name in skeleton.coords and skeleton[name].dtype.kind in "fiu":
            skeleton[name].attrs = {**attributes, **skeleton[name].attrs}
    for variable in skeleton.variables.values():
        variable.encoding = {"_FillValue": None}  # coordinates must not have one, and no value is missing
    about = {"title": title, "history": "written by fluidsurrogate export"}
    own = {key: _plain(value) for key, value in source.dataset.attrs.items()}
    skeleton.attrs = about | own | {"Conventions": CONVENTIONS}
    return skeleton


def _is_field(source: Source, name: str) -> bool:
    return set(source.space) <= set(source.first[name].dims)


def _plain(value: Any) -> Any:
    """Return an attribute as NetCDF holds it: a number, a text, or a list of these."""
    return value if isinstance(value, str | int | float | list | tuple | np.ndarray | np.number) else str(value)


def _fill(file: netCDF4.Dataset, source: Source, skeleton: xr.Dataset) -> None:
    """Write the fields block by block."""
    fields = [str(name) for name in source.first.data_vars if _is_field(source, str(name))]
    beside = [str(name) for name in skeleton.coords if name not in skeleton.dims]
    with_label = {name: set(skeleton[name].dims) for name in beside}
    if "coordinates" in file.ncattrs():
        file.delncattr("coordinates")  # xarray's way for a file without fields; CF has it with each field
    for dim, size in source.first.sizes.items():
        if dim not in file.dimensions:
            file.createDimension(str(dim), source.dataset.sizes.get(dim, size))
    for name in fields:
        first = source.first[name]
        sizes = [source.dataset.sizes.get(dim, size) for dim, size in first.sizes.items()]
        chunks = [1 if dim in ("trajectory", "time") else size for dim, size in zip(first.dims, sizes, strict=True)]
        variable = file.createVariable(
            name, first.dtype.newbyteorder("="), list(map(str, first.dims)), chunksizes=chunks, fill_value=False
        )
        variable.setncatts({key: _plain(value) for key, value in first.attrs.items()})
        if labels := [label for label in beside if with_label[label] <= set(first.dims)]:
            variable.setncattr("coordinates", " ".join(labels))
    for number, times, block in source.blocks(range(source.dataset.sizes.get("trajectory", 1))):
        for name in fields:
            dims = source.first[name].dims
            if (number and "trajectory" not in dims) or (times.start and "time" not in dims):
                continue
            place = {"trajectory": slice(number, number + 1), "time": times}
            file[name][tuple(place.get(str(dim), slice(None)) for dim in dims)] = block[name].transpose(*dims).values


register_writer(Writer("netcdf", "a NetCDF file by the CF conventions, for xarray, ncview and Panoply", _write))
