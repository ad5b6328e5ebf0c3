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
from fluidsurrogate.core.devices import current_device, fixed_threads, reproducible_kernels
from fluidsurrogate.core.distributed import is_main_process, process_count
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.provenance import provenance_attributes
from fluidsurrogate.core.seeding import derive_seed, seeded_generators
from fluidsurrogate.data.flow_constants import read_constants
from fluidsurrogate.models.energy_budget import fit_budget_coefficients
from fluidsurrogate.models.normalisation import Normalisation, describe_large_means
from fluidsurrogate.models.surrogate import Surrogate
from fluidsurrogate.nn import Network
from fluidsurrogate.simulation.resolution import RESOLUTION, describe_resolution
from fluidsurrogate.training.bfloat16_check import check_bfloat16
from fluidsurrogate.training.curriculum import Curriculum
from fluidsurrogate.training.data_parallel import DataParallel
from fluidsurrogate.training.fine_tuning import initial_normalisation, load_initial_weights
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
        The experiment with the options of the training.
    name : str
        The model's name in the experiment.
    dataset : Dataset
        Trajectories for training and validation.
    provenance : mapping
        The parts of the experiment that the model depends on; they are recorded in the model.
    folder : Path, optional
        Folder for checkpoints; if it holds one, the training goes on from there.
    report : callable, optional
        Called after every training step with the number of steps done and a note.
    network : Network, optional
        A network to train in place of a new one.
    on_better_weights : callable, optional
        Called after every validation that found better weights, with the surrogate (which then has these weights), the
        validation data, the training step and the validation error.

    Returns
    -------
    Surrogate
        The model with the best weights.

    Raises
    ------
    UsageError
        If data and experiment do not fit, the data state another viscosity, drag or diffusivity than the flow of the
        experiment, or the loss is not finite.
    """
    source = StoredTrajectories if experiment.train.loaders else InMemoryTrajectories
    train = source.from_dataset(dataset, "train", experiment)
    valid = InMemoryTrajectories.from_dataset(dataset, "valid", experiment)
    constants = {key: value for key, value in experiment.constants.items() if key in read_constants(dataset)}
    device = torch.device(experiment.device)
    with fixed_threads(experiment.train.threads), current_device(device), reproducible_kernels(device):
        trainer = prepare_training(experiment, name, train, valid, provenance, network, constants)
        if (resolution := describe_resolution(dataset.attrs)) is not None:
            trainer.surrogate.about = {**trainer.surrogate.about, RESOLUTION: resolution}
        trainer.on_better_weights = on_better_weights
        surrogate = trainer.run(folder, report)
        surrogate.about = {
            **surrogate.about,
            **check_bfloat16(surrogate, dataset, valid, experiment, trainer.validation_batch),
        }
        return surrogate


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
        The experiment with the options of the training.
    name : str
        The model's name in the experiment.
    train, valid : Trajectories
        Training and validation data.
    provenance : mapping
        The parts of the experiment that the model depends on; they are recorded in the model.
    network : Network, optional
        A network to train in place of a new one.
    constants : mapping of str to float, optional
        The viscosity, drag and diffusivity that the data state.

    Returns
    -------
    Trainer
        A trainer at step 0.

    Raises
    ------
    UsageError
        If the batch cannot be divided among the processes, or the trajectories are too short.
    """
    options, seed, config = experiment.train, experiment.seed, experiment.models[name]
    parallel = DataParallel(torch.device(experiment.device))
    if options.batch % (process_count() * options.accumulate):
        raise UsageError(f"train.batch = {options.batch} must be a multiple of {process_count()} processes "
                         f"times train.accumulate = {options.accumulate}")  # fmt: skip
    curriculum = Curriculum(options, seed, config.multiples)
    if train.size[1] <= curriculum.longest_span:
        raise UsageError(f"training reaches over {curriculum.longest_span} intervals (train.unroll, push_forward, "
                         f"intervals), but the trajectories have {train.size[1] - 1}: raise data.steps")  # fmt: skip
    if network is None:
        with seeded_generators(derive_seed(seed, "weights"), torch.device(experiment.device)):
            network = config.build(experiment.spec, experiment.torch_dtype)
    if config.init is not None:
        load_initial_weights(network, experiment.spec.fields, config.init)
    network = network.to(parallel.device)
    parallel.broadcast(network)  # until here, each process has its own copy of a network that was given
    if options.compile:
        network.compile()
    device = str(parallel.device) if process_count() > 1 else experiment.device
    surrogate = fit_surrogate(experiment, name, network, train, provenance, constants, device)
    if isinstance(train, InMemoryTrajectories):
        train = train.to_device(parallel.device)
    batches = WindowBatches(train, curriculum, seed, options.batch, parallel.rank, parallel.world_size)
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
    """Build the surrogate around a network; its normalisation and energy budget are fitted to the training data.

    A model that starts from a trained model of the same states keeps its normalisation: see `initial_normalisation`.

    Parameters
    ----------
    experiment : Experiment
        The experiment with the options of the training.
    name : str
        The model's name in the experiment.
    network : Network
        The network to train.
    train : Trajectories
        Training data.
    provenance : mapping
        The parts of the experiment that the model depends on; they are recorded in the model.
    constants : mapping of str to float or None
        The viscosity, drag and diffusivity that the data state.
    device : str
        Device of a hybrid's solver.

    Returns
    -------
    Surrogate
        The untrained model.
    """
    spec, config = experiment.spec, experiment.models[name]
    base = experiment.build_hybrid_solver(config, device)
    kept = None if config.init is None else initial_normalisation(spec, config)
    normalisation = kept or Normalisation.fit(spec, train.chunks, base, config.takes_velocity(spec))
    for warning in describe_large_means(spec, train.chunks) if is_main_process() else []:
        log.warning(f"{name}: {warning}")
    numbers, longest = experiment.build_flow().coefficients, max(config.multiples)
    coefficients, finding = fit_budget_coefficients(spec, train.chunks, numbers["viscosity"], numbers["drag"], longest)
    if coefficients is None and is_main_process():
        log.info(f"{name}: the energy budget {finding}; forecasts are not scaled to it")
    elif coefficients is not None and coefficients.at_most and is_main_process():
        log.info(f"{name}: the energy budget {finding}; forecasts are held at or below it")
    normalisation = replace(normalisation, budget_coefficients=coefficients)
    about = {"name": name, "energy_budget": finding, **provenance_attributes(experiment.tree(), provenance)}
    known = constants if base is None else experiment.constants  # a hybrid's solver has the constants of the experiment
    return Surrogate(network, spec, normalisation, config, about, base, constants=known)
