"""Load a trained model from its folder or from the Hugging Face Hub, without executing anything in it."""

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
from fluidsurrogate.core.paths import PRETRAINED_PREFIX
from fluidsurrogate.core.seeding import preserving_random_state
from fluidsurrogate.data.grids import is_same_grid
from fluidsurrogate.models.calibration import read_calibration
from fluidsurrogate.models.model_file_checks import (
    build_on_meta_device,
    check_experiment_size,
    check_finite,
    check_hash,
    check_solver_size,
    check_weights,
    read_tensor_shapes,
)
from fluidsurrogate.models.model_files import (
    LAST_WEIGHTS_FILE,
    WEIGHTS_FILE,
    explaining_config_errors,
    find_file,
    read_metadata,
)
from fluidsurrogate.models.pretrained import PRETRAINED, model_folder
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
    """Load a trained model from a folder, from within this package or from the Hugging Face Hub.

    Nothing in the folder is executed: it holds safetensors and JSON files only. A model of kind "module" is code of
    somebody's own that is not in the folder; it needs `allow_code` or `module`.

    Parameters
    ----------
    path : str or Path
        A folder that `save` wrote; "pretrained:NAME", as by `pretrained`; or an address on the Hub, "hf://user/model"
        or "hf://user/model@revision".
    device : str or torch.device
        Device of the model: cpu, cuda, cuda:1 or mps.
    allow_code : bool
        Whether to import and run the class that the config of a model of kind "module" names.
    module : torch.nn.Module, optional
        A module of the user's, built as it was for training; a copy of it gets the weights.
    last : bool
        Whether to take the weights at the end of training instead of the best ones; they are not calibrated.
    calibrated : bool
        Whether to read the calibration of the model, if it has one.

    Returns
    -------
    Surrogate
        The model.

    Raises
    ------
    UsageError
        If the folder is not a model, its weights are not those that its config describes, the device is not available,
        or the model needs code and neither `allow_code` nor `module` was given.

    Examples
    --------
    >>> import tempfile
    >>> import fluidsurrogate as fs
    >>> experiment = fs.Experiment.from_tree({
    ...     "name": "example",
    ...     "grid": {"n": 16},
    ...     "flow": {"kind": "decaying", "viscosity": 0.02, "wavenumber": 2},
    ...     "data": {"train": 2, "valid": 1, "test": 1, "steps": 4, "interval": 0.25},
    ...     "models": {"small": {"kind": "cnn", "width": 4, "dilations": [1]}},
    ...     "train": {"steps": 2, "batch": 2, "unroll": 1},
    ... })
    >>> model = fs.train(experiment)["small"]
    >>> folder = tempfile.TemporaryDirectory()
    >>> fs.save(model, folder.name)
    >>> loaded = fs.load(folder.name)
    >>> loaded.parameters == model.parameters
    True
    >>> folder.cleanup()
    """
    if not isinstance(path, str | Path):
        raise UsageError(f"give the folder of a model (got {type(path).__name__})")
    device = str(device)
    if not device_available(device):
        raise UsageError(f"device {device!r} is not available here; try cpu, cuda or mps")
    folder = model_folder(path)
    with preserving_random_state(torch.device(device)):  # fresh weights are drawn before those of the file take over
        surrogate = _read_model(folder, device, allow_code, module, last, calibrated)
    surrogate.folder = folder
    return surrogate


def pretrained(name: str, device: str | torch.device = "cpu") -> Surrogate:
    """Load a pretrained model that is part of this package: no training, no network.

    ``fluidsurrogate models --pretrained`` lists them. What each was trained on and how well it forecasts is in its
    card, `README.md` in the folder `model.folder`. ``experiments/pretrained`` makes them again.

    Parameters
    ----------
    name : str
        The name of the model: "decaying-2d" or "general-2d".
    device : str or torch.device
        Device of the model: cpu, cuda, cuda:1 or mps.

    Returns
    -------
    Surrogate
        The model, with its calibration.

    Raises
    ------
    UsageError
        If there is no such model, with the names of those that there are, or the device is not available.

    Examples
    --------
    A forecast with its error bound, of a start that the solver makes as the model's training data were made:

    >>> import fluidsurrogate as fs
    >>> model = fs.pretrained("decaying-2d")
    >>> start = fs.simulate(model, steps=1)
    >>> forecast = fs.forecast(model, start, steps=10, members=4)
    >>> dict(forecast["vorticity"].sizes)
    {'trajectory': 1, 'member': 4, 'time': 11, 'y': 32, 'x': 32}
    >>> bool(forecast["error_bound"].sel(time=0.25) < 0.05)
    True
    """
    return load(f"{PRETRAINED_PREFIX}{name}", device)


def _read_model(
    folder: Path, device: str, allow_code: bool, module: nn.Module | None, last: bool, calibrated: bool
) -> Surrogate:
    """Check the folder of a model, then build the model from it."""
    metadata, network = read_metadata(folder), None
    if metadata.model.is_user_module or module is not None:
        with explaining_config_errors(folder):  # that the model is code is said before anything else that is wrong
            network = _build_user_network(metadata.model, metadata.spec, metadata.torch_dtype, allow_code, module)
    elif folder.parent == PRETRAINED:  # ours: no need to look before anything is built, which takes a second
        network = metadata.model.build(metadata.spec, metadata.torch_dtype)
    weights = find_file(folder, LAST_WEIGHTS_FILE if last else WEIGHTS_FILE)
    shapes = read_tensor_shapes(weights)
    with explaining_config_errors(folder):
        described = build_on_meta_device(metadata, shapes) if network is None else network
    check_weights(weights, shapes, described)  # before anything is allocated
    with explaining_config_errors(folder):
        network = (network or metadata.model.build(metadata.spec, metadata.torch_dtype)).to(device).eval()
        base = _build_base_solver(metadata.model, metadata.spec, metadata.about, device)
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
    if calibrated and not last:  # the calibration is of the best weights
        surrogate.calibration = read_calibration(folder, metadata.spec, metadata.sha256[WEIGHTS_FILE])
    return surrogate


def _build_user_network(
    config: ModelConfig, spec: StateSpec, dtype: torch.dtype, allow_code: bool, module: nn.Module | None
) -> Network:
    """Build a network from a copy of the user's module or, if there is none, from the class that the config names."""
    if module is None:
        with allowing_code(allow_code):
            return config.build(spec, dtype)
    if not config.is_user_module:
        raise UsageError(f"a model of kind {config.kind!r} takes no module of yours: leave out module")
    return cast_weights(UserModule(copy.deepcopy(module), spec.fields), dtype)


def _build_base_solver(config: ModelConfig, spec: StateSpec, about: Mapping[str, Any], device: str) -> Stepper | None:
    """Build the solver of a hybrid from its experiment; raise UsageError if that has other states than `spec`."""
    if config.solver is None:
        return None
    tree = json.loads(about["experiment"])
    check_experiment_size(tree)
    check_solver_size(config.solver, spec.grid)
    base = Experiment.from_tree(tree | {"models": {}, "device": device}).build_hybrid_solver(config)
    if (
        base is None
        or _interval_and_names(base.spec) != _interval_and_names(spec)
        or not is_same_grid(base.spec.grid, spec.grid)
    ):
        raise UsageError("spec: its experiment has other states, or another interval")
    return base


def _interval_and_names(spec: StateSpec) -> tuple[float, list[str]]:
    """Return the interval to twelve digits, and the names of fields and inputs."""
    return float(f"{spec.interval:.12g}"), [field.name for field in spec.fields + spec.inputs]
