"""The figure of a comparison: vorticity and error of every source at a few times."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from fluidsurrogate.evaluation.comparison import TRUTH
from fluidsurrogate.rendering.slices import vorticity_picture
from fluidsurrogate.rendering.style import DPI, cell_edges


def draw_comparison(forecasts: xr.Dataset, path: Path, columns: int = 4, ensembles: xr.Dataset | None = None) -> None:
    """Draw the vorticity and the error of every source at a few times, all on one colour scale.

    Of a flow in space the z component of the vorticity is drawn, in a plane through the middle of the box.

    A row is the truth or a source: vorticity on the left, error on the right. Below the first model of `ensembles`
    comes a row with one perturbed member of it and, in place of the error, the standard deviation over all members, on
    a scale of its own.

    Parameters
    ----------
    forecasts : xr.Dataset
        Forecasts by `source`, the source "truth" among them; the first trajectory is drawn.
    path : Path
        The PNG file to write.
    columns : int, default 4
        Number of times.
    ensembles : xr.Dataset, optional
        Members by `source`.
    """
    field = vorticity_picture(forecasts.isel(trajectory=0))
    times = np.unique(np.linspace(0, field.sizes["time"] - 1, columns + 1).round().astype(int))[1:]
    sources = [str(s) for s in field["source"].values]
    truth = field.sel(source=TRUTH)
    rows = [(source, field.sel(source=source), field.sel(source=source) - truth) for source in sources]
    spread = None
    if ensembles is not None:
        first = str(ensembles["source"].values[0])
        members = vorticity_picture(ensembles.sel(source=first).isel(trajectory=0).isel(member=slice(1, None)).load())
        spread = members.std("member", ddof=1)
        rows.insert(sources.index(first) + 1, (f"{first},\na member", members.isel(member=0), spread))
    limit = float(np.abs(truth.isel(time=times)).max())
    y, x = cell_edges(field)
    aspect = len(field["y"]) / len(field["x"])
    figure = Figure(figsize=(1.45 * 2 * len(times) + 1.6, 1.5 * aspect * len(rows) + 0.9), layout="constrained")
    axes = figure.subplots(len(rows), 2 * len(times), squeeze=False)
    colours = ScalarMappable(Normalize(-limit, limit), "RdBu_r")
    for line, (source, shown, beside) in zip(axes, rows, strict=True):
        for i, t in enumerate(times):
            for axis, values in ((line[i], shown), (line[i + len(times)], beside)):
                axis.set(xticks=[], yticks=[], aspect="equal")
                if source == TRUTH and values is not shown:
                    axis.axis("off")
                    continue
                drawn = np.ma.masked_invalid(values.isel(time=t).transpose("y", "x").values)
                if values is spread:
                    most = float(spread.isel(time=times[-1]).max())
                    axis.pcolormesh(x, y, drawn, cmap="Purples", vmin=0, vmax=most, rasterized=True)
                    axis.set_title(f"spread, 0 to {most:.2g}", fontsize=9)
                else:
                    axis.pcolormesh(x, y, drawn, cmap=colours.cmap, norm=colours.norm, rasterized=True)
                axis.set_facecolor("0.6")
        line[0].set_ylabel(textwrap.fill(source, 12), fontsize=9)
    for i, t in enumerate(times):
        label = f"t = {float(field['time'][t]):g}"
        axes[0][i].set_title(label, fontsize=9)
        axes[min(1, len(rows) - 1)][i + len(times)].set_title(f"error, {label}", fontsize=9)
    figure.colorbar(colours, ax=axes, label=f"{field.attrs['long_name']} [1/s]", shrink=0.6, extend="both", pad=0.01)
    figure.savefig(path, dpi=DPI, format="png")
