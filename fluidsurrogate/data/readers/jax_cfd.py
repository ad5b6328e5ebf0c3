"""Velocities of JAX-CFD: NetCDF or Zarr, x first, on the faces of the cells.

Layout: github.com/google/jax-cfd, jax_cfd/data/xarray_utils.py (`velocity_trajectory_to_xarray`): the variables `u`,
`v` (`w`) have the dims ([sample,] time, x, y[, z]) and the attribute `offset`, in cells: (1, ½) means that u lies on
the upper x faces. The coordinates are those of the cell centres all the same.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.readers.dataset_header import header_of, open_general
from fluidsurrogate.data.readers.facts import Facts
from fluidsurrogate.data.readers.foreign_files import as_floating, even_axis, even_times, on_axes
from fluidsurrogate.data.readers.package_layout import shift_along, stack_components
from fluidsurrogate.data.readers.registry import Reader, register_reader

NAMES = ("u", "v", "w")
OWN_ATTRIBUTES = ("save_grid_size", "stable_time_step")  # of the published data sets of JAX-CFD


def _recognises(path: Path) -> bool:
    header = header_of(path)
    if not {"u", "v", "x", "y", "time"} <= set(header.variables):
        return False
    dims, attributes = header.variables["u"]
    is_own = "offset" in attributes or any(name in header.attributes for name in OWN_ATTRIBUTES)
    return is_own and set(dims) <= {"sample", "time", "x", "y", "z"}


def _open(path: Path, facts: Facts) -> xr.Dataset:
    found = open_general(path)
    space: list[str] = [d for d in ("x", "y", "z") if d in found["u"].dims]
    axes = {name: even_axis(found[name].values, name, facts) for name in space}
    times = even_times(found["time"].values, facts, "the coordinate time")
    facts.note("axes", " ".join(map(str, found["u"].dims)), reason="the dims of u")
    parts = []
    for name, along in zip(NAMES, space, strict=False):
        if name not in found:
            raise UsageError(f"{path}: has no variable {name!r}, which a velocity in {len(space)} dimensions needs")
        part = as_floating(found[name].variable)
        part = xr.Variable(["trajectory" if d == "sample" else d for d in part.dims], part._data, part.attrs)
        usual = [1.0 if dim == along else 0.5 for dim in space]
        for dim, offset in zip(space, np.asarray(part.attrs.pop("offset", usual), float), strict=True):
            part = shift_along(part, dim, 0.5 - offset) if offset != 0.5 else part
        parts.append(part)
    velocity = stack_components(*parts)
    facts.say("the velocities lay on the faces of the cells and are moved to the centres, by a spectral shift of half "
              "a cell")  # fmt: skip
    in_file = found.attrs.get("viscosity")
    viscosity = facts.take("viscosity", None if in_file is None else float(in_file), is_needed=False)
    return on_axes(facts, {"velocity": velocity}, axes, times, viscosity)


register_reader(Reader("file of JAX-CFD", _recognises, _open, priority=10))
