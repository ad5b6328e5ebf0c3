"""Roll any stepper out: the solver, a surrogate, persistence, a hybrid."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from solvers import StateSpec, Stepper
from solvers.stepper import Inputs, State


def rollout(
    stepper: Stepper,
    state: State,
    steps: int,
    inputs: Inputs = None,
    seeds: Sequence[int] | None = None,
    observe: Callable[[Any], None] | None = None,
) -> Float[Tensor, "batch time component y x"]:
    """The state and its `steps` successors, (batch, steps + 1, component, y, x); `observe` sees every new carry."""
    carry = stepper.start(state, inputs, seeds)
    states = [state]
    for _ in range(steps):
        carry = stepper.advance(carry)
        states.append(stepper.state(carry).to(state))
        if observe is not None:
            observe(carry)
    return torch.stack(states, dim=1)


class Persistence(Stepper[State]):
    """Tomorrow as today: the forecast that every other must beat."""

    def __init__(self, spec: StateSpec) -> None:
        self.spec = spec

    def start(self, state: State, inputs: Inputs = None, seeds: Sequence[int] | None = None) -> State:
        return state

    def advance(self, carry: State) -> State:
        return carry

    def state(self, carry: State) -> State:
        return carry


def seconds_per_step(stepper: Stepper, state: State, inputs: Inputs = None, steps: int = 5, repeats: int = 5) -> float:
    """Wall-clock seconds that one interval of this batch takes: the median over `repeats` short rollouts."""
    times = []
    with torch.no_grad():
        carry = stepper.advance(stepper.start(state, inputs))
        for _ in range(repeats):
            _synchronise(state)
            began = time.perf_counter()
            for _ in range(steps):
                carry = stepper.advance(carry)
            stepper.state(carry)
            _synchronise(state)
            times.append((time.perf_counter() - began) / steps)
    return sorted(times)[repeats // 2]


def _synchronise(tensor: Tensor) -> None:
    if tensor.device.type == "cuda":
        torch.cuda.synchronize(tensor.device)
