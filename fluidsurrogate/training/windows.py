"""The batch of each training step: which windows of which trajectories, and where they come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, final

import numpy as np
import psutil
import torch
import xarray as xr
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.jobs import without_main_module
from fluidsurrogate.core.seeding import derive_seed
from fluidsurrogate.data.array_types import States
from fluidsurrogate.data.conversion import read_states, to_inputs, to_states
from fluidsurrogate.data.schema import check_matches
from fluidsurrogate.simulation.splits import split_of
from fluidsurrogate.training.curriculum import Curriculum
from solvers import StateSpec

Batch = tuple[States, dict[str, Tensor]]
CHUNK_TRAJECTORIES = 8  # trajectories that are looked at a time: so much a set that is stored takes in memory


class Trajectories(ABC):
    """Training data: how many trajectories of how many times, and any window of them."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """Trajectories and stored times."""

    @abstractmethod
    def window(self, which: Tensor, first: Tensor, length: int) -> Batch:
        """States `first` … `first + length` of the trajectories `which`, and their inputs."""

    @abstractmethod
    def chunks(self) -> Iterator[Batch]:
        """Everything, some trajectories at a time."""


@final
@dataclass(frozen=True)
class InMemoryTrajectories(Trajectories):
    """States (trajectory, time, component, y, x) and inputs by name (trajectory, component, y, x)."""

    states: States
    inputs: Mapping[str, Tensor]

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset, split: str, experiment: Experiment) -> InMemoryTrajectories:
        """One split of a dataset; UsageError where it is not what the experiment describes, or too large."""
        chosen, dtype = split_of(dataset, split, experiment), experiment.torch_dtype
        free = psutil.virtual_memory().available
        if 2 * chosen.nbytes > free:
            advice = "set train.loaders = 2 to read it from disk while training"
            if split == "valid":  # rolled out as a whole
                advice = "what is validated on is held in memory; take fewer trajectories (data.valid)"
            raise UsageError(
                f"the split {split!r} holds {chosen.nbytes / 1e9:.1f} GB and {free / 1e9:.1f} GB of memory are free: "
                f"{advice}"
            )
        states = to_states(chosen, experiment.spec, dtype)
        experiment.check_constants(chosen)
        return cls(states, to_inputs(chosen, experiment.spec, dtype))

    @property
    def size(self) -> tuple[int, int]:
        return self.states.shape[0], self.states.shape[1]

    def window(self, which: Tensor, first: Tensor, length: int) -> Batch:
        times = first[:, None] + torch.arange(length + 1)
        return self.states[which[:, None], times], {name: value[which] for name, value in self.inputs.items()}

    def chunks(self) -> Iterator[Batch]:
        for first in range(0, self.size[0], CHUNK_TRAJECTORIES):
            part = slice(first, first + CHUNK_TRAJECTORIES)
            yield self.states[part], {name: value[part] for name, value in self.inputs.items()}


@final
@dataclass(frozen=True)
class StoredTrajectories(Trajectories):
    """Trajectories that stay where they are, a Zarr folder say; every window is read when it is asked for."""

    dataset: xr.Dataset
    spec: StateSpec
    dtype: torch.dtype

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset, split: str, experiment: Experiment) -> StoredTrajectories:
        """One split of a dataset; UsageError where it is not what the experiment describes."""
        chosen = split_of(dataset, split, experiment)
        check_matches(chosen, experiment.spec)
        experiment.check_constants(chosen)
        return cls(chosen, experiment.spec, experiment.torch_dtype)

    @property
    def size(self) -> tuple[int, int]:
        return self.dataset.sizes["trajectory"], self.dataset.sizes["time"]

    def window(self, which: Tensor, first: Tensor, length: int) -> Batch:
        parts = [
            self._read(slice(int(i), int(i) + 1), slice(int(t), int(t) + length + 1))
            for i, t in zip(which, first, strict=True)
        ]
        inputs = {field.name: torch.cat([given[field.name] for _, given in parts]) for field in self.spec.inputs}
        return torch.cat([states for states, _ in parts]), inputs

    def chunks(self) -> Iterator[Batch]:
        for first in range(0, self.size[0], CHUNK_TRAJECTORIES):
            yield self._read(slice(first, first + CHUNK_TRAJECTORIES), slice(None))

    def _read(self, trajectories: slice, times: slice) -> Batch:
        part = self.dataset.isel(trajectory=trajectories, time=times)
        return read_states(part, self.spec, self.dtype), to_inputs(part, self.spec, self.dtype)


@final
class WindowBatches(Dataset[Batch]):
    """Item `step` is this process's part of that step's batch: while its length stays, every window once an epoch, in
    an order that depends on seed, epoch and length alone: the same after a kill, and however it is read."""

    def __init__(
        self, data: Trajectories, curriculum: Curriculum, seed: int, batch: int, part: tuple[int, int] = (0, 1)
    ) -> None:
        """`part`: which of how many equal parts of each batch."""
        self.data, self.curriculum, self.seed, self.batch = data, curriculum, seed, batch
        share = batch // part[1]
        self.rows = np.arange(part[0] * share, (part[0] + 1) * share)

    def __getitem__(self, step: int) -> Batch:
        return self.data.window(*self.windows(step), self.curriculum.at(step).span)

    def windows(self, step: int) -> tuple[Tensor, Tensor]:
        """Trajectories and first times."""
        span, (trajectories, times) = self.curriculum.at(step).span, self.data.size
        starts = times - span
        count = trajectories * starts
        drawn = [
            _permutation(self.seed, span, int(p // count), count)[p % count] for p in step * self.batch + self.rows
        ]
        chosen = torch.tensor(np.array(drawn))
        return chosen // starts, chosen % starts

    def from_step(self, first: int, last: int, loaders: int) -> Iterator[Batch]:
        """The batches of the steps `first` … `last` − 1; with `loaders`, read ahead by that many processes."""
        if not loaders:
            return (self[step] for step in range(first, last))
        return self._read_ahead(range(first, last), loaders)

    def _read_ahead(self, steps: range, loaders: int) -> Iterator[Batch]:
        # Fresh processes: a fork would copy the threads of the store's reader in whatever state they are.
        loader = DataLoader(
            self, batch_size=None, collate_fn=_as_it_is, sampler=steps, num_workers=loaders,
            multiprocessing_context="spawn", prefetch_factor=4, generator=torch.Generator(),
        )  # fmt: skip
        try:
            with without_main_module():
                batches = iter(loader)
            yield from batches
        except UsageError as error:  # torch puts the process's traceback before what went wrong
            raise UsageError(str(error).strip().splitlines()[-1].partition(": ")[2]) from None
        except (RuntimeError, OSError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise UsageError(f"a process that reads the data failed ({reason}); the same command goes on") from None


def _as_it_is(batch: Any) -> Any:
    return batch


@lru_cache(maxsize=4)
def _permutation(seed: int, span: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng(derive_seed(seed, "order", span, epoch)).permutation(count)
