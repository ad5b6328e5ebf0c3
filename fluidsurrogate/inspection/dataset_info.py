"""Describe a dataset, forecast, table of scores or audit on disk."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.content_hash import changed_variables
from fluidsurrogate.data.grids import grid_of
from fluidsurrogate.data.readers import open_data
from fluidsurrogate.evaluation.physics_check import check
from fluidsurrogate.evaluation.physics_report import recorded_check
from fluidsurrogate.inspection.description import FIELD_TYPES, Description, plain_value, size_on_disk
from fluidsurrogate.inspection.reproducibility import reproducibility
from fluidsurrogate.models.regridding import APPLIED_TO_GRID, TRAINED_ON_GRID
from fluidsurrogate.pipeline.stage import STAGES
from fluidsurrogate.simulation.importing import FACTS
from fluidsurrogate.simulation.resolution import describe_resolution
from fluidsurrogate.simulation.user_data import is_made_by_solver

# Results of a stage, whose own values are reproduced. Of a forecast or an audit, `made` describes the model behind it.
STAGE_RESULTS = ("data set", "forecasts", "scores")
SCORES = ("nrmse_first_step", "nrmse_mean")  # one number a source: a dataset with both is a table of scores
DESCRIBED_ATTRIBUTES = (
    "title", "source", "equation", "scheme", "order", "interval", "inner_step", "device", TRAINED_ON_GRID,
    APPLIED_TO_GRID, "predictability",
)  # fmt: skip


def dataset_info(path: Path) -> Description:
    """Describe a Zarr folder or NetCDF file.

    Parameters
    ----------
    path : Path
        The file or folder.

    Returns
    -------
    dict
        As `fluidsurrogate.info` returns it for a dataset.

    Raises
    ------
    UsageError
        If it cannot be opened, or has no variables.
    """
    try:
        opened = open_data(path)
    except UsageError as error:
        raise UsageError(" ".join(str(error).split())) from None
    with opened as dataset:
        if not dataset.data_vars:
            raise UsageError(f"{path} is a data set without variables")
        kind, attrs = _kind(dataset), dict(dataset.attrs)
        found: Description = {
            "kind": kind,
            "path": str(path),
            "bytes": size_on_disk(path),
            "dims": {str(name): int(size) for name, size in dataset.sizes.items()},
            "variables": [_describe_variable(str(name), v) for name, v in dataset.data_vars.items()],
        }
        found |= _describe_coordinates(dataset)
        if kind == "scores":
            found["scores"] = {
                name: dict(zip(found["sources"], dataset[name].values.tolist(), strict=True)) for name in SCORES
            }
        if kind == "audit":
            found["audit"] = {key: plain_value(attrs.get(key)) for key in ("verdict", "failed", "group", "tolerance")}
        record = attrs if "experiment" in attrs else _record_of_model(attrs)
        if kind == "data set" and "trajectory" in dataset.dims and not is_made_by_solver(dataset):
            found["check"] = _describe_check(dataset)
        found["changed"] = changed_variables(dataset)
        stage = next((stage.name for stage in STAGES.values() if stage.kind == kind), "train")
        made = reproducibility(record, stage, found["changed"] if kind in STAGE_RESULTS else ())
        found |= {"flow": made["experiment"]["flow"]} if "experiment" in made else {}
        found["says"] = {key: plain_value(attrs[key]) for key in DESCRIBED_ATTRIBUTES if key in attrs}
        if (facts := _parse_facts(attrs.get(FACTS))) is not None:
            found["facts"] = facts
        if (resolution := describe_resolution(attrs)) is not None:
            found["says"]["resolution"] = resolution
    return found | {"made": made}


def _parse_facts(text: Any) -> list[list[Any]] | None:
    """Return the facts that an imported dataset records: name, value, source and reason of each."""
    try:
        facts = json.loads(text)
        return [[name, value, source, reason] for name, value, source, reason in facts]
    except (TypeError, ValueError):
        return None


def _describe_check(dataset: xr.Dataset) -> list[str]:
    """Return what the check of a dataset finds, and what the dataset records of an earlier one."""
    record, lines = recorded_check(dataset), []
    if record is not None:
        lines.append(f"recorded when it was imported: {record['verdict']}: {record.get('reason', '')}")
        if record.get("accepted"):
            lines.append("ACCEPTED by its user all the same, against this verdict")
    return [*lines, *check(dataset).lines()]


def _kind(dataset: xr.Dataset) -> str:
    """Return what a dataset is, from its variables, dimensions and attributes."""
    if "equivariance_error" in dataset and "verdict" in dataset.attrs:
        return "audit"
    if "equivariance_spectrum" in dataset and "left_out" in dataset.attrs:
        return "explanation"
    if all(name in dataset and dataset[name].dims == ("source",) for name in SCORES):
        return "scores"
    if "source" in dataset.dims:
        return "forecasts"
    return "forecast" if _record_of_model(dataset.attrs) else "data set"


def _record_of_model(attrs: Mapping[Any, Any]) -> Description:
    """Return what a forecast or an audit records of the model that made it."""
    return {str(key).removeprefix("model_"): value for key, value in attrs.items() if str(key).startswith("model_")}


def _describe_variable(name: str, variable: xr.DataArray) -> Description:
    """Return name, dimensions, dtype, units and field type of a variable."""
    attrs = variable.attrs
    try:
        field_type = FIELD_TYPES.get((int(attrs["tensor_order"]), int(attrs["parity"])))
    except (KeyError, TypeError, ValueError):
        field_type = None
    return {
        "name": name,
        "dims": list(map(str, variable.dims)),
        "dtype": str(variable.dtype),
        "units": str(attrs.get("units", "")),
        "long_name": str(attrs.get("long_name", "")),
        "type": field_type,
    }


def _describe_coordinates(dataset: xr.Dataset) -> Description:
    """Return grid, times, splits and sources, as far as the dataset has them."""
    found: Description = {}
    try:
        grid = grid_of(dataset)
        found["grid"] = {"cells": list(grid.n), "length": list(grid.length)}
    except UsageError:
        pass  # scores have no grid
    if times := _describe_times(dataset):
        found["time"] = times
    if "split" in dataset.coords:
        found["splits"] = dict(Counter(map(str, np.ravel(dataset["split"].values))))
    if "source" in dataset.dims:
        found["sources"] = [str(name) for name in dataset["source"].values]
    return found


def _describe_times(dataset: xr.Dataset) -> Description | None:
    """Return number, ends and interval of the stored times; None without a numeric time axis."""
    if "time" not in dataset.coords or dataset["time"].dims != ("time",) or dataset["time"].dtype.kind not in "fiu":
        return None
    times = dataset["time"].values.astype(float)
    found: Description = {"count": len(times)}
    if len(times):
        found |= {"first": float(times[0]), "last": float(times[-1])}
    if len(times) > 1:
        found["interval"] = float((times[-1] - times[0]) / (len(times) - 1))
    return found
