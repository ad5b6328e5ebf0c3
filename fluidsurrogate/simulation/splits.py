"""The splits of a dataset: trajectories for training, validation and test."""

from __future__ import annotations

import numpy as np
import xarray as xr

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.core.errors import UsageError

SPLITS = ("train", "valid", "test")


def split_of(dataset: xr.Dataset, split: str, experiment: Experiment) -> xr.Dataset:
    """The trajectories of one split: by the coordinate `split`, or, where a user's dataset has none, the first
    `data.train`, the next `data.valid` and the next `data.test`. Where `data.test_steps` is given, as many intervals of
    them as are this split's. UsageError where they are not there."""
    if "trajectory" not in dataset.dims:
        raise UsageError("the dataset has no dimension 'trajectory'")
    if experiment.data.test_steps is not None:
        times = experiment.data.steps_of(split) + 1
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
