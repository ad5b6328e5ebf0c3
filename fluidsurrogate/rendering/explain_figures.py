"""The figures of what a model has learned: which there are, and those of reach, scales and the group axis."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fluidsurrogate.core.files import atomic_write
from fluidsurrogate.rendering.feature_figures import draw_feature_maps, draw_filters
from fluidsurrogate.rendering.style import COLOURS, DPI, decorate
from fluidsurrogate.rendering.vortex_figure import draw_vortices

MODEL, SOLVER, NOTHING = COLOURS[2], COLOURS[4], COLOURS[1]


def draw_explanation(explanation: xr.Dataset, folder: Path) -> list[Path]:
    """Draw every figure that the measurements allow.

    Parameters
    ----------
    explanation : xr.Dataset
        What `fluidsurrogate.explain` returns.
    folder : Path
        The folder of the PNG files.

    Returns
    -------
    list of Path
        The files.
    """
    figures: dict[str, tuple[str, Callable[[xr.Dataset], Figure]]] = {
        "filters": ("filter", draw_filters),
        "feature_maps": ("feature_map", draw_feature_maps),
        "receptive_field": ("sensitivity", draw_receptive_field),
        "vortices": ("vortex_change", draw_vortices),
        "scales": ("equivariance_spectrum", draw_scales),
        "group_axis": ("contribution", draw_group_axis),
    }
    paths = []
    for name, (needed, draw) in figures.items():
        if needed in explanation:
            figure = draw(explanation)
            paths.append(folder / f"{name}.png")
            with atomic_write(paths[-1]) as beside:
                figure.savefig(beside, dpi=DPI, format="png")
    return paths


def draw_receptive_field(explanation: xr.Dataset) -> Figure:
    """Draw what a cell's change depends on: as maps, and by distance, beside how far the flow carries things.

    Parameters
    ----------
    explanation : xr.Dataset
        With `sensitivity` by `seen_by`.

    Returns
    -------
    Figure
        Not yet written.
    """
    names = [str(name) for name in explanation["seen_by"].values]
    figure = Figure(figsize=(3.4 * len(names) + 5.6, 3.9), layout="constrained")
    *maps, profile = figure.subplots(1, len(names) + 1, width_ratios=[1] * len(names) + [1.35])
    field = explanation["sensitivity"]
    largest = float(field.max())
    y, x = field["offset_y"].values, field["offset_x"].values
    distance = np.hypot(y[:, None], x)
    rings = np.arange(0, min(len(y), len(x)) // 2)
    for axis, name, colour in zip(maps, names, (MODEL, SOLVER), strict=False):
        values = field.sel(seen_by=name).values
        shown = np.log10(np.maximum(values / largest, 1e-3))
        picture = axis.imshow(shown, origin="lower", cmap="magma", vmin=-3, vmax=0,
                              extent=(x[0] - 0.5, x[-1] + 0.5, y[0] - 0.5, y[-1] + 0.5))  # fmt: skip
        axis.add_patch(_circle(float(explanation["radius"].sel(seen_by=name)), "white"))
        axis.set(title=f"the {name}'s step", xlabel="cells", ylabel="cells" if name == names[0] else "")
        means = [values[np.round(distance) == ring].mean() / largest for ring in rings]
        profile.semilogy(rings, means, "o-" if name == "model" else "s--", color=colour, ms=4, label=f"the {name}")
    figure.colorbar(picture, ax=maps, shrink=0.8, label="log10 of the sensitivity", location="left")
    for variable, label, style in (
        ("carried_rms", "carried in an interval: RMS", ":"),
        ("carried_max", "carried in an interval: most", "-."),
        ("network_extent", "the network's reach", "-"),
    ):
        if variable in explanation and float(explanation[variable]) <= 1.5 * rings[-1]:
            profile.axvline(float(explanation[variable]), color="0.45", ls=style, lw=1.2, label=label)
    profile.set(xlabel="distance [cells]", ylabel="sensitivity, relative", title="by distance", ylim=(2e-4, 1.5))
    profile.legend(frameon=False, fontsize=8)
    decorate(profile)
    figure.suptitle(_title(explanation, "What the change of a cell depends on (white: holds 90 % of the squares)"))
    return figure


def _circle(radius: float, colour: str):
    """Return a circle about the middle of a map."""
    from matplotlib.patches import Circle

    return Circle((0, 0), radius, fill=False, color=colour, lw=1.3)


def draw_scales(explanation: xr.Dataset) -> Figure:
    """Draw the error of a step and of its symmetry by wavenumber.

    Parameters
    ----------
    explanation : xr.Dataset
        With `equivariance_spectrum` and, if the truth is known, `error_spectrum`.

    Returns
    -------
    Figure
        Not yet written.
    """
    has_error = "error_spectrum" in explanation
    figure = Figure(figsize=(10 if has_error else 5.4, 3.9), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, 1 + has_error))
    k = explanation["wavenumber"].values
    first = explanation.isel(field=0)
    kept = first["own_change_spectrum"].values > 1e-12 * float(first["own_change_spectrum"].max())
    if has_error:
        truth = first["truth_spectrum"].values
        kept &= truth > 1e-12 * truth.max()
        for name, label, colour, style in (
            ("change_spectrum", "no change at all (persistence)", NOTHING, "-"),
            ("error_spectrum", "the model", MODEL, "o-"),
            ("solver_error_spectrum", "the solver, from the stored state", SOLVER, "s--"),
        ):
            if name in first:
                ratio = np.sqrt(first[name].values[kept] / truth[kept])
                axes[0].loglog(k[kept], ratio, style, color=colour, ms=4, label=label)
        axes[0].axhline(1, color="0.3", lw=0.8, ls=":")
        axes[0].set(title="error of one step", ylabel="relative error of a shell")
        axes[0].legend(frameon=False, fontsize=8)
    ratio = np.sqrt(first["equivariance_spectrum"].values[kept] / first["own_change_spectrum"].values[kept])
    axes[-1].loglog(k[kept], np.maximum(ratio, 1e-9), "o-", color=MODEL, ms=4)
    axes[-1].set(title="error of the symmetry", ylabel="|f(gx) - g f(x)| / |f(x) - x| of a shell", ylim=(1e-8, 3))
    for axis in axes:
        axis.set(xlabel="wavenumber [1/m]")
        decorate(axis)
    figure.suptitle(_title(explanation, "Errors by scale"))
    return figure


def draw_group_axis(explanation: xr.Dataset) -> Figure:
    """Draw what each group element contributes, and the error without the distinction between them.

    Parameters
    ----------
    explanation : xr.Dataset
        With `contribution` and, if the truth is known, `ablation_error`.

    Returns
    -------
    Figure
        Not yet written.
    """
    has_ablation = "ablation_error" in explanation
    figure = Figure(figsize=(11 if has_ablation else 5, 3.9), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, 1 + has_ablation, width_ratios=(1, 1.4)[: 1 + has_ablation]))
    contribution = explanation["contribution"]
    place = np.arange(contribution.size)
    axes[0].barh(place, contribution.values, color=MODEL)
    axes[0].axvline(1, color="0.3", lw=1, ls=":")
    axes[0].set(yticks=place, yticklabels=contribution["alpha"].values, xlabel="size of the last features, relative")
    axes[0].invert_yaxis()
    axes[0].set_title("contribution of each element")
    decorate(axes[0], grid="x")
    if has_ablation:
        _draw_ablation(explanation, axes[1])
    figure.suptitle(_title(explanation, "The group axis"))
    return figure


def _draw_ablation(explanation: xr.Dataset, axis: Axes) -> None:
    """Draw the error of each ablation as groups of bars, one group a layer."""
    error = explanation["ablation_error"]
    kinds = [str(kind) for kind in error["ablation"].values]
    width = 0.8 / len(kinds)
    for i, (kind, colour) in enumerate(zip(kinds, (COLOURS[2], COLOURS[3], COLOURS[5]), strict=False)):
        at = np.arange(error.sizes["place"]) + (i - (len(kinds) - 1) / 2) * width
        label = {"mean": "mean over the group", "shuffled": "elements shuffled"}.get(kind, kind)
        axis.bar(at, error.sel(ablation=kind).values, width, color=colour, label=label)
    axis.axhline(1, color="0.3", lw=1, ls=":")
    axis.axhline(float(explanation["persistence_error"]), color=NOTHING, lw=1.5, label="no change at all")
    axis.set(xticks=range(error.sizes["place"]), ylabel="error, over that of the whole network")
    axis.set_xticklabels(error["place"].values, rotation=20 if error.sizes["place"] > 4 else 0)
    axis.set_title("features of one layer replaced")
    axis.set_ylim(0, 1.35 * max(float(error.max()), float(explanation["persistence_error"])))
    axis.legend(frameon=False, fontsize=8, ncols=2, loc="upper left")
    decorate(axis, grid="y")


def _title(explanation: xr.Dataset, text: str) -> str:
    """Return a title with the model's name, if it has one."""
    name = explanation.attrs.get("model_name", "")
    return f"{name}: {text[0].lower()}{text[1:]}" if name else text
