"""The check of a user's own dataset against an experiment, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.schema import check_matches
from fluidsurrogate.evaluation.physics_check import check
from fluidsurrogate.evaluation.physics_report import PhysicsReport, is_accepted
from fluidsurrogate.simulation.splits import SPLITS, split_of, without_padding

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
        If the dataset does not match, has faults, or another reading of it is better by a factor of ten, unless it was
        accepted: by its attribute `physics_check` or by `data.accept`.
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
    return report


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
