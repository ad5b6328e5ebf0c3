"""Compute a rollout batch by batch and write it to a Zarr folder, continuing where an interrupted run stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, final

import torch

from fluidsurrogate.core.devices import fixed_threads
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import read_json, write_json, zarr_compressors
from fluidsurrogate.core.progress import Progress
from fluidsurrogate.data.conversion import read_states
from fluidsurrogate.data.readers import open_data
from fluidsurrogate.simulation.batch_sizes import BatchPlan
from fluidsurrogate.simulation.batched_rollout import BatchedRollout
from fluidsurrogate.simulation.initial_states import InitialStates
from solvers import Stepper
from solvers.array_types import State


@final
class RolloutWriter(BatchedRollout):
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
        super().__init__(stepper, initial_states, seeds, steps, keep_every, name)
        self.store, self.progress_file = folder / "result", folder / "progress.json"

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
            plan = self.plan(batch)
            self._create_store(plan, attributes)
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
        total = -(-self.times // plan.piece)
        pieces, stored = pieces if self.stepper.is_markov else 0, None
        if pieces:
            stored = self._read_stored_state(*self.range_of(plan, number), pieces * plan.piece - 1)
        for piece, (part, region) in enumerate(self.parts(plan, number, progress, pieces, stored), pieces):
            part.to_zarr(self.store, region=region, consolidated=False)
            ended = piece + 1 == total
            done = {"batches": number + ended, "pieces": 0 if ended else piece + 1}
            write_json(self.progress_file, {"plan": asdict(plan), **done})

    def _read_stored_state(self, first: int, last: int, time: int) -> State:
        """Read the states of some trajectories at one time from the unfinished result."""
        with open_data(self.store) as stored_dataset:
            part = stored_dataset.isel(trajectory=slice(first, last), time=[time])
            return read_states(part, self.initial_states.spec, self.like.dtype, finite=False)[:, 0].to(self.like)

    def _create_store(self, plan: BatchPlan, attributes: Mapping[str, Any]) -> None:
        """Create the Zarr folder with everything but the values of the fields."""
        template, chunks = self.template(plan, attributes)
        encoding = {name: {"chunks": sizes, "compressors": zarr_compressors()} for name, sizes in chunks.items()}
        template.to_zarr(self.store, mode="w", compute=False, consolidated=False, encoding=encoding)
