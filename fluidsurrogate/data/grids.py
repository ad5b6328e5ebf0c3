"""The grid of a dataset, and the comparison of grids."""

from __future__ import annotations

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.coordinates import SAME_POINT, coordinate_tolerance, evenly_spaced_axis, spatial_dims
from solvers import Grid


def grid_of(dataset: xr.Dataset) -> Grid:
    """Return the grid that the coordinates of a dataset belong to, in two or three dimensions.

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
        If y, x or z is not evenly spaced, or its values are not cell centres.
    """
    n, length = [], []
    for axis in spatial_dims(dataset):
        values, spacing = evenly_spaced_axis(dataset, axis)
        if abs(values[0] - 0.5 * spacing) > coordinate_tolerance(dataset[axis].values, spacing):
            raise UsageError(
                f"{axis} must be cell centres, (i + 1/2) times the spacing from 0; it starts at {values[0]:g}"
            )
        n.append(len(values))
        length.append(spacing * len(values))
    try:
        return Grid(tuple(n), tuple(length))
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
    return f"{' x '.join(map(str, grid.n))} cells on {' x '.join(f'{side:.{digits}g}' for side in grid.length)}"


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
    if grid.n != other.n:
        return False
    apart = np.abs(np.subtract(grid.length, other.length))
    return bool((apart <= SAME_POINT * np.array(other.spacing)).all())
