"""A trained model from its folder, or from the Hub; nothing in it is executed."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.config.flow_and_model_configs import ModelConfig
from fluidsurrogate.core.devices import device_available
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.paths import as_path
from fluidsurrogate.core.seeding import preserving_random_state
from fluidsurrogate.data.grids import is_same_grid
from fluidsurrogate.models.calibration import read_calibration
from fluidsurrogate.models.hub_download import fetch, is_address
from fluidsurrogate.models.model_files import (
    LAST,
    WEIGHTS,
    check_finite,
    check_hash,
    check_proportions,
    check_solver,
    check_weights,
    describing,
    file_of,
    on_meta,
    read_metadata,
    tensors_in,
)
from fluidsurrogate.models.surrogate import Surrogate
from fluidsurrogate.nn import Network, UserModule, allowing_code, cast_weights
from solvers import StateSpec, Stepper


def load(
    path: str | Path,
    device: str | torch.device = "cpu",
    *,
    allow_code: bool = False,
    module: nn.Module | None = None,
    last: bool = False,
    calibrated: bool = True,
) -> Surrogate:
    """The model in a folder that `Surrogate.save` wrote, or on the Hub, "hf://user/model" or "hf://user/model@revision".
    Nothing in it is executed: safetensors and JSON only.

    A model of kind "module" is code that is not in the folder. With `allow_code` the class that its config names is
    imported and run; or `module`, built as it was for training, gets the weights (a copy of it: it stays as it is).
    `last`: the weights at the end of training instead of the best. `calibrated` False: without its calibration.
    UsageError where the folder is no model, its weights are not those that its config describes, or it needs code and
    neither was given.
    """
    if not isinstance(path, str | Path):
        raise UsageError(f"give the folder of a model (got {type(path).__name__})")
    device = str(device)
    if not device_available(device):
        raise UsageError(f"device {device!r} is not to be had here; try cpu, cuda or mps")
    folder = as_path(path) if not is_address(path) else fetch(str(path))
    with preserving_random_state(torch.device(device)):  # fresh weights are drawn before those of the file take over
        surrogate = _read(folder, device, allow_code, module, last, calibrated)
    surrogate.folder = folder
    return surrogate


def _read(
    folder: Path, device: str, allow_code: bool, module: nn.Module | None, last: bool, calibrated: bool
) -> Surrogate:
    metadata, network = read_metadata(folder), None
    if metadata.model.is_user_module or module is not None:
        with describing(folder):  # whatever else is wrong, that it is code is said first
            network = _network(metadata.model, metadata.spec, metadata.torch_dtype, allow_code, module)
    weights = file_of(folder, LAST if last else WEIGHTS)
    found = tensors_in(weights)
    with describing(folder):
        drafted = on_meta(metadata, found) if network is None else network
    check_weights(weights, found, drafted)  # before anything is allocated
    with describing(folder):
        network = (network or metadata.model.build(metadata.spec, metadata.torch_dtype)).to(device).eval()
        base = _base(metadata.model, metadata.spec, metadata.about, device)
        surrogate = Surrogate(
            network,
            metadata.spec,
            metadata.normalisation,
            metadata.model,
            dict(metadata.about),
            base,
            constants=metadata.constants,
        )
    try:
        network.load_state_dict(load_file(weights, device=device))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"{weights}: not the weights of this model: {reason}") from None
    check_finite(weights, network)
    check_hash(weights, metadata)
    if calibrated and not last:  # it is of the best weights
        surrogate.calibration = read_calibration(folder, metadata.spec, metadata.sha256[WEIGHTS])
    return surrogate


def _network(
    config: ModelConfig, spec: StateSpec, dtype: torch.dtype, allow_code: bool, module: nn.Module | None
) -> Network:
    if module is None:
        with allowing_code(allow_code):
            return config.build(spec, dtype)
    if not config.is_user_module:
        raise UsageError(f"a model of kind {config.kind!r} takes no module of yours")
    return cast_weights(UserModule(copy.deepcopy(module), spec.fields), dtype)


def _base(config: ModelConfig, spec: StateSpec, about: Mapping[str, Any], device: str) -> Stepper | None:
    """A hybrid's solver, from the experiment that the model was trained in; UsageError where that is of other states
    than `spec`."""
    if config.solver is None:
        return None
    tree = json.loads(about["experiment"])
    check_proportions(tree)
    check_solver(config.solver, spec.grid)
    base = Experiment.from_tree(tree | {"models": {}, "device": device}).build_hybrid_solver(config)
    if base is None or _told(base.spec) != _told(spec) or not is_same_grid(base.spec.grid, spec.grid):
        raise UsageError("spec: its experiment is of other states, or of another interval")
    return base


def _told(spec: StateSpec) -> tuple[float, list[str]]:
    return float(f"{spec.interval:.12g}"), [field.name for field in spec.fields + spec.inputs]
