"""The one protocol: whatever carries a state from one stored interval to the next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from jaxtyping import Float
from torch import Tensor

from solvers.fields import StateSpec

Carry = TypeVar("Carry")
State = Float[Tensor, "batch component y x"]
Inputs = Mapping[str, Tensor] | None


class Stepper(ABC, Generic[Carry]):
    """A solver, a surrogate, persistence, a hybrid. What lives between intervals (a spectral state, expanded kernels,
    a clock) lives in the carry, so that work is done once a rollout and transforms only where somebody looks.
    """

    spec: StateSpec
    # True where a carry is no more than its state: `start` at a state goes on from there with the same bits.
    is_markov: bool = False

    @abstractmethod
    def start(self, state: State, inputs: Inputs = None, seeds: Sequence[int] | None = None) -> Carry:
        """Begin at `state` (batch, component, y, x); `inputs` by name, `seeds` one a trajectory where it is random."""

    @abstractmethod
    def advance(self, carry: Carry) -> Carry:
        """One stored interval further."""

    @abstractmethod
    def state(self, carry: Carry) -> State:
        """The state that a carry holds."""

    def __call__(self, state: State, inputs: Inputs = None) -> State:
        """One interval from state to state."""
        return self.state(self.advance(self.start(state, inputs)))
