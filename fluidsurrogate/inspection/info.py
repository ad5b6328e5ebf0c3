"""Find out what a path is: a dataset, model, run, forecast, table of scores or audit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.paths import as_path, is_model_address
from fluidsurrogate.data.readers import READERS, find_reader
from fluidsurrogate.inspection.dataset_info import dataset_info
from fluidsurrogate.inspection.model_info import model_info
from fluidsurrogate.inspection.run_info import PARTIAL, partial_info, report_info, result_patterns, results_in, run_info
from fluidsurrogate.models.model_files import CONFIG_FILE
from fluidsurrogate.models.pretrained import model_folder


def info(path: str | Path) -> dict[str, Any]:
    """Describe what a path is, from what it was made, and whether it can be reproduced.

    Nothing that the path holds is executed.

    Parameters
    ----------
    path : str or Path
        A dataset or model, this package's or your own; the folder of a run; a NetCDF file of forecasts, scores or an
        audit; a report; a model within this package, "pretrained:NAME"; or one on the Hugging Face Hub,
        "hf://user/model".

    Returns
    -------
    dict
        Plain data, which JSON takes. `kind` says what the path is: "data set", "forecast" (of one model), "forecasts"
        (of all sources of a run), "scores", "audit", "explanation", "report" (of a run), "model", "run" or "half made"
        (interrupted). `path` and `bytes` (on disk) are always there. The rest depends on the kind; keys without a value
        are left out.

        A dataset, forecast, table of scores or audit has:

        - `dims`, `variables`, `grid` (cells and length), `time` (count, first, last, interval), `splits`, `sources`.
        - `scores` (nRMSE by source) and `audit` (verdict, failed, group, tolerance).
        - `flow`, the table of the experiment; `says`, further attributes.
        - `changed`: the variables whose values have changed since they were made. To find out, values are read, of up
          to 256 MB. None if it is not known.
        - `made`: see below.

        A model has:

        - `name`, `model` (its options), `dtype`, `grid`, `interval`, `fields`, `inputs`, `normalisation`, `format`.
        - `group`, `stride`, `parameters`; for a module of the user's instead `code` and the count of stored `numbers`.
        - `constants` of the flow, `flow`, the `resolution` of its data, `validation` (the lowest error in training).
        - `bfloat16`, what training found of the errors of forecasts in bfloat16.
        - `energy_budget`, whose coefficients forecasts are held to, and what was found of it, `energy_budget_found`.
        - `made`: see below.

        A run has its `name`, its `results` (each as above, or "broken" with a `reason`), the interrupted ones,
        `half_made`, the paths still `to_make`, and `data`, the path of the user's own data.

        An interrupted result has the name `of` the result, the `stage` that continues it, and the finished `blocks`.

        `made` holds the recorded `experiment`, `seed`, `versions` and `fingerprint`; `changed`, the packages whose
        version differs here, as (recorded, installed); `fingerprint_holds`, whether the fingerprint matches the
        recorded inputs; `again`, "yes ..." or "no: ..." with the reasons; and `command`, which reproduces the result.

    Raises
    ------
    UsageError
        If the path does not exist, is none of these, or cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import xarray as xr
    >>> import fluidsurrogate as fs
    >>> path = Path(tempfile.mkdtemp()) / "mine.nc"
    >>> vorticity = xr.DataArray(np.zeros((3, 8, 8)), dims=("time", "y", "x"))
    >>> xr.Dataset({"vorticity": vorticity}).to_netcdf(path)
    >>> found = fs.info(path)
    >>> found["kind"], found["dims"]
    ('data set', {'time': 3, 'y': 8, 'x': 8})
    >>> found["made"]["again"]
    'no: the experiment that made it is not recorded'
    """
    if is_model_address(path):
        return model_info(model_folder(path)) | {"path": str(path)}
    path = as_path(path)
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder")
    if not path.is_dir():
        return report_info(path) if path.suffix == ".html" else dataset_info(path)
    if path.name.endswith(PARTIAL) and (path / "provenance.json").exists():
        return partial_info(path)
    if (path / CONFIG_FILE).exists():
        return model_info(path)
    if find_reader(path) is not None:
        return dataset_info(path)
    if results_in(path):
        return run_info(path)
    if all(entry.name == ".lock" for entry in path.iterdir()):
        raise UsageError(f"{path} is empty")
    formats, results = ", ".join(sorted(READERS)), ", ".join(result_patterns())
    raise UsageError(f"{path} is no data set ({formats}), no model ({CONFIG_FILE}) and no run ({results})")
