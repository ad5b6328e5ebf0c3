"""Whether a dataset is what a spec says, to the last attribute: nothing is interpolated, converted or guessed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from fluidsurrogate.errors import UsageError
from fluidsurrogate.units import agree
from solvers import FORCING, KNOWN_FIELDS, FieldSpec, Grid, StateSpec

INPUT_FIELDS = [field for field in KNOWN_FIELDS.values() if field.uniform or field is FORCING]
PACKED = ("scale_factor", "add_offset", "_FillValue", "missing_value")  # xarray takes them away when it decodes


def sides_of(dataset: xr.Dataset) -> tuple[float, float]:
    """The sides (y, x) of the periodic box behind the coordinates: cells times their mean spacing, wherever the first
    lies."""
    (y, dy), (x, dx) = _axis(dataset, "y"), _axis(dataset, "x")
    return dy * len(y), dx * len(x)


def _axis(dataset: xr.Dataset, axis: str) -> tuple[np.ndarray, float]:
    """The coordinate and its mean spacing."""
    if axis not in dataset.coords:
        raise UsageError(f"the dataset has no coordinate {axis!r}")
    coordinate = dataset[axis]
    if coordinate.ndim > 1 or coordinate.dtype.kind not in "fiu":
        dims = ", ".join(map(str, coordinate.dims))
        raise UsageError(
            f"the coordinate {axis!r} must be numbers along {axis} (it is {coordinate.dtype} along {dims})"
        )
    values = np.atleast_1d(np.asarray(coordinate.values, dtype=np.float64))
    if len(values) < 2:
        raise UsageError(f"the dataset has fewer than two cells along {axis!r}")
    return values, float(np.diff(values).mean())


def grid_of(dataset: xr.Dataset) -> Grid:
    """The grid behind the coordinates y and x; UsageError unless they are the cell centres (i + ½) Δ."""
    n, length = [], []
    for axis in ("y", "x"):
        values, step = _axis(dataset, axis)
        if not np.allclose(values, (np.arange(len(values)) + 0.5) * step, rtol=0, atol=1e-4 * abs(step)):
            hint = f"; it decreases: sortby({axis!r}) turns it" if step < 0 else ""
            raise UsageError(
                f"{axis} must be cell centres, (i + 1/2) times the spacing from 0; it starts at {values[0]:g}{hint}"
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


def describe(grid: Grid) -> str:
    """A grid in words."""
    return f"{grid.n[0]} x {grid.n[1]} cells on {grid.length[0]:.6g} x {grid.length[1]:.6g}"


def is_on(grid: Grid, other: Grid) -> bool:
    """True where two grids are the same, as far as coordinates in single precision tell."""
    return grid.n == other.n and np.allclose(grid.length, other.length, rtol=1e-4)


def check_matches(dataset: xr.Dataset, spec: StateSpec, other_grid: str = "") -> None:
    """UsageError that says which of grid, fields, inputs, units, times or interval differ from `spec`. `other_grid` is
    said where it is the grid: what could be done."""
    if not isinstance(dataset, xr.Dataset):
        raise UsageError(f"an xarray Dataset is needed (got {type(dataset).__name__})")
    if "component" in dataset.coords and sorted(map(str, np.atleast_1d(dataset["component"].values))) != ["x", "y"]:
        raise UsageError(f"the coordinate component must be x, y (got {list(dataset['component'].values)})")
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
    if not is_on(grid, spec.grid):
        raise UsageError(f"the dataset's grid is {describe(grid)}; expected {describe(spec.grid)}{other_grid}")
    for axis in ("y", "x"):
        _check_units(dataset[axis], axis, "m")
    if 0 in dataset.sizes.values():
        raise UsageError(f"the dataset is empty: {dict(dataset.sizes)}")
    for field in spec.fields + spec.inputs:
        _check_variable(dataset, field, is_state=field in spec.fields)
    _check_time(dataset, spec)
    _check_nothing_is_ignored(dataset, spec)


def _check_variable(dataset: xr.Dataset, field: FieldSpec, is_state: bool) -> None:
    """Dims, type, packing and units of one variable."""
    variable, name = dataset[field.name], f"variable {field.name!r}"
    dims, own = set(map(str, variable.dims)), own_dims(field)
    known = {"trajectory", *own} | ({"time"} if is_state else set())
    if extra := dims - known:
        raise UsageError(f"{name} has the dimension {sorted(extra)[0]!r}; known are {sorted(known)}")
    if missing := [dim for dim in own if dim not in dims]:
        raise UsageError(f"{name} has no dimension {missing[0]!r}")
    if field.order and dataset.sizes["component"] != 2:
        raise UsageError(f"{name} has {dataset.sizes['component']} components; expected 2, x and y")
    if is_state and "time" not in dims and dataset.sizes.get("time", 1) > 1:
        raise UsageError(
            f"{name} has no time, but the dataset has {dataset.sizes['time']}: select the one that it is of"
        )
    if variable.dtype.kind not in "fiu":
        raise UsageError(f"{name} must be real numbers (it is {variable.dtype})")
    for attribute in PACKED:
        value = variable.attrs.get(attribute)
        if value is not None and not (isinstance(value, float | np.floating) and np.isnan(value)):
            raise UsageError(
                f"{name} was opened without decoding (it has the attribute {attribute}): xr.decode_cf does it"
            )
    said = variable.attrs.get("wall_parity", field.wall)
    if not np.array_equal(said, field.wall):
        raise UsageError(f"{name} has wall_parity {said}; expected {field.wall}: other plates than the model's")
    _check_units(variable, field.name, field.units)


def _check_units(variable: xr.DataArray, name: str, expected: str) -> None:
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
        _check_units(time, "time", "s")
    elif dataset.sizes.get("time", 1) > 1:
        raise UsageError("the dimension time has no coordinate: which times they are is not known")
    times = dataset["time"].values if "time" in dataset.dims else np.zeros(1)
    found = np.diff(times)
    if not (as_expected := np.isclose(found, spec.interval, rtol=1e-4)).all():
        raise UsageError(f"the dataset's interval is {found[~as_expected][0]:g}; expected {spec.interval:g}")


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
