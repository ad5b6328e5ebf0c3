"""Choose how many trajectories to roll out at a time: as many as pay and as memory has room for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fluidsurrogate.core.memory import free_memory
from solvers import Stepper
from solvers.array_types import Inputs, State

MEMORY_PARTS = 4  # a batch gets one part in so many of the free memory
# More than this gains nothing on a CPU, because it does not fit in the caches: on one core, 16 to 64 trajectories of
# 32 x 32 cells are best.
MAX_CPU_BATCH_BYTES = 2**28
MAX_BUFFER_BYTES = 2**25  # of states in memory that wait to be written
MAX_UNSAVED_BYTES = 2**34  # allocated between two writes: some seconds of one core's work, which a kill may lose
MAX_CHUNK_BYTES = 2**21  # of a chunk on disk
MIN_STATES_PER_INTERVAL = 64  # assumed in memory, whatever was counted: allocations of compiled code are not seen


@dataclass(frozen=True)
class BatchPlan:
    """How a rollout is divided into batches of trajectories, pieces of time and chunks on disk.

    An interrupted rollout continues with its own plan, because the last bits of the result depend on it.

    Parameters
    ----------
    batch : int
        Number of trajectories that are rolled out at a time.
    piece : int
        Number of stored times that are written at a time.
    chunk : int
        Number of trajectories in a chunk on disk, a divisor of `batch`.
    threads : int
        Number of threads that compute.
    """

    batch: int
    piece: int
    chunk: int
    threads: int

    @property
    def is_valid(self) -> bool:
        """Whether all numbers are positive and whole, and a batch holds a whole number of chunks."""
        numbers = (self.batch, self.piece, self.chunk, self.threads)
        return all(type(number) is int and number > 0 for number in numbers) and self.batch % self.chunk == 0


def plan_batches(
    stepper: Stepper,
    state: State,
    inputs: Inputs,
    seeds: Sequence[int],
    count: int,
    times: int,
    keep_every: int = 1,
    batch: int | None = None,
) -> BatchPlan:
    """Choose the batches of a rollout by the memory that one interval of one trajectory takes.

    Parameters
    ----------
    stepper : Stepper
        What is rolled out.
    state : Tensor
        The initial state of one trajectory, shape (1, component, y, x).
    inputs : mapping of str to Tensor, optional
        Its inputs.
    seeds : sequence of int
        Its seed.
    count : int
        Number of trajectories.
    times : int
        Number of stored times.
    keep_every : int
        Number of intervals between two stored times.
    batch : int, optional
        Number of trajectories at a time; overrides the choice.

    Returns
    -------
    BatchPlan
        The plan.
    """
    cost = bytes_per_interval(stepper, state, inputs, seeds)
    batch = equal_batches(count, cost, state.device) if batch is None else min(batch, count)
    one = state.numel() * state.element_size()
    piece = min(times, max(1, MAX_BUFFER_BYTES // (one * batch)), max(1, MAX_CHUNK_BYTES // one))
    if stepper.is_markov:
        piece = min(piece, max(1, MAX_UNSAVED_BYTES // (cost * batch * keep_every)))
    chunk = max(c for c in range(1, batch + 1) if batch % c == 0 and (c == 1 or c * piece * one <= MAX_CHUNK_BYTES))
    return BatchPlan(batch, piece, chunk, torch.get_num_threads())


def equal_batches(count: int, cost: int, device: torch.device) -> int:
    """Divide trajectories into as few batches of one size as memory has room for.

    Parameters
    ----------
    count : int
        Number of trajectories.
    cost : int
        Memory that one interval of one trajectory takes, in bytes, as `bytes_per_interval` measures it.
    device : torch.device
        The device that computes.

    Returns
    -------
    int
        Number of trajectories in a batch; the last batch may have fewer.
    """
    most = max(1, memory_for_batch(device) // cost)
    rounds = -(-count // min(most, count))
    return -(-count // rounds)


def memory_for_batch(device: torch.device) -> int:
    """Return the memory that a batch may take.

    Parameters
    ----------
    device : torch.device
        The device.

    Returns
    -------
    int
        Bytes: a fixed share of the free memory; on a CPU at most what a batch gains from.
    """
    part = free_memory(device) // MEMORY_PARTS
    return part if device.type == "cuda" else min(part, MAX_CPU_BATCH_BYTES)


def bytes_per_interval(stepper: Stepper, state: State, inputs: Inputs, seeds: Sequence[int] | None) -> int:
    """Measure an upper bound of the memory that one interval takes.

    Parameters
    ----------
    stepper : Stepper
        What is advanced.
    state : Tensor
        The initial states, shape (batch, component, y, x).
    inputs : mapping of str to Tensor, optional
        Their inputs.
    seeds : sequence of int, optional
        One a trajectory.

    Returns
    -------
    int
        The bytes of all tensors that torch's operations allocate, as if none were freed.
    """
    with torch.no_grad(), _AllocationCounter() as counter:
        stepper.advance(stepper.start(state, inputs, seeds))
    return max(counter.bytes, MIN_STATES_PER_INTERVAL * state.numel() * state.element_size())


@final
class _AllocationCounter(TorchDispatchMode):
    """Adds up the sizes of the tensors that torch's operations return."""

    bytes = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch would import its compiler, in more than a second, to keep it away from these few lines

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.bytes += sum(t.numel() * t.element_size() for t in tree_leaves(out) if isinstance(t, Tensor))
        return out
