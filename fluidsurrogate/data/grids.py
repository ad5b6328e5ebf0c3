"""The grid of a dataset, and the comparison of grids."""

from __future__ import annotations

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.coordinates import SAME_POINT, SPATIAL_DIMS, coordinate_tolerance, evenly_spaced_axis
from solvers import Grid


def grid_of(dataset: xr.Dataset) -> Grid:
    """Return the grid that the coordinates y and x of a dataset belong to.

    Parameters
    ----------
    dataset : xr.Dataset
        Fields at cell centres (i + ½) Δ, in m.

    Returns
    -------
    Grid
        The grid.

    Raises
    ------
    UsageError
        If y or x is not evenly spaced, or its values are not cell centres.
    """
    n, length = [], []
    for axis in SPATIAL_DIMS:
        values, spacing = evenly_spaced_axis(dataset, axis)
        if abs(values[0] - 0.5 * spacing) > coordinate_tolerance(dataset[axis].values, spacing):
            raise UsageError(
                f"{axis} must be cell centres, (i + 1/2) times the spacing from 0; it starts at {values[0]:g}"
            )
        n.append(len(values))
        length.append(spacing * len(values))
    try:
        return Grid((n[0], n[1]), (length[0], length[1]))
    except ValueError as error:
        raise UsageError(f"the dataset's grid: {error}") from None


def describe_grid(grid: Grid, digits: int = 6) -> str:
    """Describe a grid in words.

    Parameters
    ----------
    grid : Grid
        The grid.
    digits : int, default 6
        Significant digits of the sides.

    Returns
    -------
    str
        "64 x 64 cells on 6.28319 x 6.28319".
    """
    return f"{grid.n[0]} x {grid.n[1]} cells on {grid.length[0]:.{digits}g} x {grid.length[1]:.{digits}g}"


def is_same_grid(grid: Grid, other: Grid) -> bool:
    """Return whether two grids are the same.

    Parameters
    ----------
    grid, other : Grid
        The grids.

    Returns
    -------
    bool
        True for as many cells, and sides that differ by at most a thousandth of a cell.
    """
    apart = np.abs(np.subtract(grid.length, other.length))
    return grid.n == other.n and bool((apart <= SAME_POINT * np.array(other.spacing)).all())
