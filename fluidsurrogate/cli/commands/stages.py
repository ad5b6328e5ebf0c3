"""`fluidsurrogate STAGE EXPERIMENT.toml`: a stage of an experiment, or all of them (`run`)."""

from __future__ import annotations

import argparse
import shlex
import sys
from contextlib import nullcontext
from pathlib import Path

import fluidsurrogate.pipeline.stages  # noqa: F401 (fills the list of stages)
from fluidsurrogate.cli.options import ALLOW_HELP
from fluidsurrogate.cli.own_start import add_own_start, asks_for_own_start, forecast_own_start
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.pipeline.stage import stages_in_order

ORDER = 0
RUN, RUN_HELP = "run", "all the stages below, then a table of scores"
FROM_HELP = "a trained model's folder, whose weights the experiment's models of its kind and group start from"


def add(commands) -> None:
    """Declare `run` and every stage."""
    stages = stages_in_order()
    for name, text in [(RUN, RUN_HELP), *((stage.name, stage.summary) for stage in stages)]:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        sub.add_argument("experiment", metavar="EXPERIMENT.toml")
        sub.add_argument("--set", action="append", default=[], metavar="dotted.key=value", dest="overrides")
        sub.add_argument("--out", type=Path, metavar="FOLDER", help="where results go (default: runs/NAME)")
        sub.add_argument("--device", help="cpu, cuda, mps (default: the experiment's)")
        sub.add_argument("--dtype", help="float32 or float64 (default: the experiment's)")
        sub.add_argument("--force", action="store_true", help="make this stage's results again, and those after it")
        sub.add_argument("--allow-code", action="store_true", help=ALLOW_HELP)
        if name != stages[0].name:  # a later stage must know what its models were made from
            sub.add_argument("--from", metavar="MODEL", dest="init", help=FROM_HELP)
        if name == "rollout":
            add_own_start(sub)


def run(arguments: argparse.Namespace) -> int:
    """Run a stage of an experiment, or forecast from the user's own start."""
    from fluidsurrogate.config.experiment import Experiment

    overrides = list(arguments.overrides)
    overrides += [f"{key}={value!r}" for key in ("device", "dtype") if (value := getattr(arguments, key))]
    experiment = Experiment.read(arguments.experiment, overrides)

    # A file that is wrong is told before these take their time.
    from fluidsurrogate.core.processes import is_main_process, processes, wait_for_all
    from fluidsurrogate.core.storage import locked
    from fluidsurrogate.pipeline.pipeline import run_stages, score_table
    from fluidsurrogate.pipeline.run import Run

    if start := getattr(arguments, "init", None):
        from fluidsurrogate.training.fine_tuning import with_initial_model

        experiment = with_initial_model(experiment, start)
    out = arguments.out or Path("runs") / experiment.name
    said = [arguments.experiment, *(f"--set {shlex.quote(item)}" for item in overrides)]
    said += [f"--out {shlex.quote(str(out))}"] if arguments.out else []
    said += ["--allow-code"] if arguments.allow_code else []
    said += [f"--from {shlex.quote(start)}"] if start else []
    this = Run(experiment, out, " ".join(said))
    if arguments.command == "rollout" and asks_for_own_start(arguments):
        forecast_own_start(this, arguments)
        return 0
    if processes() > 1 and arguments.command != "train":
        raise UsageError("several processes train one model together: torchrun … -m fluidsurrogate train …")
    with locked(this.out) if is_main_process() else nullcontext():
        wait_for_all(experiment.device)  # until the one that locks has the lock
        run_stages(this, arguments.command, arguments.force)
    if arguments.command in (RUN, stages_in_order()[-1].name):
        sys.stdout.write(score_table(this) + "\n")
    return 0
