"""Roll any stepper out: the solver, a surrogate, persistence, a hybrid."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from fluidsurrogate.core.errors import UsageError
from solvers import StateSpec, Stepper
from solvers.array_types import Inputs, State
from solvers.stepper import Carry


def advance_through(stepper: Stepper[Carry], carry: Carry, steps: int) -> Iterator[Carry]:
    """Advance a stepper interval by interval and yield each new carry.

    This is the one loop over intervals: every rollout, spin-up, ensemble and training unroll goes through it.

    Parameters
    ----------
    stepper : Stepper
        A solver, a surrogate, persistence or a hybrid.
    carry : object
        Where to begin: what `stepper.start` or `stepper.advance` returned.
    steps : int
        Number of intervals.

    Yields
    ------
    object
        The carry after each interval; `stepper.state` gives its state.
    """
    for _ in range(steps):
        carry = stepper.advance(carry)
        yield carry


def advance_by(stepper: Stepper[Carry], carry: Carry, steps: int) -> Carry:
    """Return the carry after `steps` intervals."""
    for after in advance_through(stepper, carry, steps):
        carry = after
    return carry


def rollout(
    stepper: Stepper,
    state: State,
    steps: int,
    inputs: Inputs = None,
    seeds: Sequence[int] | None = None,
    observe: Callable[[Any], None] | None = None,
    *,
    first_as_seen: bool = False,
) -> Float[Tensor, "_ time component y x"]:
    """Roll any stepper out: a solver, a surrogate, persistence or a hybrid.

    Parameters
    ----------
    stepper : Stepper
        What advances the state. It may work in place: it begins at a copy of `state`, and its states are copied.
    state : Tensor
        The initial state, shape (batch, component, y, x).
    steps : int
        Number of intervals.
    inputs : mapping of str to Tensor, optional
        The inputs of `stepper.spec` by name, each (batch, component, y, x).
    seeds : sequence of int, optional
        One a trajectory, for steppers that are random.
    observe : callable, optional
        Called with every new carry.
    first_as_seen : bool
        Return the first state as the stepper holds it after `start` (perturbed, or one a network), not as given.

    Returns
    -------
    Tensor
        The initial state and its `steps` successors, shape (batch, steps + 1, component, y, x).

    Raises
    ------
    UsageError
        If `state` holds no trajectory.
    """
    if not len(state):
        raise UsageError("state holds no trajectory: give at least one")
    carry = stepper.start(state.clone(), inputs, seeds)
    states = [stepper.state(carry).to(state, copy=True) if first_as_seen else state]
    for after in advance_through(stepper, carry, steps):
        states.append(stepper.state(after).to(state, copy=True))
        if observe is not None:
            observe(after)
    return torch.stack(states, dim=1)


@final
class Persistence(Stepper[State]):
    """Tomorrow as today: the forecast that every other must beat."""

    is_markov = True

    def __init__(self, spec: StateSpec) -> None:
        self.spec = spec

    def start(self, state: State, inputs: Inputs = None, seeds: Sequence[int] | None = None) -> State:
        return state

    def advance(self, carry: State) -> State:
        return carry

    def state(self, carry: State) -> State:
        return carry


def seconds_per_step(
    steppers: Mapping[str, Stepper], state: State, inputs: Inputs = None, steps: int = 3, repeats: int = 7
) -> dict[str, float]:
    """Wall-clock seconds that one interval of this batch takes each stepper: the median over `repeats` short rollouts,
    taken in turn, so that what else the machine does falls on all alike."""
    times: dict[str, list[float]] = {name: [] for name in steppers}
    with torch.no_grad():
        carries = {name: stepper.advance(stepper.start(state, inputs)) for name, stepper in steppers.items()}
        for _ in range(repeats):
            for name, stepper in steppers.items():
                _synchronise(state)
                began = time.perf_counter()
                stepper.state(advance_by(stepper, carries[name], steps))
                _synchronise(state)
                times[name].append((time.perf_counter() - began) / steps)
    return {name: statistics.median(each) for name, each in times.items()}


def _synchronise(tensor: Tensor) -> None:
    if tensor.device.type == "cuda":
        torch.cuda.synchronize(tensor.device)
