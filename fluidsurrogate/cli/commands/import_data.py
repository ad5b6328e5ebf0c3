"""`fluidsurrogate import FILE ... --to data.zarr`: data of other formats in the layout of this package."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fluidsurrogate.core.errors import UsageError

ORDER = 1
IMPORT_HELP = "import data of another format: The Well, PDEBench, neural operators, APEBench, your own NetCDF, ..."


def add(commands) -> None:
    """Declare the command and its arguments.

    Parameters
    ----------
    commands : argparse subparsers
        Where commands are declared.
    """
    about = (
        f"{IMPORT_HELP} The format is recognised; what was assumed is printed with where each fact comes from. An "
        "import that was interrupted is continued by the same command."
    )
    command = commands.add_parser("import", help=IMPORT_HELP, description=about)
    command.set_defaults(run=run)
    command.add_argument("sources", nargs="+", metavar="FILE", help="files, folders, patterns, or addresses of stores")
    command.add_argument("--to", type=Path, metavar="FOLDER", required=True, help="the Zarr folder to write: data.zarr")
    command.add_argument("--format", metavar="NAME", help="the format or a part of its name (default: recognised)")
    command.add_argument(
        "--axes", metavar='"n x y t"', help="order of the axes: n trajectories, t times, c components, x, y, z, 1 none"
    )
    command.add_argument(
        "--map", nargs="+", default=[], metavar="NAME=THEIRS", dest="names",
        help="names of variables: vorticity=vort, velocity=vx,vy, viscosity=nu",
    )  # fmt: skip
    command.add_argument(
        "--length", nargs="+", type=float, metavar="L", help="sides of the box in m: one, or y x, z y x"
    )
    command.add_argument("--viscosity", type=float, metavar="NU", help="kinematic viscosity in m2/s")
    command.add_argument("--interval", type=float, metavar="DT", help="time between two stored states in s")
    command.add_argument(
        "--split", metavar="COUNTS", help="trajectories for training, validation and test: 80,10,10; or the word folder"
    )
    command.add_argument("--periodic", action="store_true", help="the data are periodic, although their format says no")
    command.add_argument("--to-centres", action="store_true", help="move samples at nodes to the cell centres, exactly")
    command.add_argument(
        "--accept", action="store_true", help="take the data although their check finds another reading or faults"
    )
    command.add_argument("--force", action="store_true", help="replace other data in the folder")


def run(arguments: argparse.Namespace) -> int:
    """Import the data and print the path of the folder.

    Parameters
    ----------
    arguments : argparse.Namespace
        The parsed command line.

    Returns
    -------
    int
        The exit code: 0.
    """
    from fluidsurrogate.simulation.importing import import_data

    names = {}
    for pair in arguments.names:
        own, equals, theirs = pair.partition("=")
        if not equals or not own or not theirs:
            raise UsageError(f"--map {pair}: give NAME=THEIRS, as in --map vorticity=vort")
        names[own] = theirs
    length = arguments.length[0] if arguments.length and len(arguments.length) == 1 else arguments.length
    import_data(
        arguments.sources, arguments.to, format=arguments.format, axes=arguments.axes, names=names or None,
        length=length, viscosity=arguments.viscosity, interval=arguments.interval, split=arguments.split,
        periodic=arguments.periodic, to_centres=arguments.to_centres, accept=arguments.accept, force=arguments.force,
    )  # fmt: skip
    sys.stdout.write(f"{arguments.to}\n")
    return 0
