"""The stage `rollout`: forecasts of the test trajectories by every source, and ensemble forecasts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from fluidsurrogate.pipeline.run import DATA, Run
from fluidsurrogate.pipeline.stage import Provenance, Stage, Tree, register

log = logging.getLogger("fluidsurrogate")
FORECASTS, ENSEMBLES = "forecasts.nc", "ensembles.nc"


def outputs(tree: Tree) -> tuple[str, ...]:
    """Return the names of the file of forecasts and, if the experiment asks for members, the file of ensembles."""
    return (FORECASTS, ENSEMBLES) if ensemble_models(tree) else (FORECASTS,)


def ensemble_models(tree: Tree) -> list[str]:
    """Return the models with ensemble forecasts: if `compare.members` is given, all models of a single network."""
    compare, models = tree.get("compare"), tree.get("models")
    if not (isinstance(compare, dict) and "members" in compare and isinstance(models, dict)):
        return []
    return [name for name, model in models.items() if isinstance(model, dict) and model.get("networks", 1) == 1]


def provenance(run: Run, output: str) -> Provenance:
    """Return what the forecasts or the ensembles depend on."""
    compare = run.experiment.compare
    if output == ENSEMBLES:
        numbers = {"members": compare.members, "calibration_starts": compare.calibration_starts}
        return {"forecasts": run.provenance(FORECASTS), **numbers}
    return {
        "data": run.provenance(DATA),
        "models": {name: run.provenance(f"models/{name}") for name in run.experiment.models},
        "solvers": run.tree["compare"]["solvers"],
    }


def make(run: Run, missing: Sequence[str], force: bool) -> None:
    """Make the forecasts and the ensembles that are missing."""
    from fluidsurrogate.data.netcdf_files import write_netcdf

    for output in missing:
        log.info(f"rollout: {run.out / output}")
        dataset = _ensembles(run) if output == ENSEMBLES else _forecasts(run)
        write_netcdf(dataset.assign_attrs(run.stamp(output)), run.out / output)


def _forecasts(run: Run):
    """Forecast the test trajectories by every source."""
    from fluidsurrogate.models.loading import load
    from fluidsurrogate.pipeline.forecasts import forecast_all
    from fluidsurrogate.pipeline.user_data_check import checked_user_data
    from fluidsurrogate.simulation.experiment_data import open_experiment_data
    from fluidsurrogate.simulation.splits import split_of

    models = {name: load(run.model_path(name), run.experiment.device) for name in run.experiment.models}
    with open_experiment_data(run.experiment, run.data_path) as data:
        truth = split_of(data, "test", run.experiment).load()
    solver_applies = None
    if run.experiment.data.path:
        solver_applies = checked_user_data(run)["solver_applies"]
        if not solver_applies:
            log.info("rollout: no row of the classical solver, because the check of the data does not say that [flow] "
                     "describes them")  # fmt: skip
    return forecast_all(run.experiment, models, truth, solver_applies)


def _ensembles(run: Run):
    """Forecast the test trajectories by the ensemble of each model."""
    from fluidsurrogate.nn import code_is_allowed
    from fluidsurrogate.pipeline.ensembles import forecast_ensembles

    paths: dict[str, Path] = {name: run.model_path(name) for name in ensemble_models(run.tree)}
    return forecast_ensembles(run.experiment, paths, run.data_path, run.out / ENSEMBLES, code_is_allowed())


register(
    Stage(
        name="rollout",
        summary="forecast the test trajectories: forecasts.nc; or, with --start, from an initial state of your own",
        inputs=("generate", "train"),
        kind="forecasts",
        files=(FORECASTS, ENSEMBLES),
        outputs=outputs,
        provenance=provenance,
        make=make,
    )
)
