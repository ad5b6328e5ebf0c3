"""Help texts and types of options that several commands share."""

from __future__ import annotations

from pathlib import Path

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.paths import as_path, is_model_address
from fluidsurrogate.core.stores import is_address

ALLOW_CODE_HELP = "allow models of kind 'module' to import and run the Python code that their path names"
DASK_HELP = "compute on a Dask cluster: the address of its scheduler, or local:N for N workers on this machine"
MODEL_HELP = "the folder of the model, runs/NAME/models/NAME; or pretrained:NAME, or hf://user/model"
DEVICE_HELP = "cpu, cuda or mps (default: cpu)"


def path_or_address(text: str) -> str | Path:
    """Return an address, such as "s3://bucket/data.zarr", as it is, and anything else as a path.

    Parameters
    ----------
    text : str
        What stands on the command line.

    Returns
    -------
    str or Path
        A text is an address.
    """
    return text if is_address(text) else Path(text)


def folder_to_write(model: str, to: Path | None) -> Path:
    """Return the folder for what a command finds out about a model.

    Parameters
    ----------
    model : str
        The folder or the address of the model.
    to : Path or None
        The folder that the option --to names, if it is given.

    Returns
    -------
    Path
        That folder, or else the folder of the model.

    Raises
    ------
    UsageError
        If none is given, and the model has an address instead of a folder.
    """
    if to is None and is_model_address(model):
        raise UsageError(f"{model} is not a folder of yours: give --to FOLDER to write to")
    return as_path(model) if to is None else to
