"""The dataset of an experiment, its own or the user's (`data.path`): opened with the inputs of its flow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from fluidsurrogate.config.data_facts import GIVEN
from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.conversion import with_field
from fluidsurrogate.data.coordinates import spatial_dims
from fluidsurrogate.data.readers import Facts, log_changes, open_data
from solvers import FORCING, field_in


def open_experiment_data(experiment: Experiment, path: str | Path) -> xr.Dataset:
    """Open the dataset of an experiment, its own or the user's.

    If the flow of the experiment has a forcing, and the user's dataset lacks it, the forcing of the flow is added, at
    the points of the samples: at nodes, if the attribute `origin` says so.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    path : str or Path
        The dataset.

    Returns
    -------
    xr.Dataset
        Opened lazily.

    Raises
    ------
    UsageError
        If it cannot be opened, or is in a layout that cannot be converted.
    """
    if not experiment.data.path:
        return open_data(path)
    return _with_forcing(_open(path), experiment)


def _open(path: str | Path) -> xr.Dataset:
    """Open a dataset of the user's in the layout of this package, and log what was changed."""
    facts = Facts(Path(path))
    dataset = open_data(path, facts)
    log_changes(facts)
    return dataset


def open_for_training(experiment: Experiment, data: xr.Dataset | str | Path) -> xr.Dataset:
    """Return data that are given from Python, in the layout of this package and with the forcing of the flow.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    data : xr.Dataset, str or Path
        A dataset, or where it is on disk.

    Returns
    -------
    xr.Dataset
        Values that are on disk are not read yet. A Dataset is taken as it is, except that a forcing of the flow is
        added if its attribute `origin` says where its samples are.

    Raises
    ------
    UsageError
        If it cannot be opened or converted, or is no Dataset.
    """
    if isinstance(data, str | Path):
        return _with_forcing(_open(data), experiment)
    if not isinstance(data, xr.Dataset):
        raise UsageError(f"an xarray Dataset is needed (got {type(data).__name__})")
    return _with_forcing(data, experiment) if "origin" in data.attrs else data


def _with_forcing(dataset: xr.Dataset, experiment: Experiment) -> xr.Dataset:
    """Return a dataset with the forcing of the flow at the points of its samples, if it has none."""
    if FORCING.name in dataset or FORCING.name not in [field.name for field in experiment.spec.inputs]:
        return dataset
    if experiment.flow.kind == GIVEN:
        return dataset
    return with_field(
        dataset, field_in(FORCING, experiment.spec.grid.dimensions), forcing_at_samples(dataset, experiment)
    )


def forcing_at_samples(dataset: xr.Dataset, experiment: Experiment) -> np.ndarray | None:
    """Return the forcing of an experiment's flow at the points of a dataset's samples.

    Parameters
    ----------
    dataset : xr.Dataset
        In the layout of this package. Its attribute `origin` says where its coordinate 0 lies in the box of the flow.
    experiment : Experiment
        The experiment.

    Returns
    -------
    ndarray or None
        Shape (y, x), in three dimensions (3, z, y, x); None if the flow has no forcing. The forcing at the cell centres
        is moved spectrally, which is exact for one that the grid resolves.
    """
    from fluidsurrogate.data.readers.package_layout import shift_along

    grid = experiment.grid.build_stored()
    forcing = experiment.build_flow().forcing(grid)
    if forcing is None:
        return None
    dims = [*(["component"] if grid.dimensions == 3 else []), *grid.axes]
    variable = xr.Variable(dims, forcing.numpy())
    origin = np.atleast_1d(np.asarray(dataset.attrs.get("origin", [0.0] * grid.dimensions), np.float64))
    for axis, start, spacing in zip(spatial_dims(dataset), origin, grid.spacing, strict=True):
        if start:
            variable = shift_along(variable, axis, start / spacing)
    return np.asarray(variable.values)
