"""An audit as a table of text."""

from __future__ import annotations

import math

import xarray as xr

CONTROL_THRESHOLD = 0.1  # the wrong-parity control must exceed it, for a step that depends on parity
TableRow = tuple[str, str, str, str]  # what is measured, whether it is claimed, the error, the verdict


def audit_table(audit: xr.Dataset, name: str = "model") -> str:
    """Format an audit as a table.

    Parameters
    ----------
    audit : Dataset
        From `fluidsurrogate.audit`.
    name : str
        What the heading calls the model.

    Returns
    -------
    str
        A heading, one line for each symmetry with its error, whether it is claimed and the verdict, one line for each
        conserved quantity, and the verdict of the whole audit.
    """
    attrs = audit.attrs
    rows: list[TableRow] = [("symmetry (shifts in cells)", "claimed", "error", "verdict")]
    rows += [
        _symmetry_row(audit, "equivariance_error", "claimed", dict(element=element))
        for element in audit["element"].values
    ]
    rows += [
        _symmetry_row(audit, "translation_error", "translation_claimed", dict(shift=shift), "shift ")
        for shift in audit["shift"].values
    ]
    rows += _rotation_rows(audit)
    rows += [_galilean_row(audit, axis) for axis in audit["direction"].values]
    rows.append(_control_row(audit))
    rows.append(("", "", "", ""))
    rows.append((f"over {attrs['steps']} steps", "", "per step", "at the end"))
    rows += [_mean_row(audit, component) for component in audit["component"].values]
    rows.append(_energy_row(audit))
    heading = f"{name}: {attrs['states']} states of {attrs['grid']} cells, {attrs['dtype']}; claims {_claims(audit)}"
    return "\n".join([heading, "", *_align(rows), "", _verdict(audit)])


def _symmetry_row(audit: xr.Dataset, error: str, claim: str, at: dict[str, str], prefix: str = "") -> TableRow:
    """Format the error of one element of the point group, or of one shift."""
    value, claimed = float(audit[error].sel(at)), bool(audit[claim].sel(at))
    holds = value <= audit.attrs["tolerance"]
    verdict = ("pass" if holds else "FAIL") if claimed else "holds" if holds else "broken"
    if math.isnan(value):
        verdict = "FAIL" if audit.attrs["verdict"] == "fail" and claimed else "undefined"
    (name,) = at.values()
    return f"{prefix}{name}", "yes" if claimed else "no", _format_error(value), verdict


def _rotation_rows(audit: xr.Dataset) -> list[TableRow]:
    """Format the error of each rotation, beside that of the classical solver."""
    rows = []
    for angle in audit["angle"].values:
        value = float(audit["rotation_error"].sel(angle=angle))
        reference = float(audit["rotation_error_of_solver"].sel(angle=angle))
        note = audit.attrs.get("rotation_reason", "undefined" if math.isnan(value) else "")
        note = note or ("" if math.isnan(reference) else f"classical solver: {_format_error(reference)}")
        rows.append((f"rotation by {angle:g} degrees", "no", _format_error(value), note))
    return rows


def _galilean_row(audit: xr.Dataset, axis: str) -> TableRow:
    """Format the error of a uniform velocity along an axis."""
    value = float(audit["galilean_error"].sel(direction=axis))
    note = audit.attrs.get(f"galilean_{axis}_reason", "undefined" if math.isnan(value) else "")
    return f"uniform velocity along {axis}", "no", _format_error(value), note


def _control_row(audit: xr.Dataset) -> TableRow:
    """Format the smallest error of a mirror with the wrong parity, which must be large."""
    smallest = float(audit["wrong_parity_error"].min())
    is_large = smallest > CONTROL_THRESHOLD
    note = "large, as expected" if is_large else "small: the step is odd, or does not depend on parity"
    note = audit.attrs.get("wrong_parity_reason", "undefined" if math.isnan(smallest) else note)
    return "mirrors, wrong parity", "control", _format_error(smallest), note


def _mean_row(audit: xr.Dataset, component: str) -> TableRow:
    """Format the drift of a component's mean."""
    step = float(audit["mean_drift_step"].sel(component=component))
    end = float(audit["mean_drift"].sel(component=component)[-1])
    return f"mean of {component}", "", _format_error(step), _format_error(end)


def _energy_row(audit: xr.Dataset) -> TableRow:
    """Format the change of the energy."""
    growth, end = float(audit["energy_growth_step"]), float(audit["energy_change"][-1])
    if reason := audit.attrs.get("energy_reason"):
        return "energy", "", "-", reason
    if math.isnan(end):
        return "energy", "", "-", "not finite"
    note = f", grows by up to {growth:.1e} in a step" if growth > 1e-5 else ""
    return "energy", "", _format_error(float(audit["energy_change_step"])), f"{end:+.1%}{note}"


def _claims(audit: xr.Dataset) -> str:
    """Return what the model claims, in words."""
    shifts = bool(audit["translation_claimed"].any())
    claims = [audit.attrs["group"]] if bool(audit["claimed"].any()) else []
    stride = audit.attrs["stride"]
    cells = "whole cells" if stride == 1 else f"multiples of {stride} cells"
    return " and ".join(claims + [f"shifts by {cells}"] * shifts) or "nothing"


def _verdict(audit: xr.Dataset) -> str:
    """Return the verdict of the whole audit, in words."""
    verdict, tolerance = audit.attrs["verdict"], audit.attrs["tolerance"]
    return {
        "pass": f"pass: everything claimed holds to {tolerance:.0e}",
        "fail": f"FAIL: claimed, but not kept to {tolerance:.0e}: {audit.attrs['failed']}",
        "undefined": "undefined: the step changes nothing",
    }.get(verdict, verdict)


def _format_error(value: float) -> str:
    """Return a number with two digits; a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:.1e}"


def _align(rows: list[TableRow]) -> list[str]:
    """Return the rows as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d}".rstrip() for a, b, c, d in rows]
