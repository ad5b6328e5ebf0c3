"""How far a stepper is from commuting with a group."""

from __future__ import annotations

import torch

from solvers import Group, Stepper, act_on_fields
from solvers.stepper import Inputs, State
from solvers.symmetry import act_on_inputs


def equivariance_error(stepper: Stepper, state: State, group: Group, inputs: Inputs = None) -> dict[str, float]:
    """‖f(g x) − g f(x)‖ / ‖f(x) − x‖ for each element but the identity, over the whole batch.

    Relative to the change that the step makes, since a step that predicts "state + little" would otherwise pass
    anything. State and inputs turn together. NaN where the step changes nothing.
    """
    fields = stepper.spec.fields
    with torch.no_grad():
        after = stepper(state, inputs)
        change = (after - state.to(after)).norm()
        errors = {}
        for g in group.elements[1:]:
            moved = stepper(act_on_fields(fields, state, g), act_on_inputs(stepper.spec, inputs, g))
            errors[g.name] = float((moved - act_on_fields(fields, after, g)).norm() / change)
    return errors
