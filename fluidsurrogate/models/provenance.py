"""The experiment that a trained model records, and the parts of an experiment that a model depends on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import read_json
from fluidsurrogate.models.model_file_checks import check_experiment_size
from fluidsurrogate.models.model_files import CONFIG_FILE
from fluidsurrogate.models.pretrained import model_folder
from fluidsurrogate.models.surrogate import Surrogate
from fluidsurrogate.nn.user_code import hash_source

KEYS_WITHOUT_EFFECT = ("workers", "checkpoint_every", "loaders", "tensorboard")  # of `train`: they change no bit


def experiment_of(model: Surrogate) -> Experiment:
    """Return the experiment that a model was trained in, as the model records it.

    Parameters
    ----------
    model : Surrogate
        The trained model.

    Returns
    -------
    Experiment
        Without its models, on the CPU: what the models need, such as escnn, does not matter for the states.

    Raises
    ------
    UsageError
        If the model records no experiment, or one that this version cannot read.
    """
    try:
        tree = dict(json.loads(model.about["experiment"]))
    except (KeyError, TypeError, ValueError, RecursionError):
        raise UsageError("the model does not say which experiment it comes from; give --data a dataset") from None
    check_experiment_size(tree)
    try:
        return Experiment.from_tree({**tree, "models": {}, "device": "cpu"}, "the model's experiment")
    except UsageError as error:
        first = str(error).splitlines()[0]
        raise UsageError(f"{first}; another version made the model: give --data a dataset") from None


def model_provenance(experiment: Experiment, name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of an experiment that a trained model depends on.

    Left out are the test set and the keys of `train` that change no bit of a model, such as how many models are trained
    at a time. Of a class of the user's, the source file is included, but not what that imports; of a fine-tuned model,
    the model that it starts from.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    name : str
        The model's name in the experiment.
    data : mapping of str to object
        What the training data depend on.

    Returns
    -------
    dict of str to object
        Plain data, whose hash is the model's fingerprint.
    """
    tree = experiment.tree()
    if "data" in data:
        data = {**data, "data": {k: v for k, v in data["data"].items() if k not in ("test", "test_steps")}}
    train = {key: value for key, value in tree["train"].items() if key not in KEYS_WITHOUT_EFFECT}
    model = tree["models"][name]
    if path := experiment.models[name].import_path:
        model = {**model, "source": hash_source(path)}
    if start := experiment.models[name].init:
        config = read_json(model_folder(start) / CONFIG_FILE)
        about = config.get("about") if isinstance(config, dict) else None
        fingerprint = about.get("fingerprint", start) if isinstance(about, dict) else start
        model = {**model, "init": fingerprint}  # which model, wherever its folder is
    return {"seed": tree["seed"], "dtype": tree["dtype"], "data": data, "model": model, "train": train}
