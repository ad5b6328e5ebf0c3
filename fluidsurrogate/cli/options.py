"""Help texts and types of options that several commands share."""

from __future__ import annotations

from pathlib import Path

from fluidsurrogate.core.stores import is_address

ALLOW_CODE_HELP = "allow models of kind 'module' to import and run the Python code that their path names"
DASK_HELP = "compute on a Dask cluster: the address of its scheduler, or local:N for N workers on this machine"
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
