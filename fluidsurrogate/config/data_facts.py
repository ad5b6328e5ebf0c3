"""What a user's dataset says, taken where an experiment on it (`data.path`) is silent: grid, flow, interval, splits."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.paths import as_path
from fluidsurrogate.core.provenance import parse_json_attribute
from fluidsurrogate.data.coordinates import box_sides, spatial_dims
from fluidsurrogate.data.flow_constants import read_constants
from fluidsurrogate.data.readers import Facts, log_changes, open_data
from fluidsurrogate.data.readers.package_layout import SPLIT_TIMES

log = logging.getLogger("fluidsurrogate")
SPLITS = ("train", "valid", "test")
GIVEN = "given"  # the flow that is known by data only
# Keys without which an experiment is not complete; the others that are filled in have defaults.
NEEDED = (("grid", "n"), ("flow", "kind"), ("data", "interval"), ("data", "steps"), *(("data", s) for s in SPLITS))
OPTIONAL = (("grid", "length"), ("flow", "viscosity"), ("data", "state"))


def with_data_facts(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """Fill in what an experiment leaves out and its dataset states.

    Parameters
    ----------
    tree : mapping
        The experiment as nested plain data, which may hold mistakes; they stay.

    Returns
    -------
    mapping
        The experiment; the same object if it does not name a dataset of the user's, or leaves nothing out. What the
        experiment says stays: whether the dataset agrees is checked when this is used.

    Raises
    ------
    UsageError
        If the dataset is needed for what is left out, and cannot be read or does not state it.
    """
    data = tree.get("data")
    path = data.get("path") if isinstance(data, Mapping) else None
    if not isinstance(path, str | Path):
        return tree
    tables: dict[str, Any] = {name: tree.get(name, {}) for name in ("grid", "flow", "data")}
    if not all(isinstance(table, Mapping) for table in tables.values()):
        return tree
    missing = [key for key in NEEDED if key[1] not in tables[key[0]]]
    if not missing and not any(key not in tables[table] for table, key in OPTIONAL):
        return tree
    try:
        found = _facts_of(as_path(path), tables)
    except UsageError:
        if missing:
            raise
        return tree
    filled = {name: {**found.get(name, {}), **table} for name, table in tables.items()}
    used = [f"{name}.{key} = {_shown(value)}" for name in filled for key, value in filled[name].items()
            if key not in tables[name]]  # fmt: skip
    if used:
        log.info(f"from {path}: {', '.join(used)}")
    return {**tree, **{name: table for name, table in filled.items() if table}}


def _facts_of(path: Path, tables: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the tables `grid`, `flow` and `data` as far as a dataset states them."""
    facts = Facts(path)
    with open_data(path, facts) as dataset:
        log_changes(facts)
        space = spatial_dims(dataset)
        n, sides = [dataset.sizes[axis] for axis in space], _sides(dataset)
        grid: dict[str, Any] = {"n": n[0] if len(set(n)) == 1 and len(space) == 2 else n}
        grid["length"] = sides[0] if len(set(sides)) == 1 else sides
        if "n" in tables["grid"]:
            del grid["n"]
        fields = [name for name in ("vorticity", "velocity") if name in dataset.data_vars]
        data: dict[str, Any] = {"state": fields[0]} if fields else {}
        if dataset.sizes.get("time", 1) > 1:
            times = np.asarray(dataset["time"].values, np.float64)
            data |= {"interval": float(f"{(times[-1] - times[0]) / (len(times) - 1):.12g}"), "steps": len(times) - 1}
        data |= _splits(dataset, path, tables["data"])
        return {"grid": grid, "flow": _flow(dataset, path, tables["flow"]), "data": data}


def _sides(dataset: xr.Dataset) -> list[float]:
    """Return the sides of the box as the attributes say, or else as the coordinates do."""
    sides = box_sides(dataset)
    stated = [
        dataset.attrs.get(f"length_{axis}", side) for axis, side in zip(spatial_dims(dataset), sides, strict=True)
    ]
    return [float(a) if np.isclose(a, b, rtol=1e-5) else float(b) for a, b in zip(stated, sides, strict=True)]


def _splits(dataset: xr.Dataset, path: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers of trajectories and of intervals of each split."""
    found: dict[str, Any] = {}
    if "split" in dataset.coords:
        counts = Counter(map(str, dataset["split"].values.tolist()))
        found = {split: counts[split] for split in SPLITS if counts[split]}
    lacking = [f"data.{split}" for split in SPLITS if split not in {*found, *table}]
    if lacking:
        total = dataset.sizes.get("trajectory", 1)
        marked = f"{path} marks none for {lacking[0].partition('.')[2]}" if found else f"{path} does not say"
        raise UsageError(f"{', '.join(lacking)}: how many of the {total} trajectories are for what? {marked}: give "
                         "it, or fluidsurrogate import with --split")  # fmt: skip
    times = parse_json_attribute(dataset.attrs.get(SPLIT_TIMES)) or {}
    if "train" in times and "test" in times:
        found |= {"steps": times["train"] - 1, "test_steps": times["test"] - 1}
    return found


def _flow(dataset: xr.Dataset, path: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table of the flow that is known by the data only, or of a named one what the dataset states."""
    constants = read_constants(dataset)
    varying = {name: _number(value) for name, value in constants.items() if name in ("viscosity", "drag")}
    if "kind" in table:
        return {"viscosity": varying["viscosity"]} if "viscosity" in varying and table["kind"] != "shear" else {}
    if "viscosity" not in {**varying, **table}:
        raise UsageError(f"{path} does not state its viscosity: give [flow] with viscosity = ..., or "
                         f"fluidsurrogate import {path} --viscosity NU --to FOLDER")  # fmt: skip
    found: dict[str, Any] = {"kind": GIVEN, **varying}
    if "forcing" in dataset.variables:
        found["has_forcing"] = True
    if "mean_velocity" in dataset.variables:
        values = dataset["mean_velocity"].transpose(..., "component").values
        found["mean_velocity"] = [float(v) for v in values.reshape(-1, values.shape[-1])[0]]
    return found


def _number(values: np.ndarray) -> Any:
    """Return one number, or the different ones in ascending order."""
    found = sorted({float(v) for v in np.ravel(values)})
    return found[0] if len(found) == 1 else [found[0], found[-1]]


def _shown(value: Any) -> str:
    return (
        f'"{value}"' if isinstance(value, str) else f"{value:.9g}" if isinstance(value, float) else str(value).lower()
    )
