"""Long forecasts by the classical solver, from a user's own initial states: the truth for those of a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.simulation.generation import data_provenance
from fluidsurrogate.simulation.zarr_rollout import rollout_to_zarr
from solvers import Resampled

if TYPE_CHECKING:
    from distributed import Client


def solver_rollout_to_zarr(
    experiment: Experiment,
    dataset: xr.Dataset,
    steps: int,
    path: str | Path,
    *,
    start_time: float | None = None,
    keep_every: int = 1,
    batch: int | None = None,
    force: bool = False,
    dask: str | Client | None = None,
) -> xr.Dataset:
    """Roll the experiment's solver out from stored states into a Zarr folder, in bounded memory.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    dataset : xr.Dataset
        Initial states on the stored grid, with the dims trajectory, time, y and x.
    steps : int
        Number of intervals.
    path : str or Path
        The Zarr folder to write; its name ends in .zarr. With `dask` also an address.
    start_time : float, optional
        The stored time to start from; by default the first one.
    keep_every : int
        Number of intervals between two stored times.
    batch : int, optional
        Number of trajectories at a time; by default what fits in the free memory.
    force : bool
        Replace a rollout of something else at `path`.
    dask : str or distributed.Client, optional
        A Dask cluster that computes the batches.

    Returns
    -------
    xr.Dataset
        The rollout, opened lazily: see `rollout_to_zarr`.

    Raises
    ------
    UsageError
        If the dataset does not fit the experiment, an argument is not valid, or `path` holds something else.
    """
    solver = experiment.build_solver()
    experiment.check_constants(dataset)
    provenance = {key: value for key, value in data_provenance(experiment).items() if key not in ("seed", "data")}
    provenance |= {"interval": solver.spec.interval, "state": experiment.data.state, "kernel": solver.backend}
    return rollout_to_zarr(
        Resampled(experiment.build_stepper(), experiment.spec.grid), dataset, steps, path, start_time=start_time,
        batch=batch, keep_every=keep_every, provenance={**provenance, "device": str(solver.device)}, force=force,
        dask=dask,
        attributes={"source": "fluidsurrogate classical solver", **experiment.constants,
                    "experiment": json.dumps(experiment.tree())},
    )  # fmt: skip
