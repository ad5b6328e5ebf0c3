"""`fluidsurrogate check DATA`: let the classical solver step stored states, and look for faults."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ORDER = 2
CHECK_HELP = "let the classical solver step the states of a data set, as read and otherwise, and look for faults"


def add(commands) -> None:
    """Declare the command and its arguments.

    Parameters
    ----------
    commands : argparse subparsers
        Where commands are declared.
    """
    about = (
        f"{CHECK_HELP}: exchanged axes, changed signs, wrong units or viscosity, missing values, repeats. "
        "The exit code is 1 if the data should not be used as they are."
    )
    check = commands.add_parser("check", help=CHECK_HELP, description=about)
    check.set_defaults(run=run)
    check.add_argument("data", type=Path, metavar="DATA", help="a file or folder of states")
    check.add_argument("--viscosity", type=float, metavar="NU", help="the viscosity (default: the file's, or fitted)")
    check.add_argument(
        "--fit", action="append", default=[], choices=["viscosity", "interval"],
        help="fit this although the file states it; may be repeated",
    )  # fmt: skip
    check.add_argument("--accept", action="store_true", help="exit with code 0 even so")


def run(arguments: argparse.Namespace) -> int:
    """Check a dataset and print what was tried and found.

    Parameters
    ----------
    arguments : argparse.Namespace
        The parsed command line.

    Returns
    -------
    int
        The exit code: 1 if the data should not be used as they are, else 0.
    """
    from fluidsurrogate.data.readers import open_data
    from fluidsurrogate.evaluation.physics_check import check

    with open_data(arguments.data) as dataset:
        report = check(dataset, arguments.viscosity, arguments.fit)
    sys.stdout.write("\n".join(report.lines()) + "\n")
    return int(report.is_refused and not arguments.accept)
