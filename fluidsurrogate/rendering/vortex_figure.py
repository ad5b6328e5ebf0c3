"""The figure of what a step makes of a vortex and of a pair of vortices."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fluidsurrogate.rendering.style import COLOURS, decorate


def draw_vortices(explanation: xr.Dataset) -> Figure:
    """Draw a vortex and a pair, what the model and the solver make of them, and the speed of pairs by separation.

    Parameters
    ----------
    explanation : xr.Dataset
        With `vortex_state`, `vortex_change`, `pair_speed` and, if the solver is known, the solver's.

    Returns
    -------
    Figure
        Not yet written.
    """
    has_solver = "vortex_change_solver" in explanation
    columns = ["vorticity", "change by the model"] + ["change by the solver", "difference"] * has_solver
    figure = Figure(figsize=(2.35 * len(columns) + 4.6, 4.9), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2.35 * len(columns), 4.6), squeeze=False)[0]
    axes = left.subplots(2, len(columns))
    for number, (row, name) in enumerate(zip(axes, explanation["vortices"].values, strict=True)):
        case = explanation.sel(vortices=name)
        change = case["vortex_change"].values
        pictures = [case["vortex_state"].values, change]
        if has_solver:
            pictures += [case["vortex_change_solver"].values, change - case["vortex_change_solver"].values]
        scale = np.abs(pictures[2 if has_solver else 1]).max() or 1.0
        for axis, picture, title in zip(row, pictures, columns, strict=True):
            limit = np.abs(picture).max() if title == "vorticity" else scale
            axis.imshow(picture, origin="lower", cmap="RdBu_r", vmin=-limit, vmax=limit)
            axis.set(xticks=[], yticks=[])
            if number == 0:
                axis.set_title(title, fontsize=10)
        row[0].set_ylabel(f"a {name}", fontsize=10)
        if has_solver:
            row[-1].set_xlabel(f"{float(case['response_error']):.0%} of the solver's change", fontsize=9)
    _draw_speeds(right.subplots(), explanation)
    name = explanation.attrs.get("model_name", "")
    figure.suptitle(
        f"{name + ': ' if name else ''}response to vortices (right half of the pair: positive)", fontsize=11
    )
    return figure


def _draw_speeds(axis: Axes, explanation: xr.Dataset) -> None:
    """Draw the speed of a pair against its separation: model, solver and theory."""
    d = explanation["separation"].values
    speed = explanation["pair_speed"]
    axis.plot(d, explanation["pair_speed_theory"], "-", color="0.6", lw=4, alpha=0.6, label="Biot-Savart, at the start")
    if "pair_speed_solver" in explanation:
        axis.plot(d, explanation["pair_speed_solver"], "s--", color=COLOURS[4], ms=6, label="the solver")
    middle = speed.mean("turn")
    axis.plot(d, middle, "o-", color=COLOURS[2], ms=5, label="the model")
    axis.fill_between(d, speed.min("turn"), speed.max("turn"), color=COLOURS[2], alpha=0.25, lw=0,
                      label="the model, in all directions")  # fmt: skip
    if "network_extent" in explanation and d[0] < (reach := float(explanation["network_extent"])) < d[-1]:
        axis.axvline(reach, color="0.45", lw=1, label="the network's reach")
    axis.set(xlabel="separation [cells]", ylabel="speed [m/s]", ylim=(0, None))
    axis.set_title(f"speed of a pair: off by {float(explanation['pair_speed_error']):.0%}", fontsize=10)
    axis.legend(frameon=False, fontsize=8)
    decorate(axis)
