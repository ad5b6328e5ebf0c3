"""Figures of a comparison and of an audit, from xarray."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from fluidsurrogate.evaluation.comparison import PERSISTENCE, TRUTH
from fluidsurrogate.evaluation.diagnostics import vorticity

COLOURS = ("#000000", "#999999", "#0072b2", "#56b4e9", "#d55e00", "#e69f00", "#009e73", "#cc79a7", "#8c564b", "#882255",
           "#44aa99", "#ddcc77")  # fmt: skip


def draw_comparison(forecasts: xr.Dataset, path: Path, columns: int = 4, ensembles: xr.Dataset | None = None) -> None:
    """Rows: the truth and each source; left the vorticity, right the error, at a few times, all on one colour scale.
    Below the first model of `ensembles` one perturbed member of it, and beside this, below the error, the standard
    deviation over all, on a scale of its own."""
    field = vorticity(forecasts.isel(trajectory=0))
    times = np.unique(np.linspace(0, field.sizes["time"] - 1, columns + 1).round().astype(int))[1:]
    sources = [str(s) for s in field["source"].values]
    truth = field.sel(source=TRUTH)
    rows = [(source, field.sel(source=source), field.sel(source=source) - truth) for source in sources]
    spread = None
    if ensembles is not None:
        first = str(ensembles["source"].values[0])
        members = vorticity(ensembles.sel(source=first).isel(trajectory=0).isel(member=slice(1, None)).load())
        spread = members.std("member", ddof=1)
        rows.insert(sources.index(first) + 1, (f"{first},\na member", members.isel(member=0), spread))
    limit = float(np.abs(truth.isel(time=times)).max())
    y, x = (np.concatenate([[0], np.asarray(field[a]) + float(field[a][0])]) for a in ("y", "x"))
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
                at = np.ma.masked_invalid(values.isel(time=t).transpose("y", "x").values)
                if values is spread:
                    most = float(spread.isel(time=times[-1]).max())
                    axis.pcolormesh(x, y, at, cmap="Purples", vmin=0, vmax=most, rasterized=True)
                    axis.set_title(f"spread, 0 to {most:.2g}", fontsize=9)
                else:
                    axis.pcolormesh(x, y, at, cmap=colours.cmap, norm=colours.norm, rasterized=True)
                axis.set_facecolor("0.6")
        line[0].set_ylabel(textwrap.fill(source, 12), fontsize=9)
    for i, t in enumerate(times):
        label = f"t = {float(field['time'][t]):g}"
        axes[0][i].set_title(label, fontsize=9)
        axes[min(1, len(rows) - 1)][i + len(times)].set_title(f"error, {label}", fontsize=9)
    figure.colorbar(colours, ax=axes, label="vorticity [1/s]", shrink=0.6, extend="both", pad=0.01)
    figure.savefig(path, dpi=110, format="png")


def draw_scores(scores: xr.Dataset, path: Path) -> None:
    """Error and correlation against time, energy and enstrophy, and the energy spectrum halfway and at the end."""
    figure = Figure(figsize=(12, 7), layout="constrained")
    axes = figure.subplots(2, 3)
    time = scores["time"].values
    sources = [str(s) for s in scores["source"].values]
    half, last = len(time) // 2, len(time) - 1
    for number, source in enumerate(sources):
        one = scores.sel(source=source)
        style = {"color": COLOURS[number % len(COLOURS)], "label": source, "lw": 2.2 if source == TRUTH else 1.4,
                 "ls": "--" if source == PERSISTENCE else "-"}  # fmt: skip
        if source != TRUTH:
            _band(axes[0, 0], time[1:], one["nrmse"].values[1:], one["nrmse_spread"].values[1:], style)
            _band(axes[0, 1], time, one["correlation"].values, one["correlation_spread"].values, style)
        axes[0, 2].plot(time, _finite(one["energy"].values), **style)
        axes[1, 2].plot(time, _finite(one["enstrophy"].values), **style)
        for axis, t in ((axes[1, 0], half), (axes[1, 1], last)):
            axis.loglog(scores["wavenumber"], _finite(one["energy_spectrum"].values[t]), **style)
    if "error_bound" in scores:
        _draw_bound(axes[0, 0], scores, sources)
    truth = scores["energy_spectrum"].sel(source=TRUTH) if TRUTH in sources else scores["energy_spectrum"][0]
    threshold = scores.attrs.get("correlation_threshold")
    axes[0, 0].set(xlabel="time [s]", ylabel="nRMSE (mean ± spread)", yscale="log", title="error")
    axes[0, 0].set_ylim(top=min(axes[0, 0].get_ylim()[1], 5.0))
    axes[0, 1].set(xlabel="time [s]", ylabel="pattern correlation", title="correlation", ylim=(None, 1.02))
    axes[0, 1].set_ylim(bottom=max(axes[0, 1].get_ylim()[0], -0.2))
    if threshold is not None:
        axes[0, 1].axhline(threshold, color="0.5", lw=0.8, ls=":")
    for axis, name in ((axes[0, 2], "energy"), (axes[1, 2], "enstrophy")):
        reference = scores[name].sel(source=TRUTH).values if TRUTH in sources else scores[name].values[0]
        axis.set(xlabel="time [s]", ylabel=f"{name} [{scores[name].attrs.get('units', '1')}]", title=name)
        axis.set_ylim(0, 1.5 * np.nanmax(reference))
    for axis, t in ((axes[1, 0], half), (axes[1, 1], last)):
        highest = float(truth[t].max())
        axis.set(xlabel="wavenumber [1/m]", ylabel="energy spectrum", title=f"spectrum at t = {time[t]:g}")
        axis.set_ylim(1e-7 * highest, 5 * highest)
    for axis in axes.flat:
        axis.grid(alpha=0.25, which="major")
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0, 2].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6), frameon=False)
    figure.savefig(path, dpi=110, format="png")


def draw_audit(audit: xr.Dataset, path: Path, title: str = "") -> None:
    """Errors of elements and shifts as bars, the claimed ones against the tolerance; by angle; drift over time."""
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    bars, angles, drift = figure.subplots(1, 3, width_ratios=(1.35, 1, 1))
    _draw_bars(audit, bars)
    floor = audit["rotation_error_of_solver"].values
    for values, label, colour, style in (
        (audit["rotation_error"].values, "this model", COLOURS[2], "o-"),
        (floor, "the classical solver", COLOURS[1], "s--"),
    ):
        if np.isfinite(values).any():
            angles.plot(audit["angle"], values, style, color=colour, label=label, ms=5)
    if not angles.lines:
        _say(angles, audit.attrs.get("rotation_reason", "undefined"))
    else:
        angles.legend(frameon=False)
    angles.set(xlabel="angle [degrees]", ylabel="error", title="turns by any angle", xticks=audit["angle"].values)
    angles.set_ylim(bottom=0)
    _draw_drift(audit, drift)
    for axis in (bars, angles, drift):
        axis.grid(alpha=0.25, which="major", axis="x" if axis is bars else "both")
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{title}: {audit.attrs['verdict']}" if title else audit.attrs["verdict"])
    figure.savefig(path, dpi=110, format="png")


def _draw_bars(audit: xr.Dataset, axis) -> None:
    """Errors on a log axis, top to bottom as in the table; an exact zero ends at the left edge."""
    names = [*map(str, audit["element"].values), *(f"shift {name}" for name in audit["shift"].values)]
    errors, claimed = (np.concatenate([audit[a].values, audit[b].values]) for a, b in
                       (("equivariance_error", "translation_error"), ("claimed", "translation_claimed")))  # fmt: skip
    control, tolerance = float(audit["wrong_parity_error"].min()), float(audit.attrs["tolerance"])
    names, errors = [*names, "mirrors, parity forgotten"], np.append(errors, control)
    seen = errors[np.isfinite(errors) & (errors > 0)]
    left = min(1e-4 * tolerance, 0.1 * seen.min(initial=tolerance))
    colours = np.array([COLOURS[2] if c else COLOURS[3] for c in [*claimed, False]], dtype=object)
    colours[:-1][claimed & (errors[:-1] > tolerance)] = COLOURS[4]
    colours[-1] = COLOURS[1]
    place = np.arange(len(names), dtype=float)
    place[len(audit["element"]) :] += 0.5
    place[-1] += 0.5
    axis.barh(place, np.where(np.isfinite(errors), np.maximum(errors, left) - left, 0), left=left, color=colours)
    for y, error in zip(place, errors, strict=True):
        if not np.isfinite(error):
            axis.text(left * 1.3, y, "undefined", va="center", fontsize=8, color="0.5")
    axis.axvline(tolerance, color="0.2", lw=1, ls=":")
    axis.set(xscale="log", xlim=(left, 3 * max(1.0, seen.max(initial=1.0))), yticks=place, xlabel="error")
    axis.set_yticklabels(names, fontsize=8)
    axis.invert_yaxis()
    axis.set_title("group elements and shifts")
    shown = [("claimed", COLOURS[2]), ("claimed, but broken", COLOURS[4]), ("not claimed", COLOURS[3])]
    handles: list[Patch | Line2D] = [Patch(color=c, label=label) for label, c in shown if c in colours]
    handles += [Patch(color=COLOURS[1], label="control: must be large")] if np.isfinite(control) else []
    handles += [Line2D([], [], color="0.2", lw=1, ls=":", label="tolerance")]
    axis.legend(handles=handles, fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.13), ncols=2, frameon=False)


def _draw_drift(audit: xr.Dataset, axis) -> None:
    """Size of the drift of each mean, and of the energy's change, on one log axis."""
    time = audit["time"].values
    curves = {f"mean of {name}": audit["mean_drift"].sel(component=name).values for name in audit["component"].values}
    curves["energy"] = np.abs(audit["energy_change"].values)
    for number, (label, values) in enumerate(curves.items()):
        later = np.where(np.isfinite(values) & (values > 0), values, np.nan)[1:]
        if np.isfinite(later).any():
            axis.semilogy(time[1:], later, color=COLOURS[(2 + 2 * number) % len(COLOURS)], label=label)
        elif np.isfinite(values).all():
            axis.plot([], [], color=COLOURS[(2 + 2 * number) % len(COLOURS)], label=f"{label}: exactly 0")
    axis.set(xlabel="time [s]", ylabel="relative change since the start", title="drift of a rollout")
    axis.set_xlim(0, time[-1])
    if axis.lines:
        axis.legend(frameon=False)


def _draw_bound(axis, scores: xr.Dataset, sources: list[str]) -> None:
    """Of the first source that has an error bound: its mean, and the spread of the members."""
    source = next((s for s in sources if scores["error_bound"].sel(source=s).notnull().any()), None)
    if source is None:
        return
    colour, time = COLOURS[sources.index(source) % len(COLOURS)], scores["time"].values[1:]
    for name, style, label in (("error_bound", "--", "90 % bound"), ("ensemble_spread", ":", "spread")):
        if name in scores:
            values = _finite(scores[name].sel(source=source).values[1:])
            if name == "error_bound":
                label = f"{100 * scores[name].attrs.get('coverage', 0.9):g} % bound"
            axis.plot(time, values, style, color=colour, lw=1.4, label=f"{label}, {source}")
    axis.legend(frameon=False, fontsize=8, handles=axis.lines[-2:])


def _say(axis, text: str) -> None:
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", color="0.4")


def _finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.nan)


def _band(axis, time: np.ndarray, mean: np.ndarray, spread: np.ndarray, style: dict) -> None:
    mean, spread = _finite(mean), _finite(spread)
    axis.plot(time, mean, **style)
    axis.fill_between(time, np.maximum(mean - spread, 1e-4), mean + spread, color=style["color"], alpha=0.1, lw=0)
