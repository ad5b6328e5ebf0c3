"""The figure of scores: error, correlation, energy, enstrophy and spectra of every source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fluidsurrogate.evaluation.comparison import PERSISTENCE, TRUTH
from fluidsurrogate.rendering.style import COLOURS, DPI, decorate, finite_or_nan


def draw_scores(scores: xr.Dataset, path: Path) -> None:
    """Draw error, correlation, energy and enstrophy against time, and the energy spectrum halfway and at the end.

    In three dimensions the dissipation takes the place of the enstrophy if the viscosity is known.

    Parameters
    ----------
    scores : xr.Dataset
        Scores from `compare`.
    path : Path
        The PNG file to write.
    """
    figure = Figure(figsize=(12, 7), layout="constrained")
    axes = figure.subplots(2, 3)
    time = scores["time"].values
    sources = [str(s) for s in scores["source"].values]
    half, last = len(time) // 2, len(time) - 1
    # In space, where it says how turbulence decays, the dissipation 2 ν Z is drawn if ν is known.
    viscosity = scores.attrs.get("viscosity")
    factor = 1.0 if viscosity is None else 2 * float(viscosity)
    for number, source in enumerate(sources):
        one = scores.sel(source=source)
        style = {"color": COLOURS[number % len(COLOURS)], "label": source, "lw": 2.2 if source == TRUTH else 1.4,
                 "ls": "--" if source == PERSISTENCE else "-"}  # fmt: skip
        if source != TRUTH:
            _plot_with_spread(axes[0, 0], time[1:], one["nrmse"].values[1:], one["nrmse_spread"].values[1:], style)
            _plot_with_spread(axes[0, 1], time, one["correlation"].values, one["correlation_spread"].values, style)
        axes[0, 2].plot(time, finite_or_nan(one["energy"].values), **style)
        axes[1, 2].plot(time, factor * finite_or_nan(one["enstrophy"].values), **style)
        for axis, t in ((axes[1, 0], half), (axes[1, 1], last)):
            axis.loglog(scores["wavenumber"], finite_or_nan(one["energy_spectrum"].values[t]), **style)
    if "error_bound" in scores:
        _plot_bound(axes[0, 0], scores, sources)
    truth = scores["energy_spectrum"].sel(source=TRUTH) if TRUTH in sources else scores["energy_spectrum"][0]
    threshold = scores.attrs.get("correlation_threshold")
    axes[0, 0].set(xlabel="time [s]", ylabel="nRMSE (mean ± spread)", yscale="log", title="error")
    axes[0, 0].set_ylim(top=min(axes[0, 0].get_ylim()[1], 5.0))
    axes[0, 1].set(xlabel="time [s]", ylabel="pattern correlation", title="correlation", ylim=(None, 1.02))
    axes[0, 1].set_ylim(bottom=max(axes[0, 1].get_ylim()[0], -0.2))
    if threshold is not None:
        axes[0, 1].axhline(threshold, color="0.5", lw=0.8, ls=":")
    for axis, name, scale in ((axes[0, 2], "energy", 1.0), (axes[1, 2], "enstrophy", factor)):
        reference = scores[name].sel(source=TRUTH).values if TRUTH in sources else scores[name].values[0]
        label, units = name, scores[name].attrs.get("units", "1")
        if name == "enstrophy" and viscosity is not None:
            label, units = "dissipation", "m2 s-3"
        axis.set(xlabel="time [s]", ylabel=f"{label} [{units}]", title=label)
        axis.set_ylim(0, 1.5 * scale * np.nanmax(reference))
    for axis, t in ((axes[1, 0], half), (axes[1, 1], last)):
        highest = float(truth[t].max())
        axis.set(xlabel="wavenumber [1/m]", ylabel="energy spectrum", title=f"spectrum at t = {time[t]:g}")
        axis.set_ylim(1e-7 * highest, 5 * highest)
    for axis in axes.flat:
        decorate(axis)
    handles, labels = axes[0, 2].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6), frameon=False)
    figure.savefig(path, dpi=DPI, format="png")


def _plot_bound(axis: Axes, scores: xr.Dataset, sources: list[str]) -> None:
    """Plot the mean error bound of the first source that has one, and the spread of its members."""
    source = next((s for s in sources if scores["error_bound"].sel(source=s).notnull().any()), None)
    if source is None:
        return
    colour, time = COLOURS[sources.index(source) % len(COLOURS)], scores["time"].values[1:]
    for name, style, label in (("error_bound", "--", "90 % bound"), ("ensemble_spread", ":", "spread")):
        if name in scores:
            values = finite_or_nan(scores[name].sel(source=source).values[1:])
            if name == "error_bound":
                label = f"{100 * scores[name].attrs.get('coverage', 0.9):g} % bound"
            axis.plot(time, values, style, color=colour, lw=1.4, label=f"{label}, {source}")
    axis.legend(frameon=False, fontsize=8, handles=axis.lines[-2:])


def _plot_with_spread(
    axis: Axes, time: np.ndarray, mean: np.ndarray, spread: np.ndarray, style: dict[str, Any]
) -> None:
    """Plot a mean over trajectories as a line and the spread about it as a band."""
    mean, spread = finite_or_nan(mean), finite_or_nan(spread)
    axis.plot(time, mean, **style)
    axis.fill_between(time, np.maximum(mean - spread, 1e-4), mean + spread, color=style["color"], alpha=0.1, lw=0)
