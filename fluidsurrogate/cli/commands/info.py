"""`fluidsurrogate info PATH`: describe a file, a folder or a model on the Hub."""

from __future__ import annotations

import argparse
import copy
import sys
from pathlib import Path

from fluidsurrogate.core.errors import UsageError

ORDER = 2
INFO_HELP = "describe a data set, model, run, forecast or score, and say whether it can be made again"


def add(commands) -> None:
    """Declare the command and its arguments.

    Parameters
    ----------
    commands : argparse subparsers
        Where commands are declared.
    """
    info = commands.add_parser("info", help=INFO_HELP, description=f"{INFO_HELP}. No code of it is executed.")
    info.set_defaults(run=run)
    info.add_argument(
        "path", metavar="PATH", help="a file, a folder, or a model: pretrained:NAME, or hf://user/model on the Hub"
    )
    info.add_argument(
        "--write-experiment", type=Path, metavar="FILE.toml", help="write the experiment that made it to a new file"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the description of a path, or write the experiment that made it to a file.

    Parameters
    ----------
    arguments : argparse.Namespace
        The parsed command line.

    Returns
    -------
    int
        The exit code: 0.
    """
    from fluidsurrogate.config.experiment_file import make_paths_absolute
    from fluidsurrogate.core.files import write_text
    from fluidsurrogate.inspection.info import info
    from fluidsurrogate.inspection.report import report
    from fluidsurrogate.inspection.toml_writer import to_toml

    found = info(arguments.path)
    to = arguments.write_experiment
    if to is None:
        sys.stdout.write(report(found) + "\n")
        return 0
    if "experiment" not in found.get("made", {}):
        raise UsageError(f"{arguments.path} does not record which experiment made it")
    if to.exists():
        raise UsageError(f"{to} exists already; name another file")
    tree = copy.deepcopy(found["made"]["experiment"])
    make_paths_absolute(tree, Path.cwd())  # `info` takes paths relative to it; the new file may be anywhere
    write_text(to, to_toml(tree))
    sys.stdout.write(f"{to}\n")
    return 0
