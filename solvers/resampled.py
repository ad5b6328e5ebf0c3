"""A stepper on one grid, seen on another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import final

from solvers.grid import Grid, resample
from solvers.stepper import Carry, Inputs, State, Stepper


@final
class Resampled(Stepper[Carry]):
    """`stepper` with states on `grid`: a fine solver between coarse states, or the other way round.

    States and inputs pass through `resample`: exact for the modes that both grids hold, and commuting with every
    symmetry of the box.
    """

    def __init__(self, stepper: Stepper[Carry], grid: Grid) -> None:
        self.stepper, self.spec = stepper, replace(stepper.spec, grid=grid)

    def start(self, state: State, inputs: Inputs = None, seeds: Sequence[int] | None = None) -> Carry:
        """Begin at a state on this stepper's grid; inputs that are not given are the inner stepper's own, if any."""
        replace(self.spec, inputs=()).check(state)
        here, there = self.spec.grid, self.stepper.spec.grid
        uniform = {field.name for field in self.spec.inputs if field.uniform}
        moved = {k: v if k in uniform else resample(v, here, there) for k, v in (inputs or {}).items()}
        return self.stepper.start(resample(state, here, there), moved, seeds)

    def advance(self, carry: Carry) -> Carry:
        """One interval of the stepper within."""
        return self.stepper.advance(carry)

    def state(self, carry: Carry) -> State:
        """The state on this stepper's grid."""
        return resample(self.stepper.state(carry), self.stepper.spec.grid, self.spec.grid)
