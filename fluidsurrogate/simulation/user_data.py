"""The check of a user's own dataset against an experiment, before anything is trained on it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import xarray as xr

from fluidsurrogate.config.data_facts import GIVEN
from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.conversion import read_states, to_inputs
from fluidsurrogate.data.coordinates import spatial_dims
from fluidsurrogate.data.schema import check_matches
from fluidsurrogate.evaluation.physics_check import check
from fluidsurrogate.evaluation.physics_report import PhysicsReport, is_accepted
from fluidsurrogate.simulation.experiment_data import forcing_at_samples
from fluidsurrogate.simulation.splits import SPLITS, split_of, without_padding
from solvers import FORCING

log = logging.getLogger("fluidsurrogate")
CHECKED_BYTES = 2**31  # of a split: larger ones are checked at their first and last trajectories
SAME_FORCING = 1e-3  # of its largest value: two forcings that differ by less are the same
SOLVER_SOURCE = "fluidsurrogate classical solver"  # the attribute `source` of what `generate` makes


def check_user_data(
    experiment: Experiment, dataset: xr.Dataset, name: str = "the dataset", splits: Sequence[str] = SPLITS
) -> PhysicsReport:
    """Check that a dataset is what an experiment says, free of faults, and of the flow that `[flow]` names.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    dataset : xr.Dataset
        The user's own dataset.
    name : str, default "the dataset"
        What errors call it.
    splits : sequence of str, default ("train", "valid", "test")
        The splits that it must have.

    Returns
    -------
    PhysicsReport
        What the check by physics found; `solver_applies` says whether the experiment's solver steps the data.

    Raises
    ------
    UsageError
        If the dataset does not match, its values cannot be used or its forcing is another one; if it has faults or
        another reading of it is better by a factor of ten, unless it was accepted: by its attribute `physics_check` or
        by `data.accept`.
    """
    labels = np.full(dataset.sizes.get("trajectory", 1), "", dtype=object)
    numbered = (
        dataset.assign_coords(_number=("trajectory", np.arange(len(labels))))
        if "trajectory" in dataset.dims
        else dataset
    )
    for split in splits:
        chosen = split_of(numbered, split, experiment)
        labels[chosen["_number"].values] = split
        chosen = chosen.drop_vars("_number")
        check_matches(chosen, experiment.spec)
        experiment.check_constants(chosen)
    constants = {key: value for key, value in experiment.constants.items() if key != "viscosity"}
    flow = experiment.build_flow()
    report = check(
        without_padding(dataset), experiment.constants.get("viscosity"), constants=constants, splits=list(labels),
        steppers=experiment.build_checking_solvers(), stepper_name=f"[flow] {flow.kind}",
        is_random=flow.stochastic_forcing(experiment.grid.build()) is not None,
    )  # fmt: skip
    if report.is_refused and not (experiment.data.accept or is_accepted(dataset)):
        raise UsageError(f"{name}: {report.refusal()}")
    for split in splits:
        _check_values(split_of(dataset, split, experiment), experiment, split)
    _check_forcing(dataset, experiment)
    return report


def check_lengths(experiment: Experiment, dataset: xr.Dataset, name: str) -> None:
    """Check that the training trajectories of a dataset are as long as the rollouts of the training.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    dataset : xr.Dataset
        The user's own dataset.
    name : str
        What errors call it.

    Raises
    ------
    UsageError
        If they are too short.
    """
    intervals = split_of(dataset, "train", experiment).sizes.get("time", 1) - 1
    for model_name, model in experiment.models.items():
        span = experiment.train.longest_span * max(model.multiples)
        if intervals < span:
            raise UsageError(
                f"training of {model_name} reaches over {span} intervals (train.unroll, push_forward, intervals), but "
                f"the trajectories of {name} have {intervals}"
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


def is_made_by_solver(dataset: xr.Dataset) -> bool:
    """Return whether a dataset says that `generate` made it.

    Parameters
    ----------
    dataset : xr.Dataset
        The dataset.

    Returns
    -------
    bool
        True if its attributes name the solver of the package and record the experiment.
    """
    return dataset.attrs.get("source") == SOLVER_SOURCE and "experiment" in dataset.attrs
