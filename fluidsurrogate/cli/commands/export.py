"""`fluidsurrogate export DATA --format F --to FOLDER`: write a dataset or forecast for another program."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ORDER = 5
EXPORT_HELP = "write a dataset or forecast for another program: ParaView, The Well, PDEBench, NumPy, NetCDF"


def add(commands) -> None:
    """Declare the command and its arguments.

    Parameters
    ----------
    commands : argparse subparsers
        Where commands are declared.
    """
    about = (
        f"{EXPORT_HELP}. One trajectory at a time is in memory. What a format cannot hold is refused. "
        "(A trained network as a torch module or ONNX file: fs.as_module in Python.)"
    )
    export = commands.add_parser("export", help=EXPORT_HELP, description=about)
    export.set_defaults(run=run)
    export.add_argument("data", type=Path, metavar="DATA", help="a file or folder of states: NetCDF, Zarr, HDF5, npz")
    formats = "vtk (default, ParaView), well, pdebench, npy or netcdf"
    export.add_argument("--format", default="vtk", metavar="F", help=f"the format: {formats}")
    export.add_argument("--to", type=Path, metavar="FOLDER", required=True, help="the folder to write")
    export.add_argument(
        "--add",
        nargs="+",
        default=[],
        metavar="NAME",
        help="fields to compute and add, such as vorticity, q_criterion or pressure",
    )
    export.add_argument("--trajectories", type=int, metavar="N", help="the first N trajectories only (default: all)")
    export.add_argument("--every", type=int, default=1, metavar="N", help="every Nth time only (default: all)")
    export.add_argument("--force", action="store_true", help="write over files that are in the folder already")


def run(arguments: argparse.Namespace) -> int:
    """Write the files and print the paths of those that a user would open.

    Parameters
    ----------
    arguments : argparse.Namespace
        The parsed command line.

    Returns
    -------
    int
        The exit code: 0.
    """
    from fluidsurrogate.core.errors import check_integer
    from fluidsurrogate.data.readers import open_data
    from fluidsurrogate.data.writers import export_data
    from fluidsurrogate.evaluation.diagnostics import compute_field

    dataset = open_data(arguments.data)
    if arguments.trajectories is not None and "trajectory" in dataset.dims:
        count = check_integer("trajectories", arguments.trajectories, 1)
        dataset = dataset.isel(trajectory=slice(0, count))

    def derive(state):
        return state.assign({name: compute_field(state, name) for name in arguments.add})

    written = export_data(
        dataset,
        arguments.to,
        arguments.format,
        every=arguments.every,
        force=arguments.force,
        derive=derive if arguments.add else None,
    )
    sys.stdout.write("".join(f"{path}\n" for path in written))
    return 0
