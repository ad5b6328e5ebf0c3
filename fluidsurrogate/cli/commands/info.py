"""`fluidsurrogate info PATH`: what a file, a folder or a model on the Hub is."""

from __future__ import annotations

import argparse
import copy
import sys
from pathlib import Path

from fluidsurrogate.core.errors import UsageError

ORDER = 2
INFO_HELP = "what a data set, model, run, forecast or score is, and whether it can be made again"


def add(commands) -> None:
    """Declare the command."""
    info = commands.add_parser("info", help=INFO_HELP, description=f"{INFO_HELP}. Nothing in it is executed.")
    info.set_defaults(run=run)
    info.add_argument("path", metavar="PATH", help="a file, a folder, or a model on the Hub, hf://user/model")
    info.add_argument("--write-experiment", type=Path, metavar="FILE.toml", help="write the experiment that made it")


def run(arguments: argparse.Namespace) -> int:
    """What a path is, printed; or its experiment as a file; the exit code."""
    from fluidsurrogate.config.experiment_file import make_paths_absolute
    from fluidsurrogate.core.storage import write_text
    from fluidsurrogate.inspection.info import info
    from fluidsurrogate.inspection.report import report
    from fluidsurrogate.inspection.toml_writer import to_toml

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
    make_paths_absolute(tree, Path.cwd())  # from which `info` looks at paths; the new file may lie anywhere
    write_text(to, to_toml(tree))
    sys.stdout.write(f"{to}\n")
    return 0
