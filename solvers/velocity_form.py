"""A stepper of vorticity as a stepper of velocity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from solvers.array_types import Inputs, State
from solvers.diagnostics import velocity, vorticity
from solvers.fields import VELOCITY, VORTICITY, StateSpec
from solvers.grid import Grid
from solvers.stepper import Carry, Stepper

MAX_MEAN = 1e-3  # a mean velocity of this share of the root mean square counts as rounding


@final
class VelocityForm(Stepper[Carry]):
    r"""A stepper whose states hold the velocity in place of the vorticity; other fields stay as they are.

    .. math:: u = (\partial_y \psi, -\partial_x \psi), \qquad \omega = \partial_x v - \partial_y u

    The transforms are spectrally exact on the modes below the Nyquist ones. The velocity is that of the eddies: its
    mean over the box is zero, and a mean velocity stays an input.

    Parameters
    ----------
    stepper : Stepper
        A stepper whose first field is the vorticity.

    Attributes
    ----------
    spec : StateSpec
        That of the stepper inside, with the velocity as its first field.

    Raises
    ------
    ValueError
        If the first field is not the vorticity.

    Examples
    --------
    >>> from solvers import Grid, NavierStokes2D, VelocityForm
    >>> solver = NavierStokes2D(Grid.square(64), viscosity=1e-3, interval=0.5)
    >>> [field.name for field in VelocityForm(solver).spec.fields]
    ['velocity']
    """

    def __init__(self, stepper: Stepper[Carry]) -> None:
        first, *rest = stepper.spec.fields
        if first.name != VORTICITY.name:
            raise ValueError(f"only a stepper of vorticity has a velocity form (its first field is {first.name!r})")
        self.stepper = stepper
        self.spec: StateSpec = replace(stepper.spec, fields=(replace(VELOCITY, wall=-first.wall), *rest))

    def start(self, state: State, inputs: Inputs = None, seeds: Sequence[int] | None = None) -> Carry:
        """Begin at a state that holds the velocity.

        Parameters
        ----------
        state : Tensor
            Shape (batch, component, y, x).
        inputs : mapping of str to Tensor, optional
            Inputs of the stepper inside, by name.
        seeds : sequence of int, optional
            Seed of each trajectory.

        Returns
        -------
        Carry
            The carry of the stepper inside.

        Raises
        ------
        ValueError
            If the velocity has a mean over the box, which would be lost.
        """
        replace(self.spec, inputs=()).check(state)  # the inputs are the inner stepper's, and so are their defaults
        mean, size = state[:, :2].mean((-2, -1)).abs().amax(1), state[:, :2].square().mean((1, 2, 3)).sqrt()
        lost = mean[mean > MAX_MEAN * size]
        if len(lost):
            raise ValueError(f"the velocity has a mean over the box, {float(lost.max()):.3g}: subtract it, or give it "
                             "as the flow's mean_velocity")  # fmt: skip
        curl = vorticity(state[:, :2], self.spec.grid)
        return self.stepper.start(torch.cat([curl, state[:, 2:]], dim=1), inputs, seeds)

    def advance(self, carry: Carry) -> Carry:
        return self.stepper.advance(carry)

    def correct(self, carry: Carry, correction: State) -> Carry:
        curl = vorticity(correction[:, :2], self.spec.grid)
        return self.stepper.correct(carry, torch.cat([curl, correction[:, 2:]], dim=1))

    def state(self, carry: Carry) -> State:
        return with_velocity(self.stepper.state(carry), self.spec.grid)


def with_velocity(
    state: Float[Tensor, "*batch component y x"], grid: Grid
) -> Float[Tensor, "*batch component_out y x"]:
    """Replace the vorticity, the first component of states, by the velocity.

    Parameters
    ----------
    state : Tensor
        Shape (..., component, y, x).
    grid : Grid
        The grid.

    Returns
    -------
    Tensor
        Shape (..., component + 1, y, x): the velocity's components x and y, and the other components.
    """
    flat = state.flatten(0, -4)
    made = torch.cat([velocity(flat[:, :1], grid), flat[:, 1:]], dim=1)
    return made.unflatten(0, state.shape[:-3])
