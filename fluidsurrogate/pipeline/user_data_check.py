"""The check of the user's own dataset (`data.path`), made once for a run and remembered in its folder."""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import suppress
from typing import Any

from fluidsurrogate.core.distributed import is_main_process
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import read_json, write_json
from fluidsurrogate.pipeline.run import DATA, Run

CHECK_RECORD = ".check.json"  # what the check found, and of what
RECORD_VERSION = 2  # of the check itself: a record of another version is made again
log = logging.getLogger("fluidsurrogate")


def checked_user_data(run: Run) -> dict[str, Any]:
    """Return what the check of the user's own dataset found; the check is made if it was not made of these data yet.

    Parameters
    ----------
    run : Run
        A run whose experiment names a dataset of the user's.

    Returns
    -------
    dict
        "lines", the table; "summary", the verdict; "solver_applies", whether the solver of `[flow]` steps the data.

    Raises
    ------
    UsageError
        If the data should not be used as they are: see `check_user_data`.
    """
    key = hashlib.sha256(json.dumps([RECORD_VERSION, run.provenance(DATA)], sort_keys=True).encode()).hexdigest()[:16]
    path = run.out / CHECK_RECORD
    with suppress(UsageError):
        known = read_json(path)
        if isinstance(known, dict) and known.get("key") == key:
            return known
    from fluidsurrogate.simulation.experiment_data import open_experiment_data
    from fluidsurrogate.simulation.user_data import check_user_data

    with open_experiment_data(run.experiment, run.data_path) as dataset:
        report = check_user_data(run.experiment, dataset, str(run.data_path))
    if is_main_process() and report.verdict != "consistent":
        log.warning(f"  {run.data_path}: {report.summary()}")
    record = {
        "key": key,
        "lines": report.lines(),
        "summary": report.summary(),
        "solver_applies": report.solver_applies,
    }
    if is_main_process():
        with suppress(OSError):  # the folder may be read-only
            write_json(path, record)
    return record
