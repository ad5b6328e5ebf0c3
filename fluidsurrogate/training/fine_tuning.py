"""Training that starts from a trained model: another flow, viscosity or grid, with few trajectories."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import read_json
from fluidsurrogate.core.paths import as_path
from fluidsurrogate.models.loading import load
from fluidsurrogate.models.model_files import CONFIG
from fluidsurrogate.nn import Network, cpu_state_dict
from fluidsurrogate.nn.layers import LiftingConv2d
from solvers import FieldSpec


def starting_from(experiment: Experiment, folder: str | Path) -> Experiment:
    """The experiment with `init = folder` for each of its models of that one's kind and group; UsageError for none.

    Weights are taken over, normalisation is fitted to the new data.
    """
    folder = as_path(folder).absolute()
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict) or not isinstance(config.get("model"), dict):
        raise UsageError(f"{folder} is no model: it has no {CONFIG}")
    kind, group = config["model"].get("kind"), config["model"].get("group")
    tree, like = experiment.tree(), []
    for name, model in tree["models"].items():
        if model["kind"] == kind and model.get("group") == group:
            model["init"] = str(folder)
            like.append(name)
    if not like:
        raise UsageError(f"{folder} is a {kind!r} with group {group!r}; the experiment has no such model")
    return Experiment.from_tree(tree)


def start_from(network: Network, fields: Sequence[FieldSpec], folder: str | Path) -> None:
    """Give a network for states of these fields the weights of a trained model; UsageError where that is of another
    shape.

    Another flow has other inputs: a lifting's weights go by name. Those of an input that the trained model did not have
    are zero, so that it does nothing at first; one that the new flow lacks is left out, as if it were at its mean.
    """
    trained = load(folder)
    if trained.network.group.name != network.group.name:  # of as many elements, say, and so of the same shape
        groups = f"{trained.network.group.name}, this model {network.group.name}"
        raise UsageError(f"{folder} has the group {groups}: give both the same kind, options, fields and inputs")
    weights, before = cpu_state_dict(trained.network), _liftings(trained.network)
    reason = "give both the same kind, options, fields and inputs"
    if [field.name for field in fields] == [field.name for field in trained.stored.fields]:
        reason = "give both the same kind and options"
        for name, now in _liftings(network).items():
            if name in before:
                weights[f"{name}.weight"] = _by_name(weights[f"{name}.weight"], before[name], now)
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise UsageError(f"{folder} has other weights than this model: {reason}") from None


def _liftings(network: Network) -> dict[str, Sequence[FieldSpec]]:
    """What each lifting of a network takes."""
    return {name: layer.fields for name, layer in network.named_modules() if isinstance(layer, LiftingConv2d)}


def _by_name(weight: Tensor, before: Sequence[FieldSpec], now: Sequence[FieldSpec]) -> Tensor:
    """The weight (channel, component, y, x) of a lifting, for other fields."""
    parts = weight.split([field.components for field in before], dim=1)
    known = {field.name: part for field, part in zip(before, parts, strict=True)}
    none = weight[:, :1] * 0
    return torch.cat([known.get(field.name, none.repeat(1, field.components, 1, 1)) for field in now], dim=1)
