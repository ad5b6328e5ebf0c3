"""Whether a dataset is what a spec says, to the last attribute: nothing is interpolated, converted or guessed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.coordinates import FRACTION, SPACE, axis_of, check_resolved, tolerance
from fluidsurrogate.data.units import agree
from solvers import FORCING, KNOWN_FIELDS, FieldSpec, Grid, StateSpec

INPUT_FIELDS = [field for field in KNOWN_FIELDS.values() if field.uniform or field is FORCING]
PACKED = ("scale_factor", "add_offset", "_FillValue", "missing_value")  # xarray takes them away when it decodes


def grid_of(dataset: xr.Dataset) -> Grid:
    """The grid behind the coordinates y and x; UsageError unless they are the cell centres (i + ½) Δ."""
    n, length = [], []
    for axis in SPACE:
        values, step = axis_of(dataset, axis)
        if abs(values[0] - 0.5 * step) > tolerance(dataset[axis].values, step):
            raise UsageError(
                f"{axis} must be cell centres, (i + 1/2) times the spacing from 0; it starts at {values[0]:g}"
            )
        n.append(len(values))
        length.append(step * len(values))
    try:
        return Grid((n[0], n[1]), (length[0], length[1]))
    except ValueError as error:
        raise UsageError(f"the dataset's grid: {error}") from None


def own_dims(field: FieldSpec) -> list[str]:
    """The dims of one value of a field."""
    return (["component"] if field.order else []) + ([] if field.uniform else ["y", "x"])


def describe_grid(grid: Grid, digits: int = 6) -> str:
    """A grid in words."""
    return f"{grid.n[0]} x {grid.n[1]} cells on {grid.length[0]:.{digits}g} x {grid.length[1]:.{digits}g}"


def is_same_grid(grid: Grid, other: Grid) -> bool:
    """True where two grids are the same: as many cells, and sides that differ by at most a thousandth of a cell."""
    apart = np.abs(np.subtract(grid.length, other.length))
    return grid.n == other.n and bool((apart <= FRACTION * np.array(other.spacing)).all())


def check_matches(dataset: xr.Dataset, spec: StateSpec, other_grid: str = "") -> None:
    """UsageError that says which of grid, fields, inputs, units, times or interval differ from `spec`. `other_grid` is
    said where it is the grid: what could be done."""
    if not isinstance(dataset, xr.Dataset):
        raise UsageError(f"an xarray Dataset is needed (got {type(dataset).__name__})")
    if "component" in dataset.coords:
        check_components(dataset)
    for field in spec.fields + spec.inputs:
        if field.name not in dataset:
            raise UsageError(
                f"the dataset has no variable {field.name!r}; it has {', '.join(map(str, dataset.data_vars)) or 'none'}"
            )
        found = _field_of(field.name, dataset[field.name])
        if (found.order, found.parity) != (field.order, field.parity):
            raise UsageError(f"variable {field.name!r} has tensor_order {found.order} and parity {found.parity}; "
                             f"expected {field.order} and {field.parity}")  # fmt: skip
    grid = grid_of(dataset)
    if not is_same_grid(grid, spec.grid):
        digits = 6 if describe_grid(grid) != describe_grid(spec.grid) else 12
        raise UsageError(
            f"the dataset's grid is {describe_grid(grid, digits)}; "
            f"expected {describe_grid(spec.grid, digits)}{other_grid}"
        )
    for axis in SPACE:
        check_units(dataset[axis], axis, "m")
    if 0 in dataset.sizes.values():
        raise UsageError(f"the dataset is empty: {dict(dataset.sizes)}")
    for field in spec.fields + spec.inputs:
        _check_variable(dataset, field, is_state=field in spec.fields)
    _check_time(dataset, spec)
    _check_nothing_is_ignored(dataset, spec)


def _check_variable(dataset: xr.Dataset, field: FieldSpec, is_state: bool) -> None:
    """Dims, type, packing and units of one variable."""
    variable, name = dataset[field.name], f"variable {field.name!r}"
    dims = set(map(str, variable.dims))
    known = {"trajectory", *own_dims(field)} | ({"time"} if is_state else set())
    if extra := dims - known:
        raise UsageError(f"{name} has the dimension {sorted(extra)[0]!r}; known are {sorted(known)}")
    if is_state and "time" not in dims and dataset.sizes.get("time", 1) > 1:
        raise UsageError(
            f"{name} has no time, but the dataset has {dataset.sizes['time']}: select the one that it is of"
        )
    check_values(variable, field)
    said = variable.attrs.get("wall_parity", field.wall)
    if not np.array_equal(said, field.wall):
        raise UsageError(f"{name} has wall_parity {said}; expected {field.wall}: other plates than the model's")


def check_values(variable: xr.DataArray, field: FieldSpec) -> None:
    """UsageError where a variable is not what a field is: its own dims, components x and y, decoded real numbers, and
    the units. Other dims may be there."""
    name = f"variable {field.name!r}"
    if missing := [dim for dim in own_dims(field) if dim not in variable.dims]:
        raise UsageError(f"{name} has no dimension {missing[0]!r}")
    if field.order and variable.sizes["component"] != 2:
        raise UsageError(f"{name} has {variable.sizes['component']} components; expected 2, x and y")
    if field.order and "component" in variable.coords:
        check_components(variable)
    if variable.dtype.kind not in "fiu":
        raise UsageError(f"{name} must be real numbers (it is {variable.dtype})")
    for attribute in PACKED:
        value = variable.attrs.get(attribute)
        if value is not None and not (isinstance(value, float | np.floating) and np.isnan(value)):
            raise UsageError(
                f"{name} was opened without decoding (it has the attribute {attribute}): xr.decode_cf does it"
            )
    check_units(variable, field.name, field.units)


def check_components(data: xr.Dataset | xr.DataArray) -> None:
    """UsageError where the coordinate `component` is not x and y, in either order."""
    if sorted(map(str, np.atleast_1d(data["component"].values))) != ["x", "y"]:
        raise UsageError(f"the coordinate component must be x, y (got {list(np.atleast_1d(data['component'].values))})")


def check_units(variable: xr.DataArray, name: str, expected: str) -> None:
    """UsageError where a variable says that it has other units than expected."""
    said = variable.attrs.get("units")
    if said is not None and not agree(str(said), expected):
        raise UsageError(f"{name!r} has units {str(said)!r}; expected {expected!r}: convert it, or drop the attribute")


def _check_time(dataset: xr.Dataset, spec: StateSpec) -> None:
    """The times: numbers in seconds, one for all trajectories, an interval apart."""
    if "time" in dataset.coords:
        time = dataset["time"]
        if time.dtype.kind not in "fiu":
            raise UsageError("the coordinate time must be numbers in the units of the flow, not dates")
        if time.dims not in ((), ("time",)):
            raise UsageError(f"the coordinate time is along {time.dims[0]!r}: trajectories start at one time, each run")
        if not np.isfinite(time.values).all():
            raise UsageError("the coordinate time holds NaN or infinite values")
        check_units(time, "time", "s")
    elif dataset.sizes.get("time", 1) > 1:
        raise UsageError("the dimension time has no coordinate: which times they are is not known")
    if dataset.sizes.get("time", 1) < 2:
        return
    stored = dataset["time"].values
    check_resolved(stored, spec.interval, "time")
    times = stored.astype(np.float64) - float(stored[0])
    found, clock = np.diff(times), spec.interval * np.arange(len(times))
    if not (np.abs(times - clock) <= tolerance(stored, spec.interval)).all():
        worst = found[np.abs(found - spec.interval).argmax()]
        raise UsageError(f"the dataset's interval is {worst:.9g}; expected {spec.interval:.9g}")


def _field_of(name: str, variable: xr.DataArray) -> FieldSpec:
    attrs = variable.attrs
    if "tensor_order" in attrs and "parity" in attrs:
        units, long_name = str(attrs.get("units", "1")), str(attrs.get("long_name", name))
        try:
            return FieldSpec(name, int(attrs["tensor_order"]), int(attrs["parity"]), units, long_name)
        except (TypeError, ValueError) as error:
            raise UsageError(f"variable {name!r}: tensor_order and parity: {error}") from None
    if name in KNOWN_FIELDS:
        return KNOWN_FIELDS[name]
    raise UsageError(
        f"variable {name!r} does not say how it transforms: give it the attributes tensor_order and parity"
    )


def _check_nothing_is_ignored(dataset: xr.Dataset, spec: StateSpec) -> None:
    """UsageError where the dataset says of its flow what the step depends on and `spec` does not take.

    A forcing, gravity, gradient, mean velocity or drag of zero is none. A viscosity, drag or diffusivity that all
    trajectories share is what the model was trained with: it may be there for the diagnostics.
    """
    taken = {field.name for field in spec.fields + spec.inputs}
    for field in INPUT_FIELDS:
        if field.name in dataset.variables and field.name not in taken:
            pieces = _pieces(dataset[field.name])
            shared = np.asarray(dataset[field.name].values).flat[0] if field.uniform and field.order == 0 else 0
            if any((piece.values != shared).any() for piece in pieces):
                differs = "is not zero" if field.order or not field.uniform else "differs between trajectories"
                raise UsageError(
                    f"the dataset's {field.name!r} {differs}, and is no input here: a step that ignored it would be "
                    f"wrong. Train on a flow that has it as an input, or drop it (drop_vars({field.name!r}))"
                )


def _pieces(variable: xr.DataArray) -> Iterator[xr.DataArray]:
    """A field trajectory by trajectory, for it may be larger than memory; anything else as it is."""
    if "trajectory" not in variable.dims or "x" not in variable.dims:
        yield variable
    else:
        yield from (variable.isel(trajectory=i) for i in range(variable.sizes["trajectory"]))
