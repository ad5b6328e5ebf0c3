"""The user's own dataset of an experiment (`data.path`): opened with the inputs of its flow, and checked before use."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import xarray as xr

from fluidsurrogate.config.data_facts import GIVEN
from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.conversion import read_states, to_inputs, with_field
from fluidsurrogate.data.coordinates import spatial_dims
from fluidsurrogate.data.readers import Facts, log_changes, open_data
from fluidsurrogate.data.schema import check_matches
from fluidsurrogate.simulation.splits import SPLITS, split_of
from solvers import FORCING, field_in

log = logging.getLogger("fluidsurrogate")
CHECKED_BYTES = 2**31  # of a split: larger ones are checked at their first and last trajectories
SAME_FORCING = 1e-3  # of its largest value: two forcings that differ by less are the same


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


def check_experiment_data(experiment: Experiment, path: str | Path) -> None:
    """Check that the user's dataset can be trained on and compared: what training would refuse is refused here.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    path : str or Path
        The dataset.

    Raises
    ------
    UsageError
        If grid, fields, times, units or constants are not those of the experiment, a split is missing, values are not
        finite, or trajectories are too short.
    """
    with open_experiment_data(experiment, path) as dataset:
        for split in SPLITS:
            part = split_of(dataset, split, experiment)
            check_matches(part, experiment.spec)
            _check_values(part, experiment, split)
        experiment.check_constants(dataset)
        _check_forcing(dataset, experiment)
        train = split_of(dataset, "train", experiment)
        for name, model in experiment.models.items():
            span = experiment.train.longest_span * max(model.multiples)
            if train.sizes.get("time", 1) <= span:
                raise UsageError(
                    f"training of {name} reaches over {span} intervals (train.unroll, push_forward, intervals), but "
                    f"the trajectories of {path} have {train.sizes.get('time', 1) - 1}"
                )


def _check_values(part: xr.Dataset, experiment: Experiment, split: str) -> None:
    """Check that the values of a split are finite numbers, a trajectory at a time."""
    count, dtype = part.sizes["trajectory"], experiment.torch_dtype
    numbers = range(count) if part.nbytes <= CHECKED_BYTES else sorted({0, count - 1})
    for number in numbers:
        one = part.isel(trajectory=[number])
        try:
            read_states(one, experiment.spec, dtype)
            to_inputs(one, experiment.spec, dtype)
        except UsageError as error:
            raise UsageError(f"{split} trajectory {number}: {error}") from None
    if len(numbers) < count:
        log.info(f"  {split}: the values of the first and the last of {count} trajectories were checked")


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


def _check_forcing(dataset: xr.Dataset, experiment: Experiment) -> None:
    """Check that the forcing in the user's data is the one that the experiment's flow has."""
    if FORCING.name not in dataset or experiment.flow.kind == GIVEN or experiment.flow.varying_parameters():
        return
    expected = forcing_at_samples(dataset, experiment)
    if expected is None:
        return
    found = dataset[FORCING.name]
    found = found.isel(trajectory=0) if "trajectory" in found.dims else found
    order = [dim for dim in ("component", *spatial_dims(dataset)) if dim in found.dims]
    apart = float(np.abs(found.transpose(*order).values - expected).max()) / max(float(np.abs(expected).max()), 1e-300)
    if apart > SAME_FORCING:
        raise UsageError(
            f"the forcing in the data is not that of the experiment's flow {experiment.flow.kind!r}: they differ by "
            f"{apart:.2g} of its largest value at the points of the samples. Leave out [flow], so that the one in the "
            "data is taken, correct [flow], or drop the variable 'forcing'"
        )
