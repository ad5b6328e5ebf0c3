"""`fluidsurrogate STAGE EXPERIMENT.toml`: run a stage of an experiment, or all of them (`run`)."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import fluidsurrogate.pipeline.stages  # noqa: F401 (registers the stages)
from fluidsurrogate.cli.forecast_from_file import (
    add_forecast_options,
    forecast_from_file,
    forecast_of_model,
    is_forecast_requested,
)
from fluidsurrogate.cli.options import ALLOW_CODE_HELP, DASK_HELP, path_or_address
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.paths import as_path
from fluidsurrogate.pipeline.stage import stages_in_order

if TYPE_CHECKING:
    from fluidsurrogate.pipeline.run import Run

ORDER = 0
REPORT = "report"  # the stage that takes folders of finished runs too
RUNS_HELP = "the file of the experiment, or folders of finished runs, which are shown on one page"
FILE_HELP = "; with folders of runs the file of the page (default: report.html in the folder of the run)"
RUN, RUN_HELP = "run", "run all stages below, then print a table of scores"
TO_HELP = "with --dask, where to write the data, such as s3://bucket/data.zarr (default: data.zarr in --out)"
FROM_HELP = "folder of a trained model, or pretrained:NAME: models of the same kind and group start from its weights"


def add(commands) -> None:
    """Declare `run` and all stages with their arguments.

    Parameters
    ----------
    commands : argparse subparsers
        Where commands are declared.
    """
    stages = stages_in_order()
    for name, text in [(RUN, RUN_HELP), *((stage.name, stage.summary) for stage in stages)]:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        several = {"nargs": "+", "metavar": "EXPERIMENT.toml|FOLDER", "help": RUNS_HELP}
        one = {"metavar": "EXPERIMENT.toml", "help": "the file of the experiment"}
        optional = {"nargs": "?"} if name == "rollout" else {}
        sub.add_argument("experiment", **(several if name == REPORT else one | optional))
        sub.add_argument(
            "--set", action="append", default=[], metavar="dotted.key=value", dest="overrides",
            help="replace a value of the file, as in --set train.steps=100; may be repeated",
        )  # fmt: skip
        out_help = "folder of the results (default: runs/NAME)" + FILE_HELP * (name == REPORT)
        sub.add_argument("--out", type=Path, metavar="FOLDER", help=out_help)
        sub.add_argument("--device", help="cpu, cuda or mps (default: that of the experiment)")
        sub.add_argument("--dtype", help="float32 or float64 (default: that of the experiment)")
        sub.add_argument(
            "--force", action="store_true", help="make the results of this stage and of later stages again"
        )
        sub.add_argument("--allow-code", action="store_true", help=ALLOW_CODE_HELP)
        if name != stages[0].name:  # later stages must know where the weights of the models came from
            sub.add_argument("--from", metavar="MODEL", dest="init", help=FROM_HELP)
        if name == "generate":
            sub.add_argument("--dask", metavar="SCHEDULER", help=DASK_HELP)
            sub.add_argument("--to", type=path_or_address, metavar="FOLDER.zarr|ADDRESS.zarr", help=TO_HELP)
        if name == "rollout":
            add_forecast_options(sub)


def report_on_runs(arguments: argparse.Namespace) -> None:
    """Write the page of finished runs, whose folders stand in place of an experiment.

    Parameters
    ----------
    arguments : argparse.Namespace
        The parsed command line.

    Raises
    ------
    UsageError
        If an option is given that says how an experiment is run, or a folder is not one of a run.
    """
    given = {"--set": arguments.overrides, "--device": arguments.device, "--dtype": arguments.dtype,
             "--from": arguments.init, "--force": arguments.force, "--allow-code": arguments.allow_code}  # fmt: skip
    if refused := [option for option, value in given.items() if value]:
        raise UsageError(f"{refused[0]} goes with EXPERIMENT.toml: folders of finished runs are shown as they are")
    from fluidsurrogate.reporting.report import report

    sys.stdout.write(f"{report(arguments.experiment, arguments.out)}\n")


def generate_to(run: Run, to: str | Path, force: bool) -> None:
    """Generate the data of an experiment on a Dask cluster into a Zarr store of a name of its own.

    Parameters
    ----------
    run : Run
        The experiment and the cluster.
    to : str or Path
        The Zarr folder or its address.
    force : bool
        Whether to replace data of another experiment.

    Raises
    ------
    UsageError
        If no cluster is given, or the data cannot be generated.
    """
    import fluidsurrogate as fs

    if run.dask is None:
        raise UsageError("--to needs --dask: local:N for N workers on this machine")
    fs.generate(run.experiment, to=to, force=force, dask=run.dask)
    logging.getLogger("fluidsurrogate").info(f"generate: {to}")


def run(arguments: argparse.Namespace) -> int:
    """Run a stage of an experiment, forecast from an initial state in a file, or report on finished runs.

    Parameters
    ----------
    arguments : argparse.Namespace
        The parsed command line.

    Returns
    -------
    int
        The exit code: 0.
    """
    if arguments.experiment is None:
        forecast_of_model(arguments)
        return 0
    if arguments.command == REPORT:
        if len(arguments.experiment) > 1 or as_path(arguments.experiment[0]).is_dir():
            report_on_runs(arguments)
            return 0
        arguments.experiment = arguments.experiment[0]
    from fluidsurrogate.config.experiment import Experiment

    overrides = list(arguments.overrides)
    overrides += [f"{key}={value!r}" for key in ("device", "dtype") if (value := getattr(arguments, key))]
    experiment = Experiment.read(arguments.experiment, overrides)

    # These imports take seconds: errors in the experiment are reported before.
    from fluidsurrogate.core.distributed import is_main_process, process_count, wait_for_all_processes
    from fluidsurrogate.core.locks import folder_lock
    from fluidsurrogate.pipeline.pipeline import reports, run_stages
    from fluidsurrogate.pipeline.run import Run

    if start := getattr(arguments, "init", None):
        from fluidsurrogate.training.fine_tuning import with_initial_model

        experiment = with_initial_model(experiment, start)
    out = arguments.out or Path("runs") / experiment.name
    words = [arguments.experiment, *(f"--set {shlex.quote(item)}" for item in overrides)]
    words += [f"--out {shlex.quote(str(out))}"] if arguments.out else []
    words += ["--allow-code"] if arguments.allow_code else []
    words += [f"--from {shlex.quote(start)}"] if start else []
    dask = getattr(arguments, "dask", None)
    this = Run(experiment, out, " ".join(words), dask=dask)
    if arguments.command == "rollout" and is_forecast_requested(arguments):
        forecast_from_file(this, arguments)
        return 0
    if dask is not None and arguments.command == "rollout":
        raise UsageError(
            "--dask needs a forecast from a file to a Zarr folder: give --model, --start, --steps and --to"
        )
    if dask is not None and experiment.data.path:
        raise UsageError("--dask generates data, but the experiment names data that exist: remove --dask, or data.path")
    if getattr(arguments, "to", None) is not None and arguments.command == "generate":
        generate_to(this, arguments.to, arguments.force)
        return 0
    if process_count() > 1 and arguments.command != "train":
        raise UsageError(
            "several processes can only train together: "
            "torchrun --nproc_per_node N -m fluidsurrogate train EXPERIMENT.toml"
        )
    with folder_lock(this.out) if is_main_process() else nullcontext():
        wait_for_all_processes(experiment.device)  # until the main process holds the lock
        run_stages(this, arguments.command, arguments.force)
    if text := reports(this, arguments.command):
        sys.stdout.write(text + "\n")
    return 0
