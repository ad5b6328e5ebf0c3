"""What a step keeps and what it breaks: the audit of a surrogate, a solver, or a network that somebody else wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import xarray as xr
from torch import Tensor, nn

from fluidsurrogate.auditing.measurements import drift, elements, galilean, translations_of, turns
from fluidsurrogate.auditing.module_stepper import ModuleStepper
from fluidsurrogate.auditing.samples import AuditSample, sample, solver_of, states_of
from fluidsurrogate.core.errors import UsageError, check_integer
from fluidsurrogate.data.readers import as_dataset
from fluidsurrogate.evaluation.equivariance import apply_stepper
from fluidsurrogate.models.forecasting import check_flow_constants
from fluidsurrogate.models.surrogate import Surrogate
from solvers import C1, Group, NavierStokes2D, Resampled, StateSpec, Stepper, VelocityForm, group_named, point_group

TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-10}
ANGLES = (15.0, 30.0, 45.0)
SHIFTS = ((0, 1), (1, 0), (2, 2), (3, 5), (0, 0.5), (0.5, 0), (0.5, 0.5))  # cells along (y, x)


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
    angles: Sequence[float] = ANGLES,
    shifts: Sequence[tuple[float, float]] = SHIFTS,
) -> xr.Dataset:
    """Measure which symmetries one step of a model keeps, and what a rollout does to what the flow conserves.

    Errors are ‖f(gx) − g f(x)‖ / ‖f(x) − x‖ over all states, state and inputs moved together; NaN where the step
    changes nothing (persistence). See `fluidsurrogate.evaluation.equivariance` for each. The variables:

    - `equivariance_error`, `claimed` (element): every element of the grid's point group, D4 on squares, D2 on
      rectangles and between plates; `wrong_parity_error` (element): of the mirrors, with pseudoscalars treated as plain
      scalars. A control: it must be large.
    - `translation_error`, `translation_claimed` (shift): shifts by `shift_y`, `shift_x` cells. Parts of a cell are
      never claimed.
    - `rotation_error` (angle): turns by any angle, of a lump of flow. `rotation_error_of_solver`: that of the classical
      solver that made a surrogate's data, where it is known, on the same states: what the box and the grid cost.
    - `galilean_error` (direction): a uniform velocity added along x, along y.
    - `mean_drift` (component, time): ⟨f⟩(t) − ⟨f⟩(0) over rms f(0), the largest in size over the trajectories;
      `mean_drift_step` (component): the most that one step adds. `energy_change` (time): the mean over trajectories of
      E(t) / E(0) − 1; `energy_change_step`, `energy_growth_step`: the largest change in size and the largest growth of
      E in one step, relative to E before it, over trajectories and steps.

    The attributes hold the `verdict`, "pass", "fail", "undefined" (the step changes nothing) or "nothing claimed",
    what `failed`, the `tolerance`, and, as NAME_reason, why a NaN is one.

    Args:
        model: any stepper; or a module that maps the state (batch, component, y, x) in physical units, its inputs
            following as channels (see `ModuleStepper`), to the next one.
        spec: for a module, what its states are.
        states: a Dataset, or the file or folder of one, of which the test trajectories are taken (see
            `audit_states.sample`), or a tensor. By default, for a surrogate, of the experiment that it comes from.
        inputs: those of a tensor of states, by name, each (batch, component, y, x).
        group: the point group that the model claims; by default a surrogate's own, all of the grid's for a solver whose
            inputs are given, none for anything else.
        stride: shifts by multiples of so many cells are claimed; by default a surrogate's own stride, one cell for
            solvers, no shifts for anything else.
        steps: intervals of the rollout.
        tolerance: of what is claimed; by default 1e-4 in single and 1e-10 in double precision, or thirty times what
            rounding of the states is of the change, if that is more.
        angles: in degrees, counter-clockwise.
        shifts: in cells, as (y, x); beside them, one and two strides, where a stride is more than a cell.

    Raises:
        UsageError: where states, spec and model do not fit, or an argument is out of range.
    """
    stepper = _as_stepper(model, spec)
    steps = check_integer("steps", steps, 1)
    stride = None if stride is None else check_integer("stride", stride, 1)
    if any(len(tuple(s)) != 2 for s in shifts):
        raise UsageError(f"shifts must be pairs of cells along (y, x) (got {list(shifts)})")
    angles = list(dict.fromkeys(angles))
    if tolerance is not None and not tolerance > 0:
        raise UsageError(f"tolerance must be positive (got {tolerance})")
    if states is None:
        if not isinstance(stepper, Surrogate):
            raise UsageError("give states, a Dataset or a tensor: only a surrogate knows what it was trained on")
        states = states_of(stepper)
    states = states if isinstance(states, Tensor) else as_dataset(states)
    chosen = sample(stepper.spec, states, inputs)
    if isinstance(stepper, Surrogate) and isinstance(states, xr.Dataset):
        check_flow_constants(stepper, states)
    claimed, stride = _claims(stepper, chosen, group, stride)
    shifts = [*shifts, (0, stride), (stride, 0)] if stride is not None and stride > 1 else shifts
    solver = solver_of(stepper, stepper.spec) if isinstance(stepper, Surrogate) else None
    with _evaluating(stepper), torch.no_grad():
        after = _first_step(stepper, chosen)
        chosen = chosen.to(after)
        if tolerance is None:
            if after.dtype not in TOLERANCES:
                raise UsageError(f"say the tolerance: there is no usual one for {after.dtype}")
            tolerance = TOLERANCES[after.dtype]
            change = float((after - chosen.states).norm())
            if change:  # rounding of the state itself, where a step changes little of it
                tolerance = max(tolerance, 30 * torch.finfo(after.dtype).eps * float(chosen.states.norm()) / change)
        moves = not torch.equal(after, chosen.states)  # what is not finite is no standstill
        parts = [
            elements(stepper, chosen, claimed),
            translations_of(stepper, chosen, shifts, stride),
            turns(stepper, chosen, angles, solver),
            galilean(stepper, chosen),
            drift(stepper, chosen, steps),
        ]
    result = xr.merge(parts, combine_attrs="no_conflicts")
    failed = _failed(result, tolerance)
    anything = bool(result["claimed"].any()) or bool(result["translation_claimed"].any())
    verdict = "nothing claimed" if not anything else "undefined" if not moves else "fail" if failed else "pass"
    return result.assign_attrs(
        title="audit of symmetries and conservation", verdict=verdict, failed=", ".join(failed) if moves else "",
        tolerance=tolerance, group=claimed.name, stride=stride or 0, dtype=str(after.dtype).removeprefix("torch."),
        steps=steps, states=len(chosen.states), grid=" x ".join(map(str, stepper.spec.grid.n)),
    )  # fmt: skip


def _as_stepper(model: Stepper | nn.Module, spec: StateSpec | None) -> Stepper:
    if isinstance(model, Stepper):
        if spec is not None and spec != model.spec:
            raise UsageError("spec is for modules; this stepper has one of its own, which is another")
        return model
    if not isinstance(model, nn.Module):
        raise UsageError(f"model must be a stepper or a torch.nn.Module (got {type(model).__name__})")
    if spec is None:
        raise UsageError("give the spec of the module's states: a StateSpec of grid, fields, interval and inputs")
    return ModuleStepper(model, spec)


def _claims(
    stepper: Stepper, chosen: AuditSample, group: Group | str | None, stride: int | None
) -> tuple[Group, int | None]:
    """The group and the stride that are claimed, as said or else by what the model is."""
    inner = _innermost(stepper)
    largest = point_group(stepper.spec.grid, stepper.spec.fields)
    own, cells = C1, None
    if isinstance(inner, Surrogate):
        own = inner.network.group
        cells = inner.network.stride if inner.spec.grid == stepper.spec.grid else None
    elif isinstance(inner, NavierStokes2D) and inner.stirring is None and (chosen.inputs or not inner.spec.inputs):
        own, cells = largest, 1
    if isinstance(group, str):
        try:
            group = group_named(group)
        except ValueError as error:
            raise UsageError(str(error)) from None
    claimed = own if group is None else group
    if not largest.contains(claimed):
        raise UsageError(f"group {claimed.name!r} is no symmetry of this grid; {largest.name} and its subgroups are")
    return claimed, cells if stride is None else stride


def _innermost(stepper: Stepper) -> Stepper:
    """What does the work behind views of it."""
    while isinstance(stepper, Resampled | VelocityForm):
        stepper = stepper.stepper
    return stepper


def _first_step(stepper: Stepper, chosen: AuditSample) -> Tensor:
    """f(x); UsageError where the step does not take these states."""
    try:
        return apply_stepper(stepper, chosen.states, chosen.inputs)
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"the model does not take these states: {error}") from None


@contextmanager
def _evaluating(stepper: Stepper) -> Iterator[None]:
    """With dropout and batch statistics as in use, and as they were afterwards."""
    modules: list[nn.Module] = []
    inner = _innermost(stepper)
    if isinstance(inner, Surrogate):
        modules = list(inner.network.modules())
    elif isinstance(inner, ModuleStepper):
        modules = list(inner.module.modules())
    training = [part for part in modules if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _failed(result: xr.Dataset, tolerance: float) -> list[str]:
    """Names of what is claimed and not within the tolerance; NaN is not."""
    failed = []
    for error, claim in (("equivariance_error", "claimed"), ("translation_error", "translation_claimed")):
        bad = result[claim] & ~(result[error] <= tolerance)
        failed += [str(name) for name in bad[bad.dims[0]].values[bad.values]]
    return failed
