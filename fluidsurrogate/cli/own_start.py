"""`fluidsurrogate rollout EXPERIMENT.toml --model NAME --start FILE …`: a forecast from the user's own start."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fluidsurrogate.core.errors import UsageError

if TYPE_CHECKING:
    from fluidsurrogate.pipeline.run import Run

TO_HELP = "NetCDF; or a Zarr folder, written while it runs in bounded memory, that a killed run goes on with"


def add_own_start(sub: argparse.ArgumentParser) -> None:
    """Declare the options of a forecast of one's own."""
    own = sub.add_argument_group("a forecast of your own, from a trained model")
    own.add_argument("--model", metavar="NAME", help="a model of the experiment; or solver, into a Zarr folder")
    own.add_argument("--start", type=Path, metavar="FILE", help="NetCDF file or Zarr folder with the start")
    own.add_argument("--steps", type=int, help="stored intervals to forecast")
    own.add_argument("--to", type=Path, metavar="FILE.nc|FOLDER.zarr", help=TO_HELP)
    own.add_argument("--at", type=float, metavar="TIME", help="which stored time of FILE (default: its first)")
    own.add_argument("--keep-every", type=int, default=1, metavar="M", help="store each M-th interval (.zarr)")
    own.add_argument("--batch", type=int, help="starts at a time (.zarr; default: what memory allows)")
    own.add_argument("--other-grid", action="store_true", help="take a start on another grid than trained on")
    own.add_argument("--members", type=int, help="members of the ensemble, of a calibrated model (default: 1)")
    own.add_argument("--level", type=float, help="error up to which it counts as predictable (default: 0.5)")


def asks_for_own_start(arguments: argparse.Namespace) -> bool:
    """True where the options for a user's own start are given, all of them; UsageError where only some are."""
    given = {f"--{key}": getattr(arguments, key) for key in ("model", "start", "steps", "to")}
    missing = [key for key, value in given.items() if value is None]
    if missing and len(missing) < len(given):
        raise UsageError(
            f"a forecast of your own needs --model, --start, --steps and --to; missing: {', '.join(missing)}"
        )
    if missing and (arguments.members is not None or arguments.level is not None):
        raise UsageError("--members and --level are of a forecast of your own: give --model, --start, --steps and --to")
    return not missing


def forecast_own_start(run: Run, arguments: argparse.Namespace) -> None:
    """Forecast from a file of the user's into a file of the user's: NetCDF at once, Zarr piece by piece."""
    from fluidsurrogate.core.storage import check_writable
    from fluidsurrogate.data.conversion import open_data
    from fluidsurrogate.data.netcdf_files import write_netcdf
    from fluidsurrogate.data.schema import grid_of
    from fluidsurrogate.models.calibration import DEFAULT_LEVEL, describe_horizon
    from fluidsurrogate.models.forecasting import forecast, forecast_to_zarr
    from fluidsurrogate.models.loading import load
    from fluidsurrogate.models.regridding import APPLIED_TO_GRID, move_to_grid
    from fluidsurrogate.pipeline.solver_rollout import solver_rollout_to_zarr

    to, is_zarr, models = arguments.to, arguments.to.suffix == ".zarr", run.experiment.models
    log = logging.getLogger("fluidsurrogate")
    is_solver = arguments.model == "solver" and "solver" not in models
    if not is_zarr and (is_solver or arguments.keep_every != 1 or arguments.batch is not None):
        raise UsageError(f"--keep-every, --batch and --model solver need a name that ends in .zarr (--to {to})")
    if arguments.model not in models and not is_solver:
        raise UsageError(f"unknown model {arguments.model!r}; the experiment has {', '.join(models)}; or solver")
    if to.exists() and not arguments.force and not is_zarr:
        raise UsageError(f"{to} exists already; give --force to replace it")
    folder = run.model_path(arguments.model)
    if not folder.exists() and not is_solver:
        raise UsageError(f"{folder} does not exist yet: fluidsurrogate train {run.command} makes it")
    members = 1 if arguments.members is None else arguments.members
    level = DEFAULT_LEVEL if arguments.level is None else arguments.level
    if members != 1 and is_zarr:
        raise UsageError(f"--members need a NetCDF file (--to {to})")
    if arguments.level is not None and members == 1:
        raise UsageError("--level is of an ensemble's error bound: give --members")
    with open_data(arguments.start) as start:
        if arguments.at is None and start.sizes.get("time", 1) > 1:
            log.info(f"rollout: from the first of {start.sizes['time']} times in {arguments.start}; --at takes another")
        if is_solver:
            solver_rollout_to_zarr(
                run.experiment, start, arguments.steps, to, start_time=arguments.at, batch=arguments.batch,
                keep_every=arguments.keep_every, force=arguments.force,
            )  # fmt: skip
        else:
            model = load(folder, run.experiment.device)
            model = move_to_grid(model, grid_of(start)) if arguments.other_grid else model
            if arguments.level is not None and model.config.networks > 1:
                raise UsageError("--level is of an error bound: the members of a model of several networks have none")
            if members > 1 and model.calibration is None and model.config.networks == 1:
                if APPLIED_TO_GRID in model.about:
                    raise UsageError("--members are of a calibrated model, which on another grid this one is not")
                raise UsageError(f"members need a calibrated model: fluidsurrogate calibrate {folder}")
            if is_zarr:
                forecast_to_zarr(model, start, arguments.steps, to, start_time=arguments.at, batch=arguments.batch,
                                       keep_every=arguments.keep_every, force=arguments.force)  # fmt: skip
            else:
                check_writable(to.parent)
                made = forecast(model, start, arguments.steps, arguments.at, members, level=level)
                write_netcdf(made, to)
                if "error_bound" in made:
                    sys.stdout.write(describe_horizon(made) + "\n")
    log.info(f"rollout: {to}")
