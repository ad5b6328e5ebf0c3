"""Tensors ↔ xarray: the one module that knows both."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.coordinates import sides_of
from fluidsurrogate.data.schema import check_matches, grid_of, own_dims
from solvers import DIFFUSIVITY, DRAG, VISCOSITY, FieldSpec, Grid, StateSpec
from solvers.spectra import shell_wavenumbers

COMPONENTS = np.array(["x", "y"], dtype=object)  # Zarr has no settled form for strings of fixed length
CHUNK_BYTES = 2**22  # of a Zarr chunk of several times
MARGIN = 1e3  # a value's square, an energy say, times this squared is still a number
STRETCH_CELLS = 2**22  # of one computation
States = Float[Tensor, "trajectory time component y x"]


def to_dataset(
    spec: StateSpec,
    states: States,
    *,
    start_time: float = 0.0,
    coordinates: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Tensor] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """States (trajectory, time, component, y, x) as one variable a field, with units and types in the attributes.

    `coordinates` are further ones along `trajectory`; `inputs` (trajectory, component, y, x) become variables too,
    uniform ones (trajectory, component, 1, 1) without y and x.
    """
    variables = {}
    for field, part in zip(spec.fields, states.split([f.components for f in spec.fields], dim=2), strict=True):
        variables[field.name] = _variable(field, part, ("trajectory", "time"))
    for field in spec.inputs:
        if inputs is not None:
            variables[field.name] = _variable(field, inputs[field.name], ("trajectory",))
    times = start_time + spec.interval * np.arange(states.shape[1])
    coords: dict[str, Any] = {
        "trajectory": ("trajectory", np.arange(len(states)), {"long_name": "trajectory", "units": "1"}),
        "time": ("time", times, {"long_name": "time", "units": "s", "axis": "T"}),
        **grid_coordinates(spec.grid),
        **(coordinates or {}),
    }
    if any(field.order for field in (*spec.fields, *spec.inputs)):
        coords["component"] = ("component", COMPONENTS, {"long_name": "component of a vector"})
    attrs = {"Conventions": "CF-1.11", "length_y": spec.grid.length[0], "length_x": spec.grid.length[1]}
    return xr.Dataset(variables, coords, attrs | dict(attributes or {}))


def stack_members(
    spec: StateSpec, first: xr.Dataset, others: Float[Tensor, "trajectory member time component y x"]
) -> xr.Dataset:
    """A forecast as member 0 and others as members 1, 2, ...: each field (trajectory, member, time, y, x), and the
    coordinate `perturbed`, false for the first."""
    parts = others.split([field.components for field in spec.fields], dim=3)
    stacked = {}
    for field, part in zip(spec.fields, parts, strict=True):
        dims, array, attrs = _variable(field, part, ("trajectory", "member", "time"))
        own = first[field.name].transpose("trajectory", "time", ...).values
        stacked[field.name] = (dims, np.concatenate([own[:, None], array], axis=1), attrs)
    count = others.shape[1] + 1
    about = {"long_name": "perturbed, as all but the first are", "units": "1"}
    return first.assign(stacked).assign_coords(
        member=("member", np.arange(count), {"long_name": "member of the ensemble", "units": "1"}),
        perturbed=("member", np.arange(count) > 0, about),
    )


def trajectory_labels(dataset: xr.Dataset) -> list[Any]:
    """The coordinate `trajectory` as plain values."""
    return np.asarray(dataset["trajectory"].values).tolist()


def trajectory_coordinates(dataset: xr.Dataset) -> dict[str, Any]:
    """What a dataset says along `trajectory`: its number, split, seed, whatever its maker added. Of a single trajectory
    without that dim its number."""
    if "trajectory" not in dataset.dims and "trajectory" in dataset.coords:
        dataset = dataset.expand_dims("trajectory")
    return {str(name): c.variable for name, c in dataset.coords.items() if c.dims == ("trajectory",)}


def grid_coordinates(grid: Grid) -> dict[str, Any]:
    """The cell centres as coordinates."""
    y, x = (c.numpy() for c in grid.coordinates())
    return {
        name: (name, values, {"long_name": f"{name} of the cell centre", "units": "m", "axis": name.upper()})
        for name, values in (("y", y), ("x", x))
    }


def empty_like_blocks(block: xr.Dataset, coordinates: Mapping[str, Any]) -> xr.Dataset:
    """A dataset like `block` for all the trajectories in `coordinates`, its values lazy zeros, a trajectory a chunk or,
    of a large one, so many of its times that a window of a few is read without the rest: what a Zarr folder is laid out
    from."""
    import dask.array  # imported late, as whatever takes its time and is needed by few commands

    total = len(coordinates["trajectory"][1])

    def widen(variable: xr.DataArray) -> tuple:
        if "trajectory" not in variable.dims:
            return variable.dims, variable.values, variable.attrs
        shape = (total, *variable.shape[1:])
        chunks = [1, *shape[1:]]
        if "time" in variable.dims:
            at = variable.dims.index("time")
            chunks[at] = min(shape[at], max(1, CHUNK_BYTES // (variable.nbytes // (variable.shape[0] * shape[at]))))
        return variable.dims, dask.array.zeros(shape, dtype=variable.dtype, chunks=tuple(chunks)), variable.attrs

    rest = {name: c for name, c in block.coords.items() if "trajectory" not in c.dims}
    return xr.Dataset({name: widen(v) for name, v in block.data_vars.items()}, rest | dict(coordinates), block.attrs)


def _variable(field: FieldSpec, values: Tensor, leading: tuple[str, ...]) -> tuple:
    array = values.detach().cpu().numpy()
    if field.uniform:
        array = array[..., 0, 0]
    if field.order == 0:
        array = array.squeeze(len(leading))
    attrs: dict[str, Any] = {"long_name": field.long_name or field.name, "units": field.units}
    attrs |= {"tensor_order": field.order, "parity": field.parity}
    return (*leading, *own_dims(field)), array, attrs | ({"wall_parity": field.wall} if field.wall else {})


def derive(
    dataset: xr.Dataset, name: str, function: Callable[[Tensor, Grid], Tensor], field: FieldSpec
) -> xr.DataArray:
    """A new field from the field `name`, by a function of (batch, component, y, x) and the grid, over all other dims
    alike."""
    if not dataset[name].size:
        raise UsageError(f"the dataset is empty: {dict(dataset.sizes)}")
    own = [dim for dim in ("component", "y", "x") if dim in dataset[name].dims]
    source = _xy(dataset[name]).transpose(..., *own)
    values = torch.from_numpy(_native(source.values))
    values = values if len(own) == 3 else values.unsqueeze(-3)
    made = function(values.flatten(0, -4) if values.ndim > 3 else values[None], grid_of(dataset))
    made = made.reshape(*values.shape[:-3], -1, *values.shape[-2:])
    dims, array, attrs = _variable(field, made, tuple(map(str, source.dims[: -len(own)])))
    coords = {name: c for name, c in source.coords.items() if "component" not in c.dims}
    coords |= {"component": COMPONENTS} if field.order else {}
    return xr.DataArray(array, coords, dims, field.name, attrs)


def summarise(dataset: xr.Dataset, function: Callable[..., Tensor], *inputs: xr.DataArray) -> xr.DataArray:
    """A number or a spectrum for each vorticity field, over all other dims alike, in double precision.

    `function` takes the vorticity (batch, 1, y, x), the sides of the box (y, x) and each of the `inputs`, with the same
    batch: (batch,), or (batch, 1, y, x) where it has the dims y and x. It gives (batch,), or (batch, shell) in the
    shells of `solvers.spectra`.
    """
    length = sides_of(dataset)
    given = xr.broadcast(dataset["vorticity"], *inputs, exclude=("y", "x"))
    leading = [dim for dim in given[0].dims if dim not in ("y", "x")]
    # A view of each, whatever it was broadcast from; only a stretch of the batch is ever copied, to bound memory.
    arrays = [g.transpose(*leading, *(a for a in ("y", "x") if a in g.dims)).values[None] for g in given]
    shape, n = arrays[0].shape[:-2], arrays[0].shape[-2:]
    count, stretch = math.prod(shape), max(1, STRETCH_CELLS // math.prod(n))
    if not count:
        raise UsageError(f"the dataset is empty: {dict(dataset.sizes)}")
    parts = []
    for start in range(0, count, stretch):
        at = np.unravel_index(np.arange(start, min(start + stretch, count)), shape)
        tensors = [torch.from_numpy(a[at].astype(np.float64, copy=False)) for a in arrays]
        vorticity, *rest = (t.unsqueeze(1) if t.ndim == 3 else t for t in tensors)
        parts.append(function(vorticity, length, *rest))
    made = torch.cat(parts).reshape((*shape[1:], *parts[0].shape[1:])).numpy()
    coords = {name: c for name, c in given[0].coords.items() if not {"y", "x"} & set(c.dims)}
    if made.ndim == len(leading):
        return xr.DataArray(made, coords, leading)
    attrs = {"long_name": "wavenumber", "units": "m-1"}
    rounded = [float(f"{k:.12g}") for k in shell_wavenumbers(n, length).tolist()]  # 3, not 2.9999999999999996
    wavenumbers = ("wavenumber", rounded, attrs)
    return xr.DataArray(made, coords | {"wavenumber": wavenumbers}, [*leading, "wavenumber"])


def to_states(dataset: xr.Dataset, spec: StateSpec, dtype: torch.dtype = torch.float32) -> States:
    """The fields of `spec` as (trajectory, time, component, y, x); a missing trajectory or time dim counts as one.

    UsageError where grid, fields or interval are not those of `spec`, or a value is not finite.
    """
    check_matches(dataset, spec)
    return read_states(dataset, spec, dtype)


def read_states(dataset: xr.Dataset, spec: StateSpec, dtype: torch.dtype, finite: bool = True) -> States:
    """As `to_states`, of a dataset that is known to match; with `finite` False values may be what they are."""
    return torch.cat([_tensor(dataset, field, ("trajectory", "time"), dtype, finite) for field in spec.fields], dim=2)


def to_inputs(dataset: xr.Dataset, spec: StateSpec, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """The inputs of `spec` by name, each (trajectory, component, y, x). UsageError for a negative viscosity, drag or
    diffusivity, with which no flow goes on."""
    inputs = {field.name: _tensor(dataset, field, ("trajectory",), dtype) for field in spec.inputs}
    for field in (VISCOSITY, DRAG, DIFFUSIVITY):
        if field.name in inputs and not (inputs[field.name] >= 0).all():
            raise UsageError(f"variable {field.name!r} is negative; it must be at least 0")
    return inputs


def _tensor(
    dataset: xr.Dataset, field: FieldSpec, leading: Sequence[str], dtype: torch.dtype, finite: bool = True
) -> Tensor:
    if field.name not in dataset:
        raise UsageError(f"the dataset has no variable {field.name!r}; it has {', '.join(map(str, dataset.data_vars))}")
    variable = dataset[field.name]
    if "trajectory" not in variable.dims:
        variable = variable.expand_dims({"trajectory": dataset.sizes.get("trajectory", 1)})
    variable = _xy(variable)
    missing = [dim for dim in leading if dim not in variable.dims]
    variable = variable.expand_dims(missing)
    try:
        array = variable.transpose(*leading, *own_dims(field)).values
    except UsageError:
        raise
    except Exception as error:  # of a file that is broken, or larger than memory: libraries raise whatever they do
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UsageError(f"variable {field.name!r} cannot be read: {reason[:200]}") from None
    values = torch.from_numpy(_native(array)).to(dtype)
    if finite and not (values.abs() < torch.finfo(dtype).max ** 0.5 / MARGIN).all():  # of a NaN it is false
        raise UsageError(f"variable {field.name!r} holds NaN, infinite values, or some too large for {dtype}")
    values = values if field.order else values.unsqueeze(len(leading))
    return values[..., None, None] if field.uniform else values


def _xy(variable: xr.DataArray) -> xr.DataArray:
    """A vector with its components in the order x, y; anything else as it is."""
    return variable.sel(component=COMPONENTS) if "component" in variable.coords else variable


def _native(array: np.ndarray) -> np.ndarray:
    """A copy in single or double precision, whichever holds the values, in the byte order that torch takes."""
    kind = np.float32 if np.result_type(array.dtype, np.float32) == np.float32 else np.float64
    return array.astype(kind)
