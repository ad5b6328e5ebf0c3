"""`fluidsurrogate audit MODEL`: measure which symmetries a trained model has, and what its rollouts conserve."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path

from fluidsurrogate.cli.options import ALLOW_CODE_HELP, DEVICE_HELP, MODEL_HELP, folder_to_write

ORDER = 3
AUDIT_HELP = "measure which symmetries a trained model has and what its rollouts conserve: a table, audit.nc, audit.png"


def add(commands) -> None:
    """Declare the command and its arguments.

    Parameters
    ----------
    commands : argparse subparsers
        Where commands are declared.
    """
    about = f"{AUDIT_HELP}. The exit code is 1 if a symmetry that the model claims does not hold."
    audit = commands.add_parser("audit", help=AUDIT_HELP, description=about)
    audit.set_defaults(run=run)
    audit.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    audit.add_argument(
        "--data",
        type=Path,
        metavar="DATASET",
        help="states to audit on (default: simulated as the model's experiment says)",
    )
    audit.add_argument("--steps", type=int, default=20, help="number of intervals of the rollout (default: 20)")
    audit.add_argument(
        "--to", type=Path, metavar="FOLDER", help="folder of audit.nc and audit.png (default: that of the model)"
    )
    audit.add_argument("--device", default="cpu", help=DEVICE_HELP)
    audit.add_argument("--allow-code", action="store_true", help=ALLOW_CODE_HELP)


def run(arguments: argparse.Namespace) -> int:
    """Audit a trained model, print the table and write the files.

    Parameters
    ----------
    arguments : argparse.Namespace
        The parsed command line.

    Returns
    -------
    int
        The exit code: 1 if a claimed symmetry does not hold, else 0.
    """
    from fluidsurrogate.auditing.audit import audit
    from fluidsurrogate.auditing.report import audit_table
    from fluidsurrogate.core.files import atomic_write, check_writable
    from fluidsurrogate.data.netcdf_files import write_netcdf
    from fluidsurrogate.data.readers import open_data
    from fluidsurrogate.models.loading import load
    from fluidsurrogate.rendering.audit_figure import draw_audit

    to = folder_to_write(arguments.model, arguments.to)
    check_writable(to)
    model = load(arguments.model, arguments.device)
    with nullcontext() if arguments.data is None else open_data(arguments.data) as states:
        result = audit(model, states=states, steps=arguments.steps)
    result = result.assign_attrs({f"model_{key}": value for key, value in model.about.items()})
    name = str(model.about.get("name", Path(arguments.model).name))
    write_netcdf(result, to / "audit.nc")
    with atomic_write(to / "audit.png") as beside:
        draw_audit(result, beside, name)
    sys.stdout.write(f"{audit_table(result, name)}\n\n{to / 'audit.nc'}\n{to / 'audit.png'}\n")
    return 1 if result.attrs["verdict"] == "fail" else 0
