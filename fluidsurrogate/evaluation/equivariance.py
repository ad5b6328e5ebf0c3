"""How far a stepper is from commuting with group elements, shifts, rotations by any angle, and uniform velocities.

One formula is used throughout, ‖f(g x) − g f(x)‖ / ‖f(x) − x‖ over the whole batch: relative to the change that the
step makes, because a step that predicts "state + little" would otherwise pass anything. State and inputs are
transformed together. The error is NaN if the step changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from solvers import MEAN_VELOCITY, VELOCITY, Group, StateSpec, Stepper, act_on_fields
from solvers.array_types import Inputs, State
from solvers.continuous_symmetry import disc_mask, localise, rotate, rotation_matrix, shift
from solvers.symmetry import act_on_inputs

COMPARISON_RADIUS = 0.3  # of the disc in which rotated states are compared, over the shorter side
UNCHANGED = 1e-5  # relative change up to which a forcing counts as invariant under a shift


def apply_stepper(stepper: Stepper, state: State, inputs: Inputs = None) -> State:
    """Advance copies of state and inputs by one step, and return a copy of the result.

    A stepper of the user's own may work in place, or return the same tensor at every call.

    Parameters
    ----------
    stepper : Stepper
        The step.
    state : Tensor
        Shape (batch, component, y, x).
    inputs : mapping of str to Tensor, optional
        Inputs of the step by name.

    Returns
    -------
    Tensor
        The state one stored interval later.
    """
    copies = None if inputs is None else {name: value.clone() for name, value in inputs.items()}
    return stepper(state.clone(), copies).clone()


def equivariance_error(
    stepper: Stepper, state: State, group: Group, inputs: Inputs = None, spec: StateSpec | None = None
) -> dict[str, float]:
    r"""Measure how far a stepper is from commuting with the elements of a group.

    .. math:: \|f(g x) - g f(x)\| / \|f(x) - x\|

    Parameters
    ----------
    stepper : Stepper
        The step f: a solver, a trained surrogate, or any other.
    state : Tensor
        States x, shape (batch, component, y, x); the norms are over the whole batch.
    group : Group
        Rotations and mirrors g about the centre of the box.
    inputs : mapping of str to Tensor, optional
        Inputs of the step by name, which are transformed with the state.
    spec : StateSpec, optional
        How the fields transform; by default as the stepper's `spec` says. `wrong_parity` makes one that must fail.

    Returns
    -------
    dict
        The error of each element but the identity, by the element's name. NaN if the step changes nothing.

    Examples
    --------
    >>> import fluidsurrogate as fs
    >>> import torch
    >>> from solvers import D4, Grid, NavierStokes2D
    >>> solver = NavierStokes2D(Grid.square(16), viscosity=1e-2, interval=0.1, dtype=torch.float64)
    >>> vorticity = torch.randn(2, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> errors = fs.equivariance_error(solver, vorticity, D4)
    >>> len(errors), max(errors.values()) < 1e-12
    (7, True)
    """
    types = spec or stepper.spec
    with torch.no_grad():
        after = apply_stepper(stepper, state, inputs)
        return {
            g.name: _error(
                apply_stepper(stepper, act_on_fields(types.fields, state, g), act_on_inputs(types, inputs, g)),
                act_on_fields(types.fields, after, g),
                after,
                state,
            )
            for g in group.elements[1:]
        }


def wrong_parity(spec: StateSpec) -> StateSpec:
    """Return a spec in which fields have the wrong parity: a control that must fail under mirrors.

    Every pseudoscalar is called a plain scalar. In three dimensions, where a flow's state is a velocity, vectors and
    pseudovectors are taken for one another too. Only a step that is odd in these fields, such as linear diffusion,
    cannot tell the two apart.

    Parameters
    ----------
    spec : StateSpec
        Fields and inputs with their types.

    Returns
    -------
    StateSpec
        The same fields and inputs with other parities.
    """

    def wrong(field):
        if field.order == 0:
            return replace(field, parity=1)
        return replace(field, parity=-field.parity) if field.dimensions > 2 else field

    return replace(spec, fields=tuple(map(wrong, spec.fields)), inputs=tuple(map(wrong, spec.inputs)))


def translation_error(stepper: Stepper, state: State, cells: Sequence[float], inputs: Inputs = None) -> float:
    r"""Measure how far a stepper is from commuting with a shift S.

    .. math:: \|f(S x) - S f(x)\| / \|f(x) - x\|

    Parameters
    ----------
    stepper : Stepper
        The step f.
    state : Tensor
        States x, shape (batch, component, y, x).
    cells : sequence of float
        The shift (y, x) or (z, y, x) in cells. Whole cells are shifted by index, parts of a cell by the trigonometric
        interpolant, which is exact for states without Nyquist modes.
    inputs : mapping of str to Tensor, optional
        Inputs of the step by name; inputs that are fields are shifted with the state.

    Returns
    -------
    float
        The error.
    """
    # The step's result is contiguous too: if the step changes nothing, the same bits are shifted.
    state = state.contiguous()
    shifted = None if inputs is None else {name: shift(value, tuple(cells)) for name, value in inputs.items()}
    with torch.no_grad():
        after = apply_stepper(stepper, state, inputs)
        got = apply_stepper(stepper, shift(state, tuple(cells)), shifted)
        return _error(got, shift(after, tuple(cells)), after, state)


def rotation_error(
    stepper: Stepper,
    state: State,
    degrees: float,
    inputs: Inputs = None,
    axis: Sequence[float] | None = None,
) -> float:
    r"""Measure how far a stepper is from commuting with a rotation R by any angle, for a localised flow.

    .. math:: \|f(R x) - R f(x)\|_D / \|f(x) - x\|_D

    A rotated periodic field is not periodic. States and inputs that are fields are localised first (`localise`): a few
    eddies under a window that has died out where the box ends. Rotated copies are the interpolants read at the rotated
    points, and the norms are over a disc or ball D of 0.3 times the shortest side, where a step that reaches less than
    a third of the box does not feel the periodic copies of the eddies. The components of vectors are rotated as well.

    A step that reaches everywhere, as the pressure does, feels that the box itself is not round. The error of the
    classical solver, some 4e-2 on 32 × 32 cells and 2e-3 on 64 × 64, is then the least that can be measured. Isotropic
    diffusion has less than 1e-4.

    Parameters
    ----------
    stepper : Stepper
        The step f.
    state : Tensor
        States, shape (batch, component, y, x).
    degrees : float
        Angle of the rotation about the middle of the box, counter-clockwise.
    inputs : mapping of str to Tensor, optional
        Inputs of the step by name.
    axis : sequence of float, optional
        Direction (x, y, z) of the axis in three dimensions; by default the z axis.

    Returns
    -------
    float
        The error.
    """
    spec, grid = stepper.spec, stepper.spec.grid
    whole, within = disc_mask(grid, 0.5), disc_mask(grid, COMPARISON_RADIUS)
    state, unrotated = localise(spec.fields, state, grid), dict(inputs or {})
    for field in spec.inputs:
        if field.name in unrotated:
            unrotated[field.name] = localise([field], unrotated[field.name], grid)
    rotation = degrees if grid.dimensions == 2 else rotation_matrix(degrees, axis or (0.0, 0.0, 1.0))
    given = [f for f in spec.inputs if f.name in unrotated]
    rotated = {f.name: rotate([f], unrotated[f.name], grid, rotation, whole) for f in given}
    with torch.no_grad():
        after = apply_stepper(stepper, state, unrotated or None)
        got = apply_stepper(stepper, rotate(spec.fields, state, grid, rotation, whole), rotated or None)
        expected = rotate(spec.fields, after, grid, rotation, within)
        return _error(got, expected, after, state, within)


def galilean_error(stepper: Stepper, state: State, axis: int, inputs: Inputs = None) -> float:
    r"""Measure how far a stepper is from Galilean invariance: the error of adding a uniform velocity.

    .. math:: \|f(x; U + V) - S f(x; U)\| / \|f(x; U) - x\| \quad \text{or} \quad
              \|f(x + V) - (S f(x) + V)\| / \|f(x) - x\|

    The velocity V along the axis is one cell an interval, and S the shift by that cell: the flow seen from a frame that
    moves with −V is carried along and otherwise the same. The first form holds if the mean velocity U is an input, the
    second if the state is the velocity itself.

    Parameters
    ----------
    stepper : Stepper
        The step f.
    state : Tensor
        States x, shape (batch, component, y, x).
    axis : int
        Direction of the velocity, 0 for x, 1 for y and 2 for z.
    inputs : mapping of str to Tensor, optional
        Inputs of the step by name.

    Returns
    -------
    float
        The error.

    Raises
    ------
    ValueError
        If neither form holds, or if a forcing or plates are not the same after the shift.
    """
    spec = stepper.spec
    if reason := reason_not_galilean(spec, axis, inputs):
        raise ValueError(reason)
    along = -1 - axis  # the axis of the array
    cells = [float(dim == along) for dim in spec.grid.dims]
    ones = [1 for _ in spec.grid.n]
    velocity = state.new_zeros(1, len(ones), *ones)
    velocity[:, axis] = spec.grid.spacing[along] / spec.interval
    boosted, added = dict(inputs or {}), state.new_zeros(1, spec.components, *ones)
    if MEAN_VELOCITY.name in boosted:
        boosted[MEAN_VELOCITY.name] = boosted[MEAN_VELOCITY.name] + velocity.to(boosted[MEAN_VELOCITY.name])
    else:
        parts = [velocity if f.name == VELOCITY.name else added[:, : f.components] for f in spec.fields]
        added = torch.cat(parts, dim=1)
    with torch.no_grad():
        after = apply_stepper(stepper, state, inputs)
        got = apply_stepper(stepper, state + added, boosted or None)
        return _error(got, shift(after, tuple(cells)) + added.to(after), after, state)


def reason_not_galilean(spec: StateSpec, axis: int, inputs: Inputs = None) -> str:
    """Return why a uniform velocity cannot be added to a step.

    Parameters
    ----------
    spec : StateSpec
        State and inputs of the step.
    axis : int
        Direction of the velocity, 0 for x, 1 for y and 2 for z.
    inputs : mapping of str to Tensor, optional
        Inputs of the step by name.

    Returns
    -------
    str
        The reason; empty if a uniform velocity can be added.
    """
    given = inputs or {}
    if MEAN_VELOCITY.name not in given and VELOCITY.name not in [field.name for field in spec.fields]:
        return "neither the state nor an input holds the mean velocity"
    if axis == 1 and any(field.wall for field in spec.fields):
        return "the plates do not move"
    for field in spec.inputs:
        value = given.get(field.name)
        if value is not None and not field.uniform:
            shifted = value.roll(1, -1 - axis)
            if float((shifted - value).norm()) > UNCHANGED * float(value.norm()):
                return f"the {field.name} would have to move along"
    return ""


def _error(got: Tensor, expected: Tensor, after: Tensor, before: Tensor, where: Tensor | None = None) -> float:
    """Return ‖got − expected‖ / ‖after − before‖, at the cells `where`."""
    difference, change = got - expected, after - before.to(after)
    if where is not None:
        difference, change = difference[..., where.to(after.device)], change[..., where.to(after.device)]
    return float(difference.norm() / change.norm())
