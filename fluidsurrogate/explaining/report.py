"""What a model has learned, in a table of text."""

from __future__ import annotations

import xarray as xr

VELOCITY_INPUTS = {"velocity x", "velocity y"}


def explanation_table(explanation: xr.Dataset) -> str:
    """Return the most telling numbers of an explanation as text, a line each, and what was left out.

    Parameters
    ----------
    explanation : xr.Dataset
        What `fluidsurrogate.explain` returns.

    Returns
    -------
    str
        Lines without a newline at the end.
    """
    has = explanation.data_vars

    def value(name: str, **where: str) -> float:
        return float(explanation[name].sel(where) if where else explanation[name].max())

    rows = []
    if "orbit_error" in has:
        rows.append(("turned filters, to the nearest filter", f"{value('orbit_error'):.1e}", "0: whole orbits"))
    if "feature_turn_error" in has:
        last = value("feature_turn_error", layer="last")
        rows.append(("last features, to those turned with the input", f"{last:.1e}", "0: they turn with it"))
    if "network_extent" in has:
        rows.append(("reach of the network, in cells", f"{value('network_extent'):.0f}", _carried(explanation)))
    for seen_by in explanation["seen_by"].values if "radius" in has else ():
        note = f"90 % of what a step of the {seen_by} depends on"
        rows.append(("radius, in cells", f"{value('radius', seen_by=seen_by):.1f}", note))
    if "response_error" in has:
        for name in ("vortex", "pair"):
            note = "of the change that the solver makes"
            rows.append((f"response to a {name}, error", f"{value('response_error', vortices=name):.1%}", note))
    if "pair_speed_error" in has:
        given = VELOCITY_INPUTS & set(map(str, explanation.get("network_component", xr.DataArray([])).values.ravel()))
        note = "the velocity is an input" if given else ""
        rows.append(("speed of a pair of vortices, error", f"{value('pair_speed_error'):.1%}", note))
    if "step_error" in has:
        rows.append(("error of one step", f"{value('step_error'):.1%}", "of the truth"))
    if "equivariance_error_of_step" in has:
        error = value("equivariance_error_of_step")
        rows.append(("error of the symmetry", f"{error:.1e}", "of what a step changes, mean over the grid's group"))
    if "contribution" in has:
        contribution = explanation["contribution"]
        smallest, largest = float(contribution.min()), float(contribution.max())
        rows.append(("contributions of the elements", f"{smallest:.2f} to {largest:.2f}", "1: all alike"))
    if "ablation_error" in has:
        ablation = explanation["ablation_error"].sel(ablation="mean")
        note = f"x the error with the mean over the group; no change at all: x {value('persistence_error'):.1f}"
        rows.append(("without the group axis", f"{float(ablation.min()):.1f} to {float(ablation.max()):.1f}", note))
    widths = [max(len(row[i]) for row in rows) for i in (0, 1)] if rows else (0, 0)
    lines = [f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c}".rstrip() for a, b, c in rows]
    left_out = str(explanation.attrs.get("left_out", ""))
    return "\n".join(lines + [f"left out: {line}" for line in left_out.splitlines()])


def _carried(explanation: xr.Dataset) -> str:
    """Return how far the flow carries things, in words."""
    if "carried_rms" not in explanation:
        return ""
    rms, most = (float(explanation[f"carried_{name}"]) for name in ("rms", "max"))
    return f"in an interval the flow carries things {rms:.1f} (RMS), {most:.1f} at most"
