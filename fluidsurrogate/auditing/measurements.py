"""The measurements of an audit, one function each: `fluidsurrogate.auditing.audit` merges their Datasets."""

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
ROTATED_STATES = 4  # a rotation by any angle costs n⁴, so few states are rotated
ROTATION_AXIS = (1.0, 2.0, 3.0)  # of rotations in space: oblique, so that no turn of the lattice is among them
MAX_ROTATED_CELLS = 24**3  # in space, where a rotation costs n⁶: some seconds
ERROR_FORMULA = "|f(gx) - g f(x)| / |f(x) - x|"


def measure_point_group(stepper: Stepper, sample: AuditSample, claimed: Group) -> xr.Dataset:
    """Measure the equivariance error of each element of the grid's point group.

    Parameters
    ----------
    stepper : Stepper
        The model f.
    sample : AuditSample
        The states x and their inputs.
    claimed : Group
        The point group that the model claims.

    Returns
    -------
    Dataset
        `equivariance_error`, `claimed` and `wrong_parity_error` by `element`. The last is a control: the error of each
        mirror with fields of the wrong parity (see `wrong_parity`); NaN for rotations, and if no field of the state can
        have a wrong one.
    """
    spec = stepper.spec
    group = point_group(spec.grid, spec.fields)
    errors = equivariance_error(stepper, sample.states, group, sample.inputs)
    attrs, wrong = {}, dict.fromkeys(errors, math.nan)
    if wrong_parity(spec).fields != spec.fields:
        mistaken = equivariance_error(stepper, sample.states, group, sample.inputs, wrong_parity(spec))
        wrong = {g.name: mistaken[g.name] if g.determinant < 0 else math.nan for g in group.elements[1:]}
    else:
        attrs["wrong_parity_reason"] = "the state has no pseudoscalar"
    is_claimed = [g in claimed.elements for g in group.elements[1:]]
    confused = "pseudoscalars as plain scalars" if spec.grid.dimensions == 2 else "vectors as pseudovectors"
    control = f"{ERROR_FORMULA}, {confused}"
    return xr.Dataset(
        {
            "equivariance_error": ("element", list(errors.values()), _dimensionless(ERROR_FORMULA)),
            "claimed": ("element", is_claimed, _dimensionless("claimed by the model")),
            "wrong_parity_error": ("element", list(wrong.values()), _dimensionless(control)),
        },
        {"element": ("element", list(errors), _dimensionless("element of the grid's point group"))},
        attrs,
    )


def measure_translations(
    stepper: Stepper, sample: AuditSample, shifts: Sequence[Sequence[float]], stride: int | None
) -> xr.Dataset:
    """Measure the equivariance error of translations.

    Parameters
    ----------
    stepper : Stepper
        The model f.
    sample : AuditSample
        The states x and their inputs.
    shifts : sequence of sequence of float
        Cells along (y, x) or (z, y, x). Repeated shifts count once; between plates, shifts along y are left out.
    stride : int or None
        Shifts by multiples of so many cells are claimed; None if no shift is.

    Returns
    -------
    Dataset
        `translation_error` and `translation_claimed` by `shift`, with the coordinates `shift_y` and `shift_x`, and
        `shift_z` in three dimensions.
    """
    has_walls = any(field.wall for field in stepper.spec.fields)
    axes = stepper.spec.grid.axes
    kept = [s for s in dict.fromkeys(map(tuple, shifts)) if not (has_walls and s[axes.index("y")])]
    names = [", ".join(f"{cells:g} in {axis}" for axis, cells in zip(axes, s, strict=True) if cells) for s in kept]
    errors = [translation_error(stepper, sample.states, s, sample.inputs) for s in kept]
    claimed = np.array([stride is not None and all(cells % stride == 0 for cells in s) for s in kept], dtype=bool)
    return xr.Dataset(
        {
            "translation_error": ("shift", errors, _dimensionless(ERROR_FORMULA)),
            "translation_claimed": ("shift", claimed, _dimensionless("claimed by the model")),
        },
        {
            "shift": ("shift", names, _dimensionless("translation, in cells")),
            **{
                f"shift_{axis}": ("shift", [float(s[i]) for s in kept], _dimensionless(f"cells along {axis}"))
                for i, axis in enumerate(axes)
            },
        },
    )


def measure_rotations(
    stepper: Stepper, sample: AuditSample, angles: Sequence[float], solver: Stepper | None
) -> xr.Dataset:
    """Measure the equivariance error of rotations by any angle, of a localised patch of flow.

    Parameters
    ----------
    stepper : Stepper
        The model f.
    sample : AuditSample
        The states x and their inputs; the last four are rotated.
    angles : sequence of float
        In degrees, counter-clockwise.
    solver : Stepper or None
        The classical solver that made the model's data, measured on the same states.

    Returns
    -------
    Dataset
        `rotation_error` and `rotation_error_of_solver` by `angle`, in three dimensions about `ROTATION_AXIS`. The
        latter is NaN without a solver, both are NaN between plates and on more cells than can be rotated in a minute.
    """
    grid = stepper.spec.grid
    in_space = grid.dimensions > 2
    axis = ROTATION_AXIS if in_space else None
    few = sample.last(1 if in_space else ROTATED_STATES)
    attrs, errors, reference = {}, [math.nan] * len(angles), [math.nan] * len(angles)
    if any(field.wall for field in stepper.spec.fields):
        attrs["rotation_reason"] = "not defined between plates"
    elif in_space and math.prod(grid.n) > MAX_ROTATED_CELLS:
        attrs["rotation_reason"] = f"not measured on more than {MAX_ROTATED_CELLS:,} cells: it takes n^6 operations"
    else:
        errors = [rotation_error(stepper, few.states, angle, few.inputs, axis) for angle in angles]
        if solver is not None:
            few = few.to(few.states.cpu())
            try:
                reference = [rotation_error(solver, few.states, angle, few.inputs, axis) for angle in angles]
            except ValueError as error:  # the solver may not be able to step the localised patch
                log.warning(f"audit: no rotation error of the classical solver: {error}")
    about_solver = f"{ERROR_FORMULA} of the classical solver"
    of_what = "of a lump, in a disc" if axis is None else f"of a lump, in a ball, about the axis (x, y, z) = {axis}"
    return xr.Dataset(
        {
            "rotation_error": ("angle", errors, _dimensionless(f"{ERROR_FORMULA}, {of_what}")),
            "rotation_error_of_solver": ("angle", reference, _dimensionless(about_solver)),
        },
        {"angle": ("angle", list(map(float, angles)), {"long_name": "angle of the turn", "units": "degrees"})},
        attrs,
    )


def measure_galilean_invariance(stepper: Stepper, sample: AuditSample) -> xr.Dataset:
    """Measure the error that a uniform velocity, added along one of the axes, makes.

    Parameters
    ----------
    stepper : Stepper
        The model f.
    sample : AuditSample
        The states x and their inputs.

    Returns
    -------
    Dataset
        `galilean_error` by `direction`; NaN, with a reason in the attributes, if a uniform velocity cannot be added.
    """
    errors: list[float] = []
    attrs: dict[str, str] = {}
    directions = list(reversed(stepper.spec.grid.axes))
    for axis, name in enumerate(directions):
        reason = reason_not_galilean(stepper.spec, axis, sample.inputs)
        has_mean = (
            len(directions) > 2 or isinstance(stepper, ModuleStepper) or MEAN_VELOCITY.name in (sample.inputs or {})
        )
        if not reason and not has_mean:
            reason = "the mean of the velocity is zero by definition"  # see `solvers.VelocityForm`
        errors.append(math.nan if reason else galilean_error(stepper, sample.states, axis, sample.inputs))
        attrs |= {f"galilean_{name}_reason": reason} if reason else {}
    formula = "|f(x; U+V) - S f(x; U)| / |f(x) - x|, S the shift by V T"
    return xr.Dataset(
        {"galilean_error": ("direction", errors, _dimensionless(formula))},
        {"direction": ("direction", directions, _dimensionless("direction of the uniform velocity"))},
        attrs,
    )


def measure_conservation(stepper: Stepper, sample: AuditSample, steps: int) -> xr.Dataset:
    """Measure how means and energy change over a rollout.

    Parameters
    ----------
    stepper : Stepper
        The model.
    sample : AuditSample
        The rollout begins at its `rollout_starts`.
    steps : int
        Intervals of the rollout.

    Returns
    -------
    Dataset
        `mean_drift` by (component, time), `mean_drift_step` by component, `energy_change` by time, `energy_change_step`
        and `energy_growth_step`. The energies are NaN, with a reason in the attributes, if the state holds no flow or
        starts at rest.
    """
    spec = stepper.spec
    starts = sample.rollout_starts()
    states = rollout(stepper, starts.states, steps, starts.inputs)
    means, energies = mean_drift(spec, states), energy(spec, states)
    drift = means.abs().amax(0).T.tolist()
    drift_step = means.diff(dim=1).abs().amax((0, 1)).tolist()
    change, change_step, growth_step, attrs = [math.nan] * (steps + 1), math.nan, math.nan, {}
    if energies is None:
        attrs["energy_reason"] = "the state holds neither vorticity nor velocity"
    elif not bool((energies[:, 0] > 0).all()):
        attrs["energy_reason"] = "a start is at rest"
    else:
        ratio = energies[:, 1:] / energies[:, :-1] - 1
        change = (energies / energies[:, :1] - 1).mean(0).tolist()
        change_step, growth_step = float(ratio.abs().max()), float(ratio.max())
    times = [spec.interval * i for i in range(steps + 1)]
    variables: dict[str, Any] = {
        "mean_drift": (("component", "time"), drift, _dimensionless("|<f>(t) - <f>(0)| / rms f(0)")),
        "mean_drift_step": ("component", drift_step, _dimensionless("the most in one step")),
        "energy_change": ("time", change, _dimensionless("E(t) / E(0) - 1, mean over trajectories")),
        "energy_change_step": ((), change_step, _dimensionless("largest |E(t) / E(t - 1) - 1| of one step")),
        "energy_growth_step": ((), growth_step, _dimensionless("largest E(t) / E(t - 1) - 1 of one step")),
    }
    coordinates = {
        "time": ("time", times, {"long_name": "time of the rollout", "units": "s"}),
        "component": ("component", component_names(spec.fields), _dimensionless("component of the state")),
    }
    return xr.Dataset(variables, coordinates, attrs)


def _dimensionless(long_name: str) -> dict[str, str]:
    """Return the attributes of a variable without a unit."""
    return {"long_name": long_name, "units": "1"}
