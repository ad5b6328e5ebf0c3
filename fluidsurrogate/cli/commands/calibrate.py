"""`fluidsurrogate calibrate FOLDER`: how far off a trained model's forecasts may be."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path

from fluidsurrogate.cli.options import ALLOW_HELP
from fluidsurrogate.core.errors import UsageError

ORDER = 4
CALIBRATE_HELP = "how far a trained model's forecasts may be off, on fresh starts: calibration.json"


def add(commands) -> None:
    """Declare the command."""
    about = f"{CALIBRATE_HELP}. Then a forecast may have members, a 90 %% error bound and a horizon."
    calibrate = commands.add_parser("calibrate", help=CALIBRATE_HELP, description=about)
    calibrate.set_defaults(run=run)
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


def run(arguments: argparse.Namespace) -> int:
    """Calibrate a trained model where it lies; the exit code."""
    from fluidsurrogate.data.conversion import open_data
    from fluidsurrogate.models.calibration import CALIBRATION_FILE
    from fluidsurrogate.models.fit_calibration import calibrate
    from fluidsurrogate.models.loading import load

    to = arguments.to or arguments.folder
    path = to / CALIBRATION_FILE
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
