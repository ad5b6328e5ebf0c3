"""A stepper that leaves what it cannot resolve as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, final

from solvers.stepper import Carry, Inputs, State, Stepper


@dataclass(frozen=True)
class UnresolvedCarry(Generic[Carry]):
    """What the stepper carries, and the part of the start that it does not hold."""

    inner: Carry
    rest: State


@final
class Unresolved(Stepper[UnresolvedCarry]):
    """`stepper` without the loss of what its start drops: S(x) + (x − P x), P x the start as it holds it.

    A solver that dealiases by the two-thirds rule drops a third of the modes of a state on its own grid. Here they stay
    as they are, for whoever corrects the step, and knows more of them, to start from.
    """

    def __init__(self, stepper: Stepper[Carry]) -> None:
        self.stepper, self.spec = stepper, stepper.spec

    def start(self, state: State, inputs: Inputs = None, seeds: Sequence[int] | None = None) -> UnresolvedCarry:
        """Begin at a state; what the stepper does not hold of it is kept."""
        inner = self.stepper.start(state, inputs, seeds)
        held = self.stepper.state(inner)
        return UnresolvedCarry(inner, state.to(held) - held)

    def advance(self, carry: UnresolvedCarry) -> UnresolvedCarry:
        """One interval of the stepper."""
        return UnresolvedCarry(self.stepper.advance(carry.inner), carry.rest)

    def state(self, carry: UnresolvedCarry) -> State:
        """The stepper's state, and what it does not hold."""
        return self.stepper.state(carry.inner) + carry.rest
