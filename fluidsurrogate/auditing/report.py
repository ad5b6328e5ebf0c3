"""An audit as a table."""

from __future__ import annotations

import math

import xarray as xr

LARGE = 0.1  # what the control must exceed, of a step that tells parities apart
Row = tuple[str, str, str, str]  # what, claimed, error, verdict


def table(audit: xr.Dataset, name: str = "model") -> str:
    """What `fs.audit` measured, a line each: error, whether it is claimed, and a verdict on what is."""
    what = audit.attrs
    rows: list[Row] = [("symmetry (shifts in cells)", "claimed", "error", "verdict")]
    rows += [_symmetry(audit, "equivariance_error", "claimed", dict(element=e)) for e in audit["element"].values]
    rows += [
        _symmetry(audit, "translation_error", "translation_claimed", dict(shift=s), "shift ")
        for s in audit["shift"].values
    ]
    rows += _angles(audit)
    rows += [_galilean(audit, axis) for axis in audit["direction"].values]
    rows.append(_control(audit))
    rows.append(("", "", "", ""))
    rows.append((f"in {what['steps']} steps", "", "a step", "in the end"))
    rows += [_mean(audit, component) for component in audit["component"].values]
    rows.append(_energy(audit))
    head = f"{name}: {what['states']} states of {what['grid']} cells, {what['dtype']}; claims {_claims(audit)}"
    return "\n".join([head, "", *_aligned(rows), "", _verdict(audit)])


def _symmetry(audit: xr.Dataset, error: str, claim: str, at: dict[str, str], before: str = "") -> Row:
    value, claimed = float(audit[error].sel(at)), bool(audit[claim].sel(at))
    held = value <= audit.attrs["tolerance"]
    verdict = ("pass" if held else "FAIL") if claimed else "holds" if held else "broken"
    if math.isnan(value):
        verdict = "FAIL" if audit.attrs["verdict"] == "fail" and claimed else "undefined"
    (name,) = at.values()
    return f"{before}{name}", "yes" if claimed else "no", _number(value), verdict


def _angles(audit: xr.Dataset) -> list[Row]:
    rows = []
    for angle in audit["angle"].values:
        value = float(audit["rotation_error"].sel(angle=angle))
        floor = float(audit["rotation_error_of_solver"].sel(angle=angle))
        note = audit.attrs.get("rotation_reason", "undefined" if math.isnan(value) else "")
        note = note or ("" if math.isnan(floor) else f"the solver's: {_number(floor)}")
        rows.append((f"turn by {angle:g} degrees", "no", _number(value), note))
    return rows


def _galilean(audit: xr.Dataset, axis: str) -> Row:
    value = float(audit["galilean_error"].sel(direction=axis))
    note = audit.attrs.get(f"galilean_{axis}_reason", "undefined" if math.isnan(value) else "")
    return f"uniform velocity along {axis}", "no", _number(value), note


def _control(audit: xr.Dataset) -> Row:
    worst = float(audit["wrong_parity_error"].min())
    note = "large, as it must be" if worst > LARGE else "small: this step is odd, or blind to parity"
    note = audit.attrs.get("wrong_parity_reason", "undefined" if math.isnan(worst) else note)
    return "mirrors, parity forgotten", "control", _number(worst), note


def _mean(audit: xr.Dataset, component: str) -> Row:
    step = float(audit["mean_drift_step"].sel(component=component))
    return f"mean of {component}", "", _number(step), _number(float(audit["mean_drift"].sel(component=component)[-1]))


def _energy(audit: xr.Dataset) -> Row:
    growth, end = float(audit["energy_growth_step"]), float(audit["energy_change"][-1])
    if reason := audit.attrs.get("energy_reason"):
        return "energy", "", "-", reason
    if math.isnan(end):
        return "energy", "", "-", "not finite"
    note = f", grows by up to {growth:.1e} in a step" if growth > 1e-5 else ""
    return "energy", "", _number(float(audit["energy_change_step"])), f"{end:+.1%}{note}"


def _claims(audit: xr.Dataset) -> str:
    shifts = bool(audit["translation_claimed"].any())
    claims = [audit.attrs["group"]] if bool(audit["claimed"].any()) else []
    stride = audit.attrs["stride"]
    cells = "whole cells" if stride == 1 else f"multiples of {stride} cells"
    return " and ".join(claims + [f"shifts by {cells}"] * shifts) or "nothing"


def _verdict(audit: xr.Dataset) -> str:
    verdict, tolerance = audit.attrs["verdict"], audit.attrs["tolerance"]
    return {
        "pass": f"pass: everything claimed holds to {tolerance:.0e}",
        "fail": f"FAIL: claimed, but not kept to {tolerance:.0e}: {audit.attrs['failed']}",
        "undefined": "undefined: this step changes nothing",
    }.get(verdict, verdict)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1e}"


def _aligned(rows: list[Row]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d}".rstrip() for a, b, c, d in rows]
