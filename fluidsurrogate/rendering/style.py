"""Colours and small tools that the figures share."""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

COLOURS = ("#000000", "#999999", "#0072b2", "#56b4e9", "#d55e00", "#e69f00", "#009e73", "#cc79a7", "#8c564b", "#882255",
           "#44aa99", "#ddcc77")  # fmt: skip
DPI = 110


def cell_edges(field: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """Return the edges of the cells of a field, as `pcolormesh` takes them.

    Parameters
    ----------
    field : xr.DataArray
        A field whose coordinates y and x are cell centres.

    Returns
    -------
    tuple of np.ndarray
        Edges along y and along x, one more than cells.
    """
    y, x = (np.concatenate([[0], np.asarray(field[a]) + float(field[a][0])]) for a in ("y", "x"))
    return y, x


def finite_or_nan(values: np.ndarray) -> np.ndarray:
    """Return values with NaN, which no line is drawn through, in place of infinite ones.

    Parameters
    ----------
    values : np.ndarray
        Numbers.

    Returns
    -------
    np.ndarray
        A copy.
    """
    return np.where(np.isfinite(values), values, np.nan)


def decorate(axis: Axes, grid: Literal["both", "x", "y"] = "both") -> None:
    """Draw a light grid, and no frame at the top and the right.

    Parameters
    ----------
    axis : Axes
        Where to draw.
    grid : {"both", "x", "y"}
        Axes that have grid lines.
    """
    axis.grid(alpha=0.25, which="major", axis=grid)
    axis.spines[["top", "right"]].set_visible(False)
