"""Audit which symmetries a model's step keeps and what its rollouts conserve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import xarray as xr
from torch import Tensor, nn

from fluidsurrogate.auditing.measurements import (
    measure_conservation,
    measure_galilean_invariance,
    measure_point_group,
    measure_rotations,
    measure_translations,
)
from fluidsurrogate.auditing.samples import AuditSample, reference_solver, select_sample, states_from_experiment
from fluidsurrogate.auditing.steppers import as_stepper, evaluation_mode, unwrap
from fluidsurrogate.core.errors import UsageError, check_integer
from fluidsurrogate.data.readers import as_dataset
from fluidsurrogate.evaluation.equivariance import apply_stepper
from fluidsurrogate.models.forecasting import check_flow_constants
from fluidsurrogate.models.surrogate import Surrogate
from solvers import Group, NavierStokes, StateSpec, Stepper, group_named, point_group

DEFAULT_TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-10}
ROUNDING_MARGIN = 30  # the tolerance is at least so many times the rounding of the states
DEFAULT_ANGLES = (15.0, 30.0, 45.0)  # degrees
# In cells along (y, x) or (z, y, x), by number of dimensions.
DEFAULT_SHIFTS: dict[int, tuple[tuple[float, ...], ...]] = {
    2: ((0, 1), (1, 0), (2, 2), (3, 5), (0, 0.5), (0.5, 0), (0.5, 0.5)),
    3: ((0, 0, 1), (0, 1, 0), (1, 0, 0), (2, 2, 2), (3, 5, 1), (0, 0, 0.5), (0.5, 0.5, 0.5)),
}


def audit(
    model: Stepper | nn.Module,
    spec: StateSpec | None = None,
    *,
    states: xr.Dataset | str | Path | Tensor | None = None,
    inputs: Mapping[str, Tensor] | None = None,
    group: Group | str | None = None,
    stride: int | None = None,
    steps: int = 20,
    tolerance: float | None = None,
    angles: Sequence[float] = DEFAULT_ANGLES,
    shifts: Sequence[Sequence[float]] | None = None,
) -> xr.Dataset:
    """Measure which symmetries one step of a model keeps, and what a rollout conserves.

    A step f keeps a symmetry g of the flow if f(gx) = g f(x). The error is relative to the change that the step makes,
    since a model that predicts "the state plus a little" would pass any test that is relative to the state:

    .. math:: \\frac{\\lVert f(g x) - g f(x) \\rVert}{\\lVert f(x) - x \\rVert}

    The norms run over all states. State and inputs are transformed together. The error is NaN if the step changes
    nothing (persistence).

    Parameters
    ----------
    model : Stepper or torch.nn.Module
        A surrogate, a solver or any other stepper; or a module that maps the state (batch, component, y, x), in
        physical units and followed by its inputs as channels, to the next state.
    spec : StateSpec, optional
        Grid, fields, interval and inputs of a module's states. Required for a module, not used for a stepper.
    states : Dataset, str, Path or Tensor, optional
        The states to measure on: a Dataset or the path of one, of which the first and last state of up to eight test
        trajectories are taken, or a tensor (batch, component, y, x). By default, for a surrogate, test trajectories of
        the experiment that it was trained by.
    inputs : mapping of str to Tensor, optional
        The inputs of a tensor of states by name, each (batch, component, y, x).
    group : Group or str, optional
        The point group that the model claims. By default a surrogate's own; all of the grid's point group for a solver
        whose inputs are given; none for any other model.
    stride : int, optional
        The model claims translations by multiples of so many cells. By default a surrogate's own stride; one cell for
        solvers; no translations for any other model.
    steps : int
        Intervals of the rollout.
    tolerance : float, optional
        The largest error that a claimed symmetry may have. By default 1e-4 in single and 1e-10 in double precision,
        or thirty times the rounding of the states relative to their change, whichever is larger.
    angles : sequence of float
        Rotations in degrees, counter-clockwise; in three dimensions about an oblique axis.
    shifts : sequence of sequence of float, optional
        Translations in cells along (y, x) or (z, y, x); by default some along each axis, by whole and by half cells. If
        the stride is more than one cell, one stride along each axis is added.

    Returns
    -------
    Dataset
        The measurements:

        - `equivariance_error`, `claimed` (element): the error of every element of the grid's point group, and whether
          the model claims the element. The group is D4 on squares, D2 on rectangles and between plates; in three
          dimensions Oh on cubes, else D4h or D2h.
        - `wrong_parity_error` (element): the error of the mirrors with pseudoscalars treated as plain scalars, in three
          dimensions with vectors treated as pseudovectors. It is a control and must be large.
        - `translation_error`, `translation_claimed` (shift): the error of translations by `shift_y`, `shift_x` and, in
          three dimensions, `shift_z` cells. Translations by parts of a cell are never claimed.
        - `rotation_error` (angle): the error of rotations by any angle, of a localised patch of flow.
        - `rotation_error_of_solver` (angle): the same for the classical solver that made a surrogate's data, if it is
          known. It shows what the box and the grid contribute.
        - `galilean_error` (direction): the error of a uniform velocity added along one of the axes.
        - `mean_drift` (component, time): the mean of a field, ⟨f⟩(t) − ⟨f⟩(0), over the RMS of the field at the start;
          the largest absolute value over the trajectories.
        - `mean_drift_step` (component): the largest absolute change of that in one step.
        - `energy_change` (time): E(t) / E(0) − 1, the mean over the trajectories.
        - `energy_change_step`, `energy_growth_step`: the largest absolute change and the largest growth of E in one
          step, relative to E before the step, over trajectories and steps.

        The attribute `verdict` is "pass", "fail", "undefined" (the step changes nothing) or "nothing claimed". Further
        attributes are the names of what `failed`, the `tolerance` and, as `NAME_reason`, why a value is NaN.

    Raises
    ------
    UsageError
        If states, spec and model do not match, or an argument is out of range.

    Examples
    --------
    A classical solver of decaying flow keeps all of D4 and all translations:

    >>> import torch
    >>> import fluidsurrogate as fs
    >>> from solvers import FLOWS, Grid
    >>> flow, grid = FLOWS[2]["decaying"](viscosity=1e-2), Grid.square(32)
    >>> solver = flow.solver(grid, interval=0.1, dtype=torch.float64)
    >>> report = fs.audit(solver, states=flow.starts(grid, seeds=[0, 1]), steps=2)
    >>> report.attrs["verdict"], report.attrs["group"]
    ('pass', 'D4')
    >>> bool(report["equivariance_error"].max() < 1e-10)
    True

    A convolution with a random kernel does not keep the mirrors:

    >>> layer = torch.nn.Conv2d(1, 1, 3, padding="same", padding_mode="circular", bias=False)
    >>> report = fs.audit(layer, solver.spec, states=flow.starts(grid, seeds=[0]), group="D4", stride=1, steps=2)
    >>> report.attrs["verdict"]
    'fail'
    """
    stepper = as_stepper(model, spec)
    steps = check_integer("steps", steps, 1)
    stride = None if stride is None else check_integer("stride", stride, 1)
    axes = stepper.spec.grid.axes
    shifts = DEFAULT_SHIFTS[len(axes)] if shifts is None else shifts
    if any(len(tuple(s)) != len(axes) for s in shifts):
        tuples = "pairs" if len(axes) == 2 else "triples"
        raise UsageError(f"shifts must be {tuples} of cells along ({', '.join(axes)}) (got {list(shifts)})")
    angles = list(dict.fromkeys(angles))
    if tolerance is not None and not tolerance > 0:
        raise UsageError(f"tolerance must be positive (got {tolerance})")
    if states is None:
        if not isinstance(stepper, Surrogate):
            raise UsageError("states are required, as a Dataset or a tensor, unless the model is a trained surrogate")
        states = states_from_experiment(stepper)
    states = states if isinstance(states, Tensor) else as_dataset(states)
    sample = select_sample(stepper.spec, states, inputs)
    if isinstance(stepper, Surrogate) and isinstance(states, xr.Dataset):
        check_flow_constants(stepper, states)
    claimed, stride = _claimed_symmetries(stepper, sample, group, stride)
    if stride is not None and stride > 1:  # along x, y and, in three dimensions, z
        shifts = [*shifts, *(tuple(stride * (a == axis) for a in axes) for axis in reversed(axes))]
    solver = reference_solver(stepper, stepper.spec) if isinstance(stepper, Surrogate) else None
    with evaluation_mode(stepper), torch.no_grad():
        after = _first_step(stepper, sample)
        sample = sample.to(after)
        tolerance = _default_tolerance(sample.states, after) if tolerance is None else tolerance
        changes_state = not torch.equal(after, sample.states)  # true as well if `after` is not finite
        measurements = [
            measure_point_group(stepper, sample, claimed),
            measure_translations(stepper, sample, shifts, stride),
            measure_rotations(stepper, sample, angles, solver),
            measure_galilean_invariance(stepper, sample),
            measure_conservation(stepper, sample, steps),
        ]
    result = xr.merge(measurements, combine_attrs="no_conflicts")
    failed = _failed(result, tolerance)
    claims_anything = bool(result["claimed"].any()) or bool(result["translation_claimed"].any())
    if not claims_anything:
        verdict = "nothing claimed"
    elif not changes_state:
        verdict = "undefined"
    else:
        verdict = "fail" if failed else "pass"
    return result.assign_attrs(
        title="audit of symmetries and conservation",
        verdict=verdict,
        failed=", ".join(failed) if changes_state else "",
        tolerance=tolerance,
        group=claimed.name,
        stride=stride or 0,
        dtype=str(after.dtype).removeprefix("torch."),
        steps=steps,
        states=len(sample.states),
        grid=" x ".join(map(str, stepper.spec.grid.n)),
    )


def _claimed_symmetries(
    stepper: Stepper, sample: AuditSample, group: Group | str | None, stride: int | None
) -> tuple[Group, int | None]:
    """Return the group and the stride that are claimed: the arguments, or else what the model itself claims."""
    inner = unwrap(stepper)
    largest = point_group(stepper.spec.grid, stepper.spec.fields)
    own_group, own_stride = group_named("C1", stepper.spec.grid.dimensions), None
    if isinstance(inner, Surrogate):
        own_group = inner.network.group
        own_stride = inner.network.stride if inner.spec.grid == stepper.spec.grid else None
    elif (
        isinstance(inner, NavierStokes)
        and inner.stochastic_forcing is None
        and (sample.inputs or not inner.spec.inputs)
    ):
        own_group, own_stride = largest, 1
    if isinstance(group, str):
        try:
            group = group_named(group, stepper.spec.grid.dimensions)
        except ValueError as error:
            raise UsageError(str(error)) from None
    claimed = own_group if group is None else group
    if not largest.contains(claimed):
        raise UsageError(
            f"group {claimed.name!r} is no symmetry of this grid; choose {largest.name} or one of its subgroups"
        )
    return claimed, own_stride if stride is None else stride


def _first_step(stepper: Stepper, sample: AuditSample) -> Tensor:
    """Return f(x); UsageError if the model cannot step these states."""
    try:
        return apply_stepper(stepper, sample.states, sample.inputs)
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"the model cannot step these states: {error}") from None


def _default_tolerance(before: Tensor, after: Tensor) -> float:
    """Return the tolerance of a precision, or that of the rounding of the states if that is larger."""
    if after.dtype not in DEFAULT_TOLERANCES:
        raise UsageError(f"tolerance is required for {after.dtype}: only float32 and float64 have a default")
    tolerance = DEFAULT_TOLERANCES[after.dtype]
    change = float((after - before).norm())
    if not change:
        return tolerance
    # A step that changes little of a state cannot be exact beyond the rounding of the state itself.
    return max(tolerance, ROUNDING_MARGIN * torch.finfo(after.dtype).eps * float(before.norm()) / change)


def _failed(result: xr.Dataset, tolerance: float) -> list[str]:
    """Return the names of claimed symmetries whose error exceeds the tolerance; NaN counts as exceeding it."""
    failed = []
    for error, claim in (("equivariance_error", "claimed"), ("translation_error", "translation_claimed")):
        bad = result[claim] & ~(result[error] <= tolerance)
        failed += [str(name) for name in bad[bad.dims[0]].values[bad.values]]
    return failed
