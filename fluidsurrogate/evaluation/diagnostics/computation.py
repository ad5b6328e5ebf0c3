"""Computing diagnostics of a dataset, at once or lazily."""

from __future__ import annotations

import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.conversion import derive_field
from fluidsurrogate.data.coordinates import spatial_dims
from fluidsurrogate.data.schema import check_field, check_units
from fluidsurrogate.evaluation.diagnostics.registry import DIAGNOSTICS, FieldDiagnostic, flow_name
from solvers import VELOCITY, VORTICITY, FieldSpec, diagnostics, field_in


def add(dataset: xr.Dataset, *names: str) -> xr.Dataset:
    """Add diagnostics to a dataset as variables.

    Parameters
    ----------
    dataset : xr.Dataset
        States with the vorticity or the velocity.
    *names : str
        Names from `DIAGNOSTICS`. Without any, all of them but those whose viscosity, drag or forcing the dataset lacks.

    Returns
    -------
    xr.Dataset
        The dataset with these variables; the given one is not changed.

    Raises
    ------
    UsageError
        If one of them cannot be computed (see `compute`).

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from fluidsurrogate.evaluation import diagnostics
    >>> x = (np.arange(32) + 0.5) * 2 * np.pi / 32
    >>> waves = xr.Dataset({"vorticity": (("y", "x"), np.tile(np.cos(3 * x), (32, 1)))}, {"y": x, "x": x})
    >>> added = diagnostics.add(waves, "enstrophy", "energy_spectrum")
    >>> round(float(added["enstrophy"]), 6), float(added["energy_spectrum"].idxmax())
    (0.25, 3.0)
    """
    wanted = names or [name for name, diagnostic in DIAGNOSTICS.items() if diagnostic.is_available(dataset)]
    return dataset.assign({name: compute(dataset, name) for name in wanted})


def compute(dataset: xr.Dataset, name: str) -> xr.DataArray:
    """Compute a diagnostic of a dataset.

    Parameters
    ----------
    dataset : xr.Dataset
        States with the vorticity or the velocity, and whatever other dims. Viscosity and drag, if needed, are the
        variable or coordinate of that name, a number or one a trajectory, or else the attribute; the forcing is the
        variable `forcing`, zero without it.
    name : str
        A name from `DIAGNOSTICS`.

    Returns
    -------
    xr.DataArray
        The diagnostic over all dims of the flow, with `long_name` and `units`.

    Raises
    ------
    UsageError
        If the name is unknown, or the diagnostic not defined in so many dimensions; if the dataset has no vorticity or
        velocity, or no viscosity, drag or forcing and the diagnostic needs one; if coordinates are not evenly spaced
        and increasing or, for fields, cells are not centred on (i + ½) Δ; or if a variable has units other than
        expected.
    """
    if name not in DIAGNOSTICS:
        raise UsageError(f"unknown diagnostic {name!r}; one of {', '.join(DIAGNOSTICS)}")
    diagnostic, dimensions = DIAGNOSTICS[name], len(spatial_dims(dataset))
    if dimensions not in diagnostic.dimensions:
        raise UsageError(f"{name} is not defined for a flow in {dimensions} dimensions")
    return diagnostic.compute(dataset.assign({flow_name(dataset): flow(dataset)})).rename(name)


def compute_field(dataset: xr.Dataset, name: str) -> xr.DataArray:
    """Return a field of a dataset: the vorticity, or a diagnostic that is a field.

    Parameters
    ----------
    dataset : xr.Dataset
        States with the vorticity or the velocity.
    name : str
        "vorticity", or the name of a field in `DIAGNOSTICS`, such as "q_criterion".

    Returns
    -------
    xr.DataArray
        The field.

    Raises
    ------
    UsageError
        If there is no such field, or it cannot be computed (see `compute`).
    """
    fields = ["vorticity", *(key for key, value in DIAGNOSTICS.items() if isinstance(value, FieldDiagnostic))]
    if name not in fields:
        raise UsageError(f"unknown field {name!r}; one of {', '.join(fields)}")
    return vorticity(dataset) if name == "vorticity" else compute(dataset, name)


def compute_lazily(dataset: xr.Dataset, name: str) -> xr.DataArray:
    """Compute a number or spectrum of a dataset; for a dataset in dask chunks lazily.

    Parameters
    ----------
    dataset : xr.Dataset
        States with the vorticity or the velocity.
    name : str
        A name from `DIAGNOSTICS` that is a number or a spectrum.

    Returns
    -------
    xr.DataArray
        As from `compute`. For a dataset in chunks it is computed when it is used, a chunk of trajectories and times at
        a time.
    """
    field = next((field for field in ("vorticity", "velocity") if field in dataset), None)
    if field is None or dataset[field].chunks is None:
        return compute(dataset, name)
    inner = [dim for dim in (*spatial_dims(dataset), "component") if dim in dataset[field].dims]
    leading = [dim for dim in dataset[field].dims if dim not in inner]
    needed = dataset[[field]]
    needed = needed.drop_vars([c for c in needed.coords if c not in inner]).chunk(dict.fromkeys(inner, -1))
    one = compute(needed.isel({dim: 0 for dim in leading}).load(), name)
    template = one.expand_dims({dim: needed.sizes[dim] for dim in leading}).chunk(
        {dim: needed.chunksizes[dim] for dim in leading}
    )
    computed = xr.map_blocks(_compute_block, needed, kwargs={"name": name, "dims": template.dims}, template=template)
    computed.attrs, computed.name = one.attrs, name
    return computed.assign_coords({c: v for c, v in dataset.coords.items() if set(v.dims) <= set(leading)})


def vorticity(dataset: xr.Dataset) -> xr.DataArray:
    """Return the vorticity of a dataset, computed from the velocity if it is no variable.

    .. math:: \\omega = \\nabla \\times u, \\qquad \\text{in two dimensions} \\quad
              \\omega = \\partial v / \\partial x - \\partial u / \\partial y

    Parameters
    ----------
    dataset : xr.Dataset
        States with the vorticity or the velocity.

    Returns
    -------
    xr.DataArray
        The vorticity, in 1/s; a vector in three dimensions.

    Raises
    ------
    UsageError
        If the dataset has neither, or if dims, units or coordinates are not those of these fields.
    """
    if _given(dataset, (VORTICITY, VELOCITY)) is VORTICITY:
        return dataset["vorticity"]
    return derive_field(dataset, "velocity", diagnostics.vorticity, VORTICITY)


def flow(dataset: xr.Dataset) -> xr.DataArray:
    """Return the field that diagnostics are computed from, itself computed if it is no variable.

    Parameters
    ----------
    dataset : xr.Dataset
        States with the vorticity or the velocity.

    Returns
    -------
    xr.DataArray
        In two dimensions the vorticity, in 1/s; in three the velocity, in m/s.

    Raises
    ------
    UsageError
        As for `vorticity`.
    """
    if flow_name(dataset) == VORTICITY.name:
        return vorticity(dataset)
    if _given(dataset, (VELOCITY, VORTICITY)) is VELOCITY:
        return dataset["velocity"]
    return derive_field(dataset, "vorticity", diagnostics.velocity, VELOCITY)


def _given(dataset: xr.Dataset, wanted: tuple[FieldSpec, FieldSpec]) -> FieldSpec:
    """Return the first of two fields that a dataset has, after checks of its dims, units and coordinates."""
    given = next((field for field in wanted if field.name in dataset), None)
    if given is None:
        raise UsageError("the dataset has no variable 'vorticity' or 'velocity'")
    space = spatial_dims(dataset)
    check_field(dataset[given.name], field_in(given, len(space)))
    for axis in space:
        if axis in dataset.coords:
            check_units(dataset[axis], axis, "m")
    return given


def _compute_block(dataset: xr.Dataset, name: str, dims: tuple[str, ...]) -> xr.DataArray:
    return compute(dataset, name).transpose(*dims)
