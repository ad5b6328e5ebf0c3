"""A stepper on one grid as a stepper on another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import final

from solvers.array_types import Inputs, State
from solvers.grid import Grid, resample
from solvers.stepper import Carry, Stepper


@final
class Resampled(Stepper[Carry]):
    """A stepper whose states live on another grid: a fine solver between coarse states, or the other way round.

    States and inputs pass through `resample`, which is exact for the modes that both grids hold and commutes with
    every symmetry of the box.

    Parameters
    ----------
    stepper : Stepper
        The stepper inside.
    grid : Grid
        The grid of the states outside; a grid of the same box.

    Attributes
    ----------
    spec : StateSpec
        That of the stepper inside, on `grid`.

    Examples
    --------
    >>> from solvers import Grid, NavierStokes2D, Resampled
    >>> solver = NavierStokes2D(Grid.square(64), viscosity=1e-3, interval=0.5)
    >>> Resampled(solver, Grid.square(32)).spec.grid.n
    (32, 32)
    """

    def __init__(self, stepper: Stepper[Carry], grid: Grid) -> None:
        self.stepper, self.spec = stepper, replace(stepper.spec, grid=grid)

    def start(self, state: State, inputs: Inputs = None, seeds: Sequence[int] | None = None) -> Carry:
        """Begin at a state on the grid outside.

        Parameters
        ----------
        state : Tensor
            Shape (batch, component, y, x).
        inputs : mapping of str to Tensor, optional
            Inputs by name, fields on the grid outside; those left out are the inner stepper's own, if it has any.
        seeds : sequence of int, optional
            Seed of each trajectory.

        Returns
        -------
        Carry
            The carry of the stepper inside.
        """
        replace(self.spec, inputs=()).check(state)
        outside, inside = self.spec.grid, self.stepper.spec.grid
        uniform = {field.name for field in self.spec.inputs if field.uniform}
        moved = {k: v if k in uniform else resample(v, outside, inside) for k, v in (inputs or {}).items()}
        return self.stepper.start(resample(state, outside, inside), moved, seeds)

    def advance(self, carry: Carry) -> Carry:
        return self.stepper.advance(carry)

    def correct(self, carry: Carry, correction: State) -> Carry:
        return self.stepper.correct(carry, resample(correction, self.spec.grid, self.stepper.spec.grid))

    def state(self, carry: Carry) -> State:
        return resample(self.stepper.state(carry), self.stepper.spec.grid, self.spec.grid)
