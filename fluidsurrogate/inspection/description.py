"""What the descriptions of datasets, models and runs share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

Description = dict[str, Any]  # plain data: JSON takes it
FIELD_TYPES = {(0, 1): "scalar", (0, -1): "pseudoscalar", (1, 1): "vector", (1, -1): "pseudovector"}  # order, parity


def size_on_disk(path: Path) -> int:
    """Return the size of a file, or of all files in a folder.

    Parameters
    ----------
    path : Path
        A file or folder.

    Returns
    -------
    int
        Bytes.
    """
    return sum(p.stat().st_size for p in (path.rglob("*") if path.is_dir() else [path]) if p.is_file())


def plain_value(value: Any) -> Any:
    """Convert an attribute of a dataset to plain data.

    Parameters
    ----------
    value : object
        An attribute: text, a number or an array.

    Returns
    -------
    object
        A value that JSON takes; text if it takes nothing closer.
    """
    value = value.tolist() if isinstance(value, np.generic | np.ndarray) else value
    try:
        json.dumps(value)
    except TypeError:
        return str(value)
    return value
