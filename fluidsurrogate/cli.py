"""The command line: `fluidsurrogate STAGE EXPERIMENT.toml`, each stage what `Pipeline` does under that name, and
`fluidsurrogate audit FOLDER`, `fluidsurrogate calibrate FOLDER`, `fluidsurrogate info PATH`."""

from __future__ import annotations

import argparse
import codecs
import copy
import errno
import inspect
import json
import logging
import os
import shlex
import sys
import textwrap
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.paths import as_path

STAGE_HELP = {
    "run": "all the stages below, then a table of scores",
    "generate": "trajectories from the classical solver: data.zarr",
    "train": "every model of the experiment: models/NAME/",
    "rollout": "forecasts of the test trajectories: forecasts.nc; or, with --start, of a start of your own",
    "compare": "scores.nc, scores.csv, comparison.png, scores.png",
}
FROM_HELP = "a trained model's folder, whose weights the experiment's models of its kind and group start from"
ALLOW_HELP = "let models of kind 'module' import and run the Python code that their path names"
CALIBRATE_HELP = "how far a trained model's forecasts may be off, on fresh starts: calibration.json"
TO_HELP = "NetCDF; or a Zarr folder, written while it runs in bounded memory, that a killed run goes on with"
AUDIT_HELP = "which symmetries a trained model keeps, and what its rollouts conserve: a table, audit.nc, audit.png"
INFO_HELP = "what a data set, model, run, forecast or score is, and whether it can be made again"


PLAIN = "fluidsurrogate-plain"  # how characters are written that a terminal's encoding does not have
PLAINLY = {"±": "+-", "×": "x", "≤": "<=", "≥": ">=", "→": "->", "−": "-", "…": "...", "–": "-", "²": "^2", "⁺": "+"}


def write_plainly(error: UnicodeError) -> tuple[str, int]:
    """Codec error handler: a plain spelling of the characters that cannot be encoded, else a question mark."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAINLY.get(character, "?") for character in error.object[error.start : error.end]), error.end


codecs.register_error(PLAIN, write_plainly)


class Parser(argparse.ArgumentParser):
    """One line on stderr and exit code 2, without the usage text before it."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parser() -> Parser:
    """The command line's grammar."""
    top = Parser(prog="fluidsurrogate", description="Simulate, learn, forecast, compare.")
    top.add_argument("--version", action="version", version=f"fluidsurrogate {version('fluidsurrogate')}")
    stages = top.add_subparsers(dest="stage", required=True, metavar="STAGE")
    for stage, text in STAGE_HELP.items():
        sub = stages.add_parser(stage, help=text, description=text)
        sub.add_argument("experiment", metavar="EXPERIMENT.toml")
        sub.add_argument("--set", action="append", default=[], metavar="dotted.key=value", dest="overrides")
        sub.add_argument("--out", type=Path, metavar="FOLDER", help="where results go (default: runs/NAME)")
        sub.add_argument("--device", help="cpu, cuda, mps (default: the experiment's)")
        sub.add_argument("--dtype", help="float32 or float64 (default: the experiment's)")
        sub.add_argument("--force", action="store_true", help="make this stage's results again, and those after it")
        sub.add_argument("--allow-code", action="store_true", help=ALLOW_HELP)
        if stage != "generate":  # a later stage must know what its models were made from
            sub.add_argument("--from", metavar="MODEL", dest="init", help=FROM_HELP)
        if stage == "rollout":
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
    about = "the kinds of models, their options and the defaults of these"
    stages.add_parser("models", help=about, description=about)
    info = stages.add_parser("info", help=INFO_HELP, description=f"{INFO_HELP}. Nothing in it is executed.")
    info.add_argument("path", metavar="PATH", help="a file, a folder, or a model on the Hub, hf://user/model")
    info.add_argument("--write-experiment", type=Path, metavar="FILE.toml", help="write the experiment that made it")
    about = f"{AUDIT_HELP}. Exit code 1 where a symmetry that the model claims does not hold."
    audit = stages.add_parser("audit", help=AUDIT_HELP, description=about)
    audit.add_argument("folder", type=Path, metavar="FOLDER", help="the model: runs/NAME/models/NAME")
    audit.add_argument(
        "--data", type=Path, metavar="DATASET", help="states to audit on (default: made by the model's experiment)"
    )
    audit.add_argument("--steps", type=int, default=20, help="intervals of the rollout (default: 20)")
    audit.add_argument(
        "--to", type=Path, metavar="FOLDER", help="where audit.nc and audit.png go (default: the model's)"
    )
    audit.add_argument("--device", default="cpu", help="cpu, cuda, mps (default: cpu)")
    audit.add_argument("--allow-code", action="store_true", help=ALLOW_HELP)
    about = f"{CALIBRATE_HELP}. Then a forecast may have members, a 90 %% error bound and a horizon."
    calibrate = stages.add_parser("calibrate", help=CALIBRATE_HELP, description=about)
    calibrate.add_argument("folder", type=Path, metavar="FOLDER", help="the model: runs/NAME/models/NAME")
    calibrate.add_argument("--starts", type=int, default=1000, help="starts that the bound is over (default: 1000)")
    calibrate.add_argument("--steps", type=int, help="intervals (default: as many as the experiment's trajectories)")
    calibrate.add_argument("--members", type=int, default=8, help="with the unperturbed one (default: 8)")
    calibrate.add_argument(
        "--data", type=Path, metavar="DATASET", help="trajectories to take (default: made by the classical solver)"
    )
    calibrate.add_argument(
        "--to", type=Path, metavar="FOLDER", help="a new folder for a copy of the model, calibrated (default: its own)"
    )
    calibrate.add_argument("--device", default="cpu", help="cpu, cuda, mps (default: cpu)")
    calibrate.add_argument("--force", action="store_true", help="replace the calibration that is there")
    calibrate.add_argument("--allow-code", action="store_true", help=ALLOW_HELP)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 done, 1 a claimed symmetry fails, 2 bad input, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a notebook's is none
            stream.reconfigure(errors=PLAIN)
    arguments = parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("fluidsurrogate").setLevel(logging.INFO)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # what Zarr was about to write when it was interrupted
    try:
        return run(arguments)
    except (UsageError, OSError) as error:
        sys.stderr.write(f"fluidsurrogate: {explain(error)}\n")
        return 2
    except KeyboardInterrupt:
        again = "the same command without --force" if getattr(arguments, "force", False) else "the same command"
        sys.stderr.write(f"fluidsurrogate: interrupted; {again} goes on from here\n")
        return 130


def explain(error: Exception) -> str:
    """What a user needs to know of an error that is no fault of the program."""
    if not isinstance(error, OSError):
        return str(error)
    what = f"{error.strerror or error}: {error.filename}" if error.filename else str(error.strerror or error)
    return f"{what}; make room, the same command goes on from here" if error.errno == errno.ENOSPC else what


def run(arguments: argparse.Namespace) -> int:
    """What the parsed command line asks for; the exit code."""
    for key, value in vars(arguments).items():
        if isinstance(value, Path):
            setattr(arguments, key, as_path(value))
    if arguments.stage == "models":
        sys.stdout.write(list_models())
        return 0
    if arguments.stage == "info":
        return show_info(arguments)
    from fluidsurrogate.nn import allowing_code

    if arguments.allow_code and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does; processes that train get a copy
    with allowing_code(arguments.allow_code):
        own = {"audit": audit_model, "calibrate": calibrate_model}
        return own.get(arguments.stage, run_stage)(arguments)


def run_stage(arguments: argparse.Namespace) -> int:
    """A stage of an experiment, or a forecast of the user's own start; the exit code."""
    from fluidsurrogate.config.experiment import Experiment

    overrides = list(arguments.overrides)
    overrides += [f"{key}={value!r}" for key in ("device", "dtype") if (value := getattr(arguments, key))]
    experiment = Experiment.read(arguments.experiment, overrides)

    # A file that is wrong is told before these take their time.
    from fluidsurrogate.core.distributed import is_main_process, process_count, wait_for_all_processes
    from fluidsurrogate.core.locks import folder_lock
    from fluidsurrogate.pipeline.pipeline import Pipeline

    if start := getattr(arguments, "init", None):
        from fluidsurrogate.training.fine_tuning import starting_from

        experiment = starting_from(experiment, start)
    out = arguments.out or Path("runs") / experiment.name
    said = [arguments.experiment, *(f"--set {shlex.quote(item)}" for item in overrides)]
    said += [f"--out {shlex.quote(str(out))}"] if arguments.out else []
    said += ["--allow-code"] if arguments.allow_code else []
    said += [f"--from {shlex.quote(start)}"] if start else []
    pipeline = Pipeline(experiment, out, " ".join(said))
    if arguments.stage == "rollout" and forecasts_own_start(arguments):
        forecast_start(pipeline, arguments)
        return 0
    if process_count() > 1 and arguments.stage != "train":
        raise UsageError("several processes train one model together: torchrun … -m fluidsurrogate train …")
    with folder_lock(pipeline.out) if is_main_process() else nullcontext():
        wait_for_all_processes(experiment.device)  # until the one that locks has the lock
        pipeline.run(arguments.stage, arguments.force)
    if arguments.stage in ("run", "compare"):
        sys.stdout.write(pipeline.report() + "\n")
    return 0


def list_models() -> str:
    """Each architecture, what it is, and its options as a TOML file would set them."""
    from fluidsurrogate.config.flow_and_model_configs import ModelConfig
    from fluidsurrogate.nn import ARCHITECTURES
    from fluidsurrogate.nn.network import options_of

    lines = []
    for kind, build in sorted(ARCHITECTURES.items()):
        what = (inspect.getdoc(build) or "").partition("\n\n")[0]
        lines.append(textwrap.fill(f"{kind}: {what}", 100, subsequent_indent="  "))
        options = options_of(build).values()
        said = [p.name if p.default in (None, p.empty) else f"{p.name} = {json.dumps(p.default)}" for p in options]
        lines.append(textwrap.fill(", ".join(said), 100, initial_indent="    ", subsequent_indent="    "))
    common = ", ".join(key for key in ModelConfig.model_fields if key != "kind")
    lines.append(f"  every kind: {common}")
    return "\n".join(lines) + "\n"


def show_info(arguments: argparse.Namespace) -> int:
    """What a path is, printed; or its experiment as a file; the exit code."""
    from fluidsurrogate.config.experiment import name_in_full
    from fluidsurrogate.core.files import write_text
    from fluidsurrogate.inspection.info import info
    from fluidsurrogate.inspection.report import report
    from fluidsurrogate.inspection.reproducibility import to_toml

    found = info(arguments.path)
    to = arguments.write_experiment
    if to is None:
        sys.stdout.write(report(found) + "\n")
        return 0
    if "experiment" not in found.get("made", {}):
        raise UsageError(f"{arguments.path} does not say which experiment made it")
    if to.exists():
        raise UsageError(f"{to} exists already; name another file")
    tree = copy.deepcopy(found["made"]["experiment"])
    name_in_full(tree, Path.cwd())  # from which `info` looks at paths; the new file may lie anywhere
    write_text(to, to_toml(tree))
    sys.stdout.write(f"{to}\n")
    return 0


def audit_model(arguments: argparse.Namespace) -> int:
    """Audit a trained model: table, files; the exit code."""
    from fluidsurrogate.auditing.audit import audit
    from fluidsurrogate.auditing.report import table
    from fluidsurrogate.core.files import atomic_write, check_writable
    from fluidsurrogate.data.readers import open_data
    from fluidsurrogate.models.loading import load
    from fluidsurrogate.pipeline.pipeline import write_netcdf
    from fluidsurrogate.rendering.plots import draw_audit

    to = arguments.to or arguments.folder
    check_writable(to)
    model = load(arguments.folder, arguments.device)
    with nullcontext() if arguments.data is None else open_data(arguments.data) as states:
        result = audit(model, states=states, steps=arguments.steps)
    result = result.assign_attrs({f"model_{key}": value for key, value in model.about.items()})
    name = str(model.about.get("name", arguments.folder.name))
    write_netcdf(result, to / "audit.nc")
    with atomic_write(to / "audit.png") as beside:
        draw_audit(result, beside, name)
    sys.stdout.write(f"{table(result, name)}\n\n{to / 'audit.nc'}\n{to / 'audit.png'}\n")
    return 1 if result.attrs["verdict"] == "fail" else 0


def calibrate_model(arguments: argparse.Namespace) -> int:
    """Calibrate a trained model where it lies; the exit code."""
    from fluidsurrogate.data.readers import open_data
    from fluidsurrogate.models.calibration import CALIBRATION
    from fluidsurrogate.models.fit_calibration import calibrate
    from fluidsurrogate.models.loading import load

    to = arguments.to or arguments.folder
    path = to / CALIBRATION
    if path.exists() and not arguments.force:
        raise UsageError(f"{path} exists already; give --force to make it again")
    # One that is broken must not stand in the way of another; one that is whole stays until there is another.
    model = load(arguments.folder, arguments.device, calibrated=False)
    with nullcontext() if arguments.data is None else open_data(arguments.data) as data:
        found = calibrate(model, arguments.starts, arguments.steps, arguments.members, data=data, to=to).calibration
    assert found is not None
    ratio = found.spread_skill
    sys.stdout.write(
        f"{found.starts} starts, {len(ratio)} leads: nRMSE within {found.nrmse[0]:.3g} after the first and "
        f"{found.nrmse[-1]:.3g} after the last with probability {found.coverage:g}; "
        f"spread over error {min(ratio):.2f} to {max(ratio):.2f}\n{path}\n"
    )
    return 0


def forecasts_own_start(arguments: argparse.Namespace) -> bool:
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


def forecast_start(pipeline, arguments: argparse.Namespace) -> None:
    """Forecast from a file of the user's into a file of the user's: NetCDF at once, Zarr piece by piece."""
    from fluidsurrogate.core.files import check_writable
    from fluidsurrogate.data.readers import open_data
    from fluidsurrogate.data.schema import grid_of
    from fluidsurrogate.models.calibration import LEVEL, horizon_line
    from fluidsurrogate.models.loading import load
    from fluidsurrogate.models.regridding import APPLIED
    from fluidsurrogate.pipeline.pipeline import write_netcdf

    to, is_zarr, models = arguments.to, arguments.to.suffix == ".zarr", pipeline.experiment.models
    log = logging.getLogger("fluidsurrogate")
    is_solver = arguments.model == "solver" and "solver" not in models
    if not is_zarr and (is_solver or arguments.keep_every != 1 or arguments.batch is not None):
        raise UsageError(f"--keep-every, --batch and --model solver need a name that ends in .zarr (--to {to})")
    if arguments.model not in models and not is_solver:
        raise UsageError(f"unknown model {arguments.model!r}; the experiment has {', '.join(models)}; or solver")
    if to.exists() and not arguments.force and not is_zarr:
        raise UsageError(f"{to} exists already; give --force to replace it")
    folder = pipeline.model_path(arguments.model)
    if not folder.exists() and not is_solver:
        raise UsageError(f"{folder} does not exist yet: fluidsurrogate train {pipeline.command} makes it")
    members = 1 if arguments.members is None else arguments.members
    level = LEVEL if arguments.level is None else arguments.level
    if members != 1 and is_zarr:
        raise UsageError(f"--members need a NetCDF file (--to {to})")
    if arguments.level is not None and members == 1:
        raise UsageError("--level is of an ensemble's error bound: give --members")
    with open_data(arguments.start) as start:
        if arguments.at is None and start.sizes.get("time", 1) > 1:
            log.info(f"rollout: from the first of {start.sizes['time']} times in {arguments.start}; --at takes another")
        if is_solver:
            pipeline.solve_to_zarr(start, arguments.steps, to, arguments.at, arguments.keep_every, arguments.batch,
                                   arguments.force)  # fmt: skip
        else:
            model = load(folder, pipeline.experiment.device)
            model = model.on(grid_of(start)) if arguments.other_grid else model
            if arguments.level is not None and model.config.networks > 1:
                raise UsageError("--level is of an error bound: the members of a model of several networks have none")
            if members > 1 and model.calibration is None and model.config.networks == 1:
                if APPLIED in model.about:
                    raise UsageError("--members are of a calibrated model, which on another grid this one is not")
                raise UsageError(f"members need a calibrated model: fluidsurrogate calibrate {folder}")
            if is_zarr:
                model.forecast_to_zarr(start, arguments.steps, to, start_time=arguments.at, batch=arguments.batch,
                                       keep_every=arguments.keep_every, force=arguments.force)  # fmt: skip
            else:
                check_writable(to.parent)
                forecast = model.forecast(start, arguments.steps, arguments.at, members, level=level)
                write_netcdf(forecast, to)
                if "error_bound" in forecast:
                    sys.stdout.write(horizon_line(forecast) + "\n")
    log.info(f"rollout: {to}")
