"""Fine-tuning: training that starts from a trained model, for another flow, viscosity or grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.config.flow_and_model_configs import ModelConfig
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import read_json
from fluidsurrogate.core.paths import as_path, is_model_address
from fluidsurrogate.data.grids import is_same_grid
from fluidsurrogate.models.loading import load
from fluidsurrogate.models.model_files import CONFIG_FILE, read_metadata
from fluidsurrogate.models.normalisation import Normalisation
from fluidsurrogate.models.pretrained import model_folder
from fluidsurrogate.nn import Network, cpu_state_dict
from fluidsurrogate.nn.layers import LiftingConv
from solvers import FieldSpec, StateSpec


def with_initial_model(experiment: Experiment, folder: str | Path) -> Experiment:
    """Return an experiment whose models start from the weights of a trained model.

    The key `init` is set for each model of the same kind and group as the trained one.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    folder : str or Path
        The folder of the trained model, or its address, such as "pretrained:general-2d".

    Returns
    -------
    Experiment
        The changed experiment.

    Raises
    ------
    UsageError
        If the folder is not a model, or the experiment has no model of its kind and group.
    """
    folder = folder if is_model_address(folder) else as_path(folder).absolute()
    config = read_json(model_folder(folder) / CONFIG_FILE)
    if not isinstance(config, dict) or not isinstance(config.get("model"), dict):
        raise UsageError(f"{folder} is not a model: it has no {CONFIG_FILE} with a table model")
    kind, group = config["model"].get("kind"), config["model"].get("group")
    tree, matching = experiment.tree(), []
    for name, model in tree["models"].items():
        if model["kind"] == kind and model.get("group") == group:
            model["init"] = str(folder)
            matching.append(name)
    if not matching:
        raise UsageError(f"{folder} is a {kind!r} with group {group!r}, and the experiment has no such model: add one")
    return Experiment.from_tree(tree)


def initial_normalisation(spec: StateSpec, config: ModelConfig) -> Normalisation | None:
    """Return the normalisation of the trained model that a model starts from, if both are for the same states.

    With it the training begins at the forecasts of the trained model. A normalisation of the new data would be another
    one, most of all if they have a single viscosity: the network would see it as the mean of what it was trained on.

    Parameters
    ----------
    spec : StateSpec
        The new states.
    config : ModelConfig
        The model, which has the key `init`.

    Returns
    -------
    Normalisation or None
        None if grid, interval, fields or inputs differ, one of both is a hybrid, or only one takes the velocity: then
        the normalisation is fitted to the new data.
    """
    assert config.init is not None
    trained = read_metadata(model_folder(config.init))
    same = (
        is_same_grid(trained.spec.grid, spec.grid)
        and math.isclose(trained.spec.interval, spec.interval, rel_tol=1e-9)
        and (trained.spec.fields, trained.spec.inputs) == (spec.fields, spec.inputs)
        and trained.model.solver is None
        and config.solver is None
        and trained.model.takes_velocity(spec) == config.takes_velocity(spec)
    )
    return trained.normalisation if same else None


def load_initial_weights(network: Network, fields: Sequence[FieldSpec], folder: str | Path) -> None:
    """Give a network the weights of a trained model.

    The flow of the trained model may have other inputs: the weights of a lifting are matched by the name of the field.
    Weights of an input that the trained model did not have are zero, so that it has no effect at first. An input that
    the new flow does not have is left out, as if it were at its mean.

    Parameters
    ----------
    network : Network
        The new network; it is changed.
    fields : sequence of FieldSpec
        Fields of the state that the network is for.
    folder : str or Path
        The folder of the trained model.

    Raises
    ------
    UsageError
        If the trained model has another group, or weights of other shapes.
    """
    trained = load(folder)
    if trained.network.group.name != network.group.name:  # groups of the same order have weights of the same shape
        groups = f"{trained.network.group.name} and this model has {network.group.name}"
        raise UsageError(f"{folder} has the group {groups}: give both the same kind, options, fields and inputs")
    weights, old_fields = cpu_state_dict(trained.network), _lifting_fields(trained.network)
    reason = "give both the same kind, options, fields and inputs"
    if [field.name for field in fields] == [field.name for field in trained.stored.fields]:
        reason = "give both the same kind and options"
        for name, new_fields in _lifting_fields(network).items():
            if name in old_fields:
                weights[f"{name}.weight"] = _match_fields(weights[f"{name}.weight"], old_fields[name], new_fields)
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise UsageError(f"{folder} has weights of other shapes than this model: {reason}") from None


def _lifting_fields(network: Network) -> dict[str, Sequence[FieldSpec]]:
    """Return the fields that each lifting of a network takes, by the name of the layer."""
    return {name: layer.fields for name, layer in network.named_modules() if isinstance(layer, LiftingConv)}


def _match_fields(weight: Tensor, old: Sequence[FieldSpec], new: Sequence[FieldSpec]) -> Tensor:
    """Return the weight (channel, component, [z,] y, x) of a lifting for other fields, matched by name."""
    parts = weight.split([field.components for field in old], dim=1)
    known = {field.name: part for field, part in zip(old, parts, strict=True)}
    zero = weight[:, :1] * 0
    parts = [known.get(field.name, zero.repeat_interleave(field.components, dim=1)) for field in new]
    return torch.cat(parts, dim=1)
