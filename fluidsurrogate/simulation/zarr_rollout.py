"""Any number of starts, any number of steps: a rollout that is written to Zarr while it runs, through any kill."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from fluidsurrogate.core.devices import fixed_threads
from fluidsurrogate.core.errors import UsageError, check_integer
from fluidsurrogate.core.files import read_json, write_json, zarr_compressors
from fluidsurrogate.core.locks import output_lock
from fluidsurrogate.core.paths import as_path
from fluidsurrogate.core.progress import Progress
from fluidsurrogate.core.provenance import check_same_provenance, package_versions, parse_json_attribute
from fluidsurrogate.core.resumable import delete_leftovers, publish, start_or_resume
from fluidsurrogate.data.conversion import read_states, to_dataset, to_inputs
from fluidsurrogate.data.coordinates import select_time
from fluidsurrogate.data.layout import trajectory_coordinates as coordinates_of
from fluidsurrogate.data.readers import open_data
from fluidsurrogate.data.schema import check_matches
from fluidsurrogate.simulation.batch_sizes import Plan, check_room, plan
from fluidsurrogate.simulation.rollout import advance_through
from solvers import StateSpec, Stepper
from solvers.array_types import State

log = logging.getLogger("fluidsurrogate")
TIME_BYTES = 32  # that a stored time takes on the way to its coordinate
READ_CELLS = 2**21  # of the starts that are read at a time to check them


@final
class InitialStates:
    """Initial states in a dataset of any size, read a few at a time.

    Parameters
    ----------
    dataset : Dataset
        It is known to match `spec` (`check_matches`), and may be opened lazily.
    spec : StateSpec
        What the states are.
    start_time : float, optional
        The stored time to take; by default the first one.

    Raises
    ------
    UsageError
        If the dataset does not have that time.
    """

    def __init__(self, dataset: xr.Dataset, spec: StateSpec, start_time: float | None) -> None:
        self.spec, self.first = spec, select_time(dataset, start_time, spec.interval)
        self.count = dataset.sizes.get("trajectory", 1)
        self.begin = float(self.first["time"].values.item()) if "time" in self.first.coords else 0.0
        coordinates = coordinates_of(dataset)
        # Zarr has no settled form for strings of fixed length, as those from NetCDF are.
        coordinates = {k: c.astype(object) if c.dtype.kind == "U" else c for k, c in coordinates.items()}
        self.coordinates = {"trajectory": ("trajectory", np.arange(self.count), {"long_name": "trajectory"})}
        self.coordinates |= coordinates
        kept = np.result_type(np.float32, *(self.first[field.name].dtype for field in spec.fields))
        self.dtype = torch.float32 if kept == np.float32 else torch.float64  # each value as it is

    def read(self, first: int, last: int) -> tuple[State, dict[str, Tensor]]:
        """States (batch, component, y, x) and inputs of the trajectories first … last − 1."""
        part = self.first
        if "trajectory" in part.dims:
            part = part.isel(trajectory=slice(first, last))
        return read_states(part, self.spec, self.dtype)[:, 0], to_inputs(part, self.spec, self.dtype)

    @property
    def seeds(self) -> list[int]:
        """The coordinate `seed`; 0, 1, 2, … where there is none."""
        seeds = self.first.coords.get("seed")
        if seeds is None or seeds.dims != ("trajectory",) or seeds.dtype.kind not in "iu":
            return list(range(self.count))
        return [int(seed) for seed in seeds.values]

    def fingerprint(self) -> str:
        """A hash of all that a rollout takes from them. Reads every start, and so finds one that is not finite before
        hours of work, not after."""
        digest = hashlib.sha256()
        at_a_time = max(1, READ_CELLS // (self.spec.components * self.spec.grid.n[0] * self.spec.grid.n[1]))
        for first in range(0, self.count, at_a_time):
            state, inputs = self.read(first, min(first + at_a_time, self.count))
            for value in (state, *inputs.values()):
                digest.update(value.contiguous().numpy().tobytes())
        for name, variable in sorted(self.coordinates.items()):
            digest.update(f"{name} {np.asarray(xr.as_variable(variable).values).tolist()}".encode())
        return digest.hexdigest()[:16]


def rollout_to_zarr(
    stepper: Stepper,
    dataset: xr.Dataset,
    steps: int,
    path: str | Path,
    *,
    provenance: Mapping[str, Any],
    start_time: float | None = None,
    keep_every: int = 1,
    batch: int | None = None,
    seeds: Sequence[int] | None = None,
    attributes: Mapping[str, Any] | None = None,
    force: bool = False,
) -> xr.Dataset:
    """Roll any stepper out from every trajectory of a Dataset into a Zarr folder, in bounded memory.

    Trajectories are read, rolled out and written in batches, and those in pieces of time, so that memory holds some
    tens of megabytes of states, however many there are. `path` appears when all is done. A run that is killed goes on
    with the same call, and ends with the same bits: a stepper whose state is all of it (`Stepper.is_markov`, as a
    surrogate's) from the last piece stored, any other from the first time of its batch. A forecast that is there
    already, made from the same, is only opened. A state that turns non-finite is stored as it is, with a warning.

    Parameters
    ----------
    stepper : Stepper
        A solver, a surrogate, persistence or a hybrid.
    dataset : Dataset
        Initial states (trajectory, time, y, x), of any size, opened lazily or not.
    steps : int
        Number of intervals.
    path : str or Path
        The Zarr folder to write; its name ends in .zarr.
    provenance : mapping
        What the stepper is, as plain data: a half-made rollout goes on only if it is the same. What the initial states
        hold is compared too.
    start_time : float, optional
        The stored time to start from; by default the first one.
    keep_every : int
        Store every `keep_every`-th interval only.
    batch : int, optional
        Number of trajectories at a time; by default what fits in the memory that is free.
    seeds : sequence of int, optional
        One a trajectory, for steppers that are random; by default the coordinate `seed`, else 0, 1, 2, …
    attributes : mapping, optional
        Further attributes of the result.
    force : bool
        Replace a rollout of something else at `path`.

    Returns
    -------
    Dataset
        The rollout (trajectory, time, y, x), the start first, opened lazily.

    Raises
    ------
    UsageError
        If the dataset does not hold the stepper's states, or `path` holds something else.
    """
    check_matches(dataset, stepper.spec)
    return write_rollout(
        stepper, InitialStates(dataset, stepper.spec, start_time), steps, path, provenance=provenance,
        keep_every=keep_every, batch=batch, seeds=seeds, attributes=attributes, force=force,
    )  # fmt: skip


def write_rollout(
    stepper: Stepper,
    starts: InitialStates,
    steps: int,
    path: str | Path,
    *,
    provenance: Mapping[str, Any],
    keep_every: int = 1,
    batch: int | None = None,
    seeds: Sequence[int] | None = None,
    attributes: Mapping[str, Any] | None = None,
    force: bool = False,
) -> xr.Dataset:
    """Write a rollout from initial states that are known to match: see `rollout_to_zarr`."""
    path = as_path(path)
    steps, keep_every = check_integer("steps", steps, 1), check_integer("keep_every", keep_every, 1)
    batch = None if batch is None else check_integer("batch", batch, 1)
    if steps % keep_every:
        raise UsageError(f"steps must be a multiple of keep_every = {keep_every} (got {steps})")
    if path.suffix != ".zarr":
        raise UsageError(f"{path}: a forecast in pieces is a Zarr folder: choose a name that ends in .zarr")
    check_room(TIME_BYTES * (steps // keep_every), f"the times of {steps} steps", "give fewer, or a larger keep_every")
    seeds = starts.seeds if seeds is None else list(seeds)
    if len(seeds) != starts.count:
        raise UsageError(f"seeds must be one a trajectory, {starts.count} (got {len(seeds)})")
    provenance = {
        "stepper": json.loads(json.dumps(provenance)),
        "starts": starts.fingerprint(),
        "start_time": starts.begin,
        "steps": steps,
        "keep_every": keep_every,
        "batch": "as memory allows" if batch is None else batch,
        "seeds": _hash(seeds),
    }
    with output_lock(path):
        if not _is_there(path, provenance, force):
            folder = start_or_resume(path, provenance, force)
            said = {**(attributes or {}), "provenance": json.dumps(provenance), "fingerprint": _hash(provenance),
                    "versions": json.dumps(package_versions())}  # fmt: skip
            try:
                _Rollout(stepper, starts, seeds, steps, keep_every, folder, path).run(batch, said)
            except torch.OutOfMemoryError:
                raise UsageError(f"{path}: out of memory; give a smaller batch, with force to begin again") from None
            except UsageError:
                raise
            except ValueError as error:  # a solver, on numbers that it cannot run
                raise UsageError(f"{path}: {error}") from None
            publish(path)
    return open_data(path)


@final
class _Rollout:
    """One rollout into `folder`, from where the last run left it.

    A piece counts as done when `progress.json` says so, which is replaced after its chunks are written. Every piece
    begins at the stored bits of the last one (of a stepper that is Markov), whether that was made by this run or not.
    """

    def __init__(
        self,
        stepper: Stepper,
        starts: InitialStates,
        seeds: list[int],
        steps: int,
        keep_every: int,
        folder: Path,
        path: Path,
    ) -> None:
        self.stepper, self.starts, self.seeds, self.keep_every, self.path = stepper, starts, seeds, keep_every, path
        self.times = steps // keep_every + 1
        self.store, self.progress_file = folder / "result", folder / "progress.json"
        state, inputs = starts.read(0, 1)
        with torch.no_grad():
            self.like = stepper.state(stepper.start(state, inputs, seeds[:1]))
        self.warned = False

    def run(self, batch: int | None, attributes: Mapping[str, Any]) -> None:
        """All batches that are not done."""
        done = read_json(self.progress_file)
        if done is None:
            state, inputs = self.starts.read(0, 1)
            one = (state.to(self.like), inputs, self.seeds[:1])
            chosen = plan(self.stepper, *one, self.starts.count, self.times, self.keep_every, batch)
            self._lay_out(chosen, inputs, attributes)
            done = {"plan": asdict(chosen), "batches": 0, "pieces": 0}
            write_json(self.progress_file, done)
        cut, count, each = self._plan_in(done), self.starts.count, (self.times - 1) * self.keep_every
        finished = min(done["batches"] * cut.batch, count) * each
        with (
            Progress(count * each, "rollout", "steps", finished) as progress,
            torch.no_grad(),
            fixed_threads(cut.threads),
        ):
            for i in range(done["batches"], -(-count // cut.batch)):
                self._fill(cut, i, done["pieces"] if i == done["batches"] else 0, progress)

    def _plan_in(self, done: Any) -> Plan:
        """The plan of the run that was interrupted; UsageError where its record is none."""
        try:
            cut, numbers = Plan(**done["plan"]), [done["batches"], done["pieces"]]
        except (KeyError, TypeError):
            cut, numbers = None, []
        if cut is None or any(type(v) is not int or v < 0 for v in numbers) or not is_whole(cut):
            raise UsageError(f"{self.progress_file} is no record of a rollout: delete {self.store.parent}")
        return cut

    def _fill(self, cut: Plan, number: int, pieces: int, progress: Progress) -> None:
        """The pieces of one batch that are not done."""
        first, last = number * cut.batch, min((number + 1) * cut.batch, self.starts.count)
        state, inputs = self.starts.read(first, last)
        state, pieces = state.to(self.like), pieces if self.stepper.is_markov else 0
        total = -(-self.times // cut.piece)
        if pieces:
            state = self._stored(first, last, pieces * cut.piece - 1)
            progress.skip((last - first) * (pieces * cut.piece - 1) * self.keep_every)
        carry = self.stepper.start(state, inputs, self.seeds[first:last])
        for piece in range(pieces, total):
            low, high = piece * cut.piece, min((piece + 1) * cut.piece, self.times)
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
            self._warn_of(rolled)
            part = to_dataset(self.starts.spec, rolled, inputs=None if piece else inputs)
            region = {"trajectory": slice(first, last), "time": slice(low, high)}
            part.drop_vars(list(part.coords)).to_zarr(self.store, region=region, consolidated=False)
            ended = piece + 1 == total
            done = {"batches": number + ended, "pieces": 0 if ended else piece + 1}
            write_json(self.progress_file, {"plan": asdict(cut), **done})

    def _stored(self, first: int, last: int, time: int) -> State:
        with open_data(self.store) as stored_dataset:
            part = stored_dataset.isel(trajectory=slice(first, last), time=[time])
            return read_states(part, self.starts.spec, self.like.dtype, finite=False)[:, 0].to(self.like)

    def _lay_out(self, cut: Plan, inputs: Mapping[str, Tensor], attributes: Mapping[str, Any]) -> None:
        """The Zarr folder without its values, and with all else."""
        import dask.array  # imported late, as whatever takes its time

        spec = replace(self.starts.spec, interval=self.starts.spec.interval * self.keep_every)
        one = to_dataset(spec, self.like[:, None], inputs=inputs, attributes=attributes)
        sizes, chunks = (
            {"trajectory": self.starts.count, "time": self.times},
            {"trajectory": cut.chunk, "time": cut.piece},
        )
        lazy, encoding = {}, {}
        for name, variable in one.data_vars.items():
            shape = tuple(sizes.get(str(dim), n) for dim, n in variable.sizes.items())
            lazy[name] = (variable.dims, dask.array.zeros(shape, dtype=variable.dtype, chunks=shape), variable.attrs)
            whole = tuple(chunks.get(str(dim), n) for dim, n in variable.sizes.items())
            encoding[name] = {"chunks": whole, "compressors": zarr_compressors()}
        times = self.starts.begin + spec.interval * np.arange(self.times)
        rest = {name: c for name, c in one.coords.items() if name not in sizes}
        coordinates: dict[Any, Any] = {**rest, **self.starts.coordinates, "time": ("time", times, one["time"].attrs)}
        xr.Dataset(lazy, coordinates, one.attrs).to_zarr(
            self.store, mode="w", compute=False, consolidated=False, encoding=encoding
        )

    def _warn_of(self, rolled: Tensor) -> None:
        if not self.warned and not rolled.isfinite().all():
            self.warned = True
            log.warning(f"{self.path.name}: a forecast turned non-finite; it goes on, and is stored as it is")


def _is_there(path: Path, provenance: Mapping[str, Any], force: bool) -> bool:
    """True where `path` was made from the same; UsageError where it is anything else, and always where it is no Zarr
    folder: `force` replaces forecasts, not what a wrong name hits."""
    if not path.exists():
        return False
    if not (path / "zarr.json").exists():
        raise UsageError(f"{path} exists already and is no Zarr folder; choose another name")
    if force:
        return False
    with open_data(path) as dataset:
        check_same_provenance(path, parse_json_attribute(dataset.attrs.get("provenance")), provenance)
    delete_leftovers(path)
    log.info(f"{path} is up to date")
    return True


def is_whole(cut: Plan) -> bool:
    """True where all its numbers are positive and whole, and its chunks fit into its batches."""
    return all(type(v) is int and v > 0 for v in asdict(cut).values()) and cut.batch % cut.chunk == 0


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
