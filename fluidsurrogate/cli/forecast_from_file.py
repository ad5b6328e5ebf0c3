"""`fluidsurrogate rollout EXPERIMENT.toml --model NAME --start FILE …`: forecast from an initial state in a file.

`fluidsurrogate rollout --model pretrained:NAME …` needs no experiment, and without --start simulates an initial state.
"""

from __future__ import annotations

import argparse
import logging
import sys
from typing import TYPE_CHECKING, Any

from fluidsurrogate.cli.options import DASK_HELP, MODEL_HELP, path_or_address
from fluidsurrogate.core.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

    from fluidsurrogate.models.surrogate import Surrogate
    from fluidsurrogate.pipeline.run import Run

log = logging.getLogger("fluidsurrogate")

TO_HELP = "NetCDF file; or Zarr folder, written in bounded memory while the forecast runs and continued after a kill"


def add_forecast_options(sub: argparse.ArgumentParser) -> None:
    """Declare the options of a forecast from a file.

    Parameters
    ----------
    sub : argparse.ArgumentParser
        The parser of the command `rollout`.
    """
    own = sub.add_argument_group("forecast from an initial state of your own")
    own.add_argument(
        "--model",
        metavar="NAME",
        help=f"a model of the experiment, or solver (to a Zarr folder only); without an experiment {MODEL_HELP}",
    )
    own.add_argument(
        "--start",
        type=path_or_address,
        metavar="FILE",
        help="NetCDF file or Zarr folder with the initial state (without an experiment, default: a simulated one)",
    )
    own.add_argument("--steps", type=int, help="number of intervals to forecast")
    own.add_argument("--to", type=path_or_address, metavar="FILE.nc|FOLDER.zarr", help=TO_HELP)
    own.add_argument("--dask", metavar="SCHEDULER", help=f"{DASK_HELP} (Zarr only)")
    own.add_argument(
        "--at", type=float, metavar="TIME", help="the stored time of FILE to start from (default: the first)"
    )
    own.add_argument(
        "--keep-every", type=int, default=1, metavar="M", help="store every M-th interval only (Zarr only)"
    )
    own.add_argument("--batch", type=int, help="trajectories at a time (Zarr only; default: what fits in memory)")
    own.add_argument(
        "--other-grid",
        action="store_true",
        help="accept an initial state on another grid than the model was trained on",
    )
    own.add_argument("--members", type=int, help="number of ensemble members; needs a calibrated model (default: 1)")
    own.add_argument(
        "--level", type=float, help="error bound up to which the flow counts as predictable (default: 0.5)"
    )
    own.add_argument(
        "--precision",
        choices=("full", "bfloat16"),
        help="of the network; bfloat16 is faster on CPUs with AMX (default: full)",
    )


def is_forecast_requested(arguments: argparse.Namespace) -> bool:
    """Return whether the command line asks for a forecast from a file, and not for the stage `rollout`.

    Parameters
    ----------
    arguments : argparse.Namespace
        The parsed command line.

    Returns
    -------
    bool
        True if all necessary options are given, False if none is.

    Raises
    ------
    UsageError
        If only some of the necessary options are given.
    """
    given = {f"--{key}": getattr(arguments, key) for key in ("model", "start", "steps", "to")}
    missing = [key for key, value in given.items() if value is None]
    if missing and len(missing) < len(given):
        raise UsageError(
            f"a forecast from a file needs --model, --start, --steps and --to; missing: {', '.join(missing)}"
        )
    if missing and any(getattr(arguments, key) is not None for key in ("members", "level", "precision")):
        raise UsageError("--members, --level and --precision need a forecast from a file: "
                         "give --model, --start, --steps and --to too")  # fmt: skip
    return not missing


def forecast_from_file(run: Run, arguments: argparse.Namespace) -> None:
    """Forecast from an initial state in a file to another file: NetCDF in one piece, Zarr while the forecast runs.

    Parameters
    ----------
    run : Run
        The experiment and its folder, which holds the trained model.
    arguments : argparse.Namespace
        The parsed command line.

    Raises
    ------
    UsageError
        If an option is not valid, or the initial state does not fit the model.
    """
    from fluidsurrogate.models.loading import load
    from fluidsurrogate.pipeline.solver_rollout import solver_rollout_to_zarr

    models = run.experiment.models
    is_solver = arguments.model == "solver" and "solver" not in models
    _check_options(arguments, is_solver)
    if arguments.model not in models and not is_solver:
        raise UsageError(f"unknown model {arguments.model!r}; the experiment has {', '.join(models)}; or solver")
    folder = run.model_path(arguments.model)
    if not folder.exists() and not is_solver:
        raise UsageError(f"{folder} does not exist yet; first run: fluidsurrogate train {run.command}")
    with _open_start(arguments) as start:
        if is_solver:
            solver_rollout_to_zarr(
                run.experiment, start, arguments.steps, arguments.to, start_time=arguments.at, batch=arguments.batch,
                keep_every=arguments.keep_every, force=arguments.force, dask=arguments.dask,
            )  # fmt: skip
        else:
            _write_forecast(load(folder, run.experiment.device), str(folder), start, arguments)
    log.info(f"rollout: {arguments.to}")


def forecast_of_model(arguments: argparse.Namespace) -> None:
    """Forecast with any trained model, without an experiment, from a file or from a simulated initial state.

    Parameters
    ----------
    arguments : argparse.Namespace
        The parsed command line.

    Raises
    ------
    UsageError
        If an option is missing, not valid or needs an experiment, or the initial state does not fit the model.
    """
    missing = [f"--{key}" for key in ("model", "steps", "to") if getattr(arguments, key) is None]
    if missing:
        raise UsageError(
            "give the file of an experiment; or, for a forecast of a trained model without one, --model, --steps and "
            f"--to (missing: {', '.join(missing)})"
        )
    if arguments.overrides or arguments.out or arguments.dtype or arguments.init:
        raise UsageError("--set, --out, --dtype and --from apply to an experiment: leave them out, or give its file")
    _check_options(arguments, is_solver=False)
    from fluidsurrogate.models.loading import load
    from fluidsurrogate.models.true_trajectories import simulate

    model = load(arguments.model, arguments.device or "cpu")
    with simulate(model, steps=1) if arguments.start is None else _open_start(arguments) as start:
        _write_forecast(model, arguments.model, start, arguments)
    log.info(f"rollout: {arguments.to}")


def _check_options(arguments: argparse.Namespace, is_solver: bool) -> None:
    """Check the options of a forecast that exclude each other, and that no file is replaced by accident."""
    to, is_zarr = arguments.to, str(arguments.to).endswith(".zarr")
    needs_zarr = is_solver or arguments.keep_every != 1 or arguments.batch is not None or arguments.dask is not None
    if not is_zarr and (needs_zarr or isinstance(to, str)):
        what = "--dask and an address" if arguments.dask is not None else "--keep-every, --batch and --model solver"
        raise UsageError(f"{what} need a Zarr folder: --to must end in .zarr (got {to})")
    if not is_zarr and to.exists() and not arguments.force:
        raise UsageError(f"{to} exists already; give --force to replace it")
    if arguments.members not in (None, 1) and is_zarr:
        raise UsageError(f"--members needs a NetCDF file: --to must not end in .zarr (got {to})")
    if arguments.level is not None and arguments.members in (None, 1):
        raise UsageError("--level applies to the error bound of an ensemble: give --members too")
    if arguments.precision is not None and is_solver:
        raise UsageError("--precision applies to the network of a model, which the solver has not: leave it out")


def _open_start(arguments: argparse.Namespace) -> xr.Dataset:
    """Open the file with the initial state, and say which of its times is taken if the command line does not."""
    from fluidsurrogate.data.readers import open_data

    start = open_data(arguments.start)
    if arguments.at is None and start.sizes.get("time", 1) > 1:
        log.info(
            f"rollout: starting from the first of {start.sizes['time']} times in {arguments.start}; "
            "choose another with --at"
        )
    return start


def _write_forecast(model: Surrogate, name: str, start: xr.Dataset, arguments: argparse.Namespace) -> None:
    """Forecast with a model, which messages call `name`, and write the forecast."""
    from fluidsurrogate.core.files import check_writable
    from fluidsurrogate.data.grids import grid_of
    from fluidsurrogate.data.netcdf_files import write_netcdf
    from fluidsurrogate.models.calibration import DEFAULT_LEVEL, describe_horizon
    from fluidsurrogate.models.forecasting import forecast, forecast_to_zarr
    from fluidsurrogate.models.regridding import APPLIED_TO_GRID, move_to_grid

    to, members = arguments.to, 1 if arguments.members is None else arguments.members
    model = move_to_grid(model, grid_of(start)) if arguments.other_grid else model
    if arguments.level is not None and model.config.networks > 1:
        raise UsageError(
            "--level needs an error bound, which an ensemble of several networks does not have: leave it out"
        )
    if members > 1 and model.calibration is None and model.config.networks == 1:
        if APPLIED_TO_GRID in model.about:
            raise UsageError(
                "--members needs a calibrated model, and a calibration does not hold on another grid: "
                "leave out --members"
            )
        raise UsageError(f"--members needs a calibrated model: run fluidsurrogate calibrate {name} first")
    common: dict[str, Any] = {"start_time": arguments.at, "precision": arguments.precision}
    if str(to).endswith(".zarr"):
        forecast_to_zarr(model, start, arguments.steps, to, batch=arguments.batch, keep_every=arguments.keep_every,
                         force=arguments.force, dask=arguments.dask, **common)  # fmt: skip
        return
    check_writable(to.parent)
    level = DEFAULT_LEVEL if arguments.level is None else arguments.level
    made = forecast(model, start, arguments.steps, members=members, level=level, **common)
    write_netcdf(made, to)
    if "error_bound" in made:
        sys.stdout.write(describe_horizon(made) + "\n")
