"""`fluidsurrogate calibrate MODEL`: measure the forecast errors of a trained model, for error bounds and members."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path

from fluidsurrogate.cli.options import ALLOW_CODE_HELP, DEVICE_HELP, MODEL_HELP, folder_to_write
from fluidsurrogate.core.errors import UsageError

ORDER = 4
CALIBRATE_HELP = "measure the forecast errors of a trained model on fresh trajectories: calibration.json"


def add(commands) -> None:
    """Declare the command and its arguments.

    Parameters
    ----------
    commands : argparse subparsers
        Where commands are declared.
    """
    about = f"{CALIBRATE_HELP}. Forecasts of a calibrated model have members, a 90 % error bound and a horizon."
    calibrate = commands.add_parser("calibrate", help=CALIBRATE_HELP, description=about)
    calibrate.set_defaults(run=run)
    calibrate.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    calibrate.add_argument("--starts", type=int, default=1000, help="number of initial states (default: 1000)")
    calibrate.add_argument(
        "--steps", type=int, help="number of intervals (default: that of the experiment's trajectories)"
    )
    calibrate.add_argument(
        "--members", type=int, default=8, help="number of members, the unperturbed one included (default: 8)"
    )
    calibrate.add_argument(
        "--data",
        type=Path,
        metavar="DATASET",
        help="trajectories to calibrate on (default: simulated by the classical solver)",
    )
    calibrate.add_argument(
        "--to",
        type=Path,
        metavar="FOLDER",
        help="new folder for a calibrated copy of the model (default: calibrate the model in place)",
    )
    calibrate.add_argument("--device", default="cpu", help=DEVICE_HELP)
    calibrate.add_argument("--force", action="store_true", help="replace an existing calibration")
    calibrate.add_argument("--allow-code", action="store_true", help=ALLOW_CODE_HELP)


def run(arguments: argparse.Namespace) -> int:
    """Calibrate a trained model and print its error bounds.

    Parameters
    ----------
    arguments : argparse.Namespace
        The parsed command line.

    Returns
    -------
    int
        The exit code: 0.
    """
    from fluidsurrogate.data.readers import open_data
    from fluidsurrogate.models.calibration import CALIBRATION_FILE
    from fluidsurrogate.models.fit_calibration import calibrate
    from fluidsurrogate.models.loading import load

    to = folder_to_write(arguments.model, arguments.to)
    path = to / CALIBRATION_FILE
    if path.exists() and not arguments.force:
        raise UsageError(f"{path} exists already; give --force to make it again")
    # A corrupt calibration must not prevent a new one; a valid one stays until the new one replaces it.
    model = load(arguments.model, arguments.device, calibrated=False)
    with nullcontext() if arguments.data is None else open_data(arguments.data) as data:
        found = calibrate(model, arguments.starts, arguments.steps, arguments.members, data=data, to=to).calibration
    assert found is not None
    ratio = found.spread_skill
    sys.stdout.write(
        f"{found.starts} initial states, {len(ratio)} intervals: with probability {found.coverage:g} "
        f"the nRMSE is at most {found.nrmse[0]:.3g} after the first interval and {found.nrmse[-1]:.3g} after the last; "
        f"ratio of spread to error {min(ratio):.2f} to {max(ratio):.2f}\n{path}\n"
    )
    return 0
