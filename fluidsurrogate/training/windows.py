"""Training data: trajectories in memory or on disk, and the batch of windows of each training step."""

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
from fluidsurrogate.core.memory import free_memory
from fluidsurrogate.core.seeding import derive_seed
from fluidsurrogate.data.array_types import States
from fluidsurrogate.data.conversion import read_states, to_inputs, to_states
from fluidsurrogate.data.schema import check_matches
from fluidsurrogate.simulation.batch_sizes import MEMORY_PARTS
from fluidsurrogate.simulation.splits import split_of
from fluidsurrogate.training.curriculum import Curriculum
from solvers import StateSpec

Batch = tuple[States, dict[str, Tensor]]
CHUNK_TRAJECTORIES = 8  # of a pass over the data: so many trajectories of a dataset on disk are in memory at a time


class Trajectories(ABC):
    """Trajectories to train on, from which windows in time can be read."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """Number of trajectories, and of their stored times."""

    @abstractmethod
    def window(self, which: Tensor, first: Tensor, length: int) -> Batch:
        """Read windows of trajectories, each of `length` intervals.

        Parameters
        ----------
        which : Tensor
            Numbers of the trajectories, shape (window,).
        first : Tensor
            Number of the first time of each window, shape (window,).
        length : int
            Number of intervals.

        Returns
        -------
        states : Tensor
            Shape (window, length + 1, component, y, x).
        inputs : dict of str to Tensor
            The inputs by name, each (window, component, y, x).
        """

    @abstractmethod
    def chunks(self) -> Iterator[Batch]:
        """Pass over all data, some trajectories at a time.

        Yields
        ------
        states : Tensor
            Shape (trajectory, time, component, y, x).
        inputs : dict of str to Tensor
            The inputs by name, each (trajectory, component, y, x).
        """


@final
@dataclass(frozen=True)
class InMemoryTrajectories(Trajectories):
    """Trajectories that are held in memory.

    Parameters
    ----------
    states : Tensor
        Shape (trajectory, time, component, y, x).
    inputs : mapping of str to Tensor
        The inputs by name, each (trajectory, component, y, x).
    """

    states: States
    inputs: Mapping[str, Tensor]

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset, split: str, experiment: Experiment) -> InMemoryTrajectories:
        """Read one split of a dataset into memory.

        Parameters
        ----------
        dataset : Dataset
            Trajectories (trajectory, time, y, x).
        split : str
            The split to read: "train" or "valid".
        experiment : Experiment
            The experiment, which describes the data.

        Returns
        -------
        InMemoryTrajectories
            The trajectories of the split.

        Raises
        ------
        UsageError
            If the dataset is not what the experiment describes, or does not fit in memory.
        """
        chosen, dtype = split_of(dataset, split, experiment), experiment.torch_dtype
        free = psutil.virtual_memory().available
        if 2 * chosen.nbytes > free:
            advice = "set train.loaders = 2 to read it from disk while training"
            if split == "valid":  # rolled out as a whole
                advice = "validation data are held in memory: take fewer trajectories (data.valid)"
            raise UsageError(
                f"the split {split!r} needs {2 * chosen.nbytes / 1e9:.1f} GB of memory, "
                f"and {free / 1e9:.1f} GB are free: {advice}"
            )
        states = to_states(chosen, experiment.spec, dtype)
        experiment.check_constants(chosen)
        return cls(states, to_inputs(chosen, experiment.spec, dtype))

    @property
    def size(self) -> tuple[int, int]:
        return self.states.shape[0], self.states.shape[1]

    def window(self, which: Tensor, first: Tensor, length: int) -> Batch:
        device, times = self.states.device, first[:, None] + torch.arange(length + 1)
        # All indices in one transfer, for which the host does not wait.
        index = torch.cat([which[:, None], times], dim=1).to(device, non_blocking=True)
        which, times = index[:, 0], index[:, 1:]
        return self.states[which[:, None], times], {name: value[which] for name, value in self.inputs.items()}

    def to_device(self, device: torch.device) -> InMemoryTrajectories:
        """Move the data to a GPU if they leave most of its free memory to the training.

        Parameters
        ----------
        device : torch.device
            The device that trains.

        Returns
        -------
        InMemoryTrajectories
            The same trajectories on the device; these themselves if they take more than `MEMORY_PARTS` allows of it.
        """
        tensors = (self.states, *self.inputs.values())
        if sum(tensor.nbytes for tensor in tensors) > free_memory(device) // MEMORY_PARTS:
            return self
        return InMemoryTrajectories(self.states.to(device), {k: v.to(device) for k, v in self.inputs.items()})

    def chunks(self) -> Iterator[Batch]:
        for first in range(0, self.size[0], CHUNK_TRAJECTORIES):
            part = slice(first, first + CHUNK_TRAJECTORIES)
            yield self.states[part], {name: value[part] for name, value in self.inputs.items()}


@final
@dataclass(frozen=True)
class StoredTrajectories(Trajectories):
    """Trajectories that stay on disk, in a Zarr folder for instance; every window is read when it is asked for.

    Parameters
    ----------
    dataset : Dataset
        Trajectories (trajectory, time, y, x), opened lazily.
    spec : StateSpec
        Grid, fields and inputs.
    dtype : torch.dtype
        Precision of the tensors.
    """

    dataset: xr.Dataset
    spec: StateSpec
    dtype: torch.dtype

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset, split: str, experiment: Experiment) -> StoredTrajectories:
        """Select one split of a dataset.

        Parameters
        ----------
        dataset : Dataset
            Trajectories (trajectory, time, y, x).
        split : str
            The split to select: "train" or "valid".
        experiment : Experiment
            The experiment, which describes the data.

        Returns
        -------
        StoredTrajectories
            The trajectories of the split.

        Raises
        ------
        UsageError
            If the dataset is not what the experiment describes.
        """
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
        inputs = {field.name: torch.cat([values[field.name] for _, values in parts]) for field in self.spec.inputs}
        return torch.cat([states for states, _ in parts]), inputs

    def chunks(self) -> Iterator[Batch]:
        for first in range(0, self.size[0], CHUNK_TRAJECTORIES):
            yield self._read(slice(first, first + CHUNK_TRAJECTORIES), slice(None))

    def _read(self, trajectories: slice, times: slice) -> Batch:
        """Read the states and inputs of some trajectories and times."""
        part = self.dataset.isel(trajectory=trajectories, time=times)
        return read_states(part, self.spec, self.dtype), to_inputs(part, self.spec, self.dtype)


@final
class WindowBatches(Dataset[Batch]):
    """Dataset of batches: item `step` is this process's share of the batch of that training step.

    As long as the length of the windows stays the same, every window comes once an epoch, in an order that depends on
    seed, epoch and length only. The batches are the same in a resumed training, and in memory and on disk.

    Parameters
    ----------
    data : Trajectories
        The training data.
    curriculum : Curriculum
        Gives the length of the windows of each step.
    seed : int
        Seed of the training.
    batch : int
        Number of windows in the whole batch.
    rank : int
        Number of this process, from 0.
    world_size : int
        Number of processes, which share each batch equally.

    Attributes
    ----------
    samples : ndarray
        Which samples of each batch are this process's.
    """

    def __init__(
        self, data: Trajectories, curriculum: Curriculum, seed: int, batch: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.data, self.curriculum, self.seed, self.batch = data, curriculum, seed, batch
        share = batch // world_size
        self.samples = np.arange(rank * share, (rank + 1) * share)

    def __getitem__(self, step: int) -> Batch:
        return self.data.window(*self.draw_windows(step), self.curriculum.schedule_at(step).span)

    def draw_windows(self, step: int) -> tuple[Tensor, Tensor]:
        """Draw the windows of a training step.

        Parameters
        ----------
        step : int
            Number of the training step, from 0.

        Returns
        -------
        which : Tensor
            Number of the trajectory of each window, shape (window,).
        first : Tensor
            Number of the first time of each window, shape (window,).
        """
        span, (trajectories, times) = self.curriculum.schedule_at(step).span, self.data.size
        starts = times - span
        count = trajectories * starts
        drawn = [
            _permutation(self.seed, span, int(p // count), count)[p % count] for p in step * self.batch + self.samples
        ]
        chosen = torch.tensor(np.array(drawn))
        return chosen // starts, chosen % starts

    def from_step(self, first: int, last: int, loaders: int) -> Iterator[Batch]:
        """Return the batches of the training steps from `first` to `last` − 1, in order.

        Parameters
        ----------
        first, last : int
            Numbers of the first step, and of the step after the last one.
        loaders : int
            Number of processes that read ahead; with 0, each batch is read when it is asked for.

        Returns
        -------
        iterator of tuple
            States (window, time, component, y, x) and inputs by name, for each step.

        Raises
        ------
        UsageError
            If the data cannot be read.
        """
        if not loaders:
            return (self[step] for step in range(first, last))
        return self._read_ahead(range(first, last), loaders)

    def _read_ahead(self, steps: range, loaders: int) -> Iterator[Batch]:
        """Yield the batches of some steps, which other processes read ahead."""
        # Fresh processes: a fork would copy the threads of the store's reader in whatever state they are.
        loader = DataLoader(
            self, batch_size=None, collate_fn=_identity, sampler=steps, num_workers=loaders,
            multiprocessing_context="spawn", prefetch_factor=4, generator=torch.Generator(),
        )  # fmt: skip
        try:
            with without_main_module():
                batches = iter(loader)
            yield from batches
        except UsageError as error:  # torch puts the traceback of the process before the message
            raise UsageError(str(error).strip().splitlines()[-1].partition(": ")[2]) from None
        except (RuntimeError, OSError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise UsageError(
                f"a process that reads the data failed ({reason}): run the same command to go on"
            ) from None


def _identity(batch: Any) -> Any:
    """Return a batch as it is: the dataset gives whole batches, which need no collating."""
    return batch


@lru_cache(maxsize=4)
def _permutation(seed: int, span: int, epoch: int, count: int) -> np.ndarray:
    """Return the order of all windows of one length in one epoch."""
    return np.random.default_rng(derive_seed(seed, "order", span, epoch)).permutation(count)
