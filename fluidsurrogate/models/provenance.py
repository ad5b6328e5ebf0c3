"""What a trained model was made from: the experiment that it records, and the parts of one that a model depends on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import read_json
from fluidsurrogate.core.paths import as_path
from fluidsurrogate.models.model_files import CONFIG, check_proportions
from fluidsurrogate.models.surrogate import Surrogate
from fluidsurrogate.nn.user_code import hash_source

ASIDE = ("workers", "checkpoint_every", "loaders", "tensorboard")  # keys of `train` that change no bit of a model


def experiment_of(model: Surrogate) -> Experiment:
    """The experiment that a surrogate was trained by; UsageError where it does not say."""
    try:
        tree = dict(json.loads(model.about["experiment"]))
    except (KeyError, TypeError, ValueError, RecursionError):
        raise UsageError("the model does not say which experiment it comes from; give --data a dataset") from None
    check_proportions(tree)
    try:
        # Without its models: what these need, escnn say, is no matter of the states.
        return Experiment.from_tree({**tree, "models": {}, "device": "cpu"}, "the model's experiment")
    except UsageError as error:
        first = str(error).splitlines()[0]
        raise UsageError(f"{first}; it was made by another version: give --data a dataset") from None


def model_provenance(experiment: Experiment, name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of an experiment that a model depends on: not the test set, nor how many are trained at a time; the
    file of a class of the user's, but not what that imports; the model that it starts from."""
    tree = experiment.tree()
    if "data" in data:
        data = {**data, "data": {k: v for k, v in data["data"].items() if k not in ("test", "test_steps")}}
    train = {key: value for key, value in tree["train"].items() if key not in ASIDE}
    model = tree["models"][name]
    if path := experiment.models[name].import_path:
        model = {**model, "source": hash_source(path)}
    if start := experiment.models[name].init:
        config = read_json(as_path(start) / CONFIG)
        about = config.get("about") if isinstance(config, dict) else None
        fingerprint = about.get("fingerprint", start) if isinstance(about, dict) else start
        model = {**model, "init": fingerprint}  # which model, wherever it lies
    return {"seed": tree["seed"], "dtype": tree["dtype"], "data": data, "model": model, "train": train}
