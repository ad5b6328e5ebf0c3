"""Describe a trained model from its folder."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path

import numpy as np

from fluidsurrogate.inspection.description import FIELD_TYPES, Description, size_on_disk
from fluidsurrogate.inspection.reproducibility import reproducibility
from fluidsurrogate.models.bfloat16 import BFLOAT16_CHECK
from fluidsurrogate.models.model_file_checks import (
    build_on_meta_device,
    check_hash,
    check_weights,
    count_parameters,
    read_tensor_shapes,
)
from fluidsurrogate.models.model_files import (
    MODEL_FORMAT,
    WEIGHTS_FILE,
    explaining_config_errors,
    find_file,
    read_metadata,
)
from fluidsurrogate.simulation.resolution import RESOLUTION
from fluidsurrogate.training.history import HISTORY_FILE


def model_info(folder: Path) -> Description:
    """Describe the folder of a trained model. Nothing in it is executed.

    Parameters
    ----------
    folder : Path
        The model's folder, with config.json and weights.safetensors.

    Returns
    -------
    dict
        As `fluidsurrogate.info` returns it for a model.

    Raises
    ------
    UsageError
        If the folder is no valid model.
    """
    metadata = read_metadata(folder)
    weights = find_file(folder, WEIGHTS_FILE)
    tensors, config, spec = read_tensor_shapes(weights), metadata.model, metadata.spec
    check_hash(weights, metadata)
    found: Description = {
        "kind": "model",
        "path": str(folder),
        "bytes": size_on_disk(folder),
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
        found[key] = [{"name": f.name, "units": f.units, "type": FIELD_TYPES[f.order, f.parity]} for f in fields]
    if (budget_coefficients := metadata.normalisation.budget_coefficients) is not None:
        found["energy_budget"] = asdict(budget_coefficients)
    if isinstance(finding := metadata.about.get("energy_budget"), str):
        found["energy_budget_found"] = finding
    if isinstance(check := metadata.about.get(BFLOAT16_CHECK), str):
        found["bfloat16"] = check
    if config.is_user_module:
        found |= {"code": config.import_path, "numbers": sum(int(np.prod(shape)) for _, shape in tensors.values())}
    else:
        with explaining_config_errors(folder):
            network = build_on_meta_device(metadata, tensors)
        check_weights(weights, tensors, network)
        found |= {"group": network.group.name, "stride": network.stride, "parameters": count_parameters(network)}
    curve = folder / HISTORY_FILE
    if curve.is_file() and (best := best_validation(curve.read_text(encoding="utf-8", errors="replace"))):
        found["validation"] = best
    made = reproducibility(metadata.about, "train")
    found |= {"flow": made["experiment"]["flow"]} if "experiment" in made else {}
    normalisation = {key: list(getattr(metadata.normalisation, key)) for key in ("shift", "scale", "change", "band")}
    return found | {"normalisation": normalisation, "made": made}


def describe_symmetries(group: str, stride: int | None) -> str:
    """Return the symmetries that a network claims, in words.

    Parameters
    ----------
    group : str
        The name of its point group.
    stride : int or None
        It commutes with shifts by multiples of so many cells; None if it claims no shifts.

    Returns
    -------
    str
        Such as "the point group D4 and shifts by whole cells".
    """
    shifts = {None: "no shifts", 1: "shifts by whole cells"}.get(stride, f"shifts by multiples of {stride} cells")
    point_group = "no rotations or mirrors" if group == "C1" else f"the point group {group}"
    return f"{point_group} and {shifts}"


def best_validation(curve: str) -> Description | None:
    """Return the lowest validation error of a training run; the weights of that step are the ones kept.

    Parameters
    ----------
    curve : str
        The text of a curve.csv.

    Returns
    -------
    dict or None
        `steps` of the training run; of the best one its `step`, `nrmse_first_step` (after one interval) and `nrmse`
        (the geometric mean over lead times). None if the text is not a training curve.
    """
    try:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(curve.splitlines())]
        best = min(rows, key=lambda row: row["valid_nrmse"])
        return {
            "steps": int(rows[-1]["step"]),
            "step": int(best["step"]),
            "nrmse_first_step": best["valid_nrmse_first_step"],
            "nrmse": best["valid_nrmse"],
        }
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
