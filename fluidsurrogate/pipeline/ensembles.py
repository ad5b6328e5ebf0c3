"""The part of the rollout stage that makes members: models calibrated, ensembles forecast, several at a time."""

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
from fluidsurrogate.simulation.splits import split_of

STEPS = 2  # of a job: calibrated, forecast


def forecast_ensembles(
    experiment: Experiment, models: Mapping[str, Path], data: Path, out: Path, allow_code: bool
) -> xr.Dataset:
    """Members of the test trajectories by (source, trajectory, member, time, y, x), with their bounds and horizons.

    A model that has no calibration yet gets one, on `compare.calibration_starts` fresh starts, beside its weights. Each
    forecast is on disk when it is made: `out` with .partial; a run that was killed makes those again that are not.
    """
    folder = partial_folder(out)
    shutil.rmtree(folder, ignore_errors=True)
    options, tree = experiment.train, experiment.tree()
    jobs = {name: (tree, str(path), str(data), str(folder / f"{name}.nc"), allow_code) for name, path in models.items()}
    data_options, compare = experiment.data, experiment.compare
    starts = compare.calibration_starts + data_options.test
    steps = len(models) * data_options.steps_of("test")
    cells = starts * (compare.members or 1) * math.prod(experiment.spec.grid.n)
    workers = choose_worker_count(options.workers, options.threads, steps, cells)
    run_jobs(_job, jobs, workers, STEPS, "ensembles")
    parts = []
    for name in models:
        with open_data(folder / f"{name}.nc") as part:
            parts.append(part.load())
    shutil.rmtree(folder)
    source = xr.Variable("source", list(models), {"long_name": "source of the forecast"})
    return xr.concat(parts, source, coords="minimal", compat="override", combine_attrs="drop_conflicts")


def _job(
    tree: Mapping[str, Any], path: str, data: str, to: str, allow_code: bool, report: Callable[[int, str], None]
) -> None:
    experiment = Experiment.from_tree(tree)
    members, threads = experiment.compare.members, experiment.train.threads
    assert members is not None
    with allowing_code(allow_code), fixed_threads(threads):  # a process of its own knows of no permission
        model = load(path, experiment.device)
        with open_data(data) as dataset:
            truth = split_of(dataset, "test", experiment).load()
        steps = truth.sizes["time"] - 1
        if model.calibration is None:
            if experiment.data.path:  # the test trajectories are what the bound will be scored on
                raise UsageError(f"compare.members: fluidsurrogate calibrate {path} --data DATASET first, on "
                                 "trajectories that are none of training, validation or test")  # fmt: skip
            model = calibrate(model, experiment.compare.calibration_starts, steps, members)
            assert model.calibration is not None
            model.calibration.write(Path(path))
        report(1, "calibrated")
        with atomic_write(Path(to)) as beside:
            forecast(model, truth, steps, members=members).to_netcdf(beside, engine="netcdf4")
        report(STEPS, "forecast")
