"""What a dataset holds, as a digest of each variable: the same for the same values, in whatever file they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import read_json
from fluidsurrogate.core.provenance import parse_json_attribute
from fluidsurrogate.data.readers import open_data

CONTENT = "content"  # the attribute of a result that records it
PART_BYTES = 2**25  # of what is read at a time
CHECKED_BYTES = 2**28  # a dataset of up to this size is read to see whether it has changed: about a second


def content_of(dataset: xr.Dataset, names: Iterable[str] | None = None) -> dict[str, str]:
    """Type, shape and SHA-256 of the values of each variable, coordinates too, attributes not.

    Parameters
    ----------
    dataset
        Opened lazily or not; of any size, read in parts.
    names
        The variables that count, with their coordinates; absent ones are left out. By default all.

    Returns
    -------
    dict
        By name, "float32 (6, 5, 16, 16) 1f3a…".
    """
    if names is not None:
        dataset = dataset[[name for name in names if name in dataset]]
    return {name: _digest(dataset[name].variable) for name in sorted(map(str, dataset.variables))}


def what_changed(dataset: xr.Dataset) -> list[str] | None:
    """The variables of a result that do not hold what they held when it was made.

    Returns
    -------
    list or None
        Names, none where all is as it was. None where that is not known: the result does not record it, or it is
        larger than what is read to find out.
    """
    was = parse_json_attribute(dataset.attrs.get(CONTENT))
    if was is None or size_of_values(dataset) > CHECKED_BYTES:
        return None
    now = content_of(dataset)
    return [name for name in sorted(was.keys() | now.keys()) if was.get(name) != now.get(name)]


def size_of_values(dataset: xr.Dataset) -> int:
    """Bytes of all its values in memory."""
    return sum(variable.nbytes for variable in dataset.variables.values())


def own_content(path: Path, names: Iterable[str], note: Path) -> dict[str, Any]:
    """What a dataset of the user's holds, with the names, sizes and times of change of its files.

    Parameters
    ----------
    path
        The dataset.
    names
        The variables that count.
    note
        Where what an earlier call returned may lie. While the files are as they were then, they are not read again.
    """
    known = {"files": _files(path), "variables": list(names)}
    try:
        noted = read_json(note)
    except UsageError:
        noted = None
    if isinstance(noted, dict) and {key: noted.get(key) for key in known} == known:
        return noted
    with open_data(path) as dataset:
        return {**known, CONTENT: content_of(dataset, known["variables"])}


def _files(path: Path) -> str:
    """A digest of the names, sizes and times of change of a file, or of all the files in a folder."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        stat = file.stat()
        digest.update(
            f"{file.relative_to(path)} {stat.st_size} {stat.st_mtime_ns}\n".encode("utf-8", "surrogateescape")
        )
    return digest.hexdigest()[:16]


def _digest(variable: xr.Variable) -> str:
    digest, kind = hashlib.sha256(), "text" if variable.dtype.kind in "OUST" else str(variable.dtype.newbyteorder("="))
    if not variable.ndim or not variable.size:
        digest.update(_bytes(np.asarray(variable.values)))
    else:
        rows = max(1, PART_BYTES * len(variable) // max(1, variable.nbytes))
        for first in range(0, len(variable), rows):
            digest.update(_bytes(np.asarray(variable[first : first + rows].values)))
    return f"{kind} {variable.shape} {digest.hexdigest()[:16]}"


def _bytes(values: np.ndarray) -> bytes:
    """Values as bytes that do not depend on the file that they come from."""
    match values.dtype.kind:
        case "O" | "U" | "S" | "T":
            return json.dumps(np.asarray(values, dtype=object).ravel().tolist(), default=str).encode()
        case "f" | "c":
            values = np.where(np.isnan(values), np.nan, values) if np.isnan(values).any() else values
        case "M" | "m":
            values = values.astype("int64")
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).tobytes()
