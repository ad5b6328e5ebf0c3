"""Compute a rollout batch by batch and write it to a Zarr folder, continuing where an interrupted run stopped."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from fluidsurrogate.core.devices import fixed_threads
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import read_json, write_json, zarr_compressors
from fluidsurrogate.core.progress import Progress
from fluidsurrogate.data.conversion import read_states, to_dataset
from fluidsurrogate.data.readers import open_data
from fluidsurrogate.simulation.batch_sizes import BatchPlan, plan_batches
from fluidsurrogate.simulation.initial_states import InitialStates
from fluidsurrogate.simulation.rollout import advance_through
from solvers import Stepper
from solvers.array_types import State

log = logging.getLogger("fluidsurrogate")


@final
class RolloutWriter:
    """A rollout that is written to a Zarr folder while it is computed.

    A piece of time is done if `progress.json`, which is replaced after the piece is written, says so. Each piece starts
    from the stored bits of the piece before, whether this run or an interrupted one has made that. If the carry of the
    stepper is more than its state (`Stepper.is_markov` is false), a batch that was interrupted starts again.

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
    folder : Path
        The folder of the unfinished result: the Zarr folder is `folder`/result.
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
        folder: Path,
        name: str,
    ) -> None:
        self.stepper, self.initial_states, self.seeds = stepper, initial_states, seeds
        self.keep_every, self.name = keep_every, name
        self.times = steps // keep_every + 1
        self.store, self.progress_file = folder / "result", folder / "progress.json"
        state, inputs = initial_states.read(0, 1)
        with torch.no_grad():
            self.like = stepper.state(stepper.start(state, inputs, seeds[:1]))  # device, precision and shape of states
        self.has_warned = False

    def run(self, batch: int | None, attributes: Mapping[str, Any]) -> None:
        """Compute and write all batches that are not done.

        Parameters
        ----------
        batch : int, optional
            Number of trajectories at a time; by default what fits in the free memory.
        attributes : mapping
            The attributes of the dataset.

        Raises
        ------
        UsageError
            If the progress file of an interrupted rollout is corrupt.
        """
        done = read_json(self.progress_file)
        if done is None:
            state, inputs = self.initial_states.read(0, 1)
            one = (state.to(self.like), inputs, self.seeds[:1])
            plan = plan_batches(self.stepper, *one, self.initial_states.count, self.times, self.keep_every, batch)
            self._create_store(plan, inputs, attributes)
            done = {"plan": asdict(plan), "batches": 0, "pieces": 0}
            write_json(self.progress_file, done)
        plan, count = self._recorded_plan(done), self.initial_states.count
        intervals = (self.times - 1) * self.keep_every
        finished = min(done["batches"] * plan.batch, count) * intervals
        with (
            Progress(count * intervals, "rollout", "steps", finished) as progress,
            torch.no_grad(),
            fixed_threads(plan.threads),
        ):
            for number in range(done["batches"], -(-count // plan.batch)):
                self._write_batch(plan, number, done["pieces"] if number == done["batches"] else 0, progress)

    def _recorded_plan(self, done: Any) -> BatchPlan:
        """Return the plan in the progress file; UsageError if the file is corrupt."""
        try:
            plan, numbers = BatchPlan(**done["plan"]), [done["batches"], done["pieces"]]
        except (KeyError, TypeError):
            plan, numbers = None, []
        if plan is None or any(type(v) is not int or v < 0 for v in numbers) or not plan.is_valid:
            raise UsageError(
                f"{self.progress_file} is not the progress file of a rollout: delete {self.store.parent} to start again"
            )
        return plan

    def _write_batch(self, plan: BatchPlan, number: int, pieces: int, progress: Progress) -> None:
        """Compute and write one batch, of which so many pieces are done."""
        first, last = number * plan.batch, min((number + 1) * plan.batch, self.initial_states.count)
        state, inputs = self.initial_states.read(first, last)
        state, pieces = state.to(self.like), pieces if self.stepper.is_markov else 0
        total = -(-self.times // plan.piece)
        if pieces:
            state = self._read_stored_state(first, last, pieces * plan.piece - 1)
            progress.skip((last - first) * (pieces * plan.piece - 1) * self.keep_every)
        carry = self.stepper.start(state, inputs, self.seeds[first:last])
        for piece in range(pieces, total):
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
            region = {"trajectory": slice(first, last), "time": slice(low, high)}
            part.drop_vars(list(part.coords)).to_zarr(self.store, region=region, consolidated=False)
            ended = piece + 1 == total
            done = {"batches": number + ended, "pieces": 0 if ended else piece + 1}
            write_json(self.progress_file, {"plan": asdict(plan), **done})

    def _read_stored_state(self, first: int, last: int, time: int) -> State:
        """Read the states of some trajectories at one time from the unfinished result."""
        with open_data(self.store) as stored_dataset:
            part = stored_dataset.isel(trajectory=slice(first, last), time=[time])
            return read_states(part, self.initial_states.spec, self.like.dtype, finite=False)[:, 0].to(self.like)

    def _create_store(self, plan: BatchPlan, inputs: Mapping[str, Tensor], attributes: Mapping[str, Any]) -> None:
        """Create the Zarr folder with everything but the values of the fields."""
        import dask.array  # imported late, because the import takes time

        initial = self.initial_states
        spec = replace(initial.spec, interval=initial.spec.interval * self.keep_every)
        one = to_dataset(spec, self.like[:, None], inputs=inputs, attributes=attributes)
        sizes = {"trajectory": initial.count, "time": self.times}
        chunks = {"trajectory": plan.chunk, "time": plan.piece}
        lazy, encoding = {}, {}
        for name, variable in one.data_vars.items():
            shape = tuple(sizes.get(str(dim), n) for dim, n in variable.sizes.items())
            lazy[name] = (variable.dims, dask.array.zeros(shape, dtype=variable.dtype, chunks=shape), variable.attrs)
            chunk_shape = tuple(chunks.get(str(dim), n) for dim, n in variable.sizes.items())
            encoding[name] = {"chunks": chunk_shape, "compressors": zarr_compressors()}
        times = initial.start_time + spec.interval * np.arange(self.times)
        rest = {name: c for name, c in one.coords.items() if name not in sizes}
        coordinates: dict[Any, Any] = {**rest, **initial.coordinates, "time": ("time", times, one["time"].attrs)}
        xr.Dataset(lazy, coordinates, one.attrs).to_zarr(
            self.store, mode="w", compute=False, consolidated=False, encoding=encoding
        )

    def _warn_if_not_finite(self, rolled: Tensor) -> None:
        """Warn once if a state is not finite."""
        if not self.has_warned and not rolled.isfinite().all():
            self.has_warned = True
            log.warning(f"{self.name}: a forecast has become NaN or infinite; it is continued and stored as it is")
