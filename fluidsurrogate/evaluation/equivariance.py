"""How far a stepper is from commuting with a group, with shifts, with turns by any angle, with a uniform velocity.

One formula throughout, ‖f(g x) − g f(x)‖ / ‖f(x) − x‖ over the whole batch: relative to the change that the step makes,
since a step that predicts "state + little" would otherwise pass anything. State and inputs move together. NaN where the
step changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from solvers import MEAN_VELOCITY, VELOCITY, Group, StateSpec, Stepper, act_on_fields
from solvers.array_types import Inputs, State
from solvers.continuous_symmetry import disc_mask, localise, rotate, shift
from solvers.symmetry import act_on_inputs

COMPARED = 0.3  # radius of the disc in which turns are compared, over the shorter side

Move = Callable[[State], State]
MoveInputs = Callable[[Inputs], Inputs]


def step(stepper: Stepper, state: State, inputs: Inputs = None) -> State:
    """One step from copies of state and inputs, to a copy of what comes of it: a stepper of the user's may work in
    place, or give the same tensor at every call."""
    copies = None if inputs is None else {name: value.clone() for name, value in inputs.items()}
    return stepper(state.clone(), copies).clone()


def equivariance_error(
    stepper: Stepper, state: State, group: Group, inputs: Inputs = None, spec: StateSpec | None = None
) -> dict[str, float]:
    """The error of each element of `group` but the identity. `spec` says how the fields transform, if not as the
    stepper's own does (see `wrong_parity`)."""
    said = spec or stepper.spec
    with torch.no_grad():
        after = step(stepper, state, inputs)
        return {
            g.name: _error(
                step(stepper, act_on_fields(said.fields, state, g), act_on_inputs(said, inputs, g)),
                act_on_fields(said.fields, after, g),
                after,
                state,
            )
            for g in group.elements[1:]
        }


def wrong_parity(spec: StateSpec) -> StateSpec:
    """The same fields and inputs with every pseudoscalar called a plain scalar: the control that a right model must
    fail under mirrors. Only a step that is odd in its pseudoscalars, linear diffusion say, cannot tell them apart."""

    def plain(field):
        return replace(field, parity=1) if field.order == 0 else field

    return replace(spec, fields=tuple(map(plain, spec.fields)), inputs=tuple(map(plain, spec.inputs)))


def translation_error(stepper: Stepper, state: State, cells: tuple[float, float], inputs: Inputs = None) -> float:
    """The error of a shift by `cells` (y, x): whole ones by index, parts of one by the trigonometric interpolant, which
    is exact for states without Nyquist modes. Field inputs shift with the state."""
    state = state.contiguous()  # as what comes of the step is: where nothing changes, the same bits are transformed
    moved = None if inputs is None else {name: shift(value, cells) for name, value in inputs.items()}
    with torch.no_grad():
        after = step(stepper, state, inputs)
        return _error(step(stepper, shift(state, cells), moved), shift(after, cells), after, state)


def rotation_error(stepper: Stepper, state: State, degrees: float, inputs: Inputs = None) -> float:
    """The error of a turn by any angle about the middle of the box, of a lump of flow.

    A turned periodic field is not periodic, so that states and field inputs are first `localise`d: a few eddies under a
    window that has died out where the box ends. Turned copies are the interpolants read at the turned points, and
    f(R x) is held against R f(x) in a disc of 0.3 times the shorter side, where a step that reaches less than a third
    of the box does not feel the periodic copies of the lump. Vectors' components turn as well.

    For a step that reaches everywhere, as pressure does, the box itself is not round: the classical solver's own error,
    some 4e-2 on 32 × 32 cells and 2e-3 on 64 × 64, is the floor. Isotropic diffusion comes out below 1e-4.
    """
    spec, grid = stepper.spec, stepper.spec.grid
    whole, within = disc_mask(grid, 0.5), disc_mask(grid, COMPARED)
    state, still = localise(spec.fields, state, grid), dict(inputs or {})
    for field in spec.inputs:
        if field.name in still:
            still[field.name] = localise([field], still[field.name], grid)
    turned = {f.name: rotate([f], still[f.name], grid, degrees, whole) for f in spec.inputs if f.name in still}
    with torch.no_grad():
        after = step(stepper, state, still or None)
        got = step(stepper, rotate(spec.fields, state, grid, degrees, whole), turned or None)
        expected = rotate(spec.fields, after, grid, degrees, within)
        return _error(got, expected, after, state, within)


def galilean_error(stepper: Stepper, state: State, axis: int, inputs: Inputs = None) -> float:
    """The error of adding a uniform velocity V along `axis` (0: x, 1: y), one cell an interval T.

    The flow seen from a frame that moves with −V is carried along by V T and is otherwise the same. So with S the shift
    by that one cell, f(x; U + V) = S f(x; U) where the mean velocity U is an input, and f(x + V) = S f(x) + V where the
    state is the velocity itself. Raises ValueError with the reason where neither is the case, or where a forcing or
    plates are not the same after that shift.
    """
    spec = stepper.spec
    if reason := not_galilean(spec, axis, inputs):
        raise ValueError(reason)
    cells = (0.0, 1.0) if axis == 0 else (1.0, 0.0)
    velocity = state.new_zeros(1, 2, 1, 1)
    velocity[:, axis] = spec.grid.spacing[1 - axis] / spec.interval
    boosted, faster = dict(inputs or {}), state.new_zeros(1, spec.components, 1, 1)
    if MEAN_VELOCITY.name in boosted:
        boosted[MEAN_VELOCITY.name] = boosted[MEAN_VELOCITY.name] + velocity.to(boosted[MEAN_VELOCITY.name])
    else:
        parts = [velocity if f.name == VELOCITY.name else faster[:, : f.components] for f in spec.fields]
        faster = torch.cat(parts, dim=1)
    with torch.no_grad():
        after = step(stepper, state, inputs)
        got = step(stepper, state + faster, boosted or None)
        return _error(got, shift(after, cells) + faster.to(after), after, state)


def not_galilean(spec: StateSpec, axis: int, inputs: Inputs = None) -> str:
    """Why a uniform velocity along `axis` (0: x, 1: y) cannot be added to this step; empty where it can."""
    given = inputs or {}
    if MEAN_VELOCITY.name not in given and VELOCITY.name not in [field.name for field in spec.fields]:
        return "neither the state nor an input holds the mean velocity"
    if axis == 1 and any(field.wall for field in spec.fields):
        return "the plates do not move"
    for field in spec.inputs:
        value = given.get(field.name)
        if value is not None and not field.uniform:
            moved = value.roll(1, -1 - axis)
            if float((moved - value).norm()) > 1e-5 * float(value.norm()):
                return f"the {field.name} would have to move along"
    return ""


def _error(got: Tensor, expected: Tensor, after: Tensor, before: Tensor, where: Tensor | None = None) -> float:
    """‖got − expected‖ / ‖after − before‖, at the cells `where`."""
    difference, change = got - expected, after - before.to(after)
    if where is not None:
        difference, change = difference[..., where.to(after.device)], change[..., where.to(after.device)]
    return float(difference.norm() / change.norm())
