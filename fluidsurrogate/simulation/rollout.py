"""Roll out any stepper: a solver, a surrogate, persistence or a hybrid."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.simulation.batch_sizes import bytes_per_interval, equal_batches
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
        What `stepper.start` or `stepper.advance` returned.
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
    """Advance a stepper by several intervals.

    Parameters
    ----------
    stepper : Stepper
        A solver, a surrogate, persistence or a hybrid.
    carry : object
        What `stepper.start` or `stepper.advance` returned.
    steps : int
        Number of intervals.

    Returns
    -------
    object
        The carry after the last interval.
    """
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
    first_from_stepper: bool = False,
) -> Float[Tensor, "_ time component *space"]:
    """Roll out any stepper: a solver, a surrogate, persistence or a hybrid.

    Parameters
    ----------
    stepper : Stepper
        What advances the state. It may work in place: it starts from a copy of `state`, and its states are copied.
    state : Tensor
        The initial states, shape (batch, component, y, x) or (batch, component, z, y, x).
    steps : int
        Number of intervals.
    inputs : mapping of str to Tensor, optional
        The inputs of `stepper.spec` by name, each (batch, component, y, x).
    seeds : sequence of int, optional
        One a trajectory, for steppers that are random.
    observe : callable, optional
        Called with every new carry.
    first_from_stepper : bool, default False
        Return the first state as the stepper holds it after `start`, for instance with a perturbation or once for each
        network of an ensemble, not as given.

    Returns
    -------
    Tensor
        The initial states and their `steps` successors, shape (batch, steps + 1, component, y, x), or with z, y, x.

    Raises
    ------
    UsageError
        If `state` holds no trajectory.

    Examples
    --------
    Two trajectories of a decaying flow over three intervals:

    >>> import fluidsurrogate as fs
    >>> experiment = fs.Experiment.from_tree({
    ...     "name": "tiny",
    ...     "grid": {"n": 16},
    ...     "flow": {"kind": "decaying", "viscosity": 0.01, "wavenumber": 2},
    ...     "data": {"train": 2, "valid": 1, "test": 1, "steps": 4, "interval": 0.25},
    ... })
    >>> solver = experiment.build_solver()
    >>> initial = experiment.build_flow().starts(solver.grid, seeds=[0, 1]).float()
    >>> states = fs.rollout(solver, initial, steps=3)
    >>> tuple(states.shape)
    (2, 4, 1, 16, 16)
    >>> bool((states[:, 0] == initial).all())
    True
    """
    if not len(state):
        raise UsageError("state holds no trajectory: give at least one")
    carry = stepper.start(state.clone(), inputs, seeds)
    states = [stepper.state(carry).to(state, copy=True) if first_from_stepper else state]
    for after in advance_through(stepper, carry, steps):
        states.append(stepper.state(after).to(state, copy=True))
        if observe is not None:
            observe(after)
    return torch.stack(states, dim=1)


@torch.no_grad()
def rollout_in_batches(
    stepper: Stepper,
    state: State,
    steps: int,
    inputs: Inputs = None,
    seeds: Sequence[int] | None = None,
    *,
    first_from_stepper: bool = False,
) -> Float[Tensor, "_ time component *space"]:
    """Roll out any number of trajectories, in batches of the size that rollouts to disk have.

    Each trajectory is that of `rollout`, to rounding. Memory holds the result and what one batch takes: at most a
    quarter of what is free, and on a CPU no more than pays (see `batch_sizes.memory_for_batch`).

    Parameters
    ----------
    stepper : Stepper
        What advances the state.
    state : Tensor
        The initial states, shape (trajectory, component, y, x) or (trajectory, component, z, y, x).
    steps : int
        Number of intervals.
    inputs : mapping of str to Tensor, optional
        The inputs of `stepper.spec` by name, each (trajectory, component, y, x).
    seeds : sequence of int, optional
        One a trajectory, for steppers that are random.
    first_from_stepper : bool, default False
        Return the first state as the stepper holds it after `start`, as in `rollout`.

    Returns
    -------
    Tensor
        The initial states and their `steps` successors as `rollout` returns them, without gradients, on the CPU.

    Raises
    ------
    UsageError
        If `state` holds no trajectory.
    """
    count, inputs = len(state), dict(inputs or {})

    def roll(part: slice) -> Tensor:
        """Roll out some of the trajectories."""
        own_inputs = {name: value[part] for name, value in inputs.items()}
        own_seeds = None if seeds is None else seeds[part]
        rolled = rollout(stepper, state[part], steps, own_inputs, own_seeds, first_from_stepper=first_from_stepper)
        return rolled.cpu()

    if count < 2:
        return roll(slice(None))
    first_input = {name: value[:1] for name, value in inputs.items()}
    cost = bytes_per_interval(stepper, state[:1].clone(), first_input, None if seeds is None else seeds[:1])
    if state.device.type != "cpu":  # which holds all times of a batch until they are copied to the CPU, and stacked
        cost += 2 * (steps + 1) * state[0].numel() * state.element_size()
    if (batch := equal_batches(count, cost, state.device)) == count:
        return roll(slice(None))
    whole: Tensor | None = None
    for first in range(0, count, batch):
        part = slice(first, min(first + batch, count))
        rolled = roll(part).unflatten(0, (-1, part.stop - first))  # a deep ensemble gives its networks one by one
        whole = rolled.new_empty(len(rolled), count, *rolled.shape[2:]) if whole is None else whole
        whole[:, part] = rolled
    assert whole is not None
    return whole.flatten(0, 1)


@final
class Persistence(Stepper[State]):
    """The forecast that the state does not change, which every other forecast must beat.

    Parameters
    ----------
    spec : StateSpec
        What the states are.

    Attributes
    ----------
    spec : StateSpec
        What the states are.
    is_markov : bool
        True: the carry is the state itself.

    Examples
    --------
    >>> import fluidsurrogate as fs
    >>> import torch
    >>> from solvers import VORTICITY, Grid, StateSpec
    >>> persistence = fs.Persistence(StateSpec(Grid.square(16), (VORTICITY,), interval=0.25))
    >>> state = torch.randn(1, 1, 16, 16)
    >>> torch.equal(persistence(state), state)
    True
    """

    is_markov = True

    def __init__(self, spec: StateSpec) -> None:
        self.spec = spec

    def start(self, state: State, inputs: Inputs = None, seeds: Sequence[int] | None = None) -> State:
        return state

    def advance(self, carry: State) -> State:
        return carry

    def correct(self, carry: State, correction: State) -> State:
        return carry + correction

    def state(self, carry: State) -> State:
        return carry


def seconds_per_step(
    steppers: Mapping[str, Stepper], state: State, inputs: Inputs = None, steps: int = 3, repeats: int = 7
) -> dict[str, float]:
    """Measure the wall-clock time that one interval of a batch takes each stepper.

    The steppers take turns, so that other work of the machine slows all of them alike.

    Parameters
    ----------
    steppers : mapping of str to Stepper
        The steppers by name.
    state : Tensor
        The initial states, shape (batch, component, y, x).
    inputs : mapping of str to Tensor, optional
        The inputs by name.
    steps : int
        Number of intervals of a short rollout.
    repeats : int
        Number of short rollouts of each stepper.

    Returns
    -------
    dict of str to float
        The median over the short rollouts, in s an interval.
    """
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
    """Wait until the tensor's device has finished its work."""
    if tensor.device.type == "cuda":
        torch.cuda.synchronize(tensor.device)
