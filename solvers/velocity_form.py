"""A stepper of vorticity, seen as one of velocity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from solvers.diagnostics import velocity, vorticity
from solvers.fields import VELOCITY, VORTICITY, StateSpec
from solvers.grid import Grid
from solvers.stepper import Carry, Inputs, State, Stepper

MOST_MEAN = 1e-3  # of the velocity's rms, that counts as rounding


@final
class VelocityForm(Stepper[Carry]):
    """`stepper` with the velocity in place of the vorticity, its first field; the other fields stay as they are.

    u = (∂ψ/∂y, −∂ψ/∂x) and ω = ∂v/∂x − ∂u/∂y, spectrally exact on the modes below the Nyquist ones. The velocity is
    that of the eddies: its mean over the box is zero, and a mean velocity stays an input. ValueError for a stepper
    whose first field is no vorticity.
    """

    def __init__(self, stepper: Stepper[Carry]) -> None:
        first, *rest = stepper.spec.fields
        if first.name != VORTICITY.name:
            raise ValueError(f"only a flow of vorticity has a velocity form (its first field is {first.name!r})")
        self.stepper = stepper
        self.spec: StateSpec = replace(stepper.spec, fields=(replace(VELOCITY, wall=-first.wall), *rest))

    def start(self, state: State, inputs: Inputs = None, seeds: Sequence[int] | None = None) -> Carry:
        """Begin at a state of velocity. ValueError where that has a mean, which would be lost."""
        replace(self.spec, inputs=()).check(state)  # the inputs are the inner stepper's, and so are its defaults
        mean, size = state[:, :2].mean((-2, -1)).abs().amax(1), state[:, :2].square().mean((1, 2, 3)).sqrt()
        lost = mean[mean > MOST_MEAN * size]
        if len(lost):
            raise ValueError(f"the velocity has a mean over the box, {float(lost.max()):.3g}: take it away, or give it "
                             "as the flow's mean_velocity")  # fmt: skip
        curl = vorticity(state[:, :2], self.spec.grid)
        return self.stepper.start(torch.cat([curl, state[:, 2:]], dim=1), inputs, seeds)

    def advance(self, carry: Carry) -> Carry:
        """One interval of the stepper within."""
        return self.stepper.advance(carry)

    def state(self, carry: Carry) -> State:
        """The state with the velocity."""
        return with_velocity(self.stepper.state(carry), self.spec.grid)


def with_velocity(
    state: Float[Tensor, "*batch component y x"], grid: Grid
) -> Float[Tensor, "*batch component_out y x"]:
    """A state with the velocity of its first component, the vorticity, in place of that."""
    flat = state.flatten(0, -4)
    made = torch.cat([velocity(flat[:, :1], grid), flat[:, 1:]], dim=1)
    return made.unflatten(0, state.shape[:-3])
