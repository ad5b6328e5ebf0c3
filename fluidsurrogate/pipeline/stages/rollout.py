"""The stage `rollout`: forecasts of the test trajectories by every source, and ensembles of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from fluidsurrogate.pipeline.run import DATA, Run
from fluidsurrogate.pipeline.stage import Provenance, Stage, Tree, register

log = logging.getLogger("fluidsurrogate")
FORECASTS, ENSEMBLES = "forecasts.nc", "ensembles.nc"


def outputs(tree: Tree) -> tuple[str, ...]:
    """Return the forecasts and, where the experiment asks for members, the ensembles."""
    return (FORECASTS, ENSEMBLES) if with_members(tree) else (FORECASTS,)


def with_members(tree: Tree) -> list[str]:
    """Return the models whose forecasts get members: where `compare.members` is given, all of a single network."""
    compare, models = tree.get("compare"), tree.get("models")
    if not (isinstance(compare, dict) and "members" in compare and isinstance(models, dict)):
        return []
    return [name for name, model in models.items() if isinstance(model, dict) and model.get("networks", 1) == 1]


def provenance(run: Run, output: str) -> Provenance:
    """Return what forecasts or ensembles depend on."""
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
    """Roll out whatever is missing."""
    from fluidsurrogate.data.netcdf_files import write_netcdf

    for output in missing:
        log.info(f"rollout: {run.out / output}")
        dataset = _ensembles(run) if output == ENSEMBLES else _forecasts(run)
        write_netcdf(dataset.assign_attrs(run.stamp(output)), run.out / output)


def _forecasts(run: Run):
    from fluidsurrogate.data.readers import open_data
    from fluidsurrogate.models.loading import load
    from fluidsurrogate.pipeline.forecasts import forecast_all
    from fluidsurrogate.simulation.splits import split_of

    models = {name: load(run.model_path(name), run.experiment.device) for name in run.experiment.models}
    with open_data(run.data_path) as data:
        truth = split_of(data, "test", run.experiment).load()
    return forecast_all(run.experiment, models, truth)


def _ensembles(run: Run):
    from fluidsurrogate.nn import code_is_allowed
    from fluidsurrogate.pipeline.ensembles import forecast_ensembles

    paths: dict[str, Path] = {name: run.model_path(name) for name in with_members(run.tree)}
    return forecast_ensembles(run.experiment, paths, run.data_path, run.out / ENSEMBLES, code_is_allowed())


register(
    Stage(
        name="rollout",
        summary="forecasts of the test trajectories: forecasts.nc; or, with --start, of a start of your own",
        inputs=("generate", "train"),
        kind="forecasts",
        files=(FORECASTS, ENSEMBLES),
        outputs=outputs,
        provenance=provenance,
        make=make,
    )
)
