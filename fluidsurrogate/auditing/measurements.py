"""The measurements of an audit, each as a Dataset: see `fluidsurrogate.auditing.audit.audit` for what they mean."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from fluidsurrogate.auditing.module_stepper import ModuleStepper
from fluidsurrogate.auditing.samples import AuditSample
from fluidsurrogate.evaluation.conservation import component_names, energy, mean_drift
from fluidsurrogate.evaluation.equivariance import (
    equivariance_error,
    galilean_error,
    reason_not_galilean,
    rotation_error,
    translation_error,
    wrong_parity,
)
from fluidsurrogate.simulation.rollout import rollout
from solvers import MEAN_VELOCITY, Group, Stepper, point_group

log = logging.getLogger("fluidsurrogate")
TURNED = 4  # states that are turned by any angle, which costs n⁴
ERROR = "|f(gx) - g f(x)| / |f(x) - x|"


def elements(stepper: Stepper, chosen: AuditSample, claimed: Group) -> xr.Dataset:
    """`equivariance_error`, `claimed` and `wrong_parity_error` by element."""
    spec = stepper.spec
    group = point_group(spec.grid, spec.fields)
    errors = equivariance_error(stepper, chosen.states, group, chosen.inputs)
    attrs, wrong = {}, dict.fromkeys(errors, math.nan)
    if any(field.parity < 0 and field.order == 0 for field in spec.fields):
        treated = equivariance_error(stepper, chosen.states, group, chosen.inputs, wrong_parity(spec))
        wrong = {g.name: treated[g.name] if g.determinant < 0 else math.nan for g in group.elements[1:]}
    else:
        attrs["wrong_parity_reason"] = "the state has no pseudoscalar"
    return xr.Dataset(
        {
            "equivariance_error": ("element", list(errors.values()), _about(ERROR)),
            "claimed": ("element", [g in claimed.elements for g in group.elements[1:]], _about("claimed by the model")),
            "wrong_parity_error": ("element", list(wrong.values()), _about(f"{ERROR}, pseudoscalars as plain scalars")),
        },
        {"element": ("element", list(errors), _about("element of the grid's point group"))},
        attrs,
    )


def translations_of(
    stepper: Stepper, chosen: AuditSample, shifts: Sequence[tuple[float, float]], stride: int | None
) -> xr.Dataset:
    """`translation_error` and `translation_claimed` by shift; claimed are those by multiples of `stride` cells."""
    walls = any(field.wall for field in stepper.spec.fields)
    kept = [(y, x) for y, x in dict.fromkeys(map(tuple, shifts)) if not (walls and y)]  # plates do not move along y
    names = [", ".join(f"{cells:g} in {axis}" for axis, cells in zip("yx", s, strict=True) if cells) for s in kept]
    errors = [translation_error(stepper, chosen.states, s, chosen.inputs) for s in kept]
    whole = np.array([stride is not None and all(cells % stride == 0 for cells in s) for s in kept], dtype=bool)
    return xr.Dataset(
        {
            "translation_error": ("shift", errors, _about(ERROR)),
            "translation_claimed": ("shift", whole, _about("claimed by the model")),
        },
        {
            "shift": ("shift", names, _about("translation, in cells")),
            "shift_y": ("shift", [float(s[0]) for s in kept], _about("cells along y")),
            "shift_x": ("shift", [float(s[1]) for s in kept], _about("cells along x")),
        },
    )


def turns(stepper: Stepper, chosen: AuditSample, angles: Sequence[float], solver: Stepper | None) -> xr.Dataset:
    """`rotation_error` by angle, of the stepper and of the classical solver."""
    few = chosen.last(TURNED)
    attrs, errors, floor = {}, [math.nan] * len(angles), [math.nan] * len(angles)
    if any(field.wall for field in stepper.spec.fields):
        attrs["rotation_reason"] = "plates do not turn"
    else:
        errors = [rotation_error(stepper, few.states, angle, few.inputs) for angle in angles]
        if solver is not None:
            few = few.to(few.states.cpu())
            try:
                floor = [rotation_error(solver, few.states, angle, few.inputs) for angle in angles]
            except ValueError as error:  # the lump is no state that this solver can run
                log.warning(f"audit: no angles of the classical solver: {error}")
    return xr.Dataset(
        {
            "rotation_error": ("angle", errors, _about(f"{ERROR}, of a lump, in a disc")),
            "rotation_error_of_solver": ("angle", floor, _about(f"{ERROR} of the classical solver")),
        },
        {"angle": ("angle", list(map(float, angles)), {"long_name": "angle of the turn", "units": "degrees"})},
        attrs,
    )


def galilean(stepper: Stepper, chosen: AuditSample) -> xr.Dataset:
    """`galilean_error` by direction."""
    errors: list[float] = []
    attrs: dict[str, str] = {}
    for axis, name in enumerate("xy"):
        reason = reason_not_galilean(stepper.spec, axis, chosen.inputs)
        if not reason and MEAN_VELOCITY.name not in (chosen.inputs or {}) and not isinstance(stepper, ModuleStepper):
            reason = "the mean of the velocity is zero by definition"  # see `solvers.VelocityForm`
        errors.append(math.nan if reason else galilean_error(stepper, chosen.states, axis, chosen.inputs))
        attrs |= {f"galilean_{name}_reason": reason} if reason else {}
    return xr.Dataset(
        {"galilean_error": ("direction", errors, _about("|f(x; U+V) - S f(x; U)| / |f(x) - x|, S the shift by V T"))},
        {"direction": ("direction", ["x", "y"], _about("direction of the uniform velocity"))},
        attrs,
    )


def drift(stepper: Stepper, chosen: AuditSample, steps: int) -> xr.Dataset:
    """What a rollout does to means and energy."""
    spec = stepper.spec
    first = chosen.first()
    rolled = rollout(stepper, first.states, steps, first.inputs)
    means, amount = mean_drift(spec, rolled), energy(spec, rolled)
    variables: dict[str, Any] = {
        "mean_drift": (("component", "time"), means.abs().amax(0).T.tolist(), _about("|<f>(t) - <f>(0)| / rms f(0)")),
        "mean_drift_step": ("component", means.diff(dim=1).abs().amax((0, 1)).tolist(), _about("the most in one step")),
    }
    change, most, growth, attrs = [math.nan] * (steps + 1), math.nan, math.nan, {}
    if amount is None:
        attrs["energy_reason"] = "the state holds neither vorticity nor velocity"
    elif not bool((amount[:, 0] > 0).all()):
        attrs["energy_reason"] = "a start is at rest"
    else:
        ratio = amount[:, 1:] / amount[:, :-1] - 1
        change = (amount / amount[:, :1] - 1).mean(0).tolist()
        most, growth = float(ratio.abs().max()), float(ratio.max())
    variables |= {
        "energy_change": ("time", change, _about("E(t) / E(0) - 1, mean over trajectories")),
        "energy_change_step": ((), most, _about("largest |E(t) / E(t - 1) - 1| of one step")),
        "energy_growth_step": ((), growth, _about("largest E(t) / E(t - 1) - 1 of one step")),
    }
    times = [spec.interval * i for i in range(steps + 1)]
    return xr.Dataset(
        variables,
        {
            "time": ("time", times, {"long_name": "time of the rollout", "units": "s"}),
            "component": ("component", component_names(spec), _about("component of the state")),
        },
        attrs,
    )


def _about(long_name: str) -> dict[str, str]:
    return {"long_name": long_name, "units": "1"}
