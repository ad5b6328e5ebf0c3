"""Conversion between xarray and tensors: the one module that knows both."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.array_types import EnsembleStates, States
from fluidsurrogate.data.coordinates import box_sides, spatial_dims
from fluidsurrogate.data.grids import grid_of
from fluidsurrogate.data.layout import component_names, field_attributes, field_dims, grid_coordinates
from fluidsurrogate.data.schema import check_matches
from solvers import DIFFUSIVITY, DRAG, VISCOSITY, FieldSpec, Grid, StateSpec, field_in
from solvers.spectra import shell_wavenumbers

OVERFLOW_MARGIN = 1e3  # a value's square, an energy say, times this squared is still a number
BATCH_CELLS = 2**22  # of what `reduce_over_box` computes at a time


def to_dataset(
    spec: StateSpec,
    states: States,
    *,
    start_time: float = 0.0,
    coordinates: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Tensor] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Return states as a dataset with one variable a field, whose attributes say its units and how it transforms.

    Parameters
    ----------
    spec : StateSpec
        Grid, fields, inputs and interval of the states.
    states : Tensor
        Shape (trajectory, time, component, y, x), in three dimensions (trajectory, time, component, z, y, x).
    start_time : float, default 0.0
        Time of the first state, in s.
    coordinates : mapping, optional
        Further coordinates along `trajectory`, or others in place of the default ones.
    inputs : mapping of str to Tensor, optional
        Inputs by name, shape (trajectory, component, y, x), or (trajectory, component, 1, 1) for uniform ones; in three
        dimensions with one axis more. They become variables too; uniform ones have no spatial dims.
    attributes : mapping, optional
        Further attributes of the dataset.

    Returns
    -------
    xr.Dataset
        Dims trajectory, time, y, x or z, y, x, and component if there is a vector.
    """
    variables = {}
    for field, part in zip(spec.fields, states.split([f.components for f in spec.fields], dim=2), strict=True):
        variables[field.name] = _to_variable(field, part, ("trajectory", "time"))
    for field in spec.inputs:
        if inputs is not None:
            variables[field.name] = _to_variable(field, inputs[field.name], ("trajectory",))
    times = start_time + spec.interval * np.arange(states.shape[1])
    coords: dict[str, Any] = {
        "trajectory": ("trajectory", np.arange(len(states)), {"long_name": "trajectory", "units": "1"}),
        "time": ("time", times, {"long_name": "time", "units": "s", "axis": "T"}),
        **grid_coordinates(spec.grid),
        **(coordinates or {}),
    }
    if any(field.order for field in (*spec.fields, *spec.inputs)):
        coords["component"] = (
            "component",
            component_names(spec.grid.dimensions),
            {"long_name": "component of a vector"},
        )
    sides = {f"length_{axis}": side for axis, side in zip(spec.grid.axes, spec.grid.length, strict=True)}
    return xr.Dataset(variables, coords, {"Conventions": "CF-1.11", **sides, **(attributes or {})})


def stack_members(spec: StateSpec, first: xr.Dataset, others: EnsembleStates) -> xr.Dataset:
    """Return an ensemble whose member 0 is a forecast and whose other members are perturbed ones.

    Parameters
    ----------
    spec : StateSpec
        Grid and fields of the states.
    first : xr.Dataset
        The unperturbed forecast.
    others : Tensor
        The perturbed members, shape (trajectory, member, time, component, y, x), or with z, y, x.

    Returns
    -------
    xr.Dataset
        Each field with the dims trajectory, member, time, ..., and the coordinate `perturbed`, False for the first
        member.
    """
    parts = others.split([field.components for field in spec.fields], dim=3)
    stacked = {}
    for field, part in zip(spec.fields, parts, strict=True):
        dims, array, attrs = _to_variable(field, part, ("trajectory", "member", "time"))
        own = first[field.name].transpose("trajectory", "time", ...).values
        stacked[field.name] = (dims, np.concatenate([own[:, None], array], axis=1), attrs)
    count = others.shape[1] + 1
    about = {"long_name": "perturbed, as all but the first are", "units": "1"}
    return first.assign(stacked).assign_coords(
        member=("member", np.arange(count), {"long_name": "member of the ensemble", "units": "1"}),
        perturbed=("member", np.arange(count) > 0, about),
    )


def to_states(dataset: xr.Dataset, spec: StateSpec, dtype: torch.dtype = torch.float32) -> States:
    """Return the states that a dataset holds as one tensor.

    Parameters
    ----------
    dataset : xr.Dataset
        States; a missing dim trajectory or time counts as one.
    spec : StateSpec
        The grid, fields and interval that the dataset must have.
    dtype : torch.dtype, default torch.float32
        Precision of the result.

    Returns
    -------
    Tensor
        Shape (trajectory, time, component, y, x) or (trajectory, time, component, z, y, x).

    Raises
    ------
    UsageError
        If grid, fields or interval are not those of `spec`, or a value is not finite.
    """
    check_matches(dataset, spec)
    return read_states(dataset, spec, dtype)


def read_states(dataset: xr.Dataset, spec: StateSpec, dtype: torch.dtype, finite: bool = True) -> States:
    """Return the states of a dataset that is known to match, as one tensor.

    Parameters
    ----------
    dataset : xr.Dataset
        States that `check_matches` has taken.
    spec : StateSpec
        Their grid and fields.
    dtype : torch.dtype
        Precision of the result.
    finite : bool, default True
        Whether values that are not finite are refused.

    Returns
    -------
    Tensor
        Shape (trajectory, time, component, y, x) or (trajectory, time, component, z, y, x).

    Raises
    ------
    UsageError
        If a value is not finite or too large, and `finite` is True; or if the values cannot be read.
    """
    leading = ("trajectory", "time")
    return torch.cat([_to_tensor(dataset, field, leading, dtype, finite) for field in spec.fields], dim=2)


def to_inputs(dataset: xr.Dataset, spec: StateSpec, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Return the inputs of a step that a dataset holds, as tensors.

    Parameters
    ----------
    dataset : xr.Dataset
        States that `check_matches` has taken.
    spec : StateSpec
        The inputs.
    dtype : torch.dtype, default torch.float32
        Precision of the result.

    Returns
    -------
    dict
        By name, shape (trajectory, component, y, x), or (trajectory, component, 1, 1) for uniform ones; in three
        dimensions with one axis more.

    Raises
    ------
    UsageError
        If a value is not finite, or a viscosity, drag or diffusivity is negative.
    """
    inputs = {field.name: _to_tensor(dataset, field, ("trajectory",), dtype) for field in spec.inputs}
    for field in (VISCOSITY, DRAG, DIFFUSIVITY):
        if field.name in inputs and not (inputs[field.name] >= 0).all():
            raise UsageError(f"variable {field.name!r} is negative; it must be at least 0")
    return inputs


def derive_field(
    dataset: xr.Dataset, name: str, function: Callable[[Tensor, Grid], Tensor], field: FieldSpec
) -> xr.DataArray:
    """Compute a field from another one, for all trajectories, times and whatever other dims there are.

    Parameters
    ----------
    dataset : xr.Dataset
        Fields at cell centres.
    name : str
        The variable that the function takes.
    function : callable
        Function of a tensor (batch, component, y, x) and the grid, which returns (batch, component, y, x); in three
        dimensions of tensors with z, y, x.
    field : FieldSpec
        Name, units and type of the result in the plane; `solvers.field_in` gives its type in space.

    Returns
    -------
    xr.DataArray
        The field.

    Raises
    ------
    UsageError
        If the dataset is empty, or its coordinates are not cell centres.
    """
    if not dataset[name].size:
        raise UsageError(f"the dataset is empty: {dict(dataset.sizes)}")
    grid = grid_of(dataset)
    field, inner = field_in(field, grid.dimensions), grid.dimensions + 1  # of a state: component, y, x
    own = [dim for dim in ("component", *grid.axes) if dim in dataset[name].dims]
    source = _sort_components(dataset[name]).transpose(..., *own)
    values = torch.from_numpy(_floating_copy(source.values))
    values = values if len(own) == inner else values.unsqueeze(-inner)
    computed = function(values.flatten(0, -inner - 1) if values.ndim > inner else values[None], grid)
    computed = computed.reshape(*values.shape[:-inner], -1, *grid.n)
    dims, array, attrs = _to_variable(field, computed, tuple(map(str, source.dims[: -len(own)])))
    coords = {name: c for name, c in source.coords.items() if "component" not in c.dims}
    coords |= {"component": component_names(grid.dimensions)} if field.order else {}
    return xr.DataArray(array, coords, dims, field.name, attrs)


def with_field(dataset: xr.Dataset, field: FieldSpec, values: np.ndarray | None) -> xr.Dataset:
    """Return a dataset with a field that all its trajectories share.

    Parameters
    ----------
    dataset : xr.Dataset
        In the layout of this package.
    field : FieldSpec
        Name, units and type of the field.
    values : ndarray or None
        Shape (y, x), or (component, z, y, x) for a vector in space; None: the dataset stays as it is.

    Returns
    -------
    xr.Dataset
        With the variable.
    """
    return (
        dataset
        if values is None
        else dataset.assign({field.name: (field_dims(field), values, field_attributes(field))})
    )


def reduce_over_box(
    dataset: xr.Dataset, function: Callable[..., Tensor], *inputs: xr.DataArray, name: str = "vorticity"
) -> xr.DataArray:
    """Compute a number or a spectrum of each field, in double precision.

    Parameters
    ----------
    dataset : xr.Dataset
        Fields on an even grid, with whatever other dims.
    function : callable
        Function of the field (batch, component, y, x), the sides of the box (y, x) and each of the `inputs` with the
        same batch: (batch,), or (batch, component, y, x) if it is a field. In three dimensions all fields have z, y, x.
        It returns (batch,), or (batch, shell) in the shells of `solvers.spectra`.
    *inputs : xr.DataArray
        Further arguments of the function.
    name : str, default "vorticity"
        The variable that holds the field, a scalar or a vector.

    Returns
    -------
    xr.DataArray
        Without spatial dims and components; a spectrum has the dim `wavenumber`, in 1/m.

    Raises
    ------
    UsageError
        If the dataset is empty, or its coordinates are not evenly spaced.
    """
    length, space = box_sides(dataset), spatial_dims(dataset)
    own = ("component", *space)
    given = [_sort_components(g) for g in xr.broadcast(dataset[name], *inputs, exclude=own)]
    leading = [dim for dim in given[0].dims if dim not in own]
    # A view of each, whatever it was broadcast from; only a part of the batch is ever copied, to bound memory.
    arrays = [g.transpose(*leading, *(a for a in own if a in g.dims)).values[None] for g in given]
    shape, n = arrays[0].shape[: len(leading) + 1], arrays[0].shape[-len(space) :]
    count, size = math.prod(shape), max(1, BATCH_CELLS // math.prod(arrays[0].shape[len(shape) :]))
    if not count:
        raise UsageError(f"the dataset is empty: {dict(dataset.sizes)}")
    parts = []
    for start in range(0, count, size):
        at = np.unravel_index(np.arange(start, min(start + size, count)), shape)
        tensors = [torch.from_numpy(a[at].astype(np.float64, copy=False)) for a in arrays]
        field, *rest = (t.unsqueeze(1) if t.ndim == len(space) + 1 else t for t in tensors)
        parts.append(function(field, length, *rest))
    computed = torch.cat(parts).reshape((*shape[1:], *parts[0].shape[1:])).numpy()
    coords = {key: c for key, c in given[0].coords.items() if not set(own) & set(c.dims)}
    if computed.ndim == len(leading):
        return xr.DataArray(computed, coords, leading)
    attrs = {"long_name": "wavenumber", "units": "m-1"}
    rounded = [float(f"{k:.12g}") for k in shell_wavenumbers(n, length).tolist()]  # 3, not 2.9999999999999996
    wavenumbers = ("wavenumber", rounded, attrs)
    return xr.DataArray(computed, coords | {"wavenumber": wavenumbers}, [*leading, "wavenumber"])


def _to_variable(field: FieldSpec, values: Tensor, leading: tuple[str, ...]) -> tuple:
    """Return dims, values and attributes of the variable that holds a field."""
    array = values.detach().cpu().numpy()
    if field.uniform:
        array = array.reshape(array.shape[: -field.dimensions])
    if field.order == 0:
        array = array.squeeze(len(leading))
    return (*leading, *field_dims(field)), array, field_attributes(field)


def _to_tensor(
    dataset: xr.Dataset, field: FieldSpec, leading: Sequence[str], dtype: torch.dtype, finite: bool = True
) -> Tensor:
    """Return the values of a field with the leading dims, component, and y, x or z, y, x."""
    if field.name not in dataset:
        raise UsageError(f"the dataset has no variable {field.name!r}; it has {', '.join(map(str, dataset.data_vars))}")
    variable = dataset[field.name]
    if "trajectory" not in variable.dims:
        variable = variable.expand_dims({"trajectory": dataset.sizes.get("trajectory", 1)})
    variable = _sort_components(variable)
    missing = [dim for dim in leading if dim not in variable.dims]
    variable = variable.expand_dims(missing)
    try:
        array = variable.transpose(*leading, *field_dims(field)).values
    except UsageError:
        raise
    except Exception as error:  # of a file that is broken, or larger than memory: libraries raise whatever they do
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UsageError(f"variable {field.name!r} cannot be read: {reason[:200]}") from None
    values = torch.from_numpy(_floating_copy(array)).to(dtype)
    if finite and not (values.abs() < torch.finfo(dtype).max ** 0.5 / OVERFLOW_MARGIN).all():  # of a NaN it is false
        raise UsageError(f"variable {field.name!r} holds NaN, infinite values, or values too large for {dtype}")
    values = values if field.order else values.unsqueeze(len(leading))
    return values[(..., *(None,) * field.dimensions)] if field.uniform else values


def _sort_components(variable: xr.DataArray) -> xr.DataArray:
    """Return a vector with its components in the order x, y or x, y, z; anything else as it is."""
    if "component" not in variable.coords or "component" not in variable.dims:
        return variable
    return variable.sel(component=component_names(variable.sizes["component"]))


def _floating_copy(array: np.ndarray) -> np.ndarray:
    """Return a copy in single or double precision, whichever holds the values, in the byte order that torch takes."""
    dtype = np.float32 if np.result_type(array.dtype, np.float32) == np.float32 else np.float64
    return array.astype(dtype)
