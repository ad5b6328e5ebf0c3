"""Train one network of an experiment on a dataset."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import xarray as xr

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.core.devices import current_device, fixed_threads
from fluidsurrogate.core.distributed import is_main_process, process_count
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.provenance import provenance_attributes
from fluidsurrogate.core.seeding import derive_seed, seeded_generators
from fluidsurrogate.data.flow_constants import read_constants
from fluidsurrogate.models.energy_budget import fit_budget_coefficients
from fluidsurrogate.models.normalisation import Normalisation, check_means
from fluidsurrogate.models.surrogate import Surrogate
from fluidsurrogate.nn import Network
from fluidsurrogate.simulation.resolution import RESOLUTION, describe_resolution
from fluidsurrogate.training.curriculum import Curriculum
from fluidsurrogate.training.data_parallel import DataParallel
from fluidsurrogate.training.fine_tuning import start_from
from fluidsurrogate.training.trainer import OnBetterWeights, Report, Trainer
from fluidsurrogate.training.windows import InMemoryTrajectories, StoredTrajectories, Trajectories, WindowBatches

log = logging.getLogger("fluidsurrogate")


def train_model(
    experiment: Experiment,
    name: str,
    dataset: xr.Dataset,
    provenance: Mapping[str, Any],
    folder: Path | None = None,
    report: Report | None = None,
    network: Network | None = None,
    on_better_weights: OnBetterWeights | None = None,
) -> Surrogate:
    """Train one model of an experiment.

    Parameters
    ----------
    experiment : Experiment
        Says everything about the training.
    name : str
        The model's name in the experiment.
    dataset : Dataset
        Trajectories for training and validation.
    provenance : mapping
        What the model depends on; it is recorded in the model.
    folder : Path, optional
        Where checkpoints are written, and read if there are any.
    report : callable, optional
        Called after every step with the number of steps done and a note.
    network : Network, optional
        Trained in place of a fresh one.
    on_better_weights : callable, optional
        Called after every validation that found better weights, which the surrogate then has, with the surrogate, the
        validation data, the step and the validation error.

    Returns
    -------
    Surrogate
        The model with the best weights.

    Raises
    ------
    UsageError
        If data and experiment do not fit, or the data state another viscosity, drag or diffusivity than the flow has.
    """
    source = StoredTrajectories if experiment.train.loaders else InMemoryTrajectories
    train = source.from_dataset(dataset, "train", experiment)
    valid = InMemoryTrajectories.from_dataset(dataset, "valid", experiment)
    constants = {key: value for key, value in experiment.constants.items() if key in read_constants(dataset)}
    with fixed_threads(experiment.train.threads), current_device(torch.device(experiment.device)):
        trainer = prepare_training(experiment, name, train, valid, provenance, network, constants)
        if (resolution := describe_resolution(dataset.attrs)) is not None:
            trainer.surrogate.about = {**trainer.surrogate.about, RESOLUTION: resolution}
        trainer.on_better_weights = on_better_weights
        return trainer.run(folder, report)


def prepare_training(
    experiment: Experiment,
    name: str,
    train: Trajectories,
    valid: InMemoryTrajectories,
    provenance: Mapping[str, Any],
    network: Network | None = None,
    constants: Mapping[str, float] | None = None,
) -> Trainer:
    """Build a trainer: the batches, the network, and the surrogate around it, fitted to the training data.

    Parameters
    ----------
    experiment : Experiment
        Says everything about the training.
    name : str
        The model's name in the experiment.
    train, valid : Trajectories
        Training and validation data.
    provenance : mapping
        What the model depends on; it is recorded in the model.
    network : Network, optional
        Trained in place of a fresh one.
    constants : mapping of str to float, optional
        Viscosity, drag and diffusivity that the data state.

    Returns
    -------
    Trainer
        At step 0.

    Raises
    ------
    UsageError
        If the batch cannot be divided among the processes, or the trajectories are too short.
    """
    options, seed, config = experiment.train, experiment.seed, experiment.models[name]
    parallel = DataParallel(torch.device(experiment.device))
    if options.batch % (process_count() * options.accumulate):
        raise UsageError(f"train.batch = {options.batch} is no multiple of {process_count()} processes "
                         f"times train.accumulate = {options.accumulate}")  # fmt: skip
    curriculum = Curriculum(options, seed, config.multiples)
    if train.size[1] <= curriculum.longest:
        raise UsageError(f"training reaches over {curriculum.longest} intervals (train.unroll, push_forward, "
                         f"intervals); the trajectories have {train.size[1] - 1}")  # fmt: skip
    if network is None:
        with seeded_generators(derive_seed(seed, "weights"), torch.device(experiment.device)):
            network = config.build(experiment.spec, experiment.torch_dtype)
    if config.init is not None:
        start_from(network, experiment.spec.fields, config.init)
    network = network.to(parallel.device)
    parallel.broadcast(network)  # a network that was given is each process's own until here
    if options.compile:
        network.compile()
    device = str(parallel.device) if process_count() > 1 else experiment.device
    surrogate = fit_surrogate(experiment, name, network, train, provenance, constants, device)
    batches = WindowBatches(train, curriculum, seed, options.batch, parallel.part)
    return Trainer(surrogate, options, seed, batches, valid, parallel)


def fit_surrogate(
    experiment: Experiment,
    name: str,
    network: Network,
    train: Trajectories,
    provenance: Mapping[str, Any],
    constants: Mapping[str, float] | None,
    device: str,
) -> Surrogate:
    """Build the surrogate around a network: normalisation and energy budget are fitted to the training data."""
    spec, config = experiment.spec, experiment.models[name]
    base = experiment.build_hybrid_solver(config, device)
    normalisation = Normalisation.fit(spec, train.chunks, base)
    for line in check_means(spec, train.chunks) if is_main_process() else []:
        log.warning(f"{name}: {line}")
    numbers, longest = experiment.build_flow().coefficients, max(config.multiples)
    coefficients, found = fit_budget_coefficients(spec, train.chunks, numbers["viscosity"], numbers["drag"], longest)
    if coefficients is None and is_main_process():
        log.info(f"{name}: the energy budget {found}; forecasts are not held to it")
    normalisation = replace(normalisation, budget_coefficients=coefficients)
    about = {"name": name, "energy_budget": found, **provenance_attributes(experiment.tree(), provenance)}
    known = constants if base is None else experiment.constants  # a hybrid's solver has the experiment's
    return Surrogate(network, spec, normalisation, config, about, base, constants=known)
