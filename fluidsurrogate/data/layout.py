"""How states are laid out in a dataset: dims, coordinates, attributes of fields, and chunks on disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from fluidsurrogate.data.coordinates import spatial_dims
from solvers import FieldSpec, Grid
from solvers.grid import AXES

CHUNK_BYTES = 2**22  # of a Zarr chunk of several times


def component_names(dimensions: int) -> np.ndarray:
    """Return the coordinate `component` of vectors.

    Parameters
    ----------
    dimensions : int
        2 or 3.

    Returns
    -------
    ndarray
        "x", "y" and, in three dimensions, "z". The order is that of the components of a state.
    """
    # Objects, because Zarr has no settled form for strings of fixed length.
    return np.array(AXES[: -dimensions - 1 : -1], dtype=object)


def field_names(dataset: xr.Dataset) -> list[str]:
    """Return the names of the fields of the state: the variables along time and space.

    Parameters
    ----------
    dataset : xr.Dataset
        States.

    Returns
    -------
    list of str
        In the order of the dataset.
    """
    dims = {"time", *spatial_dims(dataset)}
    return [str(name) for name, v in dataset.data_vars.items() if dims <= set(v.dims)]


def field_dims(field: FieldSpec) -> list[str]:
    """Return the dims of one value of a field.

    Parameters
    ----------
    field : FieldSpec
        The field.

    Returns
    -------
    list of str
        "component" for a vector, and y and x, or z, y and x, unless the field is uniform.
    """
    return (["component"] if field.order else []) + ([] if field.uniform else list(AXES[-field.dimensions :]))


def field_attributes(field: FieldSpec) -> dict[str, Any]:
    """Return the attributes of a variable that holds a field.

    Parameters
    ----------
    field : FieldSpec
        The field.

    Returns
    -------
    dict
        `long_name`, `units`, `tensor_order`, `parity` and, between plates, `wall_parity`.
    """
    attributes: dict[str, Any] = {"long_name": field.long_name or field.name, "units": field.units}
    attributes |= {"tensor_order": field.order, "parity": field.parity}
    return attributes | ({"wall_parity": field.wall} if field.wall else {})


def grid_coordinates(grid: Grid) -> dict[str, Any]:
    """Return the cell centres of a grid as coordinates of a dataset.

    Parameters
    ----------
    grid : Grid
        The grid.

    Returns
    -------
    dict
        The coordinates y and x, or z, y and x, in m.
    """
    return {
        name: (name, values.numpy(), {"long_name": f"{name} of the cell centre", "units": "m", "axis": name.upper()})
        for name, values in zip(grid.axes, grid.coordinates(), strict=True)
    }


def trajectory_labels(dataset: xr.Dataset) -> list[Any]:
    """Return the coordinate `trajectory` as plain values.

    Parameters
    ----------
    dataset : xr.Dataset
        States.

    Returns
    -------
    list
        Numbers or text.
    """
    return np.asarray(dataset["trajectory"].values).tolist()


def trajectory_coordinates(dataset: xr.Dataset) -> dict[str, Any]:
    """Return all coordinates along `trajectory`: its labels, the split, the seed, whatever the maker of the data added.

    Parameters
    ----------
    dataset : xr.Dataset
        States; those of a single trajectory may have the label without the dim.

    Returns
    -------
    dict
        Variables by name.
    """
    if "trajectory" not in dataset.dims and "trajectory" in dataset.coords:
        dataset = dataset.expand_dims("trajectory")
    return {str(name): c.variable for name, c in dataset.coords.items() if c.dims == ("trajectory",)}


def zarr_template(block: xr.Dataset, coordinates: Mapping[str, Any]) -> xr.Dataset:
    """Return a dataset like a block of trajectories, for more trajectories, from which a Zarr folder is laid out.

    Parameters
    ----------
    block : xr.Dataset
        Some of the trajectories.
    coordinates : mapping
        Coordinates of all trajectories along `trajectory`.

    Returns
    -------
    xr.Dataset
        Lazy zeros. A chunk is one trajectory, or for a large one as many of its times as hold 4 MiB, so that a window
        of a few times is read without the rest.
    """
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
