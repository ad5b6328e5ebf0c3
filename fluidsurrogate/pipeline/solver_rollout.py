"""The classical solver's forecast of a user's own start: the truth for a long forecast."""

from __future__ import annotations

import json
from pathlib import Path

import xarray as xr

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.simulation.generation import data_provenance
from fluidsurrogate.simulation.zarr_rollout import rollout_to_zarr
from solvers import Resampled


def solver_rollout_to_zarr(
    experiment: Experiment,
    dataset: xr.Dataset,
    steps: int,
    path: Path,
    *,
    start_time: float | None = None,
    keep_every: int = 1,
    batch: int | None = None,
    force: bool = False,
) -> xr.Dataset:
    """Roll the experiment's solver out from stored states into a Zarr folder: see `rollout_to_zarr`."""
    solver = experiment.build_solver()
    experiment.check_constants(dataset)
    provenance = {key: value for key, value in data_provenance(experiment).items() if key not in ("seed", "data")}
    provenance |= {"interval": solver.spec.interval, "state": experiment.data.state, "kernel": solver.backend}
    return rollout_to_zarr(
        Resampled(experiment.build_stepper(), experiment.spec.grid), dataset, steps, path, start_time=start_time,
        batch=batch, keep_every=keep_every, provenance={**provenance, "device": str(solver.device)}, force=force,
        attributes={"source": "fluidsurrogate classical solver", **experiment.constants,
                    "experiment": json.dumps(experiment.tree())},
    )  # fmt: skip
