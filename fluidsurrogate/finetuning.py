"""Training that starts from a trained model: another flow, viscosity or grid, with few trajectories."""

from __future__ import annotations

from pathlib import Path

from fluidsurrogate.config import Experiment
from fluidsurrogate.errors import UsageError
from fluidsurrogate.loading import load
from fluidsurrogate.modelfiles import CONFIG
from fluidsurrogate.nn import Network, state_tensors
from fluidsurrogate.store import read_json


def starting_from(experiment: Experiment, folder: str | Path) -> Experiment:
    """The experiment with `init = folder` for each of its models of that one's kind and group; UsageError for none.

    Weights are taken over, normalisation is fitted to the new data.
    """
    config = read_json(Path(folder) / CONFIG)
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


def start_from(network: Network, folder: str | Path) -> None:
    """Give a network the weights of a trained model; UsageError where that is of another shape."""
    weights = state_tensors(load(folder).network)
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        reason = "give both the same kind, options, fields and inputs"
        raise UsageError(f"{folder} has other weights than this model: {reason}") from None
