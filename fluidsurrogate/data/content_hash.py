"""Hashes of what a dataset holds, variable by variable: the same for the same values, in whatever file they are."""

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
from fluidsurrogate.core.stores import Store
from fluidsurrogate.data.readers import open_data

CONTENT = "content"  # the attribute of a result that records its hashes
PART_BYTES = 2**25  # of what is read at a time
MAX_HASHED_BYTES = 2**28  # a dataset of up to this size is read to see whether it has changed: about a second


def hash_variables(dataset: xr.Dataset, names: Iterable[str] | None = None) -> dict[str, str]:
    """Return dtype, shape and SHA-256 hash of the values of each variable, coordinates included, attributes not.

    Parameters
    ----------
    dataset : xr.Dataset
        Opened lazily or not; of any size, because it is read in parts.
    names : iterable of str, optional
        The variables that count, with their coordinates; missing ones are left out. By default all.

    Returns
    -------
    dict
        By name, "float32 (6, 5, 16, 16) 1f3a…".
    """
    if names is not None:
        dataset = dataset[[name for name in names if name in dataset]]
    return {name: _hash_variable(dataset[name].variable) for name in sorted(map(str, dataset.variables))}


def changed_variables(dataset: xr.Dataset) -> list[str] | None:
    """Return the variables of a result that do not hold what they held when it was made.

    Parameters
    ----------
    dataset : xr.Dataset
        The result, whose attribute `content` records the hashes of then.

    Returns
    -------
    list of str or None
        Names; empty if nothing has changed. None if that is not known: the result records no hashes, or it is larger
        than what is read to find out (256 MiB).
    """
    recorded = parse_json_attribute(dataset.attrs.get(CONTENT))
    if recorded is None or dataset.nbytes > MAX_HASHED_BYTES:
        return None
    current = hash_variables(dataset)
    return [name for name in sorted(recorded.keys() | current.keys()) if recorded.get(name) != current.get(name)]


def hash_user_data(path: str | Path, names: Iterable[str], cache: Path) -> dict[str, Any]:
    """Return the hashes of a user's dataset, with a digest of the names, sizes and times of change of its files.

    Parameters
    ----------
    path : str or Path
        The dataset, a path or an address.
    names : iterable of str
        The variables that count.
    cache : Path
        JSON file where the result of an earlier call may lie. It is returned if the files are as they were then,
        without reading them again.

    Returns
    -------
    dict
        `files`, the digest; `variables`, the names; `content`, the hashes.
    """
    known = {"files": digest_of_files(path), "variables": list(names)}
    try:
        cached = read_json(cache)
    except UsageError:
        cached = None
    if isinstance(cached, dict) and {key: cached.get(key) for key in known} == known:
        return cached
    with open_data(path) as dataset:
        return {**known, CONTENT: hash_variables(dataset, known["variables"])}


def digest_of_files(path: str | Path) -> str:
    """Return a digest of the names, sizes and times of change of a file, or of all the files in a folder.

    Parameters
    ----------
    path : str or Path
        The file or folder, or the address of a store.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    if isinstance(path, str):
        return Store(path).digest()
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        stat = file.stat()
        digest.update(
            f"{file.relative_to(path)} {stat.st_size} {stat.st_mtime_ns}\n".encode("utf-8", "surrogateescape")
        )
    return digest.hexdigest()[:16]


def _hash_variable(variable: xr.Variable) -> str:
    digest, kind = hashlib.sha256(), "text" if variable.dtype.kind in "OUST" else str(variable.dtype.newbyteorder("="))
    if not variable.ndim or not variable.size:
        digest.update(_portable_bytes(np.asarray(variable.values)))
    else:
        rows = max(1, PART_BYTES * len(variable) // max(1, variable.nbytes))
        for first in range(0, len(variable), rows):
            digest.update(_portable_bytes(np.asarray(variable[first : first + rows].values)))
    return f"{kind} {variable.shape} {digest.hexdigest()[:16]}"


def _portable_bytes(values: np.ndarray) -> bytes:
    """Return values as bytes that do not depend on the file that they come from."""
    match values.dtype.kind:
        case "O" | "U" | "S" | "T":
            return json.dumps(np.asarray(values, dtype=object).ravel().tolist(), default=str).encode()
        case "f" | "c":
            values = np.where(np.isnan(values), np.nan, values) if np.isnan(values).any() else values
        case "M" | "m":
            values = values.astype("int64")
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).tobytes()
