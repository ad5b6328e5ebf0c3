"""Tensors ↔ xarray: the one module that knows both."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from fluidsurrogate.errors import UsageError
from solvers import FORCING, KNOWN_FIELDS, FieldSpec, Grid, StateSpec
from solvers.spectra import shell_wavenumbers

COMPONENTS = np.array(["x", "y"], dtype=object)  # Zarr has no settled form for strings of fixed length
INPUT_FIELDS = [field for field in KNOWN_FIELDS.values() if field.uniform or field is FORCING]
STRETCH_CELLS = 2**22  # of one computation
States = Float[Tensor, "trajectory time component y x"]


def open_data(path: str | Path) -> xr.Dataset:
    """Open a dataset, Zarr folder or NetCDF file, lazily; UsageError where there is none."""
    path = Path(path)
    if not path.exists():
        raise UsageError(f"{path}: no such dataset")
    try:
        if path.is_dir():
            return xr.open_zarr(path, chunks=None, consolidated=False)
        return xr.open_dataset(path)
    except Exception as error:  # xarray's backends raise whatever their libraries do
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"{path}: neither a Zarr folder nor a NetCDF file: {reason}") from None


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


def trajectory_coordinates(dataset: xr.Dataset) -> dict[str, Any]:
    """What a dataset says along `trajectory`: its number, split, seed, whatever its maker added."""
    return {str(name): c.variable for name, c in dataset.coords.items() if c.dims == ("trajectory",)}


def grid_coordinates(grid: Grid) -> dict[str, Any]:
    """The cell centres as coordinates."""
    y, x = (c.numpy() for c in grid.coordinates())
    return {
        name: (name, values, {"long_name": f"{name} of the cell centre", "units": "m", "axis": name.upper()})
        for name, values in (("y", y), ("x", x))
    }


def empty_like_blocks(block: xr.Dataset, coordinates: Mapping[str, Any]) -> xr.Dataset:
    """A dataset like `block` for all the trajectories in `coordinates`, its values lazy zeros, a trajectory a chunk:
    what a Zarr folder is laid out from."""
    total = len(coordinates["trajectory"][1])

    def widen(variable: xr.DataArray) -> tuple:
        if "trajectory" not in variable.dims:
            return variable.dims, variable.values, variable.attrs
        shape = (total, *variable.shape[1:])
        return variable.dims, dask.array.zeros(shape, dtype=variable.dtype, chunks=(1, *shape[1:])), variable.attrs

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
    return (*leading, *_own_dims(field)), array, attrs | ({"wall_parity": field.wall} if field.wall else {})


def _own_dims(field: FieldSpec) -> list[str]:
    """The dims of one value of a field."""
    return (["component"] if field.order else []) + ([] if field.uniform else ["y", "x"])


def derive(
    dataset: xr.Dataset, name: str, function: Callable[[Tensor, Grid], Tensor], field: FieldSpec
) -> xr.DataArray:
    """A new field from the field `name`, by a function of (batch, component, y, x) and the grid, over all other dims
    alike."""
    own = [dim for dim in ("component", "y", "x") if dim in dataset[name].dims]
    source = dataset[name].transpose(..., *own)
    values = torch.from_numpy(np.array(source.values))
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
    wavenumbers = ("wavenumber", np.round(shell_wavenumbers(n, length).numpy(), 12), attrs)
    return xr.DataArray(made, coords | {"wavenumber": wavenumbers}, [*leading, "wavenumber"])


def sides_of(dataset: xr.Dataset) -> tuple[float, float]:
    """The sides (y, x) of the periodic box behind the coordinates: cells times their mean spacing, wherever the first
    lies."""
    (y, dy), (x, dx) = _axis(dataset, "y"), _axis(dataset, "x")
    return dy * len(y), dx * len(x)


def _axis(dataset: xr.Dataset, axis: str) -> tuple[np.ndarray, float]:
    """The coordinate and its mean spacing."""
    if axis not in dataset.coords:
        raise UsageError(f"the dataset has no coordinate {axis!r}")
    values = np.atleast_1d(np.asarray(dataset[axis].values, dtype=np.float64))
    if len(values) < 2:
        raise UsageError(f"the dataset has fewer than two cells along {axis!r}")
    return values, float(np.diff(values).mean())


def grid_of(dataset: xr.Dataset) -> Grid:
    """The grid behind the coordinates y and x; UsageError unless they are the cell centres (i + ½) Δ."""
    n, length = [], []
    for axis in ("y", "x"):
        values, step = _axis(dataset, axis)
        if not np.allclose(values, (np.arange(len(values)) + 0.5) * step, rtol=0, atol=1e-4 * abs(step)):
            raise UsageError(
                f"{axis} must be cell centres, (i + 1/2) times the spacing from 0; it starts at {values[0]:g}"
            )
        n.append(len(values))
        length.append(step * len(values))
    try:
        return Grid((n[0], n[1]), (length[0], length[1]))
    except ValueError as error:
        raise UsageError(f"the dataset's grid: {error}") from None


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


def to_states(dataset: xr.Dataset, spec: StateSpec, dtype: torch.dtype = torch.float32) -> States:
    """The fields of `spec` as (trajectory, time, component, y, x); a missing trajectory or time dim counts as one.

    UsageError where grid, fields or interval are not those of `spec`, or a value is not finite.
    """
    check_matches(dataset, spec)
    return read_states(dataset, spec, dtype)


def read_states(dataset: xr.Dataset, spec: StateSpec, dtype: torch.dtype) -> States:
    """As `to_states`, of a dataset that is known to match."""
    return torch.cat([_tensor(dataset, field, ("trajectory", "time"), dtype) for field in spec.fields], dim=2)


def to_inputs(dataset: xr.Dataset, spec: StateSpec, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """The inputs of `spec` by name, each (trajectory, component, y, x)."""
    return {field.name: _tensor(dataset, field, ("trajectory",), dtype) for field in spec.inputs}


def _tensor(dataset: xr.Dataset, field: FieldSpec, leading: Sequence[str], dtype: torch.dtype) -> Tensor:
    if field.name not in dataset:
        raise UsageError(f"the dataset has no variable {field.name!r}; it has {', '.join(map(str, dataset.data_vars))}")
    variable = dataset[field.name]
    if "trajectory" not in variable.dims:
        variable = variable.expand_dims({"trajectory": dataset.sizes.get("trajectory", 1)})
    if field.order and "component" in variable.coords:
        variable = variable.sel(component=COMPONENTS)
    missing = [dim for dim in leading if dim not in variable.dims]
    variable = variable.expand_dims(missing)
    array = variable.transpose(*leading, *_own_dims(field)).values
    values = torch.from_numpy(np.array(array)).to(dtype)
    if not values.isfinite().all():
        raise UsageError(f"variable {field.name!r} holds NaN, infinite values, or some too large for {dtype}")
    values = values if field.order else values.unsqueeze(len(leading))
    return values[..., None, None] if field.uniform else values


def check_matches(dataset: xr.Dataset, spec: StateSpec) -> None:
    """UsageError that says which of grid, fields, inputs or interval differ from `spec`."""
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
    if grid.n != spec.grid.n or not np.allclose(grid.length, spec.grid.length, rtol=1e-4):
        raise UsageError(f"the dataset's grid is {_describe(grid)}; expected {_describe(spec.grid)}")
    for field in spec.fields + spec.inputs:
        known = {"trajectory", *_own_dims(field)} | ({"time"} if field in spec.fields else set())
        if extra := set(map(str, dataset[field.name].dims)) - known:
            raise UsageError(
                f"variable {field.name!r} has the dimension {sorted(extra)[0]!r}; known are {sorted(known)}"
            )
    if 0 in dataset.sizes.values():
        raise UsageError(f"the dataset is empty: {dict(dataset.sizes)}")
    times = dataset["time"].values if "time" in dataset.dims else np.zeros(1)
    if "time" in dataset.coords and dataset["time"].dtype.kind not in "fiu":
        raise UsageError("the coordinate time must be numbers in the units of the flow, not dates")
    if len(times) > 1 and not np.allclose(np.diff(times), spec.interval, rtol=1e-4):
        raise UsageError(f"the dataset's interval is {times[1] - times[0]:g}; expected {spec.interval:g}")
    _check_nothing_is_ignored(dataset, spec)


def _check_nothing_is_ignored(dataset: xr.Dataset, spec: StateSpec) -> None:
    """UsageError where the dataset says of its flow what the step depends on and `spec` does not take.

    A forcing, gravity, gradient, mean velocity or drag of zero is none. A viscosity, drag or diffusivity that all
    trajectories share is what the model was trained with: it may be there for the diagnostics.
    """
    taken = {field.name for field in spec.fields + spec.inputs}
    for field in INPUT_FIELDS:
        if field.name in dataset.variables and field.name not in taken:
            values = np.asarray(dataset[field.name].values)
            shared = values.flat[0] if field.uniform and field.order == 0 else 0
            if (values != shared).any():
                differs = "is not zero" if field.order or not field.uniform else "differs between trajectories"
                raise UsageError(
                    f"the dataset's {field.name!r} {differs}, and is no input here: a step that ignored it would be "
                    f"wrong. Train on a flow that has it as an input, or drop it (drop_vars({field.name!r}))"
                )


def _describe(grid: Grid) -> str:
    return f"{grid.n[0]} x {grid.n[1]} cells on {grid.length[0]:.6g} x {grid.length[1]:.6g}"
