"""How many starts to roll out at a time: as many as memory has room for, and no more than gain anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import psutil
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fluidsurrogate.core.errors import UsageError
from solvers import Stepper
from solvers.array_types import Inputs, State

SHARE = 4  # of the memory that is free, one part is used
CPU_BYTES = 2**28  # what falls out of the caches gains nothing: 16 to 64 starts of 32 x 32 cells are best on a core
KEPT_BYTES = 2**25  # of states that wait to be written
LOST_BYTES = 2**34  # made, some seconds of a core's work: what a kill may lose
CHUNK_BYTES = 2**21  # of a chunk on disk
LEAST = 64  # states that a step needs, whatever was counted: what compiled code allocates is not seen


@dataclass(frozen=True)
class Plan:
    """How a rollout is cut up: `batch` starts at a time, stored in pieces of `piece` times and in chunks of `chunk`
    trajectories (a divisor of `batch`), computed with `threads`. An interrupted rollout goes on with its own plan, for
    last bits depend on it."""

    batch: int
    piece: int
    chunk: int
    threads: int


def plan(
    stepper: Stepper,
    state: State,
    inputs: Inputs,
    seeds: Sequence[int],
    count: int,
    times: int,
    keep_every: int = 1,
    batch: int | None = None,
) -> Plan:
    """The plan for `count` starts like the one in `state` and `times` stored times, every `keep_every` intervals;
    `batch` overrides the choice."""
    cost = bytes_of_a_step(stepper, state, inputs, seeds)
    if batch is None:
        most = max(1, memory_for_batches(state.device) // cost)
        rounds = -(-count // min(most, count))
        batch = -(-count // rounds)  # equal batches
    batch = min(batch, count)
    one = state.numel() * state.element_size()
    piece = min(times, max(1, KEPT_BYTES // (one * batch)), max(1, CHUNK_BYTES // one))
    if stepper.is_markov:
        piece = min(piece, max(1, LOST_BYTES // (cost * batch * keep_every)))
    chunk = max(c for c in range(1, batch + 1) if batch % c == 0 and (c == 1 or c * piece * one <= CHUNK_BYTES))
    return Plan(batch, piece, chunk, torch.get_num_threads())


def memory_for_batches(device: torch.device) -> int:
    """Bytes that a batch may take: a share of what is free on the device; on a CPU no more than it gains from."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // SHARE
    return min(psutil.virtual_memory().available // SHARE, CPU_BYTES)


def check_room(needed: int, what: str, advice: str) -> None:
    """UsageError where `what` would take more bytes of memory than are free."""
    if needed > (free := psutil.virtual_memory().available):
        raise UsageError(f"{what} would take {needed / 2**30:.3g} GiB of memory, {free / 2**30:.3g} are free: {advice}")


def bytes_of_a_step(stepper: Stepper, state: State, inputs: Inputs, seeds: Sequence[int]) -> int:
    """An upper bound on what one interval of one start takes: all that torch makes on the way, none of it freed."""
    with torch.no_grad(), _Counting() as counting:
        stepper.advance(stepper.start(state, inputs, seeds))
    return max(counting.bytes, LEAST * state.numel() * state.element_size())


@final
class _Counting(TorchDispatchMode):
    """Adds up the sizes of the tensors that torch's operations give."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.bytes += sum(t.numel() * t.element_size() for t in tree_leaves(out) if isinstance(t, Tensor))
        return out
