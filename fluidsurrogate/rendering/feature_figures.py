"""The figures of filters with their orbits, and of feature maps that turn with the input."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fluidsurrogate.rendering.style import COLOURS, decorate

MAX_ROWS = 4  # channels whose orbits are drawn
# One colour for each element of the largest group of the plane.
FRAMES = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8c564b", "#000000")
SHORT = {"identity": "e", "mirror diagonal": "mirror\ndiagonal", "mirror antidiagonal": "mirror\nantidiag."}


def draw_filters(explanation: xr.Dataset) -> Figure:
    """Draw the filters of the first layer, each in all its poses, and how far turned filters are from the nearest.

    The first scalar component is drawn in colours, a vector as arrows over it.

    Parameters
    ----------
    explanation : xr.Dataset
        With `filter` and `orbit_error`.

    Returns
    -------
    Figure
        Not yet written.
    """
    filters, elements = explanation["filter"], explanation["filter_element"].values
    has_orbits = len(elements) > 1
    if has_orbits:  # the channels that are largest
        size = (filters**2).sum([dim for dim in filters.dims if dim != "channel"])
        filters = filters.isel(channel=np.sort(np.argsort(-size.values)[:MAX_ROWS]))
        panels = [[filters.isel(channel=i, filter_element=j) for j in range(len(elements))]
                  for i in range(filters.sizes["channel"])]  # fmt: skip
    else:
        every = [filters.isel(channel=i, filter_element=0) for i in range(filters.sizes["channel"])]
        panels = [every[i : i + 8] for i in range(0, len(every), 8)]
    columns = max(map(len, panels))
    figure = Figure(figsize=(1.15 * columns + 4.2, max(1.15 * len(panels) + 0.9, 3.2)), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.15 * columns, 4.2), squeeze=False)[0]
    axes = left.subplots(len(panels), columns, squeeze=False)
    for i, row in enumerate(axes):
        for j, axis in enumerate(row):
            if j >= len(panels[i]):
                axis.set_axis_off()
                continue
            _draw_filter(axis, panels[i][j])
            colour = FRAMES[j % len(FRAMES)] if has_orbits else "0.6"
            axis.spines[:].set(color=colour, linewidth=2)
            if has_orbits and i == 0:
                axis.set_title(SHORT.get(str(elements[j]), str(elements[j]).replace(" ", "\n")), fontsize=8)
        label = f"filter {int(panels[i][0]['channel'])}" if has_orbits else ""
        row[0].set_ylabel(label, fontsize=8)
    components = [str(name) for name in explanation["filter_component"].values]
    arrows = ", arrows: velocity" if "velocity x" in components else ""
    orbits = "each filter, for every element of the group" if has_orbits else "filters of a network without a group"
    left.suptitle(f"{orbits} (colour: {components[0]}{arrows})", fontsize=10)
    axis = right.subplots()
    error = explanation["orbit_error"]
    place = np.arange(error.size)
    axis.barh(place, error.values, color=COLOURS[2])
    for y, value in zip(place, error.values, strict=True):
        axis.text(value + 0.02, y, f"{value:.2g}", va="center", fontsize=8)
    if not error.values.any():
        axis.text(0.5, 0.5, "0 for every element:\nwhole orbits", transform=axis.transAxes, ha="center", va="center")
    axis.set(yticks=place, yticklabels=error["element"].values, xlim=(0, 1.4), xlabel="distance, relative")
    axis.invert_yaxis()
    axis.set_title("a turned filter to the nearest one", fontsize=10)
    decorate(axis, grid="x")
    return figure


def _draw_filter(axis: Axes, values: xr.DataArray) -> None:
    """Draw one filter: its first scalar component as an image, its vector as arrows."""
    names = [str(name) for name in values["filter_component"].values]
    plain = values.isel(filter_component=0).values
    y, x = values["filter_y"].values, values["filter_x"].values
    limit = np.abs(plain).max() or 1.0
    axis.imshow(plain, origin="lower", cmap="RdBu_r", vmin=-limit, vmax=limit, alpha=0.85,
                extent=(x[0] - 0.5, x[-1] + 0.5, y[0] - 0.5, y[-1] + 0.5))  # fmt: skip
    if "velocity x" in names and "velocity y" in names and names[0] != "velocity x":
        u, v = (values.isel(filter_component=names.index(f"velocity {a}")).values for a in "xy")
        longest = np.hypot(u, v).max() or 1.0
        axis.quiver(x, y, u / longest, v / longest, pivot="mid", scale=1.15, scale_units="xy", angles="xy", width=0.035)
    axis.set(xticks=[], yticks=[])


def draw_feature_maps(explanation: xr.Dataset) -> Figure:
    """Draw a state and the same state turned, with the first and the last features of both.

    Maps with frames of one colour belong together: in an equivariant network they are one picture, turned.

    Parameters
    ----------
    explanation : xr.Dataset
        With `feature_map`, `map_source` and `feature_input`.

    Returns
    -------
    Figure
        Not yet written.
    """
    maps, source = explanation["feature_map"], explanation["map_source"].values
    poses, count = [str(p) for p in explanation["pose"].values], maps.sizes["map"]
    has_group = len(set(source)) == count and list(source) != list(range(count))
    figure = Figure(figsize=(1.28 * count + 2.1, 7.4), layout="constrained")
    blocks = figure.subfigures(2, 1, hspace=0.04, squeeze=False)[:, 0]
    shown = explanation["feature_input"].values
    limit = np.abs(shown).max() or 1.0
    for block, layer in zip(blocks, maps["layer"].values, strict=True):
        axes = block.subplots(2, count + 1, width_ratios=[1.35] + [1] * count)
        values = maps.sel(layer=layer).values
        low, high = _limits(values)
        for row, pose in enumerate(poses):
            axes[row, 0].imshow(shown[row], origin="lower", cmap="RdBu_r", vmin=-limit, vmax=limit)
            axes[row, 0].set_ylabel("input" if row == 0 else f"input,\n{pose}", fontsize=9)
            for i in range(count):
                axis = axes[row, i + 1]
                axis.imshow(values[row, i], origin="lower", cmap="PuOr_r", vmin=low, vmax=high)
                origin = i if row == 0 else int(source[i])
                axis.spines[:].set(color=FRAMES[origin % len(FRAMES)], linewidth=3)
                if row == 0:
                    name = str(maps["map"].values[i])
                    axis.set_title(SHORT.get(name, name.replace(" ", "\n")) if has_group else f"channel {name}",
                                   fontsize=8)  # fmt: skip
        for axis in axes.flat:
            axis.set(xticks=[], yticks=[])
        error = float(explanation["feature_turn_error"].sel(layer=layer))
        block.suptitle(f"{layer} features: they differ from the turned ones by {_percent(error)}", fontsize=10)
    name = explanation.attrs.get("model_name", "")
    which = "frames of one colour: one map, turned" if has_group else "frames of one colour should be one map, turned"
    figure.suptitle(f"{name + ': ' if name else ''}{which}", fontsize=11)
    return figure


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Return symmetric limits that leave out the largest hundredth of the values."""
    limit = float(np.quantile(np.abs(values), 0.99)) or 1.0
    return -limit, limit


def _percent(error: float) -> str:
    """Return an error in per cent; rounding error in powers of ten."""
    return f"{error:.0e} (rounding)" if error < 1e-4 else f"{error:.0%}"
