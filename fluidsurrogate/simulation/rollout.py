"""Roll any stepper out: the solver, a surrogate, persistence, a hybrid."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from fluidsurrogate.core.errors import UsageError
from solvers import StateSpec, Stepper
from solvers.array_types import Inputs, State


def rollout(
    stepper: Stepper,
    state: State,
    steps: int,
    inputs: Inputs = None,
    seeds: Sequence[int] | None = None,
    observe: Callable[[Any], None] | None = None,
) -> Float[Tensor, "batch time component y x"]:
    """The state and its `steps` successors, (batch, steps + 1, component, y, x); `observe` sees every new carry.

    A stepper of the user's may work in place: it begins at a copy of `state`, and its states are copied. Raises
    UsageError where `state` holds no trajectory.
    """
    if not len(state):
        raise UsageError("state holds no trajectory: give at least one")
    carry = stepper.start(state.clone(), inputs, seeds)
    states = [state]
    for _ in range(steps):
        carry = stepper.advance(carry)
        states.append(stepper.state(carry).to(state, copy=True))
        if observe is not None:
            observe(carry)
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
                carry = carries[name]
                _synchronise(state)
                began = time.perf_counter()
                for _ in range(steps):
                    carry = stepper.advance(carry)
                stepper.state(carry)
                _synchronise(state)
                times[name].append((time.perf_counter() - began) / steps)
    return {name: statistics.median(each) for name, each in times.items()}


def _synchronise(tensor: Tensor) -> None:
    if tensor.device.type == "cuda":
        torch.cuda.synchronize(tensor.device)
