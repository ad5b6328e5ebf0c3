"""Files of The Well: HDF5, fields by tensor order, x first.

Layout: github.com/PolymathicAI/the_well, docs/data_format.md and the_well/data/datasets.py (`_reconstruct_fields`): the
groups `t0_fields`, `t1_fields`, `t2_fields` hold arrays (trajectory, time, x, y[, z][, component[, component]]), of
which the attributes `sample_varying` and `time_varying` say whether the first two axes are there; `dimensions` holds
the coordinates, `scalars` numbers, and `boundary_conditions` one group a boundary with the attribute `bc_type`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.readers.facts import Facts
from fluidsurrogate.data.readers.foreign_files import (
    as_written,
    check_periodic,
    even_axis,
    even_times,
    hdf5_if_any,
    on_axes,
    text,
)
from fluidsurrogate.data.readers.package_layout import ORDER, stack_components
from fluidsurrogate.data.readers.registry import Reader, register_reader
from fluidsurrogate.data.readers.stored_arrays import HDF5Array, lazy

GROUPS = {"dimensions", "boundary_conditions", "t0_fields"}
KNOWN = {
    "t0_fields": ("vorticity", "tracer", "forcing"),
    "t1_fields": ("velocity", "vorticity", "forcing"),
    "t2_fields": ("vorticity", "forcing"),
}
NUMBERS = ("drag", "diffusivity")


def _recognises(path: Path) -> bool:
    with hdf5_if_any(path) as file:
        return set(file) >= GROUPS


def _open(path: Path, facts: Facts) -> xr.Dataset:
    with hdf5_if_any(path) as file:
        dims = [text(d) for d in file["dimensions"].attrs["spatial_dims"]]
        _check_geometry(file, dims, facts)
        axes = {name: even_axis(_same_for_all(file["dimensions"][name], facts), name, facts) for name in dims}
        times = even_times(_same_for_all(file["dimensions/time"], facts), facts, "dimensions/time")
        facts.note("axes", f"n t {' '.join(dims)}", reason="the layout of The Well")
        viscosity = _viscosity(file, facts)
        fields, left_out = _fields(path, file, dims, facts)
        for name in NUMBERS:
            if name in file.get("scalars", {}):
                fields[name] = xr.Variable((), _constant(file["scalars"][name], facts))
    if not {"vorticity", "velocity"} & set(fields):
        raise UsageError(f"{path}: holds neither vorticity nor velocity for every trajectory and time; it has "
                         f"{', '.join(left_out)}: if one of them is it, give --map vorticity=NAME")  # fmt: skip
    if left_out:
        facts.say(f"fields that are not read: {', '.join(left_out)}")
    return on_axes(facts, fields, axes, times, viscosity)


def _check_geometry(file: Any, dims: list[str], facts: Facts) -> None:
    """Refuse other than periodic Cartesian boxes and flows of variable density, by name."""
    name = text(file.attrs.get("dataset_name", "this dataset"))
    grid = text(file.attrs.get("grid_type", "cartesian")).lower()
    if grid != "cartesian" or not set(dims) <= {"x", "y", "z"}:
        raise UsageError(f"{facts.path}: {name} of The Well lies on a {grid} grid ({', '.join(dims)}): this package is "
                         "for periodic Cartesian boxes only")  # fmt: skip
    if any("density" in file.get(group, {}) for group in KNOWN):
        raise UsageError(f"{facts.path}: {name} of The Well is a compressible flow (it has the field 'density'): this "
                         "package is for incompressible flow of uniform density")  # fmt: skip
    walls, stated = set(), set()
    for boundary in file["boundary_conditions"].values():
        along = [text(d) for d in boundary.attrs.get("associated_dims", [])]
        kind = text(boundary.attrs.get("bc_type", "unknown")).lower()
        stated |= set(along)
        walls |= {f"{kind} in {', '.join(along)}"} if kind != "periodic" else set()
    walls |= {f"not stated in {d}" for d in dims if d not in stated}
    if walls:
        check_periodic(facts, f"{name} of The Well has boundaries that are {'; '.join(sorted(walls))}")
    else:
        facts.note("periodic", True, reason="boundary_conditions")


def _same_for_all(coordinate: Any, facts: Facts) -> np.ndarray:
    """Return a coordinate, which must be the same for all trajectories."""
    values = coordinate[()]
    if coordinate.attrs.get("sample_varying", False) and values.ndim > 1:
        if (values != values[:1]).any():
            raise UsageError(f"{facts.path}: {coordinate.name} differs from trajectory to trajectory")
        values = values[0]
    return values


def _constant(scalar: Any, facts: Facts) -> Any:
    """Return a number of the file, one for all trajectories or one for each, which must not change with time."""
    if scalar.attrs.get("time_varying", False):
        raise UsageError(f"{facts.path}: {scalar.name} changes with time, and no solver here knows that")
    values = np.atleast_1d(as_written(scalar[()])).ravel()
    return float(values[0]) if (values == values[0]).all() else values


def _viscosity(file: Any, facts: Facts) -> Any:
    scalars = file.get("scalars", {})
    if "viscosity" in scalars:
        return facts.take("viscosity", _constant(scalars["viscosity"], facts), reason="scalars/viscosity")
    if text(file.attrs.get("dataset_name", "")).startswith("shear_flow") and "Reynolds" in scalars:
        reason = "scalars/Reynolds: 1 / Reynolds, as the card of this dataset says"
        return facts.take("viscosity", 1 / _constant(scalars["Reynolds"], facts), reason=reason)
    return facts.take("viscosity", is_needed=False)


def _fields(path: Path, file: Any, dims: list[str], facts: Facts) -> tuple[dict[str, xr.Variable], list[str]]:
    """Return the fields that this package knows, lazily, and the names of the others."""
    renamed = {theirs: ours for ours, theirs in (facts.given.get("names") or {}).items()}
    fields: dict[str, xr.Variable] = {}
    left_out = []
    for group, known in KNOWN.items():
        for theirs, field in file.get(group, {}).items():
            ours = renamed.get(theirs, theirs)
            varying = bool(field.attrs["sample_varying"]), bool(field.attrs["time_varying"])
            fits = (varying == (True, True)) if ours != "forcing" else not varying[1]
            if ours in known and ours not in fields and fits and np.all(field.attrs["dim_varying"]):
                leading = [dim for dim, is_there in zip(("trajectory", "time"), varying, strict=True) if is_there]
                fields[ours] = _field(HDF5Array(path, f"{group}/{theirs}"), leading, dims)
            else:
                left_out.append(theirs)
    return fields, left_out


def _field(stored: HDF5Array, leading: list[str], dims: list[str]) -> xr.Variable:
    """Return a field in the order of this package; of an antisymmetric tensor the pseudovector or pseudoscalar."""
    order = stored.ndim - len(leading) - len(dims)
    names = [*leading, *dims, *["first", "second"][:order]]
    variable = xr.Variable(names, lazy(stored, names))
    place = {d: dims.index(d) for d in dims}
    if order == 0:
        return variable.transpose(*(d for d in ORDER if d in names))
    if order == 1:
        return stack_components(*(variable.isel(first=place[d]) for d in ("x", "y", "z") if d in place))
    # The component (x, y) of the tensor is ∂v/∂x − ∂u/∂y, which is ω, in space ω_z; ω_x is (y, z), and so on.
    pairs = [("x", "y")] if len(dims) == 2 else [("y", "z"), ("z", "x"), ("x", "y")]
    parts = [variable.isel(first=place[a], second=place[b]) for a, b in pairs]
    return stack_components(*parts) if len(parts) > 1 else parts[0].transpose(*(d for d in ORDER if d in names))


register_reader(Reader("file of The Well", _recognises, _open, priority=10))
