"""`fluidsurrogate explain MODEL`: measure and draw what a trained model has learned."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path

from fluidsurrogate.cli.options import ALLOW_CODE_HELP, DEVICE_HELP, MODEL_HELP, folder_to_write

ORDER = 3
EXPLAIN_HELP = "show what a trained model in the plane has learned: a table, explain.nc, figures"


def add(commands) -> None:
    """Declare the command and its arguments.

    Parameters
    ----------
    commands : argparse subparsers
        Where commands are declared.
    """
    about = (
        f"{EXPLAIN_HELP} of filters, feature maps, receptive field, response to vortices, errors by scale and the "
        "group axis. What a model cannot have is left out, with a line that says why."
    )
    explain = commands.add_parser("explain", help=EXPLAIN_HELP, description=about)
    explain.set_defaults(run=run)
    explain.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    explain.add_argument(
        "--data",
        type=Path,
        metavar="DATASET",
        help="states to explain it on (default: simulated as the model's experiment says)",
    )
    explain.add_argument(
        "--to", type=Path, metavar="FOLDER", help="folder of explain.nc and the figures (default: MODEL/explain)"
    )
    explain.add_argument("--device", default="cpu", help=DEVICE_HELP)
    explain.add_argument("--allow-code", action="store_true", help=ALLOW_CODE_HELP)


def run(arguments: argparse.Namespace) -> int:
    """Explain a trained model, print the table and write the files.

    Parameters
    ----------
    arguments : argparse.Namespace
        The parsed command line.

    Returns
    -------
    int
        The exit code, 0.
    """
    from fluidsurrogate.core.files import check_writable
    from fluidsurrogate.data.netcdf_files import write_netcdf
    from fluidsurrogate.data.readers import open_data
    from fluidsurrogate.explaining.explain import explain
    from fluidsurrogate.explaining.report import explanation_table
    from fluidsurrogate.models.loading import load
    from fluidsurrogate.rendering.explain_figures import draw_explanation

    to = arguments.to or folder_to_write(arguments.model, None) / "explain"
    check_writable(to)
    model = load(arguments.model, arguments.device)
    with nullcontext() if arguments.data is None else open_data(arguments.data) as data:
        result = explain(model, data=data)
    write_netcdf(result, to / "explain.nc")
    files = "\n".join(map(str, (to / "explain.nc", *draw_explanation(result, to))))
    sys.stdout.write(f"{explanation_table(result)}\n\n{files}\n")
    return 0
