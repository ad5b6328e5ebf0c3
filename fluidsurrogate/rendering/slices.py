"""The vorticity as a picture of two dimensions: the field itself in the plane, a slice through the middle in space."""

from __future__ import annotations

import xarray as xr

from fluidsurrogate.evaluation.diagnostics import vorticity


def vorticity_picture(dataset: xr.Dataset) -> xr.DataArray:
    """Return the vorticity that a figure shows.

    Parameters
    ----------
    dataset : xr.Dataset
        States with the vorticity or the velocity.

    Returns
    -------
    xr.DataArray
        In two dimensions the vorticity; in three its z component in the plane z of the cells next to the middle of the
        box. `long_name` says which.
    """
    field = vorticity(dataset)
    if "z" not in field.dims:
        return field.assign_attrs(long_name="vorticity")
    plane = middle_plane(field.sel(component="z", drop=True))
    return plane.drop_vars("z").assign_attrs(long_name=f"z vorticity at z = {float(plane['z']):.3g}")


def middle_plane(field: xr.DataArray, axis: str = "z") -> xr.DataArray:
    """Return the plane of cells just above the middle of the box.

    Parameters
    ----------
    field : xr.DataArray
        A field with the dims z, y and x.
    axis : str, default "z"
        The axis across the plane.

    Returns
    -------
    xr.DataArray
        The field without that dim, with the place as a coordinate.
    """
    return field.isel({axis: field.sizes[axis] // 2})


def magnitude(field: xr.DataArray) -> xr.DataArray:
    """Return the length of a vector at each point.

    Parameters
    ----------
    field : xr.DataArray
        A field with the dim component.

    Returns
    -------
    xr.DataArray
        Without that dim, with the attributes of the field.
    """
    return xr.ufuncs.sqrt((field**2).sum("component")).assign_attrs(field.attrs)
