"""The figure of a run whose networks are still training: truth and forecast of one trajectory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from fluidsurrogate.rendering.slices import vorticity_picture
from fluidsurrogate.rendering.style import DPI, cell_edges


def draw_preview(truth: xr.Dataset, forecast: xr.Dataset, title: str, path: Path) -> None:
    """Draw the vorticity of one trajectory at its last time: truth, forecast and error.

    Of a flow in space the z component of the vorticity is drawn, in a plane through the middle of the box.

    Parameters
    ----------
    truth, forecast : xr.Dataset
        One trajectory each, on the same grid and times.
    title : str
        What the forecast is of.
    path : Path
        The PNG file to write.
    """
    exact, found = (vorticity_picture(data.isel(trajectory=0, time=-1)) for data in (truth, forecast))
    limit = float(np.abs(exact).max()) or 1.0
    y, x = cell_edges(exact)
    figure = Figure(figsize=(9, 3.3), layout="constrained")
    axes = figure.subplots(1, 3)
    for axis, name, values in zip(axes, ("truth", "forecast", "error"), (exact, found, found - exact), strict=True):
        shown = np.ma.masked_invalid(values.transpose("y", "x").values)
        drawn = axis.pcolormesh(x, y, shown, cmap="RdBu_r", vmin=-limit, vmax=limit, rasterized=True)
        axis.set(xticks=[], yticks=[], aspect="equal", title=name, facecolor="0.6")
    figure.colorbar(drawn, ax=axes, label=f"{exact.attrs['long_name']} [1/s]")
    figure.suptitle(title)
    figure.savefig(path, format="png", dpi=DPI)
