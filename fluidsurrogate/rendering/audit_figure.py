"""The figure of a symmetry audit: errors of group elements, shifts and rotations, and the drift of a rollout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from fluidsurrogate.rendering.style import COLOURS, DPI, decorate


def draw_audit(audit: xr.Dataset, path: Path, title: str = "") -> None:
    """Draw the errors of group elements and shifts as bars, the error by angle of rotation, and the drift over time.

    Parameters
    ----------
    audit : xr.Dataset
        A symmetry audit from `fluidsurrogate.audit`.
    path : Path
        The PNG file to write.
    title : str, default ""
        What was audited.
    """
    bars_drawn = len(audit["element"]) + len(audit["shift"]) + 1
    figure = Figure(figsize=(12, max(4.6, 0.14 * bars_drawn + 1.2)), layout="constrained")
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
        reason = audit.attrs.get("rotation_reason", "undefined")
        angles.text(0.5, 0.5, reason, transform=angles.transAxes, ha="center", va="center", color="0.4")
    else:
        angles.legend(frameon=False)
    angles.set(xlabel="angle [degrees]", ylabel="error", title="turns by any angle", xticks=audit["angle"].values)
    angles.set_ylim(bottom=0)
    _draw_drift(audit, drift)
    for axis in (bars, angles, drift):
        decorate(axis, grid="x" if axis is bars else "both")
    figure.suptitle(f"{title}: {audit.attrs['verdict']}" if title else audit.attrs["verdict"])
    figure.savefig(path, dpi=DPI, format="png")


def _draw_bars(audit: xr.Dataset, axis: Axes) -> None:
    """Draw errors on a log axis, top to bottom as in the table; an error of exactly zero ends at the left edge."""
    names = [*map(str, audit["element"].values), *(f"shift {name}" for name in audit["shift"].values)]
    errors, claimed = (np.concatenate([audit[a].values, audit[b].values]) for a, b in
                       (("equivariance_error", "translation_error"), ("claimed", "translation_claimed")))  # fmt: skip
    control, tolerance = float(audit["wrong_parity_error"].min()), float(audit.attrs["tolerance"])
    names, errors = [*names, "mirrors, wrong parity"], np.append(errors, control)
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
    axis.set_yticklabels(names, fontsize=8 if len(names) <= 24 else 6.5)
    axis.invert_yaxis()
    axis.set_title("group elements and shifts")
    shown = [("claimed", COLOURS[2]), ("claimed, but broken", COLOURS[4]), ("not claimed", COLOURS[3])]
    handles: list[Patch | Line2D] = [Patch(color=c, label=label) for label, c in shown if c in colours]
    handles += [Patch(color=COLOURS[1], label="control: must be large")] if np.isfinite(control) else []
    handles += [Line2D([], [], color="0.2", lw=1, ls=":", label="tolerance")]
    axis.legend(
        handles=handles,
        fontsize=8,
        loc="upper left",
        bbox_to_anchor=(0, -0.13 if len(names) <= 24 else -0.07),
        ncols=2,
        frameon=False,
    )


def _draw_drift(audit: xr.Dataset, axis: Axes) -> None:
    """Draw the size of each mean's drift, and of the energy's change, on one log axis."""
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
