"""A rollout of any number of trajectories, divided into batches, and each batch into pieces of time."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from fluidsurrogate.core.progress import Progress
from fluidsurrogate.data.conversion import to_dataset
from fluidsurrogate.simulation.batch_sizes import BatchPlan, plan_batches
from fluidsurrogate.simulation.initial_states import InitialStates
from fluidsurrogate.simulation.rollout import advance_through
from solvers import Stepper
from solvers.array_types import State

log = logging.getLogger("fluidsurrogate")


class BatchedRollout:
    """A rollout that is computed batch by batch, wherever it is written.

    Parameters
    ----------
    stepper : Stepper
        What is rolled out.
    initial_states : InitialStates
        The states to start from.
    seeds : list of int
        One a trajectory.
    steps : int
        Number of intervals.
    keep_every : int
        Number of intervals between two stored times.
    name : str
        The name of the finished result, for warnings.
    """

    def __init__(
        self,
        stepper: Stepper,
        initial_states: InitialStates,
        seeds: list[int],
        steps: int,
        keep_every: int,
        name: str,
    ) -> None:
        self.stepper, self.initial_states, self.seeds = stepper, initial_states, seeds
        self.keep_every, self.name = keep_every, name
        self.times = steps // keep_every + 1
        state, inputs = initial_states.read(0, 1)
        with torch.no_grad():
            self.like = stepper.state(stepper.start(state, inputs, seeds[:1]))  # device, precision and shape of states
        self.has_warned = False

    def plan(self, batch: int | None) -> BatchPlan:
        """Choose the batches by the memory of this machine.

        Parameters
        ----------
        batch : int, optional
            Number of trajectories at a time; by default what fits in the free memory.

        Returns
        -------
        BatchPlan
            The plan.
        """
        state, inputs = self.initial_states.read(0, 1)
        one = (state.to(self.like), inputs, self.seeds[:1])
        return plan_batches(self.stepper, *one, self.initial_states.count, self.times, self.keep_every, batch)

    def range_of(self, plan: BatchPlan, number: int) -> tuple[int, int]:
        """Return which trajectories are in a batch.

        Parameters
        ----------
        plan : BatchPlan
            The plan.
        number : int
            The number of the batch.

        Returns
        -------
        first : int
            The first trajectory.
        last : int
            The trajectory after the last one.
        """
        return number * plan.batch, min((number + 1) * plan.batch, self.initial_states.count)

    def parts(
        self, plan: BatchPlan, number: int, progress: Progress, pieces: int = 0, stored: State | None = None
    ) -> Iterator[tuple[xr.Dataset, dict[str, slice]]]:
        """Compute one batch, piece by piece.

        Parameters
        ----------
        plan : BatchPlan
            The plan of the rollout.
        number : int
            The number of the batch.
        progress : Progress
            Is updated.
        pieces : int, default 0
            Number of pieces that are done and stored: 0 if the stepper's carry is more than its state.
        stored : Tensor, optional
            The last stored states, if pieces are done.

        Yields
        ------
        part : xr.Dataset
            The next piece, without coordinates.
        region : dict of str to slice
            Where it belongs, along `trajectory` and `time`.
        """
        first, last = self.range_of(plan, number)
        state, inputs = self.initial_states.read(first, last)
        state = state.to(self.like) if stored is None else stored
        if pieces:
            progress.skip((last - first) * (pieces * plan.piece - 1) * self.keep_every)
        carry = self.stepper.start(state, inputs, self.seeds[first:last])
        for piece in range(pieces, -(-self.times // plan.piece)):
            low, high = piece * plan.piece, min((piece + 1) * plan.piece, self.times)
            if self.stepper.is_markov:
                carry = self.stepper.start(state, inputs, self.seeds[first:last])
            states = []
            for time in range(low, high):
                if time:
                    for after in advance_through(self.stepper, carry, self.keep_every):
                        carry = after
                        progress.update(last - first)
                    state = self.stepper.state(carry).to(self.like)
                states.append(state)
            rolled = torch.stack(states, dim=1)
            self._warn_if_not_finite(rolled)
            part = to_dataset(self.initial_states.spec, rolled, inputs=None if piece else inputs)
            yield part.drop_vars(list(part.coords)), {"trajectory": slice(first, last), "time": slice(low, high)}

    def template(self, plan: BatchPlan, attributes: Mapping[str, Any]) -> tuple[xr.Dataset, dict[str, tuple[int, ...]]]:
        """Return the whole rollout with lazy zeros, from which a Zarr folder is laid out.

        Parameters
        ----------
        plan : BatchPlan
            The plan of the rollout.
        attributes : mapping
            The attributes of the dataset.

        Returns
        -------
        template : xr.Dataset
            The rollout.
        chunks : dict
            The shape of a chunk on disk of each variable.
        """
        import dask.array  # imported late, because the import takes time

        initial = self.initial_states
        _, inputs = initial.read(0, 1)
        spec = replace(initial.spec, interval=initial.spec.interval * self.keep_every)
        one = to_dataset(spec, self.like[:, None], inputs=inputs, attributes=attributes)
        sizes = {"trajectory": initial.count, "time": self.times}
        planned = {"trajectory": plan.chunk, "time": plan.piece}
        lazy, chunks = {}, {}
        for name, variable in one.data_vars.items():
            shape = tuple(sizes.get(str(dim), n) for dim, n in variable.sizes.items())
            lazy[name] = (variable.dims, dask.array.zeros(shape, dtype=variable.dtype, chunks=shape), variable.attrs)
            chunks[str(name)] = tuple(planned.get(str(dim), n) for dim, n in variable.sizes.items())
        times = initial.start_time + spec.interval * np.arange(self.times)
        rest = {name: c for name, c in one.coords.items() if name not in sizes}
        coordinates: dict[Any, Any] = {**rest, **initial.coordinates, "time": ("time", times, one["time"].attrs)}
        return xr.Dataset(lazy, coordinates, one.attrs), chunks

    def _warn_if_not_finite(self, rolled: Tensor) -> None:
        """Warn once if a state is not finite."""
        if not self.has_warned and not rolled.isfinite().all():
            self.has_warned = True
            log.warning(f"{self.name}: a forecast has become NaN or infinite; it is continued and stored as it is")
