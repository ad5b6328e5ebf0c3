"""Whether a dataset is exactly what a spec says: nothing is interpolated, converted or guessed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.coordinates import check_coordinate_precision, coordinate_tolerance, spatial_dims
from fluidsurrogate.data.geometry import refuse_other_geometries
from fluidsurrogate.data.grids import describe_grid, grid_of, is_same_grid
from fluidsurrogate.data.layout import component_names, field_dims
from fluidsurrogate.data.units import units_compatible
from solvers import FORCING, KNOWN_FIELDS, FieldSpec, StateSpec, field_in

INPUT_FIELDS = [field for field in KNOWN_FIELDS.values() if field.uniform or field is FORCING]
PACKING_ATTRIBUTES = ("scale_factor", "add_offset", "_FillValue", "missing_value")  # xarray removes them on decoding


def check_matches(dataset: xr.Dataset, spec: StateSpec, grid_advice: str = "") -> None:
    """Check that a dataset has the grid, fields, inputs, units, times and interval of a spec.

    Parameters
    ----------
    dataset : xr.Dataset
        States.
    spec : StateSpec
        What they must be.
    grid_advice : str, default ""
        What can be done about another grid, for the end of that message.

    Raises
    ------
    UsageError
        If something differs, with what it is and what was expected.
    """
    if not isinstance(dataset, xr.Dataset):
        raise UsageError(f"an xarray Dataset is needed (got {type(dataset).__name__})")
    refuse_other_geometries(dataset, "the dataset")
    _check_dimensions(dataset, spec)
    if "component" in dataset.coords:
        check_components(dataset, spec.grid.dimensions)
    for field in spec.fields + spec.inputs:
        if field.name not in dataset:
            raise UsageError(
                f"the dataset has no variable {field.name!r}; it has {', '.join(map(str, dataset.data_vars)) or 'none'}"
            )
        found = field_of(field.name, dataset[field.name], spec.grid.dimensions)
        if (found.order, found.parity) != (field.order, field.parity):
            raise UsageError(f"variable {field.name!r} has tensor_order {found.order} and parity {found.parity}; "
                             f"expected {field.order} and {field.parity}")  # fmt: skip
    grid = grid_of(dataset)
    if not is_same_grid(grid, spec.grid):
        digits = 6 if describe_grid(grid) != describe_grid(spec.grid) else 12
        raise UsageError(
            f"the dataset's grid is {describe_grid(grid, digits)}; "
            f"expected {describe_grid(spec.grid, digits)}{grid_advice}"
        )
    for axis in spec.grid.axes:
        check_units(dataset[axis], axis, "m")
    if 0 in dataset.sizes.values():
        raise UsageError(f"the dataset is empty: {dict(dataset.sizes)}")
    for field in spec.fields + spec.inputs:
        _check_variable(dataset, field, is_state=field in spec.fields)
    _check_time(dataset, spec)
    _check_no_input_is_ignored(dataset, spec)


def _check_dimensions(dataset: xr.Dataset, spec: StateSpec) -> None:
    """Check that a dataset is of the plane or of space, as the spec is."""
    found, expected = spatial_dims(dataset), spec.grid.axes
    if found != expected:
        advice = (
            "select one plane, isel(z=0) for instance" if len(found) > len(expected) else "take data of a flow in space"
        )
        raise UsageError(f"the dataset is of {len(found)} dimensions, {', '.join(found)}; expected {len(expected)}, "
                         f"{', '.join(expected)}: {advice}")  # fmt: skip


def check_field(variable: xr.DataArray, field: FieldSpec) -> None:
    """Check that a variable holds a field: its dims, its components, decoded real numbers, and units.

    Parameters
    ----------
    variable : xr.DataArray
        The variable, which may have further dims.
    field : FieldSpec
        What it must be.

    Raises
    ------
    UsageError
        If something differs.
    """
    name = f"variable {field.name!r}"
    if missing := [dim for dim in field_dims(field) if dim not in variable.dims]:
        raise UsageError(f"{name} has no dimension {missing[0]!r}")
    if field.order and variable.sizes["component"] != field.components:
        *first, last = component_names(field.dimensions)
        raise UsageError(f"{name} has {variable.sizes['component']} components; expected {field.components}, "
                         f"{', '.join(first)} and {last}")  # fmt: skip
    if field.order and "component" in variable.coords:
        check_components(variable, field.dimensions)
    if variable.dtype.kind not in "fiu":
        raise UsageError(f"{name} must be real numbers (it is {variable.dtype})")
    for attribute in PACKING_ATTRIBUTES:
        value = variable.attrs.get(attribute)
        if value is not None and not (isinstance(value, float | np.floating) and np.isnan(value)):
            raise UsageError(
                f"{name} was opened without decoding (it has the attribute {attribute}): decode it with xr.decode_cf"
            )
    check_units(variable, field.name, field.units)


def check_components(data: xr.Dataset | xr.DataArray, dimensions: int) -> None:
    """Check that the coordinate `component` is x and y, in three dimensions x, y and z, in any order.

    Parameters
    ----------
    data : xr.Dataset or xr.DataArray
        Data with this coordinate.
    dimensions : int
        2 or 3.

    Raises
    ------
    UsageError
        If it is anything else.
    """
    found, names = list(np.atleast_1d(data["component"].values)), list(component_names(dimensions))
    if sorted(map(str, found)) != names:
        raise UsageError(f"the coordinate component must be {', '.join(names)} (got {found})")


def check_units(variable: xr.DataArray, name: str, expected: str) -> None:
    """Check that the units that a variable states are the expected ones.

    Parameters
    ----------
    variable : xr.DataArray
        The variable; without the attribute `units` anything is taken.
    name : str
        Its name, for the message.
    expected : str
        The units.

    Raises
    ------
    UsageError
        If it states other units.
    """
    units = variable.attrs.get("units")
    if units is not None and not units_compatible(str(units), expected):
        raise UsageError(f"{name!r} has units {str(units)!r}; expected {expected!r}: convert it, or drop the attribute")


def _check_variable(dataset: xr.Dataset, field: FieldSpec, is_state: bool) -> None:
    """Check dims, dtype, packing, units and plates of one variable."""
    variable, name = dataset[field.name], f"variable {field.name!r}"
    dims = set(map(str, variable.dims))
    known = {"trajectory", *field_dims(field)} | ({"time"} if is_state else set())
    if extra := dims - known:
        raise UsageError(f"{name} has the dimension {sorted(extra)[0]!r}; known are {sorted(known)}")
    if is_state and "time" not in dims and dataset.sizes.get("time", 1) > 1:
        raise UsageError(
            f"{name} has no dimension time, but the dataset has {dataset.sizes['time']} times: select one of them"
        )
    check_field(variable, field)
    wall = variable.attrs.get("wall_parity", field.wall)
    if not np.array_equal(wall, field.wall):
        raise UsageError(f"{name} has wall_parity {wall}; expected {field.wall}: the model has other plates")


def _check_time(dataset: xr.Dataset, spec: StateSpec) -> None:
    """Check the times: numbers in seconds, the same for all trajectories, an interval apart."""
    if "time" in dataset.coords:
        time = dataset["time"]
        if time.dtype.kind not in "fiu":
            raise UsageError("the coordinate time must be numbers in the units of the flow, not dates")
        if time.dims not in ((), ("time",)):
            raise UsageError(
                f"the coordinate time is along {time.dims[0]!r}; expected one time axis for all trajectories"
            )
        if not np.isfinite(time.values).all():
            raise UsageError("the coordinate time holds NaN or infinite values")
        check_units(time, "time", "s")
    elif dataset.sizes.get("time", 1) > 1:
        raise UsageError("the dimension time has no coordinate: add the times of the states")
    if dataset.sizes.get("time", 1) < 2:
        return
    stored = dataset["time"].values
    check_coordinate_precision(stored, spec.interval, "time")
    times = stored.astype(np.float64) - float(stored[0])
    found, clock = np.diff(times), spec.interval * np.arange(len(times))
    if not (np.abs(times - clock) <= coordinate_tolerance(stored, spec.interval)).all():
        worst = found[np.abs(found - spec.interval).argmax()]
        raise UsageError(f"the dataset's interval is {worst:.9g}; expected {spec.interval:.9g}")


def field_of(name: str, variable: xr.DataArray, dimensions: int) -> FieldSpec:
    """Return the type of a field as its attributes say, or as its name says if it is a known one.

    Parameters
    ----------
    name : str
        The name of the variable.
    variable : xr.DataArray
        The variable, perhaps with the attributes `tensor_order` and `parity`.
    dimensions : int
        2 or 3.

    Returns
    -------
    FieldSpec
        Order, parity and units of the field.

    Raises
    ------
    UsageError
        If neither its attributes nor its name say how it transforms.
    """
    attrs = variable.attrs
    if "tensor_order" in attrs and "parity" in attrs:
        units, long_name = str(attrs.get("units", "1")), str(attrs.get("long_name", name))
        try:
            order, parity = int(attrs["tensor_order"]), int(attrs["parity"])
            return FieldSpec(name, order, parity, units, long_name, dimensions=dimensions)
        except (TypeError, ValueError) as error:
            raise UsageError(f"variable {name!r}: tensor_order and parity: {error}") from None
    if name in KNOWN_FIELDS:
        return field_in(KNOWN_FIELDS[name], dimensions)
    raise UsageError(
        f"variable {name!r} does not say how it transforms: give it the attributes tensor_order and parity"
    )


def _check_no_input_is_ignored(dataset: xr.Dataset, spec: StateSpec) -> None:
    """Raise UsageError if the dataset has something that the step depends on and that is no input of `spec`.

    A forcing, gravity, gradient, mean velocity or drag of zero is none. A viscosity, drag or diffusivity that all
    trajectories share is what the model was trained with: it may be there for the diagnostics.
    """
    taken = {field.name for field in spec.fields + spec.inputs}
    for field in INPUT_FIELDS:
        if field.name in dataset.variables and field.name not in taken:
            parts = _by_trajectory(dataset[field.name])
            shared = np.asarray(dataset[field.name].values).flat[0] if field.uniform and field.order == 0 else 0
            if any((part.values != shared).any() for part in parts):
                differs = "is not zero" if field.order or not field.uniform else "differs between trajectories"
                raise UsageError(
                    f"the dataset's {field.name!r} {differs}, but is not an input of this step, which would be wrong "
                    f"without it. Train on a flow that has it as an input, or drop it (drop_vars({field.name!r}))"
                )


def _by_trajectory(variable: xr.DataArray) -> Iterator[xr.DataArray]:
    """Yield a field trajectory by trajectory, because it may be larger than memory; anything else as it is."""
    if "trajectory" not in variable.dims or "x" not in variable.dims:
        yield variable
    else:
        yield from (variable.isel(trajectory=i) for i in range(variable.sizes["trajectory"]))
