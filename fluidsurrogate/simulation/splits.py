"""The splits of a dataset: training, validation and test trajectories."""

from __future__ import annotations

import numpy as np
import xarray as xr

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.core.errors import UsageError

SPLITS = ("train", "valid", "test")


def split_of(dataset: xr.Dataset, split: str, experiment: Experiment) -> xr.Dataset:
    """Select the trajectories of one split.

    They are found by the coordinate `split`. In a user's dataset without this coordinate, the first `data.train`
    trajectories are for training, the next `data.valid` for validation and the next `data.test` for test.

    Parameters
    ----------
    dataset : xr.Dataset
        Trajectories, with the dims trajectory, time, y and x.
    split : {"train", "valid", "test"}
        The split.
    experiment : Experiment
        Says how many trajectories are in each split, and over how many intervals.

    Returns
    -------
    xr.Dataset
        The trajectories. If `data.test_steps` is given, their times are cut to the intervals of this split.

    Raises
    ------
    UsageError
        If the dataset has too few trajectories or too few times.
    """
    if "trajectory" not in dataset.dims:
        raise UsageError("the dataset has no dimension 'trajectory'")
    if experiment.data.test_steps is not None:
        times = experiment.data.intervals_in(split) + 1
        if dataset.sizes.get("time", 1) < times:
            raise UsageError(
                f"the dataset has {dataset.sizes.get('time', 1)} times; its {split} trajectories need {times}"
            )
        dataset = dataset.isel(time=slice(0, times))
    if "split" in dataset.coords:
        chosen = np.flatnonzero(np.asarray(dataset["split"].values, dtype=object) == split)
        if not len(chosen):
            raise UsageError(f"the dataset has no trajectories for the split {split!r}")
        return dataset.isel(trajectory=chosen)
    sizes = [getattr(experiment.data, name) for name in SPLITS]
    if dataset.sizes["trajectory"] < sum(sizes):
        raise UsageError(
            f"the dataset has {dataset.sizes['trajectory']} trajectories and no coordinate 'split'; "
            f"data.train + data.valid + data.test are {sum(sizes)}"
        )
    first = sum(sizes[: SPLITS.index(split)])
    return dataset.isel(trajectory=slice(first, first + sizes[SPLITS.index(split)]))
