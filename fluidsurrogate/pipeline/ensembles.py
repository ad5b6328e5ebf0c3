"""Ensemble forecasts of the stage `rollout`: models are calibrated, and their members forecast."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.core.devices import fixed_threads
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import atomic_write
from fluidsurrogate.core.jobs import choose_worker_count, run_jobs
from fluidsurrogate.core.resumable import partial_folder
from fluidsurrogate.data.readers import open_data
from fluidsurrogate.models.fit_calibration import calibrate
from fluidsurrogate.models.forecasting import forecast
from fluidsurrogate.models.loading import load
from fluidsurrogate.nn import allowing_code
from fluidsurrogate.simulation.experiment_data import open_experiment_data
from fluidsurrogate.simulation.splits import split_of

JOB_STEPS = 2  # calibrate, forecast


def forecast_ensembles(
    experiment: Experiment, models: Mapping[str, Path], data: str | Path, out: Path, allow_code: bool
) -> xr.Dataset:
    """Forecast the test trajectories by an ensemble of each model, several models at a time.

    A model without a calibration is calibrated first, on `compare.calibration_starts` fresh initial states; the
    calibration is written to the folder of the model.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    models : mapping of str to Path
        The folders of the models by name.
    data : str or Path
        The dataset.
    out : Path
        The file of the result. Finished forecasts of single models are kept in a folder beside it.
    allow_code : bool
        Whether models of kind "module" may run their code.

    Returns
    -------
    xr.Dataset
        Forecasts with the dims source, trajectory, member, time, y and x, their error bounds and horizons.

    Raises
    ------
    UsageError
        If a model without calibration was trained on the user's own data.
    """
    folder = partial_folder(out)
    shutil.rmtree(folder, ignore_errors=True)
    options, tree = experiment.train, experiment.tree()
    jobs = {name: (tree, str(path), str(data), str(folder / f"{name}.nc"), allow_code) for name, path in models.items()}
    data_options, compare = experiment.data, experiment.compare
    starts = compare.calibration_starts + data_options.test
    steps = len(models) * data_options.intervals_in("test")
    cells = starts * (compare.members or 1) * math.prod(experiment.spec.grid.n)
    workers = choose_worker_count(options.workers, options.threads, steps, cells)
    run_jobs(_calibrate_and_forecast, jobs, workers, JOB_STEPS, "ensembles")
    parts = []
    for name in models:
        with open_data(folder / f"{name}.nc") as part:
            parts.append(part.load())
    shutil.rmtree(folder)
    source = xr.Variable("source", list(models), {"long_name": "source of the forecast"})
    return xr.concat(parts, source, coords="minimal", compat="override", combine_attrs="drop_conflicts")


def _calibrate_and_forecast(
    tree: Mapping[str, Any], path: str, data: str, to: str, allow_code: bool, report: Callable[[int, str], None]
) -> None:
    """Forecast by the ensemble of one model, in a process of its own, after a calibration if there is none."""
    experiment = Experiment.from_tree(tree)
    members, threads = experiment.compare.members, experiment.train.threads
    assert members is not None
    with allowing_code(allow_code), fixed_threads(threads):  # a new process has not inherited the permission
        model = load(path, experiment.device)
        with open_experiment_data(experiment, Path(data)) as dataset:
            truth = split_of(dataset, "test", experiment).load()
        steps = truth.sizes["time"] - 1
        if model.calibration is None:
            if experiment.data.path:  # the test trajectories are what the bound will be scored on
                raise UsageError(f"compare.members: run fluidsurrogate calibrate {path} --data DATASET first, with "
                                 "trajectories that are not used for training, validation or test")  # fmt: skip
            model = calibrate(model, experiment.compare.calibration_starts, steps, members)
            assert model.calibration is not None
            model.calibration.write(Path(path))
        report(1, "calibrated")
        with atomic_write(Path(to)) as beside:
            forecast(model, truth, steps, members=members).to_netcdf(beside, engine="netcdf4")
        report(JOB_STEPS, "forecast")
