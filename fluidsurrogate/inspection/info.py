"""What a file or folder is, data set, model, run, forecasts, scores or audit, and whether it can be made again."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.paths import as_path
from fluidsurrogate.core.storage import read_json
from fluidsurrogate.data.content_hash import what_changed
from fluidsurrogate.data.conversion import open_data
from fluidsurrogate.data.schema import grid_of
from fluidsurrogate.inspection.reproducibility import reproducibility
from fluidsurrogate.models.hub_download import download_model, is_hub_address
from fluidsurrogate.models.model_file_checks import (
    build_on_meta_device,
    check_hash,
    check_weights,
    count_parameters,
    read_tensor_shapes,
)
from fluidsurrogate.models.model_files import (
    CONFIG_FILE,
    MODEL_FORMAT,
    WEIGHTS_FILE,
    explaining_config_errors,
    find_file,
    read_metadata,
)
from fluidsurrogate.models.regridding import APPLIED_TO_GRID, TRAINED_ON_GRID
from fluidsurrogate.pipeline.stage import STAGES, stage_of, stages_in_order
from fluidsurrogate.simulation.resolution import RESOLUTION, describe_resolution
from fluidsurrogate.training.history import HISTORY_FILE

MADE_HERE = ("data set", "forecasts", "scores")  # by a stage; `made` of any other says it of the model behind it
TYPES = {(0, 1): "scalar", (0, -1): "pseudoscalar", (1, 1): "vector", (1, -1): "pseudovector"}
Info = dict[str, Any]


def info(path: str | Path) -> Info:
    """What `path` is, as plain data: a data set or model of ours or of the user's, a run's folder, a NetCDF file of
    forecasts, scores or an audit, or a model on the Hub, "hf://user/model".

    `kind` says which. `made` says from what: the experiment, seed, versions and fingerprint that it records, and under
    `again` and `command` whether and how it can be made again (see `remake.provenance`). `changed` says of data which
    variables no longer hold what they held when they were made: values are read for that, of up to 256 MB; None where
    that is not known. Nothing is executed. UsageError in one line where it is none of these.
    """
    if is_hub_address(path):
        return _model(download_model(str(path))) | {"path": str(path)}
    path = as_path(path)
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder")
    if not path.is_dir():
        return _dataset(path)
    if path.name.endswith(".partial") and (path / "provenance.json").exists():
        return _half_made(path)
    if (path / CONFIG_FILE).exists():
        return _model(path)
    if any((path / name).exists() for name in ("zarr.json", ".zgroup")):
        return _dataset(path)
    if any(_entries(path)):
        return _run(path)
    if all(entry.name == ".lock" for entry in path.iterdir()):
        raise UsageError(f"{path} is empty")
    raise UsageError(f"{path} is no data set (Zarr), no model ({CONFIG_FILE}) and no run ({', '.join(_files())})")


def kept_by(group: str, stride: int | None) -> str:
    """The symmetries that a network claims, in words."""
    shifts = {None: "no shifts", 1: "shifts by whole cells"}.get(stride, f"shifts by multiples of {stride} cells")
    turns = "no turns or mirrors" if group == "C1" else f"the point group {group}"
    return f"{turns} and {shifts}"


def validation(text: str) -> Info | None:
    """Of the curve.csv of a training: how many steps it took, and the validation error of the weights that were kept,
    those with the lowest; None where it says nothing of that."""
    try:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(text.splitlines())]
        best = min(rows, key=lambda row: row["valid_nrmse"])
        return {
            "steps": int(rows[-1]["step"]),
            "step": int(best["step"]),
            "nrmse_first_step": best["valid_nrmse_first_step"],
            "nrmse": best["valid_nrmse"],
        }
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def size_of(path: Path) -> int:
    """Bytes on disk of a file, or of all the files in a folder."""
    return sum(p.stat().st_size for p in (path.rglob("*") if path.is_dir() else [path]) if p.is_file())


def _dataset(path: Path) -> Info:
    try:
        opened = open_data(path)
    except UsageError as error:
        raise UsageError(" ".join(str(error).split())) from None
    with opened as dataset:
        if not dataset.data_vars:
            raise UsageError(f"{path} is a data set without variables")
        kind, attrs = _kind(dataset), dict(dataset.attrs)
        found: Info = {
            "kind": kind,
            "path": str(path),
            "bytes": size_of(path),
            "dims": {str(name): int(size) for name, size in dataset.sizes.items()},
            "variables": [_variable(str(name), v) for name, v in dataset.data_vars.items()],
        }
        try:
            grid = grid_of(dataset)
            found["grid"] = {"cells": list(grid.n), "length": list(grid.length)}
        except UsageError:
            pass  # scores have none
        if times := _times(dataset):
            found["time"] = times
        if "split" in dataset.coords:
            found["splits"] = dict(Counter(map(str, np.ravel(dataset["split"].values))))
        if "source" in dataset.dims:
            found["sources"] = [str(name) for name in dataset["source"].values]
        if kind == "scores":
            errors = ("nrmse_first_step", "nrmse_mean")
            found["scores"] = {e: dict(zip(found["sources"], dataset[e].values.tolist(), strict=True)) for e in errors}
        if kind == "audit":
            found["audit"] = {key: _plain(attrs.get(key)) for key in ("verdict", "failed", "group", "tolerance")}
        about = attrs if "experiment" in attrs else _of_model(attrs)
        found["changed"] = what_changed(dataset)
        stage = next((stage.name for stage in STAGES.values() if stage.kind == kind), "train")
        made = reproducibility(about, stage, found["changed"] if kind in MADE_HERE else ())
        found |= {"flow": made["experiment"]["flow"]} if "experiment" in made else {}
        said = ("title", "source", "equation", "scheme", "order", "interval", "inner_step", "device", TRAINED_ON_GRID,
                APPLIED_TO_GRID, "predictability")  # fmt: skip
        found["says"] = {key: _plain(attrs[key]) for key in said if key in attrs}
        if (resolution := describe_resolution(attrs)) is not None:
            found["says"]["resolution"] = resolution
    return found | {"made": made}


def _kind(dataset: xr.Dataset) -> str:
    if "equivariance_error" in dataset and "verdict" in dataset.attrs:
        return "audit"
    if all(name in dataset and dataset[name].dims == ("source",) for name in ("nrmse_first_step", "nrmse_mean")):
        return "scores"
    if "source" in dataset.dims:
        return "forecasts"
    return "forecast" if _of_model(dataset.attrs) else "data set"


def _of_model(attrs: Mapping[Any, Any]) -> Info:
    """What a forecast or an audit records of the model that made it."""
    return {str(key).removeprefix("model_"): value for key, value in attrs.items() if str(key).startswith("model_")}


def _variable(name: str, variable: xr.DataArray) -> Info:
    attrs = variable.attrs
    try:
        typed = TYPES.get((int(attrs["tensor_order"]), int(attrs["parity"])))
    except (KeyError, TypeError, ValueError):
        typed = None
    about = {"name": name, "dims": list(map(str, variable.dims)), "dtype": str(variable.dtype)}
    return about | {"units": str(attrs.get("units", "")), "long_name": str(attrs.get("long_name", "")), "type": typed}


def _times(dataset: xr.Dataset) -> Info | None:
    if "time" not in dataset.coords or dataset["time"].dims != ("time",) or dataset["time"].dtype.kind not in "fiu":
        return None
    times = dataset["time"].values.astype(float)
    about = {"count": len(times), "first": float(times[0]), "last": float(times[-1])} if len(times) else {"count": 0}
    return about | ({"interval": float((times[-1] - times[0]) / (len(times) - 1))} if len(times) > 1 else {})


def _model(folder: Path) -> Info:
    metadata = read_metadata(folder)
    weights = find_file(folder, WEIGHTS_FILE)
    tensors, config, spec = read_tensor_shapes(weights), metadata.model, metadata.spec
    check_hash(weights, metadata)
    found: Info = {
        "kind": "model",
        "path": str(folder),
        "bytes": size_of(folder),
        "name": str(metadata.about.get("name", folder.name)),
        "format": MODEL_FORMAT,
        "model": config.model_dump(mode="json", exclude_none=True),
        "dtype": metadata.dtype,
        "grid": {"cells": list(spec.grid.n), "length": list(spec.grid.length)},
        "interval": spec.interval,
        "constants": metadata.constants,
        **({"resolution": str(metadata.about[RESOLUTION])} if RESOLUTION in metadata.about else {}),
    }
    for key, fields in (("fields", spec.fields), ("inputs", spec.inputs)):
        found[key] = [{"name": f.name, "units": f.units, "type": TYPES[f.order, f.parity]} for f in fields]
    normalisation = {key: list(getattr(metadata.normalisation, key)) for key in ("shift", "scale", "change", "band")}
    if (budget_coefficients := metadata.normalisation.budget_coefficients) is not None:
        found["energy_budget"] = asdict(budget_coefficients)
    if isinstance(said := metadata.about.get("energy_budget"), str):
        found["energy_budget_found"] = said
    if config.is_user_module:
        found |= {"code": config.code, "numbers": sum(int(np.prod(shape)) for _, shape in tensors.values())}
    else:
        with explaining_config_errors(folder):
            network = build_on_meta_device(metadata, tensors)
        check_weights(weights, tensors, network)
        found |= {"group": network.group.name, "stride": network.stride, "parameters": count_parameters(network)}
    curve = folder / HISTORY_FILE
    if curve.is_file() and (trained := validation(curve.read_text(encoding="utf-8", errors="replace"))):
        found["validation"] = trained
    made = reproducibility(metadata.about, "train")
    found |= {"flow": made["experiment"]["flow"]} if "experiment" in made else {}
    return found | {"normalisation": normalisation, "made": made}


def _half_made(folder: Path) -> Info:
    of, progress = folder.name.removesuffix(".partial"), read_json(folder / "progress.json")
    provenance = read_json(folder / "provenance.json")
    known = provenance if isinstance(provenance, dict) else {}
    made_by = stage_of(of)
    stage = (
        made_by.name if made_by else ("rollout" if "stepper" in known else "train" if "model" in known else "generate")
    )
    found = {"kind": "half made", "path": str(folder), "bytes": size_of(folder), "of": of, "stage": stage}
    return found | ({"blocks": progress["blocks"]} if isinstance(progress, dict) and "blocks" in progress else {})


def _run(folder: Path) -> Info:
    """What each stage has left: results, half-made ones, and those that are yet to be made."""
    results, half_made, entries = [], [], _entries(folder)
    for entry in entries:
        if not entry.exists():
            continue
        if entry.name.endswith(".partial"):
            half_made.append(_half_made(entry))
            continue
        try:
            results.append(_model(entry) if entry.parent.name == "models" else _dataset(entry))
        except UsageError as error:
            results.append({"kind": "broken", "path": str(entry), "reason": str(error)})
    tree: Info = next((r["made"]["experiment"] for r in results if "experiment" in r.get("made", {})), {})
    wanted = [folder / output for stage in stages_in_order() for output in stage.outputs(tree)]
    return {
        "kind": "run",
        "path": str(folder),
        "bytes": size_of(folder),
        "name": tree.get("name", folder.name),
        "results": results,
        "half_made": half_made,
        "to_make": [str(path) for path in wanted if not path.exists()],
    } | ({"data": tree["data"]["path"]} if tree.get("data", {}).get("path") else {})


def _files() -> list[str]:
    """The patterns of what stages make in a run's folder."""
    return [pattern for stage in stages_in_order() for pattern in stage.files]


def _entries(folder: Path) -> list[Path]:
    """What stages have left in a run's folder, whole or half made."""
    finished = [path for pattern in _files() for path in sorted(folder.glob(pattern)) if not path.name.startswith(".")]
    half_made = [path for pattern in _files() for path in sorted(folder.glob(f"{pattern}.partial"))]
    return list(dict.fromkeys([*finished, *half_made]))


def _plain(value: Any) -> Any:
    """An attribute as JSON has it."""
    value = value.tolist() if isinstance(value, np.generic | np.ndarray) else value
    try:
        json.dumps(value)
    except TypeError:
        return str(value)
    return value
