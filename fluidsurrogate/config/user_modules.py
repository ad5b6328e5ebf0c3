"""Models of an experiment that are the user's own `torch.nn.Module`s."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

from pydantic import TypeAdapter
from torch import nn

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.config.experiment_checks import check_network, prefix_errors
from fluidsurrogate.config.flow_and_model_configs import AnyModelConfig
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.nn import Network, UserModule, cast_weights, require_code_permission
from fluidsurrogate.nn.user_code import USER_MODULE


def with_modules(experiment: Experiment, modules: Mapping[str, nn.Module]) -> tuple[Experiment, dict[str, Network]]:
    """Replace the models of an experiment by the user's own modules.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    modules : mapping of str to torch.nn.Module
        The modules by the name of the model. They are copied.

    Returns
    -------
    experiment : Experiment
        The experiment with these models only. Their tables have no `path`, because no file can make them again.
    networks : dict of str to Network
        The copies of the modules as networks.

    Raises
    ------
    UsageError
        If a module cannot be applied to the states of the experiment, or cannot be trained.
    """
    networks: dict[str, Network] = {}
    for name, module in modules.items():
        with prefix_errors(f"models.{name}", UsageError):
            network = UserModule(copy.deepcopy(module), experiment.spec.fields)
            networks[name] = cast_weights(network, experiment.torch_dtype)
            check_network(experiment, networks[name])
    configs = {name: TypeAdapter(AnyModelConfig).validate_python({"kind": USER_MODULE}) for name in modules}
    return experiment.model_copy(update={"models": configs}), networks


def check_code_permission(experiment: Experiment, names: Iterable[str] | None = None) -> None:
    """Check that the models of kind "module" name their code, and that the user allows it to run.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    names : iterable of str, optional
        The models to check. By default all.

    Raises
    ------
    UsageError
        If a model names no code, or its code is not allowed to run.
    """
    for name in experiment.models if names is None else names:
        model = experiment.models[name]
        if model.is_user_module:
            with prefix_errors(f"models.{name}", UsageError):
                require_code_permission(model.import_path)
