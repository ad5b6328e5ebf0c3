"""The protocol of everything that carries a state from one stored interval to the next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from solvers.array_types import Inputs, State
from solvers.docstrings import InheritDocstrings
from solvers.fields import StateSpec

Carry = TypeVar("Carry")


class Stepper(InheritDocstrings, ABC, Generic[Carry]):
    """Something that carries a state from one stored interval to the next.

    Solvers, surrogates, persistence and hybrids are steppers. A rollout calls `start` once, `advance` once an interval,
    and `state` where somebody looks. What lives between two intervals (a spectral state, expanded convolution kernels,
    a clock) lives in the carry, whose type each stepper chooses: work is done once a rollout, and a solver transforms
    to physical space only where it must. Called on a state, a stepper returns the state one interval later.

    Attributes
    ----------
    spec : StateSpec
        What a state consists of.
    is_markov : bool
        Whether a carry is no more than its state: `start` at that state then goes on with the same bits.
    """

    spec: StateSpec
    is_markov: bool = False

    @abstractmethod
    def start(self, state: State, inputs: Inputs = None, seeds: Sequence[int] | None = None) -> Carry:
        """Begin at a state.

        Parameters
        ----------
        state : Tensor
            Shape (batch, component, y, x).
        inputs : mapping of str to Tensor, optional
            Inputs by name; those that a stepper has defaults for may be left out.
        seeds : sequence of int, optional
            Seed of each trajectory, for a stepper that is random.

        Returns
        -------
        Carry
            What `advance` and `state` take.
        """

    @abstractmethod
    def advance(self, carry: Carry) -> Carry:
        """Advance by one stored interval.

        Parameters
        ----------
        carry : Carry
            What `start` or `advance` returned.

        Returns
        -------
        Carry
            The same trajectories one interval later.
        """

    @abstractmethod
    def state(self, carry: Carry) -> State:
        """Return the state of a carry.

        Parameters
        ----------
        carry : Carry
            What `start` or `advance` returned.

        Returns
        -------
        Tensor
            Shape (batch, component, y, x).
        """

    def correct(self, carry: Carry, correction: State) -> Carry:
        """Add a correction to the state of a carry, and keep whatever else the carry holds.

        A solver on a finer grid keeps the scales that its states do not show. Hybrids and perturbed forecasts correct a
        carry between two intervals. A stepper need not support it.

        Parameters
        ----------
        carry : Carry
            What `start` or `advance` returned.
        correction : Tensor
            What to add to the state, shape (batch, component, y, x).

        Returns
        -------
        Carry
            The same trajectories at the same time, with the corrected state.

        Raises
        ------
        NotImplementedError
            If this kind of stepper cannot be corrected.
        """
        raise NotImplementedError(f"{type(self).__name__} takes no corrections: it does not implement `correct`")

    def __call__(self, state: State, inputs: Inputs = None) -> State:
        """Return the state one interval later."""
        return self.state(self.advance(self.start(state, inputs)))
