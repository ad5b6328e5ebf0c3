"""The splits of a dataset: training, validation and test trajectories."""

from __future__ import annotations

import numpy as np
import xarray as xr

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.provenance import parse_json_attribute
from fluidsurrogate.data.geometry import refuse_other_geometries
from fluidsurrogate.data.readers.package_layout import SPLIT_TIMES

SPLITS = ("train", "valid", "test")


def without_padding(dataset: xr.Dataset) -> xr.Dataset:
    """Return a dataset without the times that some of its splits lack.

    Parameters
    ----------
    dataset : xr.Dataset
        Trajectories, whose attribute `split_times` says how many times each split has, if they differ.

    Returns
    -------
    xr.Dataset
        The times that all splits have.
    """
    stored = parse_json_attribute(dataset.attrs.get(SPLIT_TIMES))
    return dataset.isel(time=slice(0, min(map(int, stored.values())))) if stored else dataset


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
        The trajectories. If `data.test_steps` is given, or the dataset has the attribute `split_times`, their times are
        cut to those of this split.

    Raises
    ------
    UsageError
        If the dataset has too few trajectories or too few times.
    """
    refuse_other_geometries(dataset, "the dataset")
    if "trajectory" not in dataset.dims:
        raise UsageError("the dataset has no dimension 'trajectory': a single trajectory gets one by "
                         "expand_dims('trajectory'), a file in another layout by fluidsurrogate import")  # fmt: skip
    if experiment.data.test_steps is not None:
        times = experiment.data.intervals_in(split) + 1
        if dataset.sizes.get("time", 1) < times:
            raise UsageError(
                f"the dataset has {dataset.sizes.get('time', 1)} times; its {split} trajectories need {times}"
            )
        dataset = dataset.isel(time=slice(0, times))
    stored = parse_json_attribute(dataset.attrs.get(SPLIT_TIMES)) or {}
    dataset = dataset.isel(time=slice(0, int(stored[split]))) if split in stored else dataset
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
